"""Peers that mean harm, on the level of messages: well-formed where that serves them.

Each role is a class; `ROLES` names them. An attacker speaks the wire protocol with keys of its own:
it can say anything, but it cannot sign for others.
"""

from collections.abc import Sequence

from gossipjax.simulation.cluster import Cluster
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.host import payload_of
from gossipjax.simulation.network import SECOND, Link
from gossipjax.simulation.participant import Participant, simulated_identity
from gossipjax.types import PeerId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode_body
from gossipjax.wire.envelope import (
    SealedUpdate,
    Verified,
    chunk_count,
    record_author,
    seal_record,
    seal_update,
)
from gossipjax.wire.messages import (
    AnyMessage,
    Chunk,
    Get,
    GetPeers,
    GetSnapshots,
    Offer,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    Sealed,
    Snapshot,
    Snapshots,
    UpdateHeader,
)

_PULSE_NS = SECOND
_DIALS_PER_PULSE = 8
_FLOOD_PER_PULSE = 5
_RECORDS = limits.RECORDS_PER_MESSAGE_MAX


class Attacker(Participant):
    """Connects to every honest peer, answers keep-alives, and otherwise does what its role says.

    Args:
        cluster: whom to attack.
        number: which attacker of the cluster this is.
        gang: the records of all attackers; each adds its own.
        endpoint: where it is; by default in a network of its own.
    """

    def __init__(self, cluster: Cluster, number: int, gang: list[Sealed], endpoint: str = ""):
        seed = cluster.config.seed
        self._cluster = cluster
        self.draws = Draws(seed, "attacker", number)
        self.gang = gang
        self.version = 0
        self.incarnation = 1
        self.sequence = 0
        self._served: dict[bytes, SealedUpdate] = {}
        place = (self.draws.below(1000), self.draws.below(1000))
        super().__init__(
            cluster.world,
            cluster.config.peers + number,
            simulated_identity(seed, "attacker", number),
            endpoint or f"tcp://200.{number % 250}.{number // 250}.1:7000",
            place,
            sequence=1,
        )
        gang.append(self.record.sealed)
        cluster.world.schedule.after(self.draws.below(_PULSE_NS), self._pulse)

    # ---- what a role decides -----------------------------------------------------------------

    def targets(self) -> list[Address]:
        """Whom to connect with."""
        return [host.address for host in self._cluster.hosts.values()]

    def act(self, neighbors: Sequence[PeerId]) -> None:
        """Called every second with those who are connected."""

    def offered(self, peer: PeerId, offer: Offer) -> None:
        """Somebody offers an update."""

    def asked_for_snapshots(self, peer: PeerId) -> None:
        """Somebody asks what this peer holds."""
        self.tell(peer, list(self._served.values())[-1:])

    def asked_for_chunks(self, peer: PeerId, get: Get) -> None:
        """Serve what was offered, as an honest peer would."""
        update = self._served.get(get.root)
        if update is not None:
            for index in range(get.first, get.first + get.count):
                self.send(
                    peer, Chunk(get.root, index, update.tree.proof(index)), update.chunk(index)
                )

    # ---- tools -------------------------------------------------------------------------------

    def seal(self, sequence: int, payload: bytes) -> SealedUpdate:
        """Sign an update, and be ready to serve it."""
        update = seal_update(
            payload,
            run=self.world.run,
            sequence=sequence,
            version=self.version,
            samples=1,
            manifest_digest=self.world.manifest_digest,
            identity=self.identity,
            suite=self.world.suite,
        )
        self._served[update.header.body.root] = update
        while len(self._served) > 64:
            del self._served[next(iter(self._served))]
        return update

    def fresh_payload(self) -> bytes:
        """Values like those of an honest peer, different each time."""
        return payload_of(self.id, self.draws.next_u64(), self.world.manifest)

    def tell(
        self, peer: PeerId, own: Sequence[SealedUpdate], others: Sequence[Snapshot] = ()
    ) -> None:
        """Claim to hold these updates."""
        record = self.record.sealed
        told = [Snapshot(record, update.header.sealed) for update in own]
        self.send(peer, Snapshots((*told, *others)))

    def next_offer(self) -> Offer:
        """A new update of one's own."""
        self.sequence += 1
        return Offer(self.seal(self.sequence, self.fresh_payload()).header.sealed)

    # ---- events ------------------------------------------------------------------------------

    def received(self, peer: PeerId, message: AnyMessage, data: bytes | memoryview | None) -> None:
        match message:
            case Ping():
                self.send(peer, Pong(message.nonce, self.version, self.incarnation))
            case GetPeers():
                self.send(peer, Peers(tuple(self.draws.sample(self.gang, _RECORDS))))
            case Offer():
                self.offered(peer, message)
            case GetSnapshots():
                self.asked_for_snapshots(peer)
            case Get():
                self.asked_for_chunks(peer, message)
            case _:
                pass

    def _pulse(self) -> None:
        if not self.is_running:
            return
        self.world.schedule.after(_PULSE_NS, self._pulse)
        connected = {link.other.owner for links in self.links.values() for link in links}
        strangers = [
            address
            for address in self.targets()
            if self.world.network.listeners.get(address.endpoint) not in connected
        ]
        for address in self.draws.sample(strangers, _DIALS_PER_PULSE):
            self.dial(address)
        neighbors = list(self.links)
        for peer in neighbors:
            nonce = self.draws.below(limits.INTEGER_MAX)
            self.send(peer, Ping(nonce, self.version, self.incarnation))
        self.act(neighbors)


