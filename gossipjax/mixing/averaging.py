"""Averaging."""

import jax
import jax.numpy as jnp

from gossipjax.mixing.base import Mixer, MixInfo, Neighbors
from gossipjax.types import Params


def weighted_mean() -> Mixer:
    """Weighted mean of own parameters and neighbors' payloads.

        x ← (w₀ x + Σ_k w_k y_k) / (w₀ + Σ_k w_k)

    with `w₀ = neighbors.self_weight`. When all weights are 0 the parameters stay as they are.
    Sums are taken in float32 (float64 for float64 parameters) and the result has the parameters'
    dtypes.

    References:
        Lian et al. 2017, "Can Decentralized Algorithms Outperform Centralized Algorithms?",
        section 3 (with W's row given by the weights).
    """

    def mix(state: tuple[()], params: Params, neighbors: Neighbors):
        weight, self_weight = normalized_weights(neighbors)
        mixed = jax.tree.map(
            lambda own, stacked: _convex_sum(own, stacked, self_weight, weight),
            params,
            neighbors.payload,
        )
        return mixed, state, MixInfo(weight, self_weight)

    return Mixer(lambda params: (), mix)


def normalized_weights(neighbors: Neighbors) -> tuple[jax.Array, jax.Array]:
    """Convex weights `([K], scalar)` of the slots and of the own parameters, in float32."""
    weight = neighbors.weight.astype(jnp.float32)
    total = neighbors.self_weight + weight.sum()
    nothing = total <= 0
    scale = 1 / jnp.where(nothing, 1.0, total)
    self_weight = jnp.where(nothing, 1.0, neighbors.self_weight * scale)
    return weight * scale, self_weight.astype(jnp.float32)


def _convex_sum(
    own: jax.Array, stacked: jax.Array, self_weight: jax.Array, weight: jax.Array
) -> jax.Array:
    dtype = jnp.promote_types(own.dtype, jnp.float32)
    weight, self_weight = weight.astype(dtype), self_weight.astype(dtype)
    # where, not 0 * x: an empty slot may hold NaN. The same for parameters that are replaced.
    total = jnp.where(self_weight > 0, self_weight * own.astype(dtype), 0)
    # One term per slot, not a sum over an axis of K: XLA then fuses everything into one pass over
    # memory (20 times faster on CPU at 10 million parameters; benchmarks/bench_mix.py).
    for slot in range(stacked.shape[0]):
        term = weight[slot] * stacked[slot].astype(dtype)
        total += jnp.where(weight[slot] > 0, term, 0)
    return total.astype(own.dtype)
