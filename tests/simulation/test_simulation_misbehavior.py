"""Attackers of a real run: honest code whose training or payloads are changed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gossipjax.algorithms import gossip
from gossipjax.algorithms.named import MIXERS, named_mixer
from gossipjax.mixing import Neighbors
from gossipjax.simulation.misbehavior import (
    LAZY_EVERY,
    MISBEHAVIORS,
    misbehavior,
    with_fewer_steps,
    with_flipped_labels,
)
from gossipjax.training import LocalTrainer, Shard, load_workload

PARAMS = {"w": jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.ones(2)}


def tell(name):
    algorithm = misbehavior(name).algorithm(gossip())
    state = algorithm.init(PARAMS)
    payload, state = jax.jit(algorithm.share)(state, PARAMS, jax.random.key(0))
    slots = jax.tree.map(lambda leaf: jnp.stack([leaf + 1, leaf]), PARAMS)
    ones = jnp.ones(2)
    neighbors = Neighbors(slots, ones, 0 * ones, ones > 0, jnp.float32(1))
    mixed, _, _ = algorithm.mix(state, PARAMS, neighbors)
    return payload, mixed


def test_payloads_are_changed_and_mixing_is_not():
    mixed = tell("label_flip")[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, tell("label_flip")[0], PARAMS))
    for name in ("sign_flip", "small_sign_flip", "noise", "zeros", "nan"):
        payload, after = tell(name)
        assert not jax.tree.all(jax.tree.map(np.array_equal, payload, PARAMS)), name
        assert jax.tree.all(jax.tree.map(np.array_equal, after, mixed)), name
        assert jax.tree.structure(payload) == jax.tree.structure(PARAMS)
    np.testing.assert_allclose(tell("sign_flip")[0]["w"], -1000 * PARAMS["w"])
    assert np.isnan(tell("nan")[0]["b"]).all()


def test_a_copycat_tells_what_it_has_heard_last_once_it_has_heard_anything():
    algorithm = misbehavior("copycat").algorithm(gossip())
    state = algorithm.init(PARAMS)
    payload, state = algorithm.share(state, PARAMS, jax.random.key(0))
    assert jax.tree.all(jax.tree.map(np.array_equal, payload, PARAMS))
    slots = jax.tree.map(lambda leaf: jnp.stack([leaf + 1, leaf + 2]), PARAMS)
    weight = jnp.array([0.0, 1.0])
    neighbors = Neighbors(slots, weight, 0 * weight, weight > 0, jnp.float32(1))
    mixed, state, _ = algorithm.mix(state, PARAMS, neighbors)
    payload, state = algorithm.share(state, mixed, jax.random.key(0))
    np.testing.assert_array_equal(payload["w"], PARAMS["w"] + 2)
    silent = neighbors._replace(weight=0 * weight, slot_is_new=weight < 0)
    payload, _ = algorithm.share(algorithm.mix(state, mixed, silent)[1], mixed, jax.random.key(0))
    np.testing.assert_array_equal(payload["w"], PARAMS["w"] + 2)


def test_labels_are_flipped_in_own_and_in_assigned_data():
    workload = load_workload("digits")
    flipped = with_flipped_labels(workload)
    assert workload.public is not None
    assert flipped.public is not None
    for good, bad in (
        [next(each.batches(Shard(0, 2), 0, 0)) for each in (workload, flipped)],
        [public.take(np.arange(32)) for public in (workload.public, flipped.public)],
    ):
        assert np.array_equal(bad["labels"], 9 - good["labels"])
        assert np.array_equal(bad["inputs"], good["inputs"])


def test_the_lazy_take_few_of_the_steps_that_they_claim():
    workload = load_workload("digits")
    lazy, steps = with_fewer_steps(workload), 2 * LAZY_EVERY
    batches = list(itertools.islice(workload.batches(Shard(0, 1), 0, 0), steps))

    def train(each, chosen):
        trainer = LocalTrainer(each.loss, each.optimizer)
        state = trainer.init(each.init(jax.random.key(0)), key=jax.random.key(0))
        state, report = trainer.run_round(state, iter(chosen), steps=len(chosen))
        return state.params, report.steps

    params, claimed = train(lazy, batches)
    expected, _ = train(workload, batches[::LAZY_EVERY])
    assert claimed == steps
    # The schedule has gone on to the step that is claimed.
    assert optax.tree.norm(optax.tree.sub(params, expected)) < 1e-4


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no attack 'flip'; choose one of sign_flip"):
        misbehavior("flip")
    with pytest.raises(ValueError, match="no mixer 'average'; choose one of mean, balance"):
        named_mixer("average")


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "mean"])
def test_every_robust_mixer_withstands_what_ruins_the_mean(name):
    """Seven honest peers near each other, one attacker, one mix."""
    random = np.random.default_rng(0)
    own = {"w": jnp.asarray(random.normal(size=50), jnp.float32)}
    honest = own["w"] + 0.01 * random.normal(size=(7, 50))

    def distance(mixer, attack):
        told = jnp.asarray(np.concatenate([honest, attack[None]]), jnp.float32)
        ones = jnp.ones(8)
        neighbors = Neighbors({"w": told}, ones, 0 * ones, ones > 0, jnp.float32(1))
        mixed, _, _ = mixer.mix(mixer.init(own), own, neighbors)
        return float(jnp.linalg.norm(mixed["w"] - own["w"]))

    attack = -1000 * np.asarray(own["w"])
    assert distance(named_mixer("mean"), attack) > 100
    assert distance(named_mixer(name, 1), attack) < 0.1


def test_every_misbehavior_is_one_of_training_or_of_payloads():
    unchanged = load_workload("digits"), gossip()
    for name, each in MISBEHAVIORS.items():
        changed = each.workload(unchanged[0]), each.algorithm(unchanged[1])
        assert (changed[0] is unchanged[0]) != (changed[1] is unchanged[1]), name
