"""A network of simulated peers: starts them, runs them, counts what they do."""

from itertools import islice
from typing import NamedTuple

from msgspec import Struct

from gossipjax.crypto.suite import insecure_suite
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.rules import OFF, Rules
from gossipjax.simulation.disk import Disk
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.host import SimulatedHost
from gossipjax.simulation.network import SECOND, LinkModel, Network
from gossipjax.simulation.participant import simulated_identity
from gossipjax.simulation.schedule import Schedule
from gossipjax.simulation.trace import Trace
from gossipjax.simulation.world import Watcher, World
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import run_id
from gossipjax.wire.messages import Sealed
from gossipjax.wire.tensors import manifest_of

BOOK_SIZE = 256
"""Records remembered by a simulated peer, fewer than by a real one: ten thousand books of a
thousand records would be most of the memory."""


class ClusterConfig(Struct, frozen=True, kw_only=True):
    """Settings of a simulated network.

    Attributes:
        peers: honest peers.
        seed: of every random choice.
        protocol: parameters of every machine.
        rules: of the run, on verification.
        model: what the wires are like.
        round_ns: between two shares of a peer.
        payload_floats: size of the one tensor that is shared.
        start_ns: the peers start evenly spread over this span.
        bootstrap_max: join addresses given to a new peer: of the first, and of others that run.
        drift_ppm_max: clocks run fast or slow by up to so much.
        skew_s_max: wall clocks are ahead or behind by up to so much.
        hidden: so many of the last peers cannot be dialled.
        networks: the peers are in so many /16 networks at random; 0: each is in one of its own.
    """

    peers: int
    seed: int
    protocol: ProtocolConfig = ProtocolConfig(book_size=BOOK_SIZE)
    rules: Rules = OFF
    model: LinkModel = LinkModel()
    round_ns: Nanoseconds = 10 * SECOND
    payload_floats: int = 8
    start_ns: Nanoseconds = 10 * SECOND
    bootstrap_max: int = 3
    drift_ppm_max: int = 100
    skew_s_max: int = 5
    hidden: int = 0
    networks: int = 0


class Totals(NamedTuple):
    """Counts over a whole cluster, from its start."""

    events: int
    messages: int
    bytes_sent: int
    rounds: int
    delivered: int
    refused: int


class _Slot:
    """A peer across its lives: what a crash does not change."""

    def __init__(self, disk: Disk, network: int, endpoint: str, place: tuple[int, int]):
        self.disk = disk
        self.network = network
        self.endpoint = endpoint
        self.place = place
        self.lives = 0
        self.rounds = 0
        self.delivered = 0
        self.version = 0


