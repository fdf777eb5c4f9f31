"""Averaging, and what every mixer that ends in a convex combination is made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gossipjax.mixing.base import Mixer, MixInfo, Neighbors
from gossipjax.types import Params, Payload


def weighted_mean() -> Mixer:
    """Weighted mean of own parameters and neighbors' payloads.

        x ← (w₀ x + Σ_k w_k y_k) / (w₀ + Σ_k w_k)

    with `w₀ = neighbors.self_weight`. When all weights are 0 the parameters stay as they are.
    Where the weights of all peers form a doubly stochastic matrix (see `gossipjax.topology`), the
    mean over the network is preserved.

    Tolerates no fault: one wrong payload moves the result by any amount.
    Cost: one pass over the K payloads.

    References:
        Lian et al. 2017, "Can Decentralized Algorithms Outperform Centralized Algorithms?",
        section 3 (with W's row given by the weights).
    """
    return convex_mixer(lambda params, neighbors: input_weights(neighbors))


def convex_mixer(rule: Callable[[Params, Neighbors], jax.Array]) -> Mixer:
    """A stateless mixer from a rule that says how much each input counts.

        x ← Σ_i a_i x_i,   a = rule(x, neighbors)

    where input 0 is the peer's own parameters and input 1 + k is slot k.

    Args:
        rule: `(params, neighbors) → float32 [1 + K]`, convex: ≥ 0 and adding up to 1. It must be 0
            at empty slots.
    """

    def mix(state: tuple[()], params: Params, neighbors: Neighbors):
        shares = rule(params, neighbors)
        mixed = convex_sum(params, neighbors.payload, shares)
        return mixed, state, info_of(shares)

    return Mixer(lambda params: (), mix)


def input_weights(neighbors: Neighbors) -> jax.Array:
    """Own weight and the slots' weights, as convex weights `[1 + K]` in float32."""
    return convex_weights(jnp.append(neighbors.self_weight, neighbors.weight))


def own_or_mean(neighbors: Neighbors) -> jax.Array:
    """Convex weights `[1 + K]` for when a rule has too little to go by.

    The own parameters stay as they are; a joiner, whose own are worth nothing, takes the mean.
    """
    weights = input_weights(neighbors)
    return jnp.where(neighbors.self_weight > 0, only_own(weights.shape[0]), weights)


def convex_weights(weights: jax.Array) -> jax.Array:
    """Weights `[1 + K]` scaled to a sum of 1; all on the own parameters when there are none."""
    weights = rounded(weights.astype(jnp.float32))
    # One after another: how a sum over an axis is grouped differs from program to program.
    total = sum(weights[index] for index in range(weights.shape[0]))
    scale = 1 / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, weights * scale, only_own(weights.shape[0]))


def only_own(inputs: int) -> jax.Array:
    """Convex weights `[inputs]` that leave the own parameters as they are."""
    return jnp.zeros(inputs, jnp.float32).at[0].set(1)


def convex_sum(params: Params, payload: Payload, shares: jax.Array) -> Params:
    """`Σ_i a_i x_i` over own parameters and K payloads, with convex weights `[1 + K]`.

    Sums are taken in float32 (float64 for float64 parameters) and the result has the parameters'
    dtypes. What counts 0 may hold anything, NaN included.
    """
    return jax.tree.map(lambda own, stacked: _convex_sum(own, stacked, shares), params, payload)


def iterate_shares(
    step: Callable[[Params, jax.Array], jax.Array],
    center: Params,
    shares: jax.Array,
    params: Params,
    neighbors: Neighbors,
    iterations: int,
) -> tuple[Params, MixInfo]:
    """Repeat `shares ← step(center, shares)`, `center ← Σ_i shares_i x_i`; the last center.

    The center is a convex combination of the inputs, computed anew from its weights each time, so
    that rounding does not add up.
    """

    def body(_: jax.Array, carry: tuple[Params, jax.Array]) -> tuple[Params, jax.Array]:
        shares = step(*carry).astype(jnp.float32)
        return convex_sum(params, neighbors.payload, shares), shares

    center, shares = jax.lax.fori_loop(0, iterations, body, (center, shares))
    return center, info_of(shares)


def metropolis_weights(neighbors: Neighbors, degree: jax.Array, degrees: jax.Array) -> Neighbors:
    """Weights by Metropolis-Hastings, from everybody's number of neighbors.

        w_k = 1 / (1 + max(d, d_k)) for slots that are not empty,   w₀ = 1 - Σ_k w_k

    On an undirected graph these rows make a symmetric, doubly stochastic matrix, so that averaging
    preserves the mean over the network, which equal weights do not unless all degrees are equal.
    A peer does not know its neighbors' degrees unless they tell, so this is a step for algorithms
    whose payload carries the degree; a simulated peer gets the same weights from
    `gossipjax.topology`. A joiner (`self_weight = 0`) keeps a weight of 0.

    Args:
        neighbors: whose weights are replaced; empty slots stay empty.
        degree: d, number of this peer's neighbors: scalar, at least the number of full slots.
        degrees: d_k of each slot: `[K]`.

    References:
        Xiao, Boyd 2004, "Fast linear iterations for distributed averaging", section 4.2.
    """
    weight = jnp.where(neighbors.weight > 0, 1 / (1 + jnp.maximum(degree, degrees)), 0)
    weight = weight.astype(jnp.float32)
    self_weight = jnp.where(neighbors.self_weight > 0, 1 - weight.sum(), 0.0)
    return neighbors._replace(weight=weight, self_weight=self_weight)


def rounded(product: jax.Array) -> jax.Array:
    """The product itself, rounded before anything is added to it.

    Compilers turn `a * b + c` into one operation with one rounding in some programs and not in
    others. A peer on the network and the same peer among a thousand simulated ones must get the
    same bits, so something must stand between the two; this costs nothing and is seen by no value
    but infinity.
    """
    return jnp.minimum(product, jnp.finfo(product.dtype).max)


def count_heads(neighbors: Neighbors) -> Neighbors:
    """Weights of 1 for whatever has a weight, so that a mean is a plain mean."""
    return neighbors._replace(
        weight=jnp.sign(neighbors.weight), self_weight=jnp.sign(neighbors.self_weight)
    )


def info_of(shares: jax.Array) -> MixInfo:
    """Convex weights `[1 + K]` as diagnostics."""
    return MixInfo(shares[1:], shares[0])


def _convex_sum(own: jax.Array, stacked: jax.Array, shares: jax.Array) -> jax.Array:
    dtype = jnp.promote_types(own.dtype, jnp.float32)
    shares = shares.astype(dtype)
    # As differences to the own parameters: when all agree, nothing changes, to the last bit. A
    # plain sum drifts, because float32 weights seldom add up to 1 exactly.
    anchor = jnp.where(shares[0] > 0, own.astype(dtype), 0)
    total = anchor
    # One term per slot, not a sum over an axis of K: XLA then fuses everything into one pass over
    # memory (20 times faster on CPU at 10 million parameters; benchmarks/bench_mix.py).
    for slot in range(stacked.shape[0]):
        # where, not 0 * x: an empty slot may hold NaN.
        term = rounded(shares[1 + slot] * (stacked[slot].astype(dtype) - anchor))
        total += jnp.where(shares[1 + slot] > 0, term, 0)
    return total.astype(own.dtype)
