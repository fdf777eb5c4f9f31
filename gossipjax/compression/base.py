"""What a compressor is, and how compressors are made of functions of one array."""

from collections.abc import Callable
from functools import partial
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
        overlay: `(payload, base) → tree`: what the author of the payload has, as far as it tells;
            otherwise what `base` has: see `laid_over`. None where payloads make sense for
            differences only.
        retell: `(payload, tree) → payload`: the same part of `tree` as the payload tells of
            another. None where payloads tell everything, or differences.
    """

    init: Callable[[Params], Any]
    compress: Callable[[Any, Params, jax.Array], tuple[Payload, Any]]
    decompress: Callable[[Payload, Params], Params]
    overlay: Callable[[Payload, Params], Params] | None = None
    retell: Callable[[Payload, Params], Payload] | None = None


def identity() -> Compressor:
    """No compression: the reference."""
    return Compressor(
        lambda params: (),
        lambda state, tree, key: (tree, state),
        lambda payload, like: payload,
        lambda payload, base: payload,
    )


def by_leaf(
    compress: Callable[[jax.Array, jax.Array], Payload],
    decompress: Callable[[Any, jax.Array], jax.Array],
    retold: Callable[[Any, jax.Array], jax.Array] | None = None,
    retell: Callable[[Any, jax.Array], Payload] | None = None,
) -> Compressor:
    """A stateless compressor that treats each array of a tree by itself.

    An array without elements has nothing to tell: its payload is `()`.

    Args:
        compress: `(array, seed) → payload` of one array; the seed is a random uint32.
        decompress: `(payload, like) → array`.
        retold: `(payload, array) → array`: the array as `decompress` would give it, told in the way
            in which the payload was told. None for differences only, or if there is `retell`.
        retell: `(payload, array) → payload`, if payloads tell a part: see `Compressor`.
    """

    def each(function: Callable[[Any, Any], Any], tree: Params, others: Any) -> tuple[Any, ...]:
        pairs = zip(jax.tree.leaves(tree), others, strict=True)
        return tuple(function(leaf, other) if jnp.size(leaf) else () for leaf, other in pairs)

    def compress_tree(state: Any, tree: Params, key: jax.Array):
        seeds = jax.random.bits(key, (len(jax.tree.leaves(tree)),), jnp.uint32)
        return each(compress, tree, seeds), state

    def to_tree(function: Callable[[Any, jax.Array], jax.Array], payload: Payload, tree: Params):
        made = each(lambda leaf, told: function(told, leaf), tree, payload)
        leaves, structure = jax.tree.flatten(tree)
        whole = [one if jnp.size(leaf) else leaf for one, leaf in zip(made, leaves, strict=True)]
        return jax.tree.unflatten(structure, whole)

    def init(params: Params) -> tuple[()]:
        return ()

    back = partial(to_tree, decompress)
    if retell is not None:
        tell_again = retell  # narrowed

        def retell_tree(payload: Payload, tree: Params) -> Payload:
            return each(lambda leaf, told: tell_again(told, leaf), tree, payload)

        return partly(init, compress_tree, back, retell_tree)
    overlay = partial(laid_over, back, partial(to_tree, retold)) if retold else None
    return Compressor(init, compress_tree, back, overlay)


def laid_over(
    decompress: Callable[[Payload, Params], Params],
    retold: Callable[[Payload, Params], Params],
    payload: Payload,
    base: Params,
) -> Params:
    """What its author has, as far as a payload tells; otherwise what `base` has.

        y = x + D(q) - D(x told as q was)

    told on the same grid, at the same coordinates, in the same basis. Where the author has what
    `base` has, both are told alike and nothing changes, however coarse the code: errors are in
    proportion to the difference of the two, not to what they are. A coordinate, frequency or
    direction that is told exactly is replaced.

    Args:
        decompress: D.
        retold: `(q, x) → D(x told as q was)`.
        payload: q.
        base: x, a tree of the form that was compressed.
    """
    return optax.tree.add(base, optax.tree.sub(decompress(payload, base), retold(payload, base)))


def partly(
    init: Callable[[Params], Any],
    compress: Callable[[Any, Params, jax.Array], tuple[Payload, Any]],
    decompress: Callable[[Payload, Params], Params],
    retell: Callable[[Payload, Params], Payload],
) -> Compressor:
    """A compressor that tells a part of a tree, with the overlay that follows."""
    overlay = partial(laid_over, decompress, lambda told, x: decompress(retell(told, x), x))
    return Compressor(init, compress, decompress, overlay, retell)


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
