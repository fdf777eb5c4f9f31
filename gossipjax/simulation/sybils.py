"""How much of honest views a flood of made-up peers gets: the table of `simulation sybils`.

Honest peers are in random networks, the Sybils in few or many. A gang of Sybils is there before
everybody else, is among the addresses that the honest peers were told to join by, dials them ten
times as often as these dial others, and tells of nobody but itself.
"""

from typing import NamedTuple

from msgspec import Struct

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.attacks import Attacker
from gossipjax.simulation.cluster import Cluster, ClusterConfig, endpoint_of
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.network import SECOND
from gossipjax.types import PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.messages import Sealed

_PUSHES_PER_DIAL = 10
_FIRST_PLACE = 25_000  # in the networks; above those of honest peers


class Flood(Struct, frozen=True, kw_only=True):
    """An attack.

    Attributes:
        sybils: made-up peers.
        networks: /16 networks in which they are.
        honest: honest peers.
        honest_networks: how many networks these are drawn from.
        view_size, neighbors_max: of the honest peers.
        seconds: virtual time.
        seed: of every random choice.
    """

    sybils: int
    networks: int
    honest: int = 300
    honest_networks: int = 256
    view_size: int = 16
    neighbors_max: int = 128
    seconds: int = 400
    seed: int = 7


class Shares(NamedTuple):
    """Shares of Sybils at the end, over all honest peers.

    Attributes:
        chosen: in the slots of their views.
        partners: among those with whom they would exchange next.
        neighbors: in all their connections, guests included.
        eclipsed: honest peers that have chosen nobody but Sybils.
    """

    chosen: float
    partners: float
    neighbors: float
    eclipsed: float


TABLE = (
    Flood(sybils=33, networks=33),
    Flood(sybils=100, networks=100),
    Flood(sybils=100, networks=8),
    Flood(sybils=600, networks=8),
    Flood(sybils=3000, networks=8),
    Flood(sybils=3000, networks=300),
)
"""The attacks of the table."""


class _Sybil(Attacker):
    """Answers keep-alives, tells of the gang; the gang's pace says when it dials."""

    def _pulse(self) -> None:
        """Do nothing unasked."""


class _Gang:
    """All Sybils, with one pace: they dial every honest peer in turn."""

    def __init__(self, cluster: "_FloodedCluster", flood: Flood):
        self._cluster = cluster
        self._draws = Draws(flood.seed, "gang")
        records: list[Sealed] = []
        everywhere = range(max(flood.networks, flood.honest_networks))
        networks = self._draws.sample(everywhere, flood.networks)
        self.sybils = [
            _Sybil(
                cluster,
                number,
                records,
                endpoint_of(networks[number % flood.networks], _FIRST_PLACE + number, 7000),
            )
            for number in range(flood.sybils)
        ]
        renew_ns = cluster.config.protocol.renew_interval_ns
        self._wait_ns = 3 * renew_ns // 4 // (_PUSHES_PER_DIAL * flood.honest)
        self._push()

    def _push(self) -> None:
        cluster = self._cluster
        cluster.world.schedule.after(self._wait_ns, self._push)
        if cluster.hosts:
            target = self._draws.choice(list(cluster.hosts.values()))
            sybil = self._draws.choice(self.sybils)
            if target.id not in sybil.links:
                sybil.dial(target.address)


class _FloodedCluster(Cluster):
    """Join addresses are those of the first peer and of random others, Sybils among them."""

    def __init__(self, flood: Flood):
        self._flood = flood
        self.gang: _Gang | None = None
        super().__init__(
            ClusterConfig(
                peers=flood.honest,
                seed=flood.seed,
                networks=flood.honest_networks,
                protocol=ProtocolConfig(
                    view_size=flood.view_size,
                    neighbors_max=flood.neighbors_max,
                    probe_interval_ns=16 * SECOND,  # fewer keep-alives, to save time
                    suspect_after_ns=48 * SECOND,
                    dead_after_ns=128 * SECOND,
                    gossip_peers_interval_ns=4 * SECOND,
                    renew_interval_ns=10 * SECOND,
                ),
                round_ns=60 * SECOND,
                start_ns=20 * SECOND,
            )
        )
        self.gang = _Gang(self, flood)

    def _bootstrap_for(self, index: int) -> list[Address]:
        addresses = super()._bootstrap_for(index)
        if self.gang is None:
            return addresses
        share = self._flood.sybils * 1_000_000 // (self._flood.sybils + len(self.hosts) + 1)
        return addresses[:1] + [
            self._draws.choice(self.gang.sybils).address if self._draws.chance(share) else address
            for address in addresses[1:]
        ]


def run_flood(flood: Flood) -> Shares:
    """Let an attack run, and count."""
    cluster = _FloodedCluster(flood)
    cluster.run_for(flood.seconds * SECOND)
    honest = {host.id for host in cluster.hosts.values()}
    chosen, partners, neighbors = [], [], []
    eclipsed = 0
    for host in cluster.hosts.values():
        mine = [peer for peer in host.machine.neighbors if host.machine.has_chosen(peer)]
        chosen += mine
        neighbors += host.machine.neighbors
        for _ in range(8):
            partners += host.machine.audience()
        eclipsed += not honest.intersection(mine)
    return Shares(
        *(_share(peers, honest) for peers in (chosen, partners, neighbors)),
        eclipsed=eclipsed / len(honest),
    )


def _share(peers: list[PeerId], honest: set[PeerId]) -> float:
    return sum(peer not in honest for peer in peers) / max(len(peers), 1)
