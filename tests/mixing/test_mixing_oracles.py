"""Every rule against a second implementation: naive NumPy in float64 over flat vectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gossipjax.mixing import (
    Mixer,
    Neighbors,
    balance,
    centered_clip,
    chain,
    clip_distance,
    coordinate_median,
    discount_staleness,
    drop_farthest,
    geometric_median,
    hinge_decay,
    krum,
    multi_krum,
    nearest_neighbors,
    trimmed_mean,
    ubar,
    weighted_mean,
)

SLOTS = 8
Vector = np.ndarray


def tree(vectors: Vector) -> dict[str, jax.Array]:
    """`[…, 23]` as two leaves."""
    vectors = np.asarray(vectors, np.float32)
    matrix = vectors[..., :20].reshape(*vectors.shape[:-1], 4, 5)
    return {"bias": jnp.asarray(vectors[..., 20:]), "matrix": jnp.asarray(matrix)}


def flat(params: Any) -> Vector:
    return np.concatenate([np.ravel(params["matrix"]), np.ravel(params["bias"])])


def clip(vector: Vector, radius: float) -> Vector:
    return vector * min(1, radius / max(np.linalg.norm(vector), 1e-30))


def oracle_clip(x: Vector, y: Vector, w: Vector, radius: float) -> Vector:
    return x + sum(wk * clip(yk - x, radius) for wk, yk in zip(w, y, strict=True)) / (1 + w.sum())


def oracle_clip_rank(x: Vector, y: Vector, w: Vector) -> Vector:
    radius = sorted(np.linalg.norm(y - x, axis=1))[-3]
    return oracle_clip(x, y, w, radius)


def oracle_centered_clip(x: Vector, y: Vector, w: Vector) -> Vector:
    center, inputs, weights = x, [x, *y], np.append(1, w) / (1 + w.sum())
    for _ in range(3):
        pulls = [wi * clip(xi - center, 2.0) for wi, xi in zip(weights, inputs, strict=True)]
        center = center + sum(pulls)
    return center


def oracle_median(x: Vector, y: Vector, w: Vector) -> Vector:
    return np.median([x, *y], axis=0)


def oracle_trimmed(x: Vector, y: Vector, w: Vector) -> Vector:
    return np.sort([x, *y], axis=0)[2:-2].mean(axis=0)


def oracle_geometric(x: Vector, y: Vector, w: Vector) -> Vector:
    inputs, weights = np.stack([x, *y]), np.append(1, w)
    center = inputs.mean(axis=0)
    for _ in range(2000):
        beta = weights / np.linalg.norm(inputs - center, axis=1)
        center = beta @ inputs / beta.sum()
    return center


def oracle_multi_krum(x: Vector, y: Vector, w: Vector, selected: int) -> Vector:
    inputs = np.stack([x, *y])
    squared = np.square(inputs[:, None] - inputs[None]).sum(axis=2)
    nearest = len(inputs) - 1 - 2
    scores = [np.sort(np.delete(row, index))[:nearest].sum() for index, row in enumerate(squared)]
    return inputs[np.argsort(scores)[:selected]].mean(axis=0)


def nearest_means(x: Vector, y: Vector) -> Vector:
    inputs = np.stack([x, *y])
    keep = len(inputs) - 1
    near = [np.argsort(np.linalg.norm(inputs - center, axis=1))[:keep] for center in inputs]
    return np.stack([inputs[indices].mean(axis=0) for indices in near])


def oracle_nearest_trimmed(x: Vector, y: Vector, w: Vector) -> Vector:
    means = nearest_means(x, y)
    return oracle_trimmed(means[0], means[1:], w)


def oracle_nearest_weighted(x: Vector, y: Vector, w: Vector) -> Vector:
    return np.append(1, w) @ nearest_means(x, y) / (1 + w.sum())


def oracle_monna(x: Vector, y: Vector, w: Vector) -> Vector:
    near = np.argsort(np.linalg.norm(y - x, axis=1))[:-2]
    return (x + w[near] @ y[near]) / (1 + w[near].sum())


def oracle_balance(x: Vector, y: Vector, w: Vector) -> Vector:
    is_accepted = np.linalg.norm(y - x, axis=1) <= 1.6 * np.linalg.norm(x)
    assert 0 < is_accepted.sum() < len(y)
    return 0.7 * x + 0.3 * w[is_accepted] @ y[is_accepted] / w[is_accepted].sum()


def size(params: Any, probe: jax.Array) -> jax.Array:
    return jnp.square(params["matrix"] - probe).sum() + jnp.square(params["bias"] - probe).sum()


def oracle_ubar(x: Vector, y: Vector, w: Vector) -> Vector:
    near = np.argsort(np.linalg.norm(y - x, axis=1))[: int(np.ceil(0.6 * len(y)))]
    good = [k for k in near if np.square(y[k] - 0.1).sum() <= np.square(x - 0.1).sum()]
    chosen = good or [near[0]]
    return 0.5 * x + 0.5 * w[chosen] @ y[chosen] / w[chosen].sum()


def discounted(x: Vector, y: Vector, w: Vector) -> Vector:
    w = w / (10.0 * np.maximum(np.arange(len(y)) / 2 - 1, 0) + 1)
    return (x + w @ y) / (1 + w.sum())


CASES: dict[str, tuple[Mixer, Callable[[Vector, Vector, Vector], Vector]]] = {
    "mean": (weighted_mean(), lambda x, y, w: (x + w @ y) / (1 + w.sum())),
    "hinge": (chain(discount_staleness(hinge_decay(10, 1, unit=2)), weighted_mean()), discounted),
    "clip": (
        chain(clip_distance(5.0), weighted_mean()),
        lambda x, y, w: oracle_clip(x, y, w, 5.0),
    ),
    "clip_rank": (chain(clip_distance(byzantine=2), weighted_mean()), oracle_clip_rank),
    "centered_clip": (centered_clip(2.0, iterations=3), oracle_centered_clip),
    "median": (coordinate_median(), oracle_median),
    "trimmed_mean": (trimmed_mean(2), oracle_trimmed),
    "geometric_median": (geometric_median(iterations=200), oracle_geometric),
    "krum": (krum(1), lambda x, y, w: oracle_multi_krum(x, y, w, 1)),
    "multi_krum": (multi_krum(1, 3), lambda x, y, w: oracle_multi_krum(x, y, w, 3)),
    "nnm_trimmed": (nearest_neighbors(trimmed_mean(2), byzantine=1), oracle_nearest_trimmed),
    "nnm_mean": (nearest_neighbors(weighted_mean(), byzantine=1), oracle_nearest_weighted),
    "monna": (chain(drop_farthest(2), weighted_mean()), oracle_monna),
    "balance": (
        chain(balance(tolerance=1.6, own_share=0.7), weighted_mean()),
        oracle_balance,
    ),
    "ubar": (chain(ubar(size, jnp.float32(0.1), nearest_share=0.6), weighted_mean()), oracle_ubar),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_naive_rule(name: str):
    mixer, oracle = CASES[name]
    mix = jax.jit(mixer.mix)
    for seed, arrivals in enumerate((SLOTS, 5, SLOTS, 6)):
        rng = np.random.default_rng(seed)
        inputs = rng.standard_normal((1 + arrivals, 23)) * rng.uniform(0.3, 2, (1 + arrivals, 1))
        x, y, w = inputs[0], inputs[1:], rng.uniform(0.5, 1.5, arrivals)
        slots = rng.permutation(SLOTS)[:arrivals]
        mixed, _, _ = mix(mixer.init(tree(x)), tree(x), place(y, w, slots))
        np.testing.assert_allclose(flat(mixed), oracle(x, y, w), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "name", ["mean", "hinge", "centered_clip", "geometric_median", "multi_krum", "nnm_mean", "ubar"]
)
def test_info_tells_the_weights_of_the_result(name: str):
    mixer, _ = CASES[name]
    inputs = np.random.default_rng(7).standard_normal((1 + SLOTS, 23))
    neighbors = place(inputs[1:], np.linspace(0.5, 1.5, SLOTS), np.arange(SLOTS))
    mixed, _, info = jax.jit(mixer.mix)(mixer.init(tree(inputs[0])), tree(inputs[0]), neighbors)
    told = np.append(info.self_weight, info.weight) @ inputs
    np.testing.assert_allclose(flat(mixed), told, atol=1e-5)


def test_info_of_a_rule_by_coordinate_is_how_often_an_input_was_left():
    inputs = np.random.default_rng(8).standard_normal((1 + SLOTS, 23))
    inputs[3] += 100
    neighbors = place(inputs[1:], np.ones(SLOTS), np.arange(SLOTS))
    _, _, info = jax.jit(trimmed_mean(2).mix)((), tree(inputs[0]), neighbors)
    order = np.argsort(np.argsort(inputs, axis=0), axis=0)
    often = ((order >= 2) & (order < 7)).sum(axis=1) / (5 * 23)
    np.testing.assert_allclose(np.append(info.self_weight, info.weight), often, atol=1e-6)
    assert info.weight[2] == 0


def place(y: Vector, w: Vector, slots: Vector) -> Neighbors:
    """Payloads in the given slots, in that order of staleness; NaN in the others."""
    payload, numbers = np.full((SLOTS, 23), np.nan), np.zeros((2, SLOTS), np.float32)
    payload[slots], numbers[0, slots], numbers[1, slots] = y, w, np.arange(len(y))
    weight, staleness = jnp.asarray(numbers)
    return Neighbors(tree(payload), weight, staleness, weight > 0, jnp.float32(1))
