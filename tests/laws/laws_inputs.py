"""Inputs for the laws: small parameters of several dtypes and shapes, slots, a circle of peers.

Made in NumPy, because thousands of small JAX operations would take longer than the laws.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossipjax.mixing import Neighbors

SLOTS = 4
PEERS = 8

TEMPLATE = {"kernel": np.zeros((3, 2), np.float32), "nested": [np.zeros((), jnp.bfloat16)]}
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}


def random_tree(seed: int, *leading: int, scale: float = 1.0) -> Any:
    """Normal values in the form of TEMPLATE, with leading axes."""
    rng = np.random.default_rng(seed)

    def leaf(like: np.ndarray) -> np.ndarray:
        values = scale * rng.standard_normal((*leading, *like.shape))
        return np.asarray(values, like.dtype)

    return jax.tree.map(leaf, TEMPLATE)


def make_neighbors(payload: Any, seed: int = 0, filled: Any = None) -> Neighbors:
    """Random weights in (0.5, 1.5) and staleness in (0, 9); slots that are not filled are empty."""
    rng = np.random.default_rng(seed)
    filled = np.ones(SLOTS, bool) if filled is None else np.asarray(filled, bool)
    weight = np.where(filled, rng.uniform(0.5, 1.5, SLOTS), 0)
    return _neighbors(payload, weight, rng.uniform(0, 9, SLOTS), np.ones(()))


def _neighbors(payload: Any, *numbers: np.ndarray) -> Neighbors:
    weight, staleness, self_weight = (np.float32(array) for array in numbers)
    fields: Any = (payload, weight, staleness, weight > 0, self_weight)
    return Neighbors(*fields)


def fill_slots(neighbors: Neighbors, where: Any, value: float) -> Neighbors:
    """Overwrite the payloads of the slots in the mask, and nothing else."""
    return neighbors._replace(payload=overwrite(neighbors.payload, where, value))


def overwrite(stacked: Any, where: Any, value: float) -> Any:
    """Put a value at an index of the leading axis of every leaf; into integers their least one."""

    def leaf(old: Any) -> np.ndarray:
        new = np.array(old)
        is_integer = np.issubdtype(new.dtype, np.integer)
        new[np.asarray(where)] = np.iinfo(new.dtype).min if is_integer else value
        return new

    return jax.tree.map(leaf, stacked)


def stack(trees: list[Any]) -> Any:
    """One tree of arrays with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def pick(tree: Any, index: Any) -> Any:
    """The entries at an index of the leading axis, of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


Links = tuple[np.ndarray, np.ndarray]
"""Whom each peer hears and with which weight: `[PEERS, SLOTS]` each."""


def circle(reach: int) -> Links:
    """Each peer hears the `reach` next on both sides."""
    offsets = [sign * step for step in range(1, reach + 1) for sign in (-1, 1)]
    offsets += [0] * (SLOTS - len(offsets))
    indices = (np.arange(PEERS)[:, None] + offsets) % PEERS
    weight = np.tile([1.0] * 2 * reach + [0.0] * (SLOTS - 2 * reach), (PEERS, 1))
    return indices, weight


def line() -> Links:
    """Each peer hears the one before and the one after it; the ends have one neighbor."""
    indices, weight = circle(1)
    weight[0, 0] = weight[-1, 1] = 0
    return indices, weight


def hear(payloads: Any, links: Links) -> Neighbors:
    """What each of the PEERS hears: neighbors with a leading axis."""
    indices, weight = links
    staleness = np.zeros((PEERS, SLOTS))
    return _neighbors(pick(payloads, indices), weight, staleness, np.ones(PEERS))


def assert_close(actual: Any, expected: Any) -> None:
    """Equal to the precision of each leaf's dtype."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        tolerance = TOLERANCE.get(str(one.dtype), 0)
        np.testing.assert_allclose(
            np.asarray(one, np.float64),
            np.asarray(other, np.float64),
            rtol=tolerance,
            atol=tolerance,
        )


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to the last bit."""
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_same_form(actual: Any, expected: Any) -> None:
    """Equal structure, shapes and dtypes."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def mean_over_peers(params: Any) -> Any:
    """Mean over the leading axis, in the dtypes of the leaves."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64).mean(axis=0).astype(leaf.dtype), params
    )
