"""SparseLoCo: compressed pseudo-gradients with error feedback, over gossip."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.algorithms.diloco import nesterov
from gossipjax.compression import error_feedback, fragments, top_k_2bit
from gossipjax.compression.base import Compressor
from gossipjax.compression.load import load_compressor
from gossipjax.mixing.averaging import info_of, input_weights, rounded
from gossipjax.mixing.base import GossipAlgorithm, Needs, Neighbors
from gossipjax.mixing.checks import require_at_least, require_below, require_positive
from gossipjax.types import Params, Payload


class SparseLoCoState(NamedTuple):
    """What SparseLoCo remembers.

    Attributes:
        anchor: φ, parameters as the outer step left them.
        momentum: m.
        feedback: the errors e, and the compressor's state.
        turn: whose turn it is among the fragments of φ.
        told: D(q) of what was told last, until the mix has dealt with it; zeros before and after.
        has_told: bool: whether the pseudo-gradient of this round is in `feedback`.
    """

    anchor: Params
    momentum: Params
    feedback: Any
    turn: Any
    told: Params
    has_told: jax.Array


class Contribution(NamedTuple):
    """The compressed pseudo-gradient q, and a fragment of φ; () where there are no fragments."""

    gradient: Payload
    fragment: Payload


def sparse_loco(
    compressor: Compressor | str | None = None,
    rate: float = 1.0,
    momentum: float = 0.0,
    decay: float = 0.95,
    parts: int = 64,
) -> GossipAlgorithm:
    """SparseLoCo, for any compressor of differences.

        e ← β e + (φ - θ),   q = Q(e),   e ← e - D(q)       θ: what the local steps have led to
        Δ = mean_{j in group} D(q_j)
        m ← μ m + Δ,   φ ← φ - η (Δ + μ m),   θ ← φ

    The paper has no momentum, since error feedback acts as one. Where few rounds are to be had,
    `rate=0.7, momentum=0.9` makes it `diloco` with compressed pseudo-gradients. Where all hear all,
    φ is the same everywhere, and this is the paper's algorithm.

    In smaller groups, or when payloads are lost, φ differ from peer to peer, and nothing in
    the pseudo-gradients tells so. Hence each payload also has a fragment of φ, in turn, one of
    `parts`, and receivers average it: `φ ← φ + Σ_j W_ij (φ_j - φ)` where it is told. That costs
    32 / parts bits per parameter.

    Needs founders: a payload is too little for a late joiner to begin from.

    Args:
        compressor: Q, a contraction, or its name; by default `top_k_2bit`.
        rate: η, above 0.
        momentum: μ in [0, 1).
        decay: β in (0, 1].
        parts: how many fragments φ is told in; 0 tells none, where all hear all and nothing is lost
            (it then needs a lossless transport).

    References:
        Sarfi et al. 2025, "Communication Efficient LLM Pre-training with SparseLoCo"
        (arXiv:2508.15706), algorithm 1.
    """
    require_positive(rate=rate)
    require_at_least(0, momentum=momentum, parts=parts)
    require_below(1, momentum=momentum)
    given = load_compressor(compressor) if isinstance(compressor, str) else compressor
    code = error_feedback(given or top_k_2bit(), decay)
    slow = fragments(parts) if parts else None

    def init(params: Params) -> SparseLoCoState:
        zeros = optax.tree.zeros_like(params)
        turn = slow.init(params) if slow else ()
        return SparseLoCoState(params, zeros, code.init(params), turn, zeros, jnp.bool(False))

    def share(state: SparseLoCoState, params: Params, key: jax.Array):
        change = optax.tree.sub(state.anchor, params)
        gradient, feedback = code.compress(state.feedback, change, key)
        fragment, turn = slow.compress(state.turn, state.anchor, key) if slow else ((), ())
        told = code.decompress(gradient, params)
        state = SparseLoCoState(state.anchor, state.momentum, feedback, turn, told, jnp.bool(True))
        return Contribution(gradient, fragment), state

    def mix(state: SparseLoCoState, params: Params, neighbors: Neighbors):
        weights = input_weights(neighbors)
        payload: Contribution = neighbors.payload
        change = jax.tree.map(lambda d: rounded(weights[0].astype(d.dtype) * d), state.told)
        anchor = state.anchor
        for slot in range(weights.shape[0] - 1):
            one = jax.tree.map(lambda leaf, slot=slot: leaf[slot], payload)
            weight = weights[1 + slot]
            gradient = code.decompress(one.gradient, params)
            change = jax.tree.map(lambda c, d, w=weight: c + _weighed(w, d), change, gradient)
            if slow and slow.overlay:
                theirs = slow.overlay(one.fragment, state.anchor)
                step = optax.tree.sub(theirs, state.anchor)
                anchor = jax.tree.map(lambda a, d, w=weight: a + _weighed(w, d), anchor, step)
        moved, speed = nesterov(anchor, state.momentum, change, rate, momentum)
        # What has not been told yet, because the last payload was not out, is still to be told.
        rest = jax.tree.map(lambda x, a: jnp.where(state.has_told, 0, x - a), params, state.anchor)
        zeros = optax.tree.zeros_like(params)
        new_state = SparseLoCoState(
            moved, speed, state.feedback, state.turn, zeros, jnp.bool(False)
        )
        return optax.tree.add(moved, rest), new_state, info_of(weights)

    return GossipAlgorithm(init, share, mix, Needs(lossless=not parts, founders=True))


def _weighed(weight: jax.Array, tree: jax.Array) -> jax.Array:
    return jnp.where(weight > 0, rounded(weight.astype(tree.dtype) * tree), 0)
