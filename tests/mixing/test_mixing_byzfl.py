"""Rules and attacks against a library that others have written: see byzfl_vectors.py."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gossipjax.mixing import (
    Mixer,
    Neighbors,
    centered_clip,
    chain,
    coordinate_median,
    drop_farthest,
    geometric_median,
    krum,
    nearest_neighbors,
    trimmed_mean,
    weighted_mean,
)
from gossipjax.simulation import poisoning
from gossipjax.simulation.poisoning import Attack

FILE = Path(__file__).parents[1] / "vectors" / "byzfl.json"
CASES = json.loads(FILE.read_text(encoding="utf-8"))

RULES: dict[str, Mixer] = {
    "coordinate_median()": coordinate_median(),
    "trimmed_mean(2)": trimmed_mean(2),
    "geometric_median()": geometric_median(iterations=300),
    "krum(1)": krum(1),
    "centered_clip(2)": centered_clip(2.0, iterations=3),
    "nearest_neighbors(2), trimmed_mean(2)": nearest_neighbors(trimmed_mean(2), byzantine=2),
    "drop_farthest(2)": chain(drop_farthest(2), weighted_mean()),
}
ATTACKS: dict[str, Attack] = {
    "sign_flip()": poisoning.sign_flip(),
    "inner_product(0.1)": poisoning.inner_product(0.1),
    "little_is_enough(1.5)": poisoning.little_is_enough(1.5),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(len(case["inputs"])))
def test_rules_equal_byzfl(case: dict, name: str):
    inputs = jnp.asarray(case["inputs"], jnp.float32)
    slots = len(inputs) - 1
    neighbors = Neighbors(
        payload=inputs[1:],
        weight=jnp.ones(slots),
        staleness=jnp.zeros(slots),
        slot_is_new=jnp.ones(slots, bool),
        self_weight=jnp.float32(1),
    )
    mixer = RULES[name]
    mixed, _, _ = jax.jit(mixer.mix)(mixer.init(inputs[0]), inputs[0], neighbors)
    np.testing.assert_allclose(mixed, case["outputs"][name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(len(case["inputs"])))
def test_attacks_equal_byzfl(case: dict, name: str):
    honest = jnp.asarray(case["inputs"], jnp.float32)
    told = jnp.concatenate([honest, jnp.full((2, honest.shape[1]), 7.0)])
    is_byzantine = jnp.arange(len(told)) >= len(honest)
    attack = ATTACKS[name]
    lies, _ = attack.tell(attack.init(told), told, is_byzantine, jax.random.key(0))
    np.testing.assert_array_equal(lies[: len(honest)], honest)
    for lie in lies[len(honest) :]:
        np.testing.assert_allclose(lie, case["outputs"][name], rtol=1e-5, atol=1e-6)


def test_every_vector_is_tested():
    assert {*RULES, *ATTACKS} == CASES[0]["outputs"].keys()
