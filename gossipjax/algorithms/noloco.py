"""NoLoCo: an outer step by pairs, with a pull towards the partner's slow weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import rounded, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Neighbors
from gossipjax.mixing.checks import require_at_least, require_below, require_positive
from gossipjax.types import Params


class NoLoCoState(NamedTuple):
    """Slow weights φ and outer momentum m."""

    anchor: Params
    momentum: Params


class SlowAndFast(NamedTuple):
    """Slow weights φ, and θ, what the local steps have made of them."""

    slow: Params
    fast: Params


def noloco(
    rate: float = 0.7, momentum: float = 0.5, consensus: float | None = None
) -> GossipAlgorithm:
    """NoLoCo: no all-reduce, the group of an outer step is one random partner.

        g = θ - φ
        m ← α m + β mean_{group}(g) + γ (mean_{group}(φ) - φ)
        φ ← φ + m,   θ ← φ

    with θ what the H local steps have made of φ. The term in γ is what keeps the φ together.
    Stable for groups of n where `√(n / 2 (n-1)) α < γ < √(n / 2 (n-1) · (2 + α²))`: with pairs,
    for γ above α.

    Where `β = γ`, as in the authors' runs, the two means are one, `β (mean θ - φ)`, so θ is all
    that is told: half the bytes of the paper's two tensors. Pairs: `topology.random_matching`; a
    peer on the network takes whom it hears from.

    Args:
        rate: β, above 0.
        momentum: α in [0, 1).
        consensus: γ, at least 0; by default β.

    References:
        Kolehmainen et al. (Gensyn) 2025, "NoLoCo: No-all-reduce Low Communication Training Method
        for Large Models" (arXiv:2506.10911), section 3; values of the authors' configurations.
    """
    gamma = rate if consensus is None else consensus
    require_positive(rate=rate)
    require_at_least(0, momentum=momentum, consensus=gamma)
    require_below(1, momentum=momentum)
    mean = weighted_mean()

    def init(params: Params) -> NoLoCoState:
        return NoLoCoState(params, optax.tree.zeros_like(params))

    def share(state: NoLoCoState, params: Params, key: jax.Array) -> tuple[Any, NoLoCoState]:
        return (params if gamma == rate else SlowAndFast(state.anchor, params)), state

    def mix(state: NoLoCoState, params: Params, neighbors: Neighbors):
        own, _ = share(state, params, jax.random.key(0))
        means, _, info = mean.mix((), own, neighbors)
        fast = means.fast if isinstance(means, SlowAndFast) else means
        slow = means.slow if isinstance(means, SlowAndFast) else state.anchor
        is_joiner = neighbors.self_weight <= 0

        def follow(m: jax.Array, a: jax.Array, s: jax.Array, f: jax.Array) -> jax.Array:
            step = rounded(rate * (f - s)) + rounded(gamma * (s - a))
            return jnp.where(is_joiner, 0, rounded(momentum * m) + step)

        speed = jax.tree.map(follow, state.momentum, state.anchor, slow, fast)
        moved = jax.tree.map(
            lambda a, m, f: jnp.where(is_joiner, f, a + m), state.anchor, speed, fast
        )
        return moved, NoLoCoState(moved, speed), info

    return GossipAlgorithm(init, share, mix)