class Eclipse(Attacker):
    """Takes the places of one victim's view, and tells it of nobody but the gang."""

    def targets(self) -> list[Address]:
        victim = self._cluster.hosts.get(0)
        return [] if victim is None else [victim.address]

    def act(self, neighbors: Sequence[PeerId]) -> None:
        for peer in neighbors:
            self.send(peer, Peers(tuple(self.draws.sample(self.gang, _RECORDS))))


class SybilFlood(Attacker):
    """Fills address books with peers that do not exist, each with a valid signature."""

    def act(self, neighbors: Sequence[PeerId]) -> None:
        for peer in neighbors:
            self.send(peer, Peers(tuple(self._invent() for _ in range(_RECORDS))))

    def _invent(self) -> Sealed:
        identity = simulated_identity(self.draws.next_u64(), "sybil")
        record = PeerRecord(
            run=self.world.run,
            sign_key=identity.public.sign,
            vrf_key=identity.public.vrf,
            transport_key=identity.public.transport,
            addresses=(f"tcp://201.{self.draws.below(8)}.{self.draws.below(250)}.1:7000",),
            sequence=1,
            expires_s=self.now_s() + 3600,
        )
        return seal_record(record, identity, self.world.suite).sealed


class Censor(Attacker):
    """Takes part in membership, hides every honest peer, takes updates and passes nothing on."""

    def offered(self, peer: PeerId, offer: Offer) -> None:
        self.send(peer, GetPeers())


class SlowLoris(Attacker):
    """Offers updates and never sends them; asks for nothing; holds every place that it gets."""

    def act(self, neighbors: Sequence[PeerId]) -> None:
        offer = self.next_offer()
        for peer in neighbors:
            self.send(peer, offer)

    def asked_for_chunks(self, peer: PeerId, get: Get) -> None:
        """Say nothing."""


class Equivocator(Attacker):
    """Signs two different updates with one number and offers each to some, and both to some."""

    def act(self, neighbors: Sequence[PeerId]) -> None:
        self.sequence += 1
        twins = [self.seal(self.sequence, self.fresh_payload()) for _ in range(2)]
        for peer in neighbors:
            for twin in self.draws.sample(twins, self.draws.between(1, 2)):
                self.send(peer, Offer(twin.header.sealed))


class Replayer(Attacker):
    """Repeats what it has heard: offers of others, and old ones of its own."""

    def __init__(self, cluster: Cluster, number: int, gang: list[Sealed]):
        super().__init__(cluster, number, gang)
        self._heard: list[Offer] = []

    def offered(self, peer: PeerId, offer: Offer) -> None:
        self._heard = [*self._heard, offer][-32:]

    def act(self, neighbors: Sequence[PeerId]) -> None:
        for peer in neighbors:
            if self._heard and self.draws.below(2):
                self.send(peer, self.draws.choice(self._heard))
            elif self._served and self.draws.below(2):
                update = self.draws.choice(list(self._served.values()))
                self.send(peer, Offer(update.header.sealed))
            else:
                self.send(peer, self.next_offer())


class StaleState(Attacker):
    """Comes back again and again with the state of its first seconds: old numbers, new values."""

    def act(self, neighbors: Sequence[PeerId]) -> None:
        if self.sequence > 3:
            self.sequence = 0
        offer = self.next_offer()
        for peer in neighbors:
            self.send(peer, offer)


