"""Joiners of a simulated network: several donors, some of which vanish, lie or are deaf.

A chunk has 256 bytes here, so that a payload of many chunks costs little.
"""

import statistics
from collections import Counter

import pytest

from gossipjax.protocol.effects import Effects, Send
from gossipjax.protocol.events import Event, Received
from gossipjax.simulation.attacks import attack
from gossipjax.simulation.checkers import SafetyChecker
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.host import SimulatedHost
from gossipjax.simulation.network import SECOND, LinkModel
from gossipjax.types import PeerId
from gossipjax.wire import limits
from gossipjax.wire.messages import Chunk, Get

CHUNK_BYTES = 256
CHUNKS = 100
FLOATS = CHUNKS * CHUNK_BYTES // 4
SEEDS = (1, 3)  # in one of six networks a joiner finds one donor only, or none that lies


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK_BYTES)


class Counting(SafetyChecker):
    """Counts, besides, the chunks that each host serves, and asks for while it catches up."""

    def __init__(self, model: LinkModel):
        super().__init__(model, has_faults=True)
        self.served: Counter[int] = Counter()
        self.asked: Counter[int] = Counter()
        self.received: Counter[int] = Counter()
        self.donors: dict[int, dict[PeerId, None]] = {}
        self.counts_served = False

    def handled(self, host: SimulatedHost, event: Event, effects: Effects) -> None:
        super().handled(host, event, effects)
        joins = not host.machine.has_caught_up
        if joins and isinstance(event, Received) and isinstance(event.message, Chunk):
            self.received[host.index] += len(event.data or b"")
        for effect in effects:
            match effect:
                case Send(message=Chunk()):
                    self.served[host.index] += self.counts_served
                case Send(message=Get() as get) if joins:
                    self.asked[host.index] += get.count
                    self.donors.setdefault(host.index, {})[effect.peer] = None
                case _:
                    pass


def network(
    members: int, joiners: int, seed: int, floats: int = FLOATS
) -> tuple[Cluster, Counting]:
    """Members that have trained for a while; the joiners, the last ones, have not started."""
    wires = LinkModel(uplink_bytes_per_s=20_000)
    config = ClusterConfig(
        peers=members + joiners,
        seed=seed,
        model=wires,
        round_ns=60 * SECOND,
        payload_floats=floats,
        start_ns=0,
    )
    checker = Counting(wires)
    cluster = Cluster(config, checker)
    cluster.run_for(0)
    for index in range(members, members + joiners):
        cluster.stop(index)
    for host in cluster.hosts.values():
        host.version = 1000
    cluster.run_for(70 * SECOND)
    return cluster, checker


def joined(cluster: Cluster, index: int, seconds: int) -> bool:
    """Let a joiner begin; whether it has caught up by an update of the others in time."""
    cluster.start(index)
    host = cluster.hosts[index]
    for _ in range(4 * seconds):
        cluster.run_for(SECOND // 4)
        if host.machine.has_caught_up:
            break
    return host.machine.has_caught_up and host.version > 100


@pytest.mark.parametrize("seed", SEEDS)
def test_donors_that_vanish_midway_cost_no_more_than_what_was_on_its_way(seed: int):
    cluster, checker = network(6, 1, seed)
    cluster.start(6)
    joiner = cluster.hosts[6]
    vanished = 0
    while not joiner.machine.has_caught_up and cluster.world.schedule.now_ns < 170 * SECOND:
        cluster.run_for(SECOND // 10)
        donors = [host for host in cluster.hosts.values() if host.id in joiner.machine.donors]
        if vanished < 2 and checker.asked[6] > (30, 60)[vanished] and len(donors) > 1:
            cluster.stop(donors[0].index, silently=vanished == 0)
            vanished += 1
    ratio = checker.received[6] / (4 * FLOATS)
    print(f"seed {seed}: {vanished} donors vanished, {ratio:.3f} payloads downloaded")
    assert vanished == 2
    assert joiner.version > 100
    # What was asked of those that are gone never came, and is asked for once more.
    assert checker.asked[6] <= CHUNKS + 2 * (limits.CREDIT_CHUNKS + 3)
    assert ratio <= 1.1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lying_donor_costs_only_itself(seed: int):
    cluster, checker = network(5, 1, seed)
    attack(cluster, ["lying donor"] * 2)
    cluster.run_for(60 * SECOND)
    assert joined(cluster, 5, 60)
    print(f"seed {seed}: refused {dict(cluster.world.refused)}, asked {checker.asked[5]}")
    assert cluster.world.refused["root"]
    assert len(checker.donors[5]) > 1
    assert cluster.hosts[5].version < limits.INTEGER_MAX // 4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_joiner_gets_through_when_half_of_all_messages_are_lost(seed: int):
    cluster, checker = network(6, 1, seed, floats=40 * CHUNK_BYTES // 4)
    cluster.world.network.set_model(LinkModel(uplink_bytes_per_s=20_000, loss_ppm=500_000))
    began_ns = cluster.world.schedule.now_ns
    assert joined(cluster, 6, 240)
    seconds = (cluster.world.schedule.now_ns - began_ns) / SECOND
    print(f"seed {seed}: {seconds:.0f} s, {checker.asked[6]} chunks asked of 40")


def test_many_joiners_at_once_spread_over_the_donors():
    cluster, checker = network(8, 20, 5, floats=60 * CHUNK_BYTES // 4)
    checker.counts_served = True
    for index in range(8, 28):
        cluster.start(index)
    cluster.run_for(90 * SECOND)
    hosts = [cluster.hosts[index] for index in range(8, 28)]
    assert all(host.machine.has_caught_up and host.version > 100 for host in hosts)
    loads = [checker.served[index] for index in range(8)]
    several = sum(len(checker.donors[index]) > 1 for index in range(8, 28))
    ratio = max(loads) / statistics.mean(loads)
    print(f"chunks by donor {loads}, max/mean {ratio:.2f}; {several} of 20 had several donors")
    assert ratio < 2
    assert several >= 10
