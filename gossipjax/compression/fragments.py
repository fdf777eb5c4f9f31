"""Tell one part of every array after another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.compression.base import Compressor, partly
from gossipjax.mixing.checks import require_at_least
from gossipjax.types import Params


class Fragment(NamedTuple):
    """One of the equal parts of each flattened array, as it is, and its number, int32."""

    parts: tuple[jax.Array, ...]
    number: jax.Array


def fragments(count: int = 8) -> Compressor:
    """Tell a fragment of the tree each time, in turn: after `count` payloads everything was told.

    Fragment f is part f of `count` equal parts of each flattened array, the last ones padded with
    zeros. No error in what it tells; 1 / count of the bytes.

    Args:
        count: at least 1.

    References:
        Douillard et al. 2025, "Streaming DiLoCo with overlapping communication"
        (arXiv:2501.18512), section 2.2, where fragments are layers.
    """
    require_at_least(1, count=count)

    def table(leaf: jax.Array) -> jax.Array:
        size = -(-jnp.size(leaf) // count)
        flat = jnp.pad(jnp.reshape(leaf, -1), (0, count * size - jnp.size(leaf)))
        return flat.reshape(count, size)

    def told(tree: Params, number: jax.Array) -> Fragment:
        return Fragment(tuple(table(leaf)[number] for leaf in jax.tree.leaves(tree)), number)

    def compress(state: jax.Array, tree: Params, key: jax.Array) -> tuple[Fragment, jax.Array]:
        return told(tree, state), (state + 1) % count

    def decompress(payload: Fragment, like: Params) -> Params:
        def whole(part: jax.Array, leaf: jax.Array) -> jax.Array:
            zeros = jnp.zeros((count, part.size), leaf.dtype)
            rows = zeros.at[payload.number].set(part, mode="drop")
            return rows.reshape(-1)[: leaf.size].reshape(leaf.shape)

        leaves, structure = jax.tree.flatten(like)
        pairs = zip(payload.parts, leaves, strict=True)
        return jax.tree.unflatten(structure, [whole(*pair) for pair in pairs])

    return partly(
        lambda params: jnp.int32(0),
        compress,
        decompress,
        lambda payload, tree: told(tree, payload.number),
    )
