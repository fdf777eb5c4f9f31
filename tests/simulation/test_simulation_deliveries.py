"""Traces of deliveries: made from a topology, and recorded from the protocol."""

import numpy as np
import pytest

from gossipjax import topology
from gossipjax.simulation import (
    Cluster,
    ClusterConfig,
    DeliveryRecorder,
    DeliveryTrace,
    asynchronous,
    clock,
)
from gossipjax.simulation.network import SECOND

PEERS, TICKS, SEED = 12, 20, 4


def test_a_clock_ticks_at_its_speed():
    speeds = np.array([1, 0.5, 0.3, 0.01])
    counts = clock(speeds, 1000, seed=3).sum(axis=0)
    np.testing.assert_allclose(counts, 1000 * speeds, atol=1)


def test_all_in_step_hear_their_neighbors_at_once():
    ring = topology.ring(5)
    trace = asynchronous(ring, np.ones((3, 5), bool), slots=2)
    for tick in range(3):
        np.testing.assert_array_equal(np.sort(trace.author[tick]), np.sort(ring.neighbors[0]))
    np.testing.assert_allclose(trace.weight, 1 / 3)
    assert trace.window == 1


def test_a_slow_peer_mixes_the_newest_of_what_has_waited():
    active = np.zeros((6, 3), bool)
    active[[0, 1, 3], 1] = active[[2], 2] = active[[2, 5], 0] = True
    online = np.ones_like(active)
    trace = asynchronous(topology.complete(3), active, is_online=online, delay=[0, 2, 1], slots=2)
    # Peer 1 shares in ticks 0, 1 and 3; it takes 2 ticks, so the last is there in tick 5.
    assert trace.author[5, 0].tolist() == [1, 2]
    assert trace.age[5, 0].tolist() == [2, 3]
    assert trace.window == 4
    assert trace.author[2, 0, 0] == 1
    assert trace.age[2, 0, 0] == 2
    assert trace.weight[2, 0, 1] == 0
    online[5, 0] = False
    offline = asynchronous(topology.complete(3), active, is_online=online, delay=[0, 2, 1])
    assert not offline.is_active[5, 0]


def test_loss_takes_its_share():
    trace = asynchronous(topology.complete(20), np.ones((50, 20), bool), loss=0.3, slots=19)
    assert abs((trace.weight > 0).mean() - 0.7) < 0.02


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"is_active": np.ones((4, 2))}, r"\[ticks, 3\]"),
        ({"delay": -1}, "delay"),
        ({"loss": 1.0}, "loss"),
        ({"slots": 0}, "slots"),
    ],
)
def test_what_does_not_fit_is_refused(options, text):
    arguments = {"is_active": np.ones((4, 3)), **options}
    with pytest.raises(ValueError, match=text):
        asynchronous(topology.ring(3), **arguments)
    with pytest.raises(ValueError, match="above 0"):
        clock([0.5, 0.0], 10)


def record(faults: bool) -> tuple[DeliveryTrace, Cluster]:
    recorder = DeliveryRecorder(peers=PEERS, ticks=TICKS)
    config = ClusterConfig(peers=PEERS, seed=SEED, round_ns=3 * SECOND)
    cluster = Cluster(config, recorder)
    cluster.run_for(9 * config.round_ns)
    if faults:
        cluster.stop(3)
        cluster.run_for(5 * config.round_ns)
        cluster.start(3, keeps_disk=False)
    cluster.run_for((TICKS + 1) * config.round_ns - cluster.world.schedule.now_ns)
    return recorder.trace(), cluster


def test_the_protocol_s_deliveries_are_recorded():
    trace, cluster = record(faults=False)
    assert trace.is_active[4:].mean() > 0.99
    mixed = trace.weight > 0
    assert not mixed[~trace.is_active].any()
    assert (trace.age >= 0).all()
    assert trace.window <= 3
    own = np.arange(PEERS)[:, None]
    assert (trace.author != own)[mixed].all()
    # All that was delivered, but for the last of two rounds of one author and the last tick.
    delivered = cluster.totals().delivered
    assert 0.85 * delivered < mixed.sum() <= delivered


def test_churn_is_recorded_and_a_stranger_adopts():
    trace, _ = record(faults=True)
    assert not trace.is_active[10:13, 3].any()
    adopted = trace.is_active & (trace.self_weight == 0)
    assert adopted[14:, 3].sum() == 1
    rows = np.argwhere(adopted)
    assert ((trace.weight > 0)[tuple(rows.T)].sum(axis=1) == 1).all()
