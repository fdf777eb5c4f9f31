"""DiLoCo: an outer Nesterov step along what many local steps have led to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import rounded, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Neighbors, State
from gossipjax.mixing.checks import require_at_least, require_below, require_positive
from gossipjax.types import Params


class OuterState(NamedTuple):
    """Parameters φ as the outer step left them, outer momentum m, and the mixer's state."""

    anchor: Params
    momentum: Params
    mixer: State


def diloco(rate: float = 0.7, momentum: float = 0.9, mixer: Mixer | None = None) -> GossipAlgorithm:
    """DiLoCo over gossip groups: whoever is heard in a round, and oneself, are the group.

        Δ = φ - mean_{j in group} θ_j
        m ← μ m + Δ,   φ ← φ - η (Δ + μ m),   θ ← φ

    with θ_j what the H local steps of peer j have led to. Where all hear all, φ is the same
    everywhere and this is DiLoCo to the letter: `Δ = 1/k Σ_j (φ - θ_j)`. In smaller groups φ_j
    differ, and Δ pulls them together as it moves them on. The local optimizer keeps its state
    (AdamW in the paper). A momentum near 1 also keeps up what peers differ by: for small groups
    `noloco` takes less.

    Args:
        rate: η, above 0; 0.7 in the paper.
        momentum: μ in [0, 1); 0.9 in the paper. 0, with a rate of 1, is `local_sgd`.
        mixer: of θ; by default the weighted mean.

    References:
        Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language Models"
        (arXiv:2311.08105), algorithm 1.
    """
    require_positive(rate=rate)
    require_at_least(0, momentum=momentum)
    require_below(1, momentum=momentum)
    chosen = mixer or weighted_mean()

    def init(params: Params) -> OuterState:
        return OuterState(params, optax.tree.zeros_like(params), chosen.init(params))

    def share(state: OuterState, params: Params, key: jax.Array) -> tuple[Params, OuterState]:
        return params, state

    def mix(state: OuterState, params: Params, neighbors: Neighbors):
        mean, inner, info = chosen.mix(state.mixer, params, neighbors)
        # A joiner adopts; its way there is no gradient.
        is_joiner = neighbors.self_weight <= 0
        change = jax.tree.map(lambda a, x: jnp.where(is_joiner, 0, a - x), state.anchor, mean)
        moved, speed = nesterov(state.anchor, state.momentum, change, rate, momentum)
        params = jax.tree.map(lambda x, y: jnp.where(is_joiner, x, y), mean, moved)
        speed = jax.tree.map(lambda m: jnp.where(is_joiner, 0, m), speed)
        return params, OuterState(params, speed, inner), info

    return GossipAlgorithm(init, share, mix)


def nesterov(
    anchor: Params, speed: Params, change: Params, rate: float, momentum: float
) -> tuple[Params, Params]:
    """`m ← μ m + Δ`, `φ ← φ - η (Δ + μ m)`: the new φ and m."""
    speed = jax.tree.map(lambda m, d: rounded(momentum * m) + d, speed, change)
    moved = jax.tree.map(
        lambda a, d, m: a - rounded(rate * (d + rounded(momentum * m))), anchor, change, speed
    )
    return moved, speed
