"""Rung 4: directions and copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gossipjax.verification.direction import copies, direction, median_move, moves_from


def tree(*vectors):
    """Moves `[K, …]` with the vectors cut into two leaves."""
    stacked = jnp.asarray(vectors, jnp.float32)
    return {"a": stacked[:, :3], "b": stacked[:, 3:]}


def one(vector):
    return jax.tree.map(lambda leaf: leaf[0], tree(vector))


def random_vectors(count, size=40, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size))


def test_cosine_and_length_are_those_of_the_whole_vectors():
    first, second = random_vectors(2)
    found = direction(one(3 * first), one(second))
    norms = np.linalg.norm(first), np.linalg.norm(second)
    assert float(found.cosine) == pytest.approx(first @ second / norms[0] / norms[1], abs=1e-6)
    assert float(found.length_ratio) == pytest.approx(3 * norms[0] / norms[1], rel=1e-6)


def test_a_flipped_update_points_backwards():
    honest = random_vectors(5) * 0.3 + random_vectors(1, seed=9)
    median = median_move(tree(*honest))
    attacker = direction(one(-1000 * honest[0]), median)
    assert float(attacker.cosine) < -0.5
    assert float(attacker.length_ratio) > 100
    for vector in honest:
        assert float(direction(one(vector), median).cosine) > 0.5


def test_no_move_has_no_direction():
    found = direction(one(np.zeros(40)), one(np.ones(40)))
    assert (float(found.cosine), float(found.length_ratio)) == (0, 0)
    assert float(direction(one(np.ones(40)), one(np.zeros(40))).length_ratio) == float("inf")


def test_the_median_ignores_a_minority():
    honest = random_vectors(3)
    poisoned = np.concatenate([honest, np.full((2, 40), 1e9)])
    assert float(jnp.abs(median_move(tree(*poisoned))["b"]).max()) < 10


def test_copies_are_found_scaled_or_with_a_little_noise():
    original, other, copied = random_vectors(3)
    scaled = 0.5 * original
    noisy = original + 0.01 * copied
    found = np.asarray(copies(tree(original, other, scaled, noisy, np.zeros(40))))
    expected = np.zeros((5, 5), bool)
    for i, j in ((0, 2), (0, 3), (2, 3)):
        expected[i, j] = expected[j, i] = True
    assert np.array_equal(found, expected)


def test_moves_are_relative_to_the_own_parameters():
    payloads = tree(*random_vectors(2))
    own = one(np.ones(40))
    moves = moves_from(own, payloads)
    np.testing.assert_array_equal(moves["a"], payloads["a"] - 1)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (own, payloads))
    assert moves_from(*narrow)["a"].dtype == jnp.float32