class OfferFlood(Attacker):
    """Sends as much as it can: offers, questions for peers, for offers and for chunks."""

    def act(self, neighbors: Sequence[PeerId]) -> None:
        for _ in range(_FLOOD_PER_PULSE):
            root = self.draws.next_u64().to_bytes(8, "little") * 4
            flood = (self.next_offer(), GetPeers(), GetSnapshots(), Get(root, 0, 1))
            for peer in neighbors:
                for message in flood:
                    self.send(peer, message)


class Greedy(Attacker):
    """Pulls every update that it is told of again and again."""

    def __init__(self, cluster: Cluster, number: int, gang: list[Sealed]):
        super().__init__(cluster, number, gang)
        self._told: list[tuple[PeerId, UpdateHeader]] = []

    def offered(self, peer: PeerId, offer: Offer) -> None:
        header = decode_body(UpdateHeader, offer.header.body)
        self._told = [*self._told, (peer, header)][-16:]

    def act(self, neighbors: Sequence[PeerId]) -> None:
        for peer, header in self._told:
            count = chunk_count(header.size)
            for first in range(0, count, limits.CREDIT_CHUNKS):
                size = min(limits.CREDIT_CHUNKS, count - first)
                self.send(peer, Get(header.root, first, size))


class Forger(Attacker):
    """Offers updates with signatures that are not its own."""

    def act(self, neighbors: Sequence[PeerId]) -> None:
        sealed = self.next_offer().header
        for peer in neighbors:
            self.send(peer, Offer(Sealed(sealed.body, sealed.signature[::-1])))


class LyingDonor(Attacker):
    """Claims to be far ahead, and to hold what others have published.

    It gives joiners chunks that are not the announced ones, NaN, or nothing.
    """

    def __init__(self, cluster: Cluster, number: int, gang: list[Sealed]):
        super().__init__(cluster, number, gang)
        self.version = limits.INTEGER_MAX // 2
        self._records: dict[PeerId, Sealed] = {}
        self._heard: list[Snapshot] = []

    def connected(self, record: Verified[PeerRecord], link: Link) -> None:
        self._records[record_author(record.body)] = record.sealed

    def offered(self, peer: PeerId, offer: Offer) -> None:
        self._heard = [*self._heard, Snapshot(self._records[peer], offer.header)][-3:]

    def asked_for_snapshots(self, peer: PeerId) -> None:
        self.sequence += 1
        bad = bytes(range(256)) if self.draws.below(2) else b"\0\0\xc0\x7f" * 64  # 7fc00000: NaN
        size = self.world.manifest.nbytes
        lie = self.seal(self.sequence, (bad * (size // len(bad) + 1))[:size])
        self.tell(peer, [lie], self._heard)

    def asked_for_chunks(self, peer: PeerId, get: Get) -> None:
        """Of two chunks, one is false; of those of others, one is false and one does not come."""
        update = self._served.get(get.root)
        if update is None:
            if self.draws.below(2):
                self.send(peer, Chunk(get.root, get.first, ()), bytes(limits.CHUNK_BYTES))
            return
        for index in range(get.first, get.first + get.count):
            data = bytes(update.chunk(index))
            if self.draws.below(2):
                data = bytes(byte ^ 1 for byte in data[:16]) + data[16:]
            self.send(peer, Chunk(get.root, index, update.tree.proof(index)), data)


ROLES: dict[str, type[Attacker]] = {
    "eclipse": Eclipse,
    "sybil flood": SybilFlood,
    "censor": Censor,
    "slow loris": SlowLoris,
    "equivocation": Equivocator,
    "replay": Replayer,
    "stale state": StaleState,
    "offer flood": OfferFlood,
    "greed": Greedy,
    "forgery": Forger,
    "lying donor": LyingDonor,
}


def attack(cluster: Cluster, roles: Sequence[str]) -> list[Attacker]:
    """Let one attacker per entry of `roles` loose on a cluster."""
    gang: list[Sealed] = []
    return [ROLES[role](cluster, number, gang) for number, role in enumerate(roles)]


def attacker_share(cluster: Cluster, attackers: Sequence[Attacker]) -> float:
    """Share of attackers, and of peers that they made up, in the views of the honest."""
    honest = {host.id for host in cluster.hosts.values()}
    views = [peer for host in cluster.hosts.values() for peer in host.machine.neighbors]
    return sum(peer not in honest for peer in views) / max(len(views), 1)
