"""What faults do to peers, and that they come back from them."""

import itertools

import pytest

from gossipjax.simulation.checkers import SafetyChecker, Violation
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.disk import Disk
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.faults import (
    FaultRun,
    Outage,
    Partition,
    Pause,
    churn_of,
    draw_churn,
    draw_partition,
)
from gossipjax.simulation.host import SimulatedHost
from gossipjax.simulation.network import SECOND
from gossipjax.simulation.participant import simulated_identity
from gossipjax.wire.messages import Sealed


def cluster_of(peers: int, seed: int = 1) -> Cluster:
    """Peers that have found each other."""
    cluster = Cluster(
        ClusterConfig(peers=peers, seed=seed, start_ns=2 * SECOND, round_ns=2 * SECOND)
    )
    cluster.run_for(15 * SECOND)
    assert len(cluster.components()) == 1
    return cluster


def outage(**what: bool) -> Outage:
    return Outage(at_ns=0, until_ns=0, peers=(1,), **what)


def sees(host: SimulatedHost, other: SimulatedHost) -> bool:
    return other.id in host.machine.neighbors


def test_halves_part_and_join_again():
    cluster = cluster_of(8)
    heal = Partition(at_ns=0, until_ns=0, group_of=(0, 1) * 4).begin(cluster)
    cluster.run_for(40 * SECOND)
    assert [len(component) for component in cluster.components()] == [4, 4]
    heal()
    cluster.run_for(20 * SECOND)
    assert len(cluster.components()) == 1


def test_a_bridge_holds_two_halves_together():
    cluster = cluster_of(7)
    Partition(at_ns=0, until_ns=0, group_of=(0, 0, 0, 0, 1, 1, 1), bridges=(0,)).begin(cluster)
    cluster.run_for(60 * SECOND)
    assert len(cluster.components()) == 1
    hosts = cluster.hosts
    assert not any(sees(hosts[i], hosts[j]) for i in (1, 2, 3) for j in (4, 5, 6))


def test_a_one_way_partition_parts_as_well():
    cluster = cluster_of(6)
    Partition(at_ns=0, until_ns=0, group_of=(0, 0, 0, 1, 1, 1), one_way=True).begin(cluster)
    cluster.run_for(40 * SECOND)
    assert [len(component) for component in cluster.components()] == [3, 3]


def test_partitions_of_every_kind_are_drawn():
    drawn = [draw_partition(Draws(seed), 10, 0, SECOND) for seed in range(60)]
    sizes = {tuple(sorted(p.group_of.count(group) for group in set(p.group_of))) for p in drawn}
    assert {(5, 5), (1, 9)} < sizes
    assert any(partition.bridges for partition in drawn)
    assert {partition.one_way for partition in drawn} == {False, True}


def test_a_peer_with_its_disk_is_the_same_peer_and_goes_on_counting():
    cluster = cluster_of(4)
    before = cluster.hosts[1]
    used = before.disk.sequence
    start = outage().begin(cluster)
    cluster.run_for(5 * SECOND)
    assert 1 not in cluster.hosts
    start()
    after = cluster.hosts[1]
    assert (after.id, after.address) == (before.id, before.address)
    assert after.machine is not before.machine
    sequence = after.disk.sequence
    assert sequence > used > 0
    cluster.run_for(20 * SECOND)
    assert after.disk.sequence > sequence
    assert len(cluster.components()) == 1
    assert cluster.world.refused.keys() <= {"stalled"}


def test_a_peer_without_its_disk_is_a_stranger_at_the_same_address():
    cluster = cluster_of(4)
    before = cluster.hosts[1]
    outage(keeps_disk=False).begin(cluster)()
    after = cluster.hosts[1]
    assert after.id != before.id
    assert after.address.endpoint == before.address.endpoint
    cluster.run_for(20 * SECOND)
    assert len(cluster.components()) == 1


def test_a_peer_that_moves_is_found_at_its_new_address():
    cluster = cluster_of(4)
    before = cluster.hosts[1]
    outage(moves=True).begin(cluster)()
    after = cluster.hosts[1]
    assert after.id == before.id
    assert after.address.endpoint != before.address.endpoint
    cluster.run_for(30 * SECOND)
    assert len(cluster.components()) == 1


def test_a_corrupt_book_is_no_harm():
    cluster = cluster_of(6)
    book = cluster.hosts[1].disk.book
    whole = dict(book)
    start = outage(corrupts_disk=True).begin(cluster)
    assert sum(book[peer] != whole[peer] for peer in whole) == (len(whole) + 1) // 2
    start()
    cluster.run_for(20 * SECOND)
    assert len(cluster.components()) == 1


