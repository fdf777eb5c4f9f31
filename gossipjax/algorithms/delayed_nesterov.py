"""Asynchronous local SGD with delayed Nesterov momentum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import rounded, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Neighbors, State
from gossipjax.mixing.checks import require_at_least, require_below, require_positive
from gossipjax.types import Params


class DelayedState(NamedTuple):
    """What delayed Nesterov remembers.

    Attributes:
        anchor: θ as the last mix left it.
        momentum: m.
        buffer: B, the sum of the pseudo-gradients since m last changed.
        buffered: float32 scalar: how many they are.
        mixer: the mixer's state.
    """

    anchor: Params
    momentum: Params
    buffer: Params
    buffered: jax.Array
    mixer: State


def delayed_nesterov(
    size: int = 4,
    rate: float = 0.7,
    momentum: float = 0.9,
    mixer: Mixer | None = None,
) -> GossipAlgorithm:
    """Pseudo-gradients count as they come, momentum only when `size` of them are there.

    For the pseudo-gradient g of each peer that has ended its local steps:

        B ← B + g
        every N-th:  m ← μ m + B / N,   θ ← θ - η (μ m + g / N),   B ← 0
        else:        θ ← θ - η g / N

    With momentum in every step, what comes late pushes in a direction of the past, N times as often
    as in synchronous training; so naive asynchronous Nesterov is worse than none.

    Here each peer is its own server: its own pseudo-gradient and those that have arrived, measured
    from its own parameters, `g_k = θ - (parameters of k)`, are taken at once. With a of them and
    their weighted mean ḡ, `B ← B + a ḡ` and `θ ← θ - η a ḡ / N`; m follows once B holds N or more,
    divided by as many as it holds. A server of the paper is a peer that hears nobody, whose own
    local steps are those of the worker that has just ended: `examples/papers/liu_2024_async.py`.

    Args:
        size: N: in the paper the number of workers; on a network about how many pseudo-gradients
            come while a peer does one round, its own included.
        rate: η, above 0.
        momentum: μ in [0, 1).
        mixer: how the parameters that arrive are averaged; by default the weighted mean.

    References:
        Liu et al. 2024, "Asynchronous Local-SGD Training for Language Modeling" (arXiv:2401.09135),
        algorithm 3, with c = 0. DyLU, steps in proportion to speed, is `round_seconds` of a peer.
    """
    require_positive(rate=rate)
    require_at_least(1, size=size)
    require_at_least(0, momentum=momentum)
    require_below(1, momentum=momentum)
    chosen = mixer or weighted_mean()

    def init(params: Params) -> DelayedState:
        zeros = optax.tree.zeros_like(params)
        return DelayedState(params, zeros, zeros, jnp.float32(0), chosen.init(params))

    def share(state: DelayedState, params: Params, key: jax.Array) -> tuple[Params, DelayedState]:
        return params, state

    def mix(state: DelayedState, params: Params, neighbors: Neighbors):
        mean, inner, info = chosen.mix(state.mixer, params, neighbors)
        is_joiner = neighbors.self_weight <= 0
        count = jnp.sign(neighbors.self_weight) + (neighbors.weight > 0).sum(dtype=jnp.float32)
        buffered = state.buffered + count
        is_full = buffered >= size
        share_of_each = 1 / jnp.maximum(buffered, 1)

        def of_leaf(a: jax.Array, m: jax.Array, b: jax.Array, x: jax.Array):
            total = rounded(count.astype(a.dtype) * (a - x))
            summed = b + total
            speed = rounded(momentum * m) + rounded(share_of_each.astype(m.dtype) * summed)
            m = jnp.where(is_full, speed, m)
            step = rounded(total / size) + jnp.where(is_full, rounded(momentum * m), 0)
            moved = a - rounded(rate * step).astype(a.dtype)
            new = (moved, m, jnp.where(is_full, 0, summed))
            adopted = (x, jnp.zeros_like(m), jnp.zeros_like(m))
            return jax.tree.map(lambda n, o: jnp.where(is_joiner, o, n), new, adopted)

        told = jax.tree.map(of_leaf, state.anchor, state.momentum, state.buffer, mean)
        moved, speed, buffer = jax.tree.transpose(
            jax.tree.structure(mean), jax.tree.structure((0, 0, 0)), told
        )
        buffered = jnp.where(is_full | is_joiner, 0, buffered)
        return moved, DelayedState(moved, speed, buffer, buffered, inner), info

    return GossipAlgorithm(init, share, mix)