class Cluster:
    """Honest peers in one simulated network.

    Attributes:
        world: what they share.
        hosts: by index, the present life of each peer that runs.
    """

    def __init__(self, config: ClusterConfig, watcher: Watcher | None = None):
        self.config = config
        schedule, trace = Schedule(), Trace()
        manifest = manifest_of({"weights": ((config.payload_floats,), "float32")})
        self.world = World(
            schedule=schedule,
            network=Network(config.model, schedule, trace, config.seed),
            trace=trace,
            suite=insecure_suite(),
            manifest=manifest,
            run=run_id("simulation", manifest.digest),
            protocol=config.protocol,
            rules=config.rules,
            seed=config.seed,
            round_ns=config.round_ns,
            watcher=watcher,
        )
        self.hosts: dict[int, SimulatedHost] = {}
        self._draws = Draws(config.seed, "cluster")
        self._slots = [self._make_slot(index) for index in range(config.peers)]
        for index in range(config.peers):
            start_ns = config.start_ns * index // config.peers
            schedule.at(start_ns, self.start, index)

    def run_for(self, span_ns: Nanoseconds) -> None:
        """Let virtual time pass."""
        self.world.schedule.run_until(self.world.schedule.now_ns + span_ns)

    def start(self, index: int, *, keeps_disk: bool = True, moves: bool = False) -> None:
        """Begin a life of a peer that does not run.

        Args:
            index: which peer.
            keeps_disk: whether the disk of its last life is there; without, it is a stranger.
            moves: whether it has a new network address.
        """
        if index in self.hosts:
            return
        slot = self._slots[index]
        if not keeps_disk:
            slot.disk = self._make_disk(index, slot.lives)
            slot.version = 0
        if moves:
            slot.endpoint = endpoint_of(slot.network, index, 7000 + slot.lives)
        drift, skew = self.config.drift_ppm_max, self.config.skew_s_max
        self.hosts[index] = SimulatedHost(
            self.world,
            index,
            slot.disk,
            slot.endpoint,
            slot.place,
            self._bootstrap_for(index),
            life=slot.lives,
            is_dialable=self._is_dialable(index),
            drift_ppm=self._draws.between(-drift, drift),
            skew_s=self._draws.between(-skew, skew),
            version=slot.version,
        )
        slot.lives += 1

    def stop(self, index: int, *, politely: bool = False, silently: bool = False) -> None:
        """End the life of a peer.

        Args:
            index: which peer.
            politely: it says goodbye.
            silently: as when the power fails: what was not synced is lost; else its connections are
                closed by its system.
        """
        host = self.hosts.pop(index, None)
        if host is None:
            return
        if politely:
            host.leave()
        host.stop(silently=silently)
        if silently:
            host.disk.lose_writes()
        slot = self._slots[index]
        slot.rounds += host.round
        slot.delivered += host.delivered
        slot.version = host.version

    def corrupt_book(self, index: int) -> None:
        """Flip a bit in every second remembered record of a peer that does not run."""
        book = self._slots[index].disk.book
        for peer in list(book)[::2]:
            body = bytearray(book[peer].body)
            body[self._draws.below(len(body))] ^= 1 << self._draws.below(8)
            book[peer] = Sealed(bytes(body), book[peer].signature)

    def totals(self) -> Totals:
        """What has been counted so far."""
        hosts, slots = self.hosts.values(), self._slots
        return Totals(
            events=self.world.schedule.calls_made,
            messages=self.world.network.messages,
            bytes_sent=self.world.network.bytes_sent,
            rounds=sum(h.round for h in hosts) + sum(s.rounds for s in slots),
            delivered=sum(h.delivered for h in hosts) + sum(s.delivered for s in slots),
            refused=self.world.refused.total(),
        )

    def views(self) -> dict[PeerId, list[PeerId]]:
        """The neighbors of every honest peer, other honest peers that run only."""
        alive = {host.id: host for host in self.hosts.values()}
        return {
            peer: [other for other in host.machine.neighbors if other in alive]
            for peer, host in alive.items()
        }

    def components(self) -> list[list[PeerId]]:
        """The peers by connected component of the graph of mutual views; largest first."""
        views = self.views()
        left = dict.fromkeys(views)
        components: list[list[PeerId]] = []
        while left:
            component = [left.popitem()[0]]
            for peer in component:
                for other in views[peer]:
                    if other in left and peer in views[other]:
                        del left[other]
                        component.append(other)
            components.append(component)
        return sorted(components, key=len, reverse=True)

    def _bootstrap_for(self, index: int) -> list[Address]:
        """The join string of the first peer, which everybody has, and those of some others.

        Without one that all have in common, an early crash can leave two networks behind of which
        neither has ever heard of the other.
        """
        first = self._slots[0]
        common = Address(first.endpoint, first.disk.identity.public.transport)
        count = self.config.bootstrap_max
        running = self._draws.shuffled(self.hosts)
        others = (self.hosts[other] for other in running if self._is_dialable(other))
        addresses = [] if index == 0 else [common]
        addresses += [host.address for host in islice(others, count) if host.address != common]
        return addresses[:count]

    def _is_dialable(self, index: int) -> bool:
        return index < self.config.peers - self.config.hidden

    def _make_slot(self, index: int) -> _Slot:
        place = (self._draws.below(1000), self._draws.below(1000))
        networks = self.config.networks
        network = self._draws.below(networks) if networks else index
        return _Slot(self._make_disk(index, 0), network, endpoint_of(network, index, 7000), place)

    def _make_disk(self, index: int, life: int) -> Disk:
        identity = simulated_identity(self.config.seed, index, life)
        return Disk(identity, self.config.protocol.book_size)


def endpoint_of(network: int, index: int, port: int) -> str:
    """The endpoint of a peer in a /16 network; different households are in different ones."""
    return f"tcp://{11 + network // 250}.{network % 250}.{index // 250}.{index % 250}:{port}"
