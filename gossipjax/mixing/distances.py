"""Distances between whole pytrees: the global L2 norm, in float32 (float64 for float64 leaves).

What is not finite is infinitely far from everything, and so is an empty slot: rules that go by
distance leave both out without looking at them again.
"""

import jax
import jax.numpy as jnp

from gossipjax.mixing.base import Neighbors
from gossipjax.types import Params, Payload


def squared_distances(point: Params, payload: Payload) -> jax.Array:
    """`‖y_k - point‖²` for payloads `[K, …]`: `[K]`, infinite where something is not finite."""
    total = jnp.zeros((), jnp.float32)
    for own, stacked in zip(jax.tree.leaves(point), jax.tree.leaves(payload), strict=True):
        # One sum per slot, not one over all: XLA need not materialize the stack (8 times faster on
        # CPU at 10 million parameters). And own minus slot, where mixers take slot minus own: if it
        # were the same difference, XLA would write it to memory for both.
        slots = [stacked[slot] for slot in range(stacked.shape[0])]
        total += jnp.stack([jnp.square(_wide(own) - _wide(slot)).sum() for slot in slots])
    return jnp.where(jnp.isnan(total), jnp.inf, total)


def distances_to_slots(point: Params, neighbors: Neighbors) -> jax.Array:
    """`‖y_k - point‖`: `[K]`, infinite at empty slots."""
    squared = squared_distances(point, neighbors.payload)
    return jnp.where(neighbors.weight > 0, jnp.sqrt(squared), jnp.inf)


def distances_to_inputs(point: Params, params: Params, neighbors: Neighbors) -> jax.Array:
    """Distance of each input, the own parameters first, to a point: `[1 + K]`."""
    own = squared_distances(point, jax.tree.map(lambda leaf: leaf[None], params))
    slots = distances_to_slots(point, neighbors)
    return jnp.concatenate([jnp.sqrt(own), slots])


def pairwise_squared_distances(params: Params, payload: Payload) -> jax.Array:
    """Squared distances between all inputs, the own parameters first: `[1 + K, 1 + K]`.

    Differences are taken before squares, not `a² + b² - 2ab`, which is cheaper on accelerators but
    useless once peers have come close to each other.
    """
    inputs = jax.tree.map(
        lambda own, stacked: jnp.concatenate([own[None], stacked]), params, payload
    )
    return jax.lax.map(lambda point: squared_distances(point, inputs), inputs)


def norm(params: Params) -> jax.Array:
    """`‖x‖` over the whole pytree."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return jnp.sqrt(squared_distances(zeros, jax.tree.map(lambda leaf: leaf[None], params)))[0]


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
