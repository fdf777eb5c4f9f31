"""The vectorized learner against a loop in NumPy, and its driver: resume, devices, errors."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gossipjax as gj
from gossipjax.mixing import GossipAlgorithm, Needs, chain, discount_staleness, weighted_mean
from gossipjax.simulation import DeliveryTrace, asynchronous, clock, poisoning

PEERS = 6
RATE = 0.25
SGD = optax.sgd(RATE)
ALGORITHM = gj.gossip(
    chain(discount_staleness(lambda staleness: 1 / (1 + staleness)), weighted_mean())
)


def loss(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Half the squared distance to the target; all samples of a shard are the same."""
    value = ((params["x"] - batch["target"]) ** 2).sum(axis=-1).mean() / 2
    return value, {"first": params["x"][0]}


TARGETS = np.random.RandomState(0).standard_normal((PEERS, 3)).astype(np.float32)
SHARDS = [{"target": np.repeat(target[None], 2, axis=0)} for target in TARGETS]
START = {"x": jnp.zeros(3)}


def run(driver: Any, algorithm: GossipAlgorithm = ALGORITHM, **options: Any):
    return gj.simulate(algorithm, SGD, loss, START, SHARDS, topology=driver, **options)


def loop(trace: DeliveryTrace, discount: Any) -> tuple[np.ndarray, np.ndarray]:
    """What `run` should give, peer by peer and tick by tick."""
    x, version = np.zeros((PEERS, 3)), np.zeros(PEERS)
    told: list[tuple[np.ndarray, np.ndarray]] = []
    for tick in range(trace.ticks):
        active = trace.is_active[tick]
        x[active] += RATE * (TARGETS - x)[active]
        version[active] += 1
        told.append((x.copy(), version.copy()))
        mixed, mixed_version = x.copy(), version.copy()
        for peer in np.flatnonzero(active):
            total = trace.self_weight[tick, peer] * np.append(x[peer], version[peer])
            weights = trace.self_weight[tick, peer]
            for author, age, weight in zip(
                trace.author[tick, peer],
                trace.age[tick, peer],
                trace.weight[tick, peer],
                strict=True,
            ):
                if weight > 0:
                    payload, of = told[tick - age][0][author], told[tick - age][1][author]
                    weight = weight * discount(max(0, version[peer] - of))
                    total = total + weight * np.append(payload, of)
                    weights += weight
            if weights > 0:
                mixed[peer], mixed_version[peer] = total[:3] / weights, total[3] / weights
        x, version = mixed, mixed_version
    return x, version


@pytest.mark.parametrize(
    ("seed", "slowest", "delay", "loss_rate"),
    [(1, 1.0, 0, 0.0), (2, 0.2, 0, 0.4), (3, 0.5, 3, 0.3)],
)
def test_a_trace_equals_a_loop(seed: int, slowest: float, delay: int, loss_rate: float):
    active = clock(np.linspace(slowest, 1, PEERS), 12, seed=seed)
    online = np.random.RandomState(seed).random(active.shape) < 0.9
    trace = asynchronous(
        gj.topology.ring(PEERS), active, is_online=online, delay=delay, loss=loss_rate, seed=seed
    )
    trace.self_weight[5:7, 0] = 0  # a joiner adopts
    result = run(trace, rounds=12)
    x, version = loop(trace, lambda staleness: 1 / (1 + staleness))
    np.testing.assert_allclose(result.params["x"], x, atol=1e-5)
    np.testing.assert_allclose(result.version, version, atol=1e-4)
    mixed = trace.weight > 0
    assert result.rows[-1]["bytes_per_peer"] == pytest.approx(mixed.sum() * 12 / PEERS)


def test_rounds_in_step_are_the_trace_in_which_all_are_always_there():
    graph = gj.topology.base_graph(PEERS)
    trace = asynchronous(graph, np.ones((10, PEERS), bool), slots=graph.slots)
    in_step, traced = run(graph, rounds=10), run(trace, rounds=10)
    np.testing.assert_array_equal(in_step.params["x"], traced.params["x"])
    assert in_step.rows == traced.rows


