"""Bounds on how far a payload can pull, relative to the own parameters or to a moving center."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gossipjax.mixing.averaging import convex_sum, input_weights, iterate_shares, own_or_mean
from gossipjax.mixing.base import Mixer, Neighbors, Transform
from gossipjax.mixing.checks import require_at_least, require_positive
from gossipjax.mixing.distances import distances_to_inputs, distances_to_slots
from gossipjax.types import Params


def clip_distance(radius: float | None = None, *, byzantine: int | None = None) -> Transform:
    """Bring each payload to within a radius of the own parameters (self-centered clipping).

        y_k ← x + clip(y_k - x, τ),   clip(v, τ) = v · min(1, τ / ‖v‖)

    with the norm over the whole pytree. Before `weighted_mean` this is ClippedGossip:

        x ← x + Σ_k w_k clip(y_k - x, τ)

    The radius τ is fixed, or adaptive with `byzantine=f`: in each mix, the distance of the farthest
    payload but f. It must be as large as honest peers are apart: too small slows consensus, too
    large lets attackers pull farther.

    Tolerates: any number of faulty neighbors, in the sense that each moves the parameters by at
    most `w_k τ` per mix; with honest majority weight, and τ matched to the honest spread, the
    method converges on any connected graph. A fixed radius and symmetric weights preserve the mean
    over the network.
    Cost: one pass over the K payloads for the distances, and a scaling that fuses with the mixer.

    A joiner (`self_weight = 0`) has no place to clip to and takes payloads as they are.

    Args:
        radius: τ, in the units of the parameters.
        byzantine: f ≥ 0, instead of a radius. When at most f payloads arrive, nothing is mixed.

    Example:
        >>> clipped_gossip = chain(clip_distance(radius=1.0), weighted_mean())

    References:
        He, Karimireddy, Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip",
        algorithm 1; the adaptive radius is the practical rule of their experiments (f = 1 there).
    """
    bound_of = _bound(radius, byzantine)

    def apply(state: tuple[()], params: Params, neighbors: Neighbors):
        distances = distances_to_slots(params, neighbors)
        bound = bound_of(distances)
        scale = jnp.where(distances <= bound, 1.0, bound / distances)
        scale = jnp.where(neighbors.self_weight > 0, scale, 1.0)
        payload = jax.tree.map(
            lambda own, stacked: _scale_difference(own, stacked, scale), params, neighbors.payload
        )
        return neighbors._replace(payload=payload), state

    return Transform(lambda params: (), apply)


def centered_clip(radius: float, *, iterations: int = 3) -> Mixer:
    """Average around a center that moves by clipped steps (CenteredClip).

        v ← v + Σ_i w_i clip(x_i - v, τ),   iterated; result: v

    over own parameters and payloads x_i with convex weights w_i. It starts at the own parameters,
    which an honest peer can trust; one iteration is then ClippedGossip. A joiner starts at the
    weighted mean.

    Tolerates: faulty inputs of less than about half the weight, each pulling by at most `w_i τ` per
    iteration.
    Cost: two passes over the K payloads per iteration.

    Args:
        radius: τ, in the units of the parameters; the distance between honest peers.
        iterations: number of steps.

    References:
        Karimireddy, He, Jaggi 2021, "Learning from History for Byzantine Robust Optimization",
        section 4; Gorbunov et al. 2022, "Secure Distributed Training at Scale" (BTARD).
    """
    require_positive(radius=radius)
    require_at_least(1, iterations=iterations)

    def mix(state: tuple[()], params: Params, neighbors: Neighbors):
        weights = input_weights(neighbors)

        def step(center: Params, shares: jax.Array) -> jax.Array:
            distances = distances_to_inputs(center, params, neighbors)
            pulls = weights * jnp.where(distances <= radius, 1.0, radius / distances)
            return shares * jnp.maximum(1 - pulls.sum(), 0) + pulls

        shares = own_or_mean(neighbors)
        center = convex_sum(params, neighbors.payload, shares)
        center, info = iterate_shares(step, center, shares, params, neighbors, iterations)
        return center, state, info

    return Mixer(lambda params: (), mix)


def _scale_difference(own: jax.Array, stacked: jax.Array, scale: jax.Array) -> jax.Array:
    """`own + scale_k · (stacked_k - own)`; exactly one of the two for scales of 0 and 1."""
    dtype = jnp.promote_types(own.dtype, jnp.float32)
    start, scale = own.astype(dtype), scale.astype(dtype)

    def clip(slot: jax.Array, factor: jax.Array) -> jax.Array:
        near = start + jnp.where(factor > 0, factor * (slot.astype(dtype) - start), 0)
        return jnp.where(factor == 1, slot, near.astype(slot.dtype))

    # Slot by slot, so that XLA need not materialize the stack before the mixer reads it.
    return jnp.stack([clip(stacked[slot], scale[slot]) for slot in range(stacked.shape[0])])


def _bound(radius: float | None, byzantine: int | None) -> Callable[[jax.Array], jax.Array]:
    """`distances of the slots [K] → radius`."""
    if radius is not None and byzantine is None:
        require_positive(radius=radius)
        return lambda distances: jnp.float32(radius)
    if byzantine is not None and radius is None:
        require_at_least(0, byzantine=byzantine)
        return lambda distances: _farthest_but(byzantine, distances)
    raise ValueError(
        "clip_distance takes either radius= (fixed) or byzantine= (adaptive), "
        f"got radius={radius}, byzantine={byzantine}"
    )


def _farthest_but(count: int, distances: jax.Array) -> jax.Array:
    """The greatest finite distance when the `count` farthest are left out; 0 when none is left."""
    ascending = jnp.append(0, jnp.sort(distances))
    return ascending[jnp.maximum(jnp.isfinite(distances).sum() - count, 0)]
