"""What a compressor is, and how compressors are made of functions of one array."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import rounded
from gossipjax.mixing.checks import require_share
from gossipjax.types import Params, Payload


class Compressor(NamedTuple):
    """A lossy code for trees of floating-point arrays, as pure functions.

    Attributes:
        init: `(params) → state`.
        compress: `(state, tree, key) → (payload, state)`; shapes and dtypes of the payload depend
            on those of the tree alone, and its bytes are what travels: nothing is left to pack.
        decompress: `(payload, like) → tree` of the shapes and dtypes of `like`. A payload of zeros
            gives zeros. Whatever the payload holds, it does not raise.
        retell: `(payload, tree) → payload`: `tree`, told in the very way in which the payload was
            told: on its grid, at its coordinates, in its basis. So a receiver learns how it differs
            from the author without having the author's last word in memory: see `overlay`. None
            where the payload makes sense for differences only.
        is_partial: it tells a part of the tree, and nothing about the rest.
    """

    init: Callable[[Params], Any]
    compress: Callable[[Any, Params, jax.Array], tuple[Payload, Any]]
    decompress: Callable[[Payload, Params], Params]
    retell: Callable[[Payload, Params], Payload] | None = None
    is_partial: bool = False


def identity() -> Compressor:
    """No compression: the reference."""
    return Compressor(
        lambda params: (),
        lambda state, tree, key: (tree, state),
        lambda payload, like: payload,
        lambda payload, tree: tree,
    )


def by_leaf(
    compress: Callable[[jax.Array, jax.Array], Payload],
    decompress: Callable[[Any, jax.Array], jax.Array],
    retell: Callable[[Any, jax.Array], Payload] | None = None,
    *,
    is_partial: bool = False,
) -> Compressor:
    """A stateless compressor that treats each array of a tree by itself.

    An array without elements has nothing to tell: its payload is `()`.

    Args:
        compress: `(array, seed) → payload` of one array; the seed is a random uint32.
        decompress: `(payload, like) → array`.
        retell: `(payload, array) → payload`, or None.
        is_partial: see `Compressor`.
    """

    def each(function: Callable[[Any, Any], Any], tree: Params, others: Any) -> tuple[Any, ...]:
        pairs = zip(jax.tree.leaves(tree), others, strict=True)
        return tuple(function(leaf, other) if jnp.size(leaf) else () for leaf, other in pairs)

    def compress_tree(state: Any, tree: Params, key: jax.Array):
        seeds = jax.random.bits(key, (len(jax.tree.leaves(tree)),), jnp.uint32)
        return each(compress, tree, seeds), state

    def decompress_tree(payload: Payload, like: Params) -> Params:
        decoded = each(lambda leaf, told: decompress(told, leaf), like, payload)
        leaves = jax.tree.leaves(like)
        whole = [one if jnp.size(leaf) else leaf for one, leaf in zip(decoded, leaves, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(like), whole)

    def retelling(retell: Callable[[Any, jax.Array], Payload]) -> Callable[[Payload, Params], Any]:
        return lambda payload, tree: each(lambda leaf, told: retell(told, leaf), tree, payload)

    return Compressor(
        lambda params: (),
        compress_tree,
        decompress_tree,
        retelling(retell) if retell else None,
        is_partial,
    )


def overlay(compressor: Compressor, base: Params, payload: Payload) -> Params:
    """What the author of a payload has, as far as the payload tells; otherwise what `base` has.

        y = x + D(q) - D(q'),   q' = x told as q was

    Where the author has what `base` has, both are told alike and nothing changes, however coarse
    the code: errors are in proportion to the differences between two peers, not to their
    parameters. A coordinate, frequency or direction that is told exactly is replaced.

    Args:
        compressor: one with `retell`.
        base: x, a tree of the form that was compressed.
        payload: q.
    """
    assert compressor.retell is not None
    theirs = compressor.decompress(payload, base)
    ours = compressor.decompress(compressor.retell(payload, base), base)
    return optax.tree.add(base, optax.tree.sub(theirs, ours))


def error_feedback(compressor: Compressor, decay: float = 1.0) -> Compressor:
    """Tell later what was left out: the error of each payload is added to the next tree.

        e ← β e + x,   q = Q(e),   e ← e - D(q)

    What is told adds up to what was to be told, so that coarse codes do not bias a sum of
    differences. Only for differences: it makes no sense for parameters, which are told anew.

    Args:
        compressor: Q, a contraction: `‖x - D(Q(x))‖ < ‖x‖`, or the errors grow without bound.
        decay: β in (0, 1], the share of an error that is kept.

    References:
        Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression
        Schemes", algorithm 2; Sarfi et al. 2025, "SparseLoCo", with β = 0.95.
    """
    require_share(decay=decay)

    def init(params: Params) -> tuple[Params, Any]:
        return optax.tree.zeros_like(params), compressor.init(params)

    def compress(state: tuple[Params, Any], tree: Params, key: jax.Array):
        wanted = jax.tree.map(lambda e, x: rounded(decay * e) + x, state[0], tree)
        payload, inner = compressor.compress(state[1], wanted, key)
        error = optax.tree.sub(wanted, compressor.decompress(payload, wanted))
        return payload, (error, inner)

    return Compressor(init, compress, compressor.decompress)
