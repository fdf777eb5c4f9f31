"""Each role alone, one third as many attackers as honest peers: the honest go on."""

import pytest

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.attacks import ROLES, attack, attacker_share
from gossipjax.simulation.checkers import SafetyChecker, check_memory
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.network import SECOND, LinkModel
from gossipjax.simulation.sybils import Flood, run_flood

PEERS, ATTACKERS = 9, 3


@pytest.mark.parametrize("role", ROLES)
def test_the_honest_go_on_under(role: str):
    config = ClusterConfig(
        peers=PEERS,
        seed=3,
        protocol=ProtocolConfig(book_size=64, downloads_max=2),
        model=LinkModel(through_codec=True),
        round_ns=2 * SECOND,
        start_ns=5 * SECOND,
    )
    cluster = Cluster(config, SafetyChecker(config.model, has_faults=False))
    attackers = attack(cluster, [role] * ATTACKERS)
    cluster.run_for(40 * SECOND)
    honest = {host.id for host in cluster.hosts.values()}
    for host in cluster.hosts.values():
        assert host.delivered > 5
        assert host.machine.has_caught_up
        # Not all of them yet: places also try the addresses that Sybils make up.
        assert len(honest & host.machine.neighbors.keys()) >= PEERS // 3
        check_memory(host)
    assert len(cluster.components()) == 1
    assert 0 <= attacker_share(cluster, attackers) <= ATTACKERS / PEERS


def test_who_only_misbehaves_is_turned_away():
    config = ClusterConfig(peers=4, seed=1, round_ns=2 * SECOND, start_ns=SECOND)
    cluster = Cluster(config)
    attackers = attack(cluster, ["forgery"])
    cluster.run_for(30 * SECOND)
    assert cluster.world.refused["signature"] >= 8 * config.peers
    assert attacker_share(cluster, attackers) == 0


def test_a_flood_from_few_networks_gets_few_of_the_chosen_places():
    """Two thirds of all peers are Sybils, and a tenth of all networks theirs."""
    shares = run_flood(Flood(sybils=80, networks=4, honest=40, view_size=8, seconds=150))
    assert shares.chosen < 0.3
    assert shares.partners < 0.5
    assert shares.eclipsed <= 1 / 40


def test_a_flood_from_many_networks_gets_its_share_of_networks():
    """A third of all peers and of all networks; with room for 8 guests, the share is 0.44."""
    shares = run_flood(Flood(sybils=30, networks=30, honest=60, view_size=8, seconds=240))
    assert shares.chosen < 0.39
    assert shares.eclipsed == 0
