"""Simulated peers that nobody can dial take part like everybody else."""

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.cluster import BOOK_SIZE, Cluster, ClusterConfig
from gossipjax.simulation.network import SECOND


def hidden_cluster(peers: int, hidden: int, seed: int) -> Cluster:
    protocol = ProtocolConfig(book_size=BOOK_SIZE, view_size=8)
    config = ClusterConfig(
        peers=peers, hidden=hidden, seed=seed, protocol=protocol, round_ns=2 * SECOND
    )
    return Cluster(config)


def test_two_of_three_are_hidden_and_all_exchange():
    cluster = hidden_cluster(3, 2, seed=1)
    cluster.run_for(60 * SECOND)
    assert [len(view) for view in cluster.views().values()] == [2, 2, 2]
    assert all(host.delivered > 30 for host in cluster.hosts.values())
    assert not cluster.world.refused


def test_most_are_hidden_and_relays_come_and_go():
    cluster = hidden_cluster(24, 16, seed=2)
    for index in range(1, 8):
        cluster.run_for(20 * SECOND)
        cluster.stop(index, silently=index % 2 == 0, politely=index % 3 == 0)
        cluster.run_for(10 * SECOND)
        cluster.start(index, keeps_disk=index % 2 == 1)
    cluster.run_for(60 * SECOND)
    assert len(cluster.components()[0]) == 24
    before = {index: host.delivered for index, host in cluster.hosts.items()}
    cluster.run_for(30 * SECOND)
    assert all(host.delivered > before[index] for index, host in cluster.hosts.items())
    assert set(cluster.world.refused) <= {"stalled", "sealed"}


def test_it_is_the_same_each_time():
    digests = set()
    for _ in range(2):
        cluster = hidden_cluster(8, 5, seed=3)
        cluster.run_for(40 * SECOND)
        digests.add(cluster.world.trace.digest())
    assert len(digests) == 1