def test_evaluations_are_of_the_peers_themselves():
    test_data = {"target": np.concatenate([shard["target"] for shard in SHARDS] * 30)}
    result = run(gj.topology.ring, rounds=7, evaluate_every=3, test_data=test_data)
    assert result.column("round") == [3, 6, 7]
    first, last = np.asarray(result.params["x"])[:, 0], result.rows[-1]
    assert last["first_mean"] == pytest.approx(first.mean(), abs=1e-6)
    assert last["first_min"] == pytest.approx(first.min(), abs=1e-6)
    assert last["first_max"] == pytest.approx(first.max(), abs=1e-6)
    mean = np.asarray(result.params["x"]).mean(axis=0)
    apart = np.asarray(result.params["x"]) - mean
    assert last["consensus_distance"] == pytest.approx(np.sqrt((apart**2).sum(1).mean()), rel=1e-5)
    expected = ((mean - TARGETS) ** 2).sum(1).mean() / 2
    assert last["loss_of_mean"] == pytest.approx(expected, rel=1e-5)
    assert last["bytes_per_peer"] == 7 * 2 * 12


def test_local_steps_and_more_peers_than_shards():
    result = run(gj.topology.complete, rounds=3, local_steps=4, peers=2 * PEERS)
    mean = np.zeros(3)
    for _ in range(3):
        mean = (TARGETS + (1 - RATE) ** 4 * (mean - TARGETS)).mean(axis=0)
    np.testing.assert_allclose(result.params["x"], np.tile(mean, (2 * PEERS, 1)), atol=1e-5)
    np.testing.assert_allclose(result.version, 12, atol=1e-4)


def test_a_seed_decides_the_batches():
    shards = [{"target": np.random.RandomState(i).standard_normal((9, 3))} for i in range(PEERS)]

    def final(seed: int) -> np.ndarray:
        result = gj.simulate(
            ALGORITHM,
            SGD,
            loss,
            START,
            shards,
            rounds=3,
            topology=gj.topology.ring,
            seed=seed,
            batch_size=2,
        )
        return np.asarray(result.params["x"])

    np.testing.assert_array_equal(final(1), final(1))
    assert np.abs(final(1) - final(2)).max() > 1e-3


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path):
    trace = asynchronous(gj.topology.ring(PEERS), clock([0.5] * PEERS, 9), delay=2)
    whole = run(trace, rounds=9, evaluate_every=3)
    first = run(trace, rounds=6, evaluate_every=3, checkpoint=tmp_path / "run")
    seen: list[float] = []
    rest = run(
        trace,
        rounds=9,
        evaluate_every=3,
        checkpoint=tmp_path / "run",
        on_evaluation=lambda row: seen.append(row["round"]),
    )
    assert seen == [9]
    assert first.rows == whole.rows[:2]
    assert rest.rows == whole.rows
    np.testing.assert_array_equal(rest.params["x"], whole.params["x"])
    np.testing.assert_array_equal(rest.version, whole.version)


def test_results_as_csv_and_picture(tmp_path: Path, capsys):
    result = run(gj.topology.ring, rounds=4, evaluate_every=2, progress=True)
    assert "rounds" in capsys.readouterr().out
    result.write_csv(tmp_path / "table.csv")
    header, *lines = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert header == "round,version,consensus_distance,bytes_per_peer,staleness"
    assert [line.partition(",")[0] for line in lines] == ["2", "4"]
    result.plot(tmp_path / "table.png", "version", over="bytes_per_peer")
    assert (tmp_path / "table.png").stat().st_size > 1000
    assert result.peer(2)["x"].shape == (3,)
    with pytest.raises(KeyError, match="there are round, version"):
        result.column("accuracy")


PROGRAM = """
import sys
import jax, numpy as np
sys.path.insert(0, sys.argv[1])
from test_simulation_learner import run
import gossipjax as gj
from gossipjax.simulation import asynchronous, clock
assert len(jax.devices()) == 4
trace = asynchronous(gj.topology.ring(8), clock([0.5, 1] * 4, 10), delay=1)
one = run(trace, rounds=10, peers=8)
four = run(trace, rounds=10, peers=8, devices=jax.devices())
assert len(four.params["x"].sharding.device_set) == 4
np.testing.assert_array_equal(one.params["x"], four.params["x"])
np.testing.assert_array_equal(one.version, four.version)
print("same")
"""


