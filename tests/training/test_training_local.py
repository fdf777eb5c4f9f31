"""Local steps: the same result on any number of devices, cut into any number of micro-batches."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gossipjax.training import LocalTrainer, Shard, Workload, train_alone

FEATURES = 12


def mean_square(params, batch, key):
    predicted = jnp.tanh(batch["inputs"] @ params["w"]) @ params["v"]
    loss = jnp.mean((predicted - batch["labels"]) ** 2)
    return loss, {"error": jnp.sqrt(loss)}


def make_batches(seed=0, size=32):
    random = np.random.default_rng(seed)
    while True:
        inputs = random.normal(size=(size, FEATURES)).astype(np.float32)
        yield {"inputs": inputs, "labels": inputs.sum(1)}


def make_params(dtype=jnp.float32):
    key = jax.random.key(1)
    return {
        "w": jax.random.normal(key, (FEATURES, 8), dtype) / 4,
        "v": jnp.ones((8,), dtype) / 4,
    }


def run(steps=20, loss=mean_square, params=None, **options):
    trainer = LocalTrainer(loss, optax.adam(1e-2), **options)
    state = trainer.init(params or make_params(), key=jax.random.key(0))
    return trainer.run_round(state, make_batches(), steps=steps)


def test_steps_equal_a_plain_loop_of_the_same_optimizer():
    state, report = run(steps=10)
    params, optimizer, batches = make_params(), optax.adam(1e-2), make_batches()
    opt_state = optimizer.init(params)
    for _ in range(10):
        batch = next(batches)
        gradients = jax.grad(lambda p, batch=batch: mean_square(p, batch, None)[0])(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.params, params
    )
    assert (report.steps, report.samples) == (10, 320)
    assert set(report.metrics) == {"loss", "error"}


@pytest.mark.parametrize("accumulate", [2, 8])
def test_accumulated_gradients_equal_one_large_batch(accumulate):
    whole, whole_report = run()
    parts, parts_report = run(accumulate=accumulate)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        whole.params,
        parts.params,
    )
    assert parts_report.metrics["loss"] == pytest.approx(whole_report.metrics["loss"], rel=1e-5)


DEVICES_SCRIPT = """
import json, sys
sys.path.insert(0, {folder!r})
import jax, numpy as np
from test_training_local import run
assert len(jax.local_devices()) == 4
out = {{}}
for devices in (1, 4):
    state, report = run(devices=devices, steps=50)
    out[devices] = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state.params)]
print(json.dumps(out))
"""


def test_four_devices_equal_one_within_1e_5():
    """The acceptance line: pmap on 4 forced host devices against 1, in one process of its own."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, "-c", DEVICES_SCRIPT.format(folder=os.path.dirname(__file__))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    by_devices = json.loads(done.stdout)
    for one, four in zip(by_devices["1"], by_devices["4"], strict=True):
        difference = np.linalg.norm(np.subtract(one, four))
        assert difference <= 1e-5 * np.linalg.norm(one)


def test_a_step_is_compiled_once_whoever_made_its_parameters(count_compilations):
    trainer = LocalTrainer(mean_square, optax.adam(1e-2))
    state = trainer.init(make_params(), key=jax.random.key(0))
    batches = make_batches()
    mix = jax.jit(lambda a, b: jax.tree.map(lambda x, y: (x + y) / 2, a, b))
    mixed = mix(state.params, jax.device_get(state.params))
    with count_compilations() as compiled:
        state, _ = trainer.run_round(state, batches, steps=3)
        trainer.run_round(state._replace(params=mixed), batches, steps=3)
    assert len(compiled) == 1, compiled


def test_a_time_budget_ends_a_round():
    trainer = LocalTrainer(mean_square, optax.sgd(1e-2))
    state = trainer.init(make_params(), key=jax.random.key(0))
    batches = make_batches()
    state, report = trainer.run_round(state, batches, seconds=1e-9)
    assert report.steps == 1
    _, report = trainer.run_round(state, batches, seconds=0.5)
    assert report.steps > 1


