"""Streaming DiLoCo: one fragment of the parameters at a time, and training goes on meanwhile."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.algorithms.diloco import nesterov
from gossipjax.compression.fragments import Fragment, fragments
from gossipjax.mixing.averaging import rounded, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Needs, Neighbors
from gossipjax.mixing.checks import require_at_least, require_below, require_positive, require_share
from gossipjax.types import Params


class StreamingState(NamedTuple):
    """What streaming remembers.

    Attributes:
        anchor: φ, each fragment as its last outer step left it.
        momentum: m.
        turn: int32: number of the fragment that is told next.
        stepped: bool `[delay + 1, fragments]`: which fragments took their outer step in this round
            and in the `delay` rounds before it.
        sent: θ of the last `share`: what the outer step is about.
    """

    anchor: Params
    momentum: Params
    turn: jax.Array
    stepped: jax.Array
    sent: Params


def streaming(
    parts: int = 4,
    delay: int = 1,
    rate: float = 0.7,
    momentum: float = 0.9,
    keep: float = 0.5,
) -> GossipAlgorithm:
    """DiLoCo by fragments, with overlap.

        in round t, for fragment p = t mod P:   Δ = φ_p - mean_{j in group} θ_{j,p}
                                                m_p ← μ m_p + Δ,   φ_p ← φ_p - η (Δ + μ m_p)
        τ rounds later:                         θ_p ← α θ_p + (1 - α) φ_p

    A round is the P-th part of the H steps between two averages of the same fragment, so the
    greatest amount that travels at a time is 1 / P of `diloco`'s. While it does, and for τ rounds
    after, local steps go on from θ, and α says how much of them is kept.

    Peers on a network need not be at the same fragment: those take the outer step that somebody
    has told or that are the own turn. In a round in which nothing is told, for lack of a free line,
    the last fragment that was told counts once more.

    Needs founders: a fragment is too little for a late joiner to begin from.

    Args:
        parts: P, fragments.
        delay: τ, in rounds, from 0 to P - 1.
        rate: η, above 0.
        momentum: μ in [0, 1).
        keep: α in [0, 1]; the paper has 0.5, and 0 replaces the local steps, as `diloco` does.

    References:
        Douillard et al. 2025, "Streaming DiLoCo with overlapping communication: Towards a
        Distributed Free Lunch" (arXiv:2501.18512), algorithm 2.
    """
    require_positive(rate=rate)
    require_at_least(0, momentum=momentum, delay=delay)
    require_below(1, momentum=momentum)
    require_below(parts, delay=delay)
    require_share(one_minus_keep=1 - keep)
    code, mean = fragments(parts), weighted_mean()
    overlay = code.overlay
    assert overlay is not None

    def init(params: Params) -> StreamingState:
        zeros = optax.tree.zeros_like(params)
        stepped = jnp.zeros((delay + 1, parts), bool)
        return StreamingState(params, zeros, code.init(params), stepped, params)

    def share(state: StreamingState, params: Params, key: jax.Array):
        payload, turn = code.compress(state.turn, params, key)
        return payload, state._replace(turn=turn, sent=params)

    def mix(state: StreamingState, params: Params, neighbors: Neighbors):
        heard = jax.vmap(lambda told: overlay(told, state.sent))(neighbors.payload)
        average, _, info = mean.mix((), state.sent, neighbors._replace(payload=heard))
        change = optax.tree.sub(state.anchor, average)
        moved, speed = nesterov(state.anchor, state.momentum, change, rate, momentum)
        turns = _turns(neighbors, (state.turn - 1) % parts, parts)
        anchor = _choose(turns, moved, state.anchor)
        speed = _choose(turns, speed, state.momentum)
        stepped = jnp.concatenate([turns[None], state.stepped[:-1]])
        blended = jax.tree.map(
            lambda x, a: rounded(keep * x) + rounded((1 - keep) * a), params, anchor
        )
        params = _choose(stepped[-1], blended, params)
        return params, state._replace(anchor=anchor, momentum=speed, stepped=stepped), info

    return GossipAlgorithm(init, share, mix, Needs(founders=True))


def _turns(neighbors: Neighbors, own: jax.Array, parts: int) -> jax.Array:
    """Which fragments somebody has told: bool `[parts]`."""
    payload: Fragment = neighbors.payload
    told = jnp.where(neighbors.weight > 0, payload.number, own)
    return (jnp.append(told, own)[:, None] == jnp.arange(parts)).any(axis=0)


def _choose(turns: jax.Array, new: Params, old: Params) -> Params:
    """`new` in the fragments of the mask, `old` elsewhere."""

    def of_leaf(n: jax.Array, o: jax.Array) -> jax.Array:
        size = -(-o.size // len(turns))
        mask = jnp.repeat(turns, size)[: o.size].reshape(o.shape)
        return jnp.where(mask, n, o)

    return jax.tree.map(of_leaf, new, old)
