"""Rung 4: is an update like the others, and is it its author's own?

Both are subjective: they give reason to look closer, or less weight, and are no evidence. They
compare *moves*: a payload's parameters minus the own ones, a point that author and receiver share
closely enough once they have mixed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.types import Params

COPY_COSINE = 0.999
"""Moves of two authors that are more parallel than this are one and the same, scaled or not."""


class Direction(NamedTuple):
    """How a move compares with a reference.

    Attributes:
        cosine: of the angle between the two, -1 to 1; 0 when one of them is no move at all.
        length_ratio: length of the move over that of the reference; infinite for a zero reference.
    """

    cosine: jax.Array
    length_ratio: jax.Array


def direction(move: Params, reference: Params) -> Direction:
    """Compare a move with a reference: the own last round, or `median_move` of recent ones.

        cosine = ⟨m, r⟩ / (‖m‖ ‖r‖),   length_ratio = ‖m‖ / ‖r‖

    over whole pytrees, in float32.

    References:
        Cao et al. 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping"
        (cosine to the receiver's own update); Fung et al. 2020, "The Limitations of Federated
        Learning in Sybil Settings" (similarity between updates).
    """
    product, mine, other = _dot(move, reference), _dot(move, move), _dot(reference, reference)
    lengths = jnp.sqrt(mine) * jnp.sqrt(other)
    cosine = jnp.where(lengths > 0, product / jnp.where(lengths > 0, lengths, 1), 0.0)
    return Direction(cosine, jnp.sqrt(mine) / jnp.sqrt(other))


def moves_from(params: Params, payload: Params) -> Params:
    """Payloads `[K, …]` minus parameters: `[K, …]`, in float32 or wider."""
    return jax.tree.map(
        lambda own, stacked: stacked.astype(_wide(own)) - own.astype(_wide(own)), params, payload
    )


def median_move(moves: Params) -> Params:
    """The coordinate-wise median of moves `[K, …]`: what most of the recent ones have in common."""
    return jax.tree.map(lambda stacked: jnp.median(stacked, axis=0), moves)


def copies(moves: Params, threshold: float = COPY_COSINE) -> jax.Array:
    """Which of K moves `[K, …]` are copies of each other, scaled or not: bool `[K, K]`.

    The earlier one of a pair is presumed to be the original. Exact copies need no arithmetic: the
    Merkle roots in their headers are equal.
    """
    products = _gram(moves)
    lengths = jnp.sqrt(jnp.diagonal(products))
    scale = lengths[:, None] * lengths[None, :]
    is_copy = (scale > 0) & (products >= threshold * scale)
    return is_copy & ~jnp.eye(len(lengths), dtype=bool)


def _gram(moves: Params) -> jax.Array:
    total: jax.Array | float = 0.0
    for leaf in jax.tree.leaves(moves):
        flat = leaf.reshape(leaf.shape[0], -1)
        total = total + flat @ flat.T
    return jnp.asarray(total)


def _dot(left: Params, right: Params) -> jax.Array:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return sum((jnp.vdot(a.astype(_wide(a)), b.astype(_wide(b))) for a, b in pairs), jnp.float32(0))


def _wide(leaf: jax.Array) -> jnp.dtype:
    return jnp.promote_types(leaf.dtype, jnp.float32)