def test_four_devices_give_the_same_as_one():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.stdout == "same\n", done.stderr[-3000:]


def test_attackers_tell_something_else():
    is_byzantine = np.arange(PEERS) == 0
    kept = {"attack": poisoning.stale(3), "is_byzantine": is_byzantine}
    result = run(gj.topology.star, rounds=2, **kept)
    first, second = np.zeros((PEERS, 3)), np.zeros((PEERS, 3))
    weight = 1 / PEERS
    first = RATE * TARGETS
    hub = first[0]
    first[1:] = (1 - weight) * first[1:] + weight * hub
    second[1:] = (1 - RATE) * first[1:] + RATE * TARGETS[1:]
    second[1:] = (1 - weight) * second[1:] + weight * hub  # which the hub tells once more
    np.testing.assert_allclose(result.params["x"][1:], second[1:], atol=1e-5)


def test_attackers_tell_each_receiver_something_else():
    options = {"attack": poisoning.dissensus(1.0), "is_byzantine": np.arange(PEERS) < 2}
    result = run(gj.topology.complete, rounds=3, **options)
    alone = TARGETS * (1 - (1 - RATE) ** 3)
    np.testing.assert_allclose(result.params["x"][2:], alone[2:], atol=1e-5)


def needing(**needs: bool) -> GossipAlgorithm:
    return ALGORITHM._replace(needs=Needs(**needs))


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        (gj.topology.ring(5), {}, "5 peers, but there are 6"),
        (gj.topology.ring, {"rounds": 0}, "at least 1"),
        (gj.topology.ring, {"peers": 1}, "at least 2 peers"),
        (gj.topology.ring, {"batch_size": 0}, "batch_size"),
        (
            asynchronous(gj.topology.ring(PEERS), np.ones((2, PEERS), bool)),
            {"rounds": 3},
            "2 ticks",
        ),
        (gj.topology.exponential, {"algorithm": needing(reciprocal=True)}, "symmetric"),
        (gj.topology.base_graph, {"algorithm": needing(sticky_slots=True)}, "static"),
        (gj.topology.ring, {"algorithm": needing(tree=True)}, "a tree"),
        (
            asynchronous(gj.topology.ring(PEERS), np.ones((2, PEERS), bool)),
            {"algorithm": needing(lossless=True)},
            "take a topology",
        ),
        (gj.topology.ring, {"attack": poisoning.zeros()}, "give both"),
        (
            gj.topology.ring,
            {"attack": poisoning.zeros(), "is_byzantine": np.ones(PEERS)},
            "an honest peer",
        ),
        (gj.topology.ring, {"devices": jax.devices() * 4}, "equal parts"),
    ],
)
def test_what_does_not_fit_is_refused(driver, options, text):
    with pytest.raises(ValueError, match=text):
        run(driver, **{"rounds": 2, **options})


def test_an_empty_shard_is_refused():
    shards = [*SHARDS[:-1], {"target": np.zeros((0, 3))}]
    with pytest.raises(ValueError, match="shard 5 is empty"):
        gj.simulate(ALGORITHM, SGD, loss, START, shards, rounds=1, topology=gj.topology.ring)


def test_an_algorithm_gets_what_it_needs():
    everything = needing(tree=True, reciprocal=True, sticky_slots=True, lossless=True)
    assert run(gj.topology.star, everything, rounds=1).rows[-1]["round"] == 1


def test_code_of_the_guide():
    guide = Path(__file__).parents[2] / "docs" / "guides" / "simulate-training.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(guide), "exec"), names)
    in_step, slow, real = (names[name].rows[-1] for name in ("result", "slow", "real"))
    assert in_step["accuracy_min"] > 0.85
    assert slow["accuracy_mean"] > 0.8
    assert slow["staleness"] > 0.5
    assert real["consensus_distance"] > 0
    assert real["bytes_per_peer"] > 0