def test_every_step_gets_another_key():
    def noisy(params, batch, key):
        return 0.0 * params["v"].sum(), {"drawn": jax.random.uniform(key)}

    trainer = LocalTrainer(noisy, optax.sgd(0.0))
    state = trainer.init(make_params(), key=jax.random.key(0))
    batches, drawn = make_batches(), []
    for _ in range(8):
        state, report = trainer.run_round(state, batches, steps=1)
        drawn.append(report.metrics["drawn"])
    assert len(set(drawn)) == 8


def test_bfloat16_parameters_stay_bfloat16():
    state, report = run(params=make_params(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert np.isfinite(report.metrics["loss"])


def test_the_example_parameters_survive_training():
    params = make_params()
    run(params=params)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_resumed_training_equals_uninterrupted_training():
    trainer = LocalTrainer(mean_square, optax.adam(1e-2))
    batches = make_batches()
    state = trainer.init(make_params(), key=jax.random.key(0))
    state, _ = trainer.run_round(state, batches, steps=5)
    saved = jax.device_get((state.params, state.opt_state, jax.random.key_data(state.key)))
    state, _ = trainer.run_round(state, batches, steps=5)

    again = LocalTrainer(mean_square, optax.adam(1e-2))
    params, opt_state, key_data = saved
    key = jax.random.wrap_key_data(key_data)
    resumed = again.init(params, opt_state=opt_state, key=key)
    later = make_batches()
    for _ in range(5):
        next(later)
    resumed, _ = again.run_round(resumed, later, steps=5)
    jax.tree.map(np.testing.assert_array_equal, state.params, resumed.params)


def test_alone_on_a_shard_is_deterministic_and_depends_on_the_shard():
    workload = Workload(
        init=lambda key: make_params(),
        loss=mean_square,
        batches=lambda shard, seed, start: make_batches(seed + shard.index),
        evaluate=lambda params: {},
        optimizer=optax.sgd(1e-2),
    )
    first, again, other = (
        train_alone(workload, Shard(index, 2), steps=5, seed=3) for index in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["w"], other["w"])


def run_once(options, round_options):
    trainer = LocalTrainer(mean_square, optax.sgd(0.1), **options)
    state = trainer.init(make_params(), key=jax.random.key(0))
    trainer.run_round(state, make_batches(), **round_options)


@pytest.mark.parametrize(
    ("options", "round_options", "text"),
    [
        ({"accumulate": 0}, {"steps": 1}, "accumulate must be at least 1"),
        ({"devices": 99}, {"steps": 1}, "devices, got 99"),
        ({"accumulate": 5}, {"steps": 1}, "multiple of 5"),
        ({}, {}, "give one of the two"),
        ({}, {"steps": 1, "seconds": 1.0}, "give one of the two"),
        ({}, {"steps": 0}, "at least one step"),
    ],
)
def test_wrong_settings_get_an_error_that_says_what_to_do(options, round_options, text):
    with pytest.raises(ValueError, match=text):
        run_once(options, round_options)


def test_a_batch_of_unequal_arrays_is_refused():
    trainer = LocalTrainer(mean_square, optax.sgd(0.1))
    state = trainer.init(make_params(), key=jax.random.key(0))
    batch = {"inputs": np.zeros((4, FEATURES), np.float32), "labels": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match=r"equally many samples, got \[3, 4\]"):
        trainer.run_round(state, iter([batch]), steps=1)


@pytest.mark.parametrize("make", [optax.sgd, optax.adamw, optax.inject_hyperparams(optax.adam)])
def test_schedules_follow_the_version_and_moments_do_not(make):
    optimizer = make(optax.cosine_decay_schedule(0.1, 100))
    trainer = LocalTrainer(mean_square, optimizer)
    state = trainer.init(make_params(), key=jax.random.key(0))
    batches = make_batches()
    state, _ = trainer.run_round(state, batches, steps=3)
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    ended = trainer.at_version(state, 100)  # where the schedule is at 0
    counts = optax.tree.get_all_with_path(ended.opt_state, "count")
    assert {3, 100} >= {int(count) for _, count in counts} >= {100}
    ended, _ = trainer.run_round(ended, batches, steps=1)
    for old, new in zip(before, jax.tree.leaves(ended.params), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_optimizer_without_a_schedule_is_left_alone():
    trainer = LocalTrainer(mean_square, optax.sgd(0.1))
    state = trainer.init(make_params(), key=jax.random.key(0))
    assert trainer.at_version(state, 7).opt_state == state.opt_state