def test_a_power_failure_loses_what_was_not_synced_and_tears_one_record():
    disk = Disk(simulated_identity(1, "disk"), 64)
    disk.begin_life()
    old, new = Sealed(b"old record", bytes(64)), Sealed(b"new record", bytes(64))
    for number in range(8):  # then all of them are synced
        disk.remember(old, bytes([number]))
    disk.remember(new, b"\0")
    disk.remember(new, b"new")
    disk.forget(b"\1")
    disk.remember(new, b"\2")
    numbers = [disk.next_sequence() for _ in range(20)]
    disk.lose_writes()
    disk.begin_life()
    assert disk.book.keys() == {bytes([number]) for number in range(8)}
    assert {key: record.body for key, record in disk.book.items() if record != old} == {
        b"\2": b"new r"
    }
    assert disk.next_sequence() > max(numbers)


def test_power_failures_make_nobody_sign_twice_unless_numbers_are_not_synced(monkeypatch):
    rows = [(20 + 5 * n, 1 + n % 3, up) for n in range(8) for up in (False,)]
    rows += [(seconds + 4, peer, True) for seconds, peer, _ in rows]

    def run() -> None:
        config = ClusterConfig(peers=4, seed=1, start_ns=0, round_ns=SECOND)
        cluster = Cluster(config, SafetyChecker(config.model, has_faults=True))
        FaultRun(cluster, churn_of(sorted(rows)))
        cluster.run_for(70 * SECOND)
        assert len(cluster.hosts) == 4

    run()
    begin_life = Disk.begin_life

    def begin_before_the_last_sync(self: Disk) -> None:
        begin_life(self)
        self.sequence = self._reserved = max(0, self._reserved - 16)

    monkeypatch.setattr(Disk, "begin_life", begin_before_the_last_sync)
    with pytest.raises(Violation, match="signs two updates with number"):
        run()


def test_a_trace_of_churn_becomes_outages():
    rows = [(1.0, 2, False), (2.0, 3, True), (2.5, 2, False), (4.0, 2, True), (9.0, 2, False)]
    spans = [
        (fault.peers, fault.at_ns / SECOND, fault.until_ns / SECOND)
        for fault in churn_of(rows)
        if isinstance(fault, Outage)
    ]
    assert spans[:2] == [((3,), 0, 2), ((2,), 1, 4)]
    assert spans[2][:2] == ((2,), 9)
    assert spans[2][2] > 10**8


@pytest.mark.parametrize(("silently", "seconds"), [(False, 5), (True, 25)])
def test_a_crash_is_noticed(silently: bool, seconds: int):
    cluster = cluster_of(4)
    gone = cluster.hosts[1]
    outage(silently=silently).begin(cluster)
    cluster.run_for(seconds * SECOND)
    assert not any(sees(host, gone) for host in cluster.hosts.values())


def test_a_goodbye_is_noticed_at_once():
    cluster = cluster_of(4)
    gone = cluster.hosts[1]
    outage(politely=True).begin(cluster)
    cluster.run_for(SECOND)
    assert not any(sees(host, gone) for host in cluster.hosts.values())


def test_a_paused_peer_does_nothing_and_then_everything():
    cluster = cluster_of(4)
    host = cluster.hosts[1]
    resume = Pause(at_ns=0, until_ns=0, peers=(1,)).begin(cluster)
    delivered, round_ = host.delivered, host.round
    cluster.run_for(8 * SECOND)
    assert host.is_paused
    assert (host.delivered, host.round) == (delivered, round_)
    resume()
    cluster.run_for(5 * SECOND)
    assert host.delivered > delivered
    assert host.round > round_
    assert len(cluster.components()) == 1


def test_faults_begin_and_end_when_they_should_or_all_at_once():
    cluster = cluster_of(4)
    now_ns = cluster.world.schedule.now_ns
    short = Outage(at_ns=now_ns + SECOND, until_ns=now_ns + 2 * SECOND, peers=(1,))
    long = Pause(at_ns=now_ns + SECOND, until_ns=now_ns + 900 * SECOND, peers=(2,))
    run = FaultRun(cluster, [short, long])
    cluster.run_for(int(1.5 * SECOND))
    assert 1 not in cluster.hosts
    cluster.run_for(SECOND)
    assert 1 in cluster.hosts
    assert cluster.hosts[2].is_paused
    run.heal()
    assert not cluster.hosts[2].is_paused


def test_churn_takes_peers_down_and_up_but_never_the_first():
    churn = draw_churn(Draws(2), 12, 300 * SECOND)
    assert len(churn) > 4
    for fault in churn:
        assert isinstance(fault, Outage)
        assert fault.at_ns < fault.until_ns
        assert 0 not in fault.peers
    for peer in {fault.peers for fault in churn if isinstance(fault, Outage)}:
        spans = [(f.at_ns, f.until_ns) for f in churn if isinstance(f, Outage) and f.peers == peer]
        assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(spans))
