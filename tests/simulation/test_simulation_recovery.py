"""Whole networks after great faults: partitions, and many crashes at once."""

from typing import Any

import pytest

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.faults import Outage, Partition, draw_partition
from gossipjax.simulation.liveness import check_connected, heal_span_ns
from gossipjax.simulation.network import SECOND, LinkModel


def check_healing(config: ClusterConfig, partition: Partition, seconds: int) -> None:
    """The views are one graph ten probe intervals after a partition of so many seconds."""
    cluster = Cluster(config)
    cluster.run_for(config.start_ns + 30 * SECOND)
    heal = partition.begin(cluster)
    cluster.run_for(seconds * SECOND)
    heal()
    cluster.run_for(heal_span_ns(config))
    check_connected(cluster)


@pytest.mark.parametrize("loss_ppm", [0, 200_000])
@pytest.mark.parametrize("peers", [2, 7, 24])
def test_a_partition_of_two_minutes_heals(peers: int, loss_ppm: int):
    config = ClusterConfig(
        peers=peers, seed=5, start_ns=5 * SECOND, model=LinkModel(loss_ppm=loss_ppm)
    )
    halves = Partition(at_ns=0, until_ns=0, group_of=tuple(i % 2 for i in range(peers)))
    check_healing(config, halves, 120)


KINDS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "halves": ({}, tuple(i % 2 for i in range(16))),
    "isolate one": ({}, (1, *[0] * 15)),
    "asymmetric": ({"one_way": True}, tuple(i % 2 for i in range(16))),
    "bridge": ({"bridges": (3,)}, tuple(i % 2 for i in range(16))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_long_partition_of_every_kind_heals_in_ten_probe_intervals(kind: str, seed: int):
    more, groups = KINDS[kind]
    config = ClusterConfig(
        peers=16,
        seed=seed,
        protocol=ProtocolConfig(view_size=8),
        model=LinkModel(loss_ppm=200_000),
        round_ns=30 * SECOND,
        start_ns=5 * SECOND,
    )
    partition = Partition(at_ns=0, until_ns=0, group_of=groups, **more)
    check_healing(config, partition, 300 if seed == 0 else 1800)


def test_two_networks_that_bootstrapped_apart_become_one():
    """Nobody remembers anybody of the other network, but some were told to join by one of it."""
    config = ClusterConfig(
        peers=24, seed=3, protocol=ProtocolConfig(view_size=8), round_ns=30 * SECOND
    )
    cluster = Cluster(config)
    heal = Partition(at_ns=0, until_ns=0, group_of=(0, 1) * 12).begin(cluster)
    cluster.run_for(60 * SECOND)
    keys = {host.identity.public.sign: host.index for host in cluster.hosts.values()}
    for host in cluster.hosts.values():
        assert {keys[key] % 2 for key in host.disk.book} <= {host.index % 2}
    heal()
    cluster.run_for(60 * SECOND)
    check_connected(cluster)
    met = {keys[key] % 2 for key in cluster.hosts[1].disk.book}
    assert met == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_a_partition_of_half_an_hour_heals(seed: int):
    draws = Draws(seed, "partition")
    peers = draws.between(4, 40)
    config = ClusterConfig(
        peers=peers, seed=seed, model=LinkModel(loss_ppm=draws.choice((0, 100_000, 200_000)))
    )
    check_healing(config, draw_partition(draws, peers, 0, 0), 1800)


def test_a_view_that_is_full_meets_the_other_half_by_renewing():
    config = ClusterConfig(peers=40, seed=2, protocol=ProtocolConfig(view_size=8, book_size=256))
    halves = Partition(at_ns=0, until_ns=0, group_of=tuple(i % 2 for i in range(40)))
    check_healing(config, halves, 60)


@pytest.mark.parametrize("seed", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 6))])
def test_with_30_percent_of_the_peers_crashed_at_once_the_rest_exchanges_as_before(seed: int):
    config = ClusterConfig(peers=30, seed=seed, round_ns=2 * SECOND, start_ns=5 * SECOND)
    cluster = Cluster(config)
    cluster.run_for(40 * SECOND)

    def delivered_per_peer(seconds: int) -> float:
        before = {index: host.delivered for index, host in cluster.hosts.items()}
        cluster.run_for(seconds * SECOND)
        gained = [host.delivered - before[index] for index, host in cluster.hosts.items()]
        assert min(gained) > 0
        return sum(gained) / len(gained)

    usual = delivered_per_peer(60)
    crashed = tuple(range(1, 28, 3))
    Outage(at_ns=0, until_ns=0, peers=crashed, silently=True).begin(cluster)
    at_once = 3 * delivered_per_peer(20) / usual
    later = delivered_per_peer(60) / usual
    print(f"seed {seed}: {at_once:.2f} of the rate in the first 20 s, {later:.2f} after them")
    assert later >= 0.9
    check_connected(cluster)


def test_the_cost_of_a_peer_does_not_grow_with_the_network():
    def messages_per_peer(peers: int) -> float:
        cluster = Cluster(ClusterConfig(peers=peers, seed=1))
        cluster.run_for(30 * SECOND)
        before = cluster.totals()
        cluster.run_for(20 * SECOND)
        after = cluster.totals()
        return (after.messages - before.messages) / (after.rounds - before.rounds)

    assert messages_per_peer(150) < 1.25 * messages_per_peer(50)
