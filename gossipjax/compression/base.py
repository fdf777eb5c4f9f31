"""What a compressor is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gossipjax.types import Params, Payload


class Compressor(NamedTuple):
    """A lossy code for trees of arrays, as three pure functions.

    Attributes:
        init: `(params) → state`.
        compress: `(state, tree, key) → (payload, state)`; shapes and dtypes of the payload depend
            on those of the tree alone.
        decompress: `(payload, like) → tree` of the shapes and dtypes of `like`. A payload of zeros
            gives zeros. Whatever the payload holds, it does not raise.
    """

    init: Callable[[Params], Any]
    compress: Callable[[Any, Params, jax.Array], tuple[Payload, Any]]
    decompress: Callable[[Payload, Params], Params]


def identity() -> Compressor:
    """No compression: the reference."""
    return Compressor(
        lambda params: (), lambda state, tree, key: (tree, state), lambda payload, like: payload
    )


def by_leaf(
    compress: Callable[[jax.Array, jax.Array], Payload],
    decompress: Callable[[Any, jax.Array], jax.Array],
) -> Compressor:
    """A stateless compressor that treats each array of a tree by itself.

    Args:
        compress: `(array, key) → payload` of one array.
        decompress: `(payload, like) → array`.
    """

    def compress_tree(state: Any, tree: Params, key: jax.Array):
        leaves = jax.tree.leaves(tree)
        keys = jax.random.split(key, len(leaves))
        return tuple(compress(leaf, key) for leaf, key in zip(leaves, keys, strict=True)), state

    def decompress_tree(payload: Payload, like: Params) -> Params:
        leaves, structure = jax.tree.flatten(like)
        return jax.tree.unflatten(structure, map(decompress, payload, leaves))

    return Compressor(lambda params: (), compress_tree, decompress_tree)
