"""Tell a few coordinates of each array, and where they are."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.compression.base import Compressor, by_leaf
from gossipjax.mixing.checks import require_share


class Sparse(NamedTuple):
    """k coordinates of a flattened array: values in its dtype, indices int32, both `[k]`."""

    values: jax.Array
    indices: jax.Array


def top_k(share: float) -> Compressor:
    """Keep the coordinates of greatest modulus.

        Q(x)_i = x_i if |x_i| is among the k greatest, else 0;   k = ⌈share · size⌉

    `‖x - Q(x)‖² ≤ (1 - k/d) ‖x‖²`. Each array of a tree by itself; of equals the first.

    Args:
        share: of the coordinates of each array, in (0, 1].

    References:
        Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", definition 2.2.
    """
    require_share(share=share)

    def compress(array: jax.Array, key: jax.Array) -> Sparse:
        _, indices = jax.lax.top_k(jnp.abs(array.reshape(-1)), _count(array, share))
        return _at(array, indices)

    return by_leaf(compress, _scatter)


def random_k(share: float) -> Compressor:
    """Keep random coordinates, each equally likely, and do not scale them.

        Q(x)_i = x_i if i is in a random set of k coordinates, else 0;   k = ⌈share · size⌉

    `E ‖x - Q(x)‖² = (1 - k/d) ‖x‖²`. Each array of a tree by itself.

    Args:
        share: of the coordinates of each array, in (0, 1].

    References:
        Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", definition 2.2.
    """
    require_share(share=share)

    def compress(array: jax.Array, key: jax.Array) -> Sparse:
        draws = jax.random.bits(key, (array.size,))
        _, indices = jax.lax.top_k(draws, _count(array, share))
        return _at(array, indices)

    return by_leaf(compress, _scatter)


def _count(array: jax.Array, share: float) -> int:
    return math.ceil(share * array.size)


def _at(array: jax.Array, indices: jax.Array) -> Sparse:
    return Sparse(array.reshape(-1)[indices], indices.astype(jnp.int32))


def _scatter(payload: Sparse, like: jax.Array) -> jax.Array:
    # What a wrong index points at outside of the array is dropped.
    flat = jnp.zeros(like.size, like.dtype).at[payload.indices].add(payload.values, mode="drop")
    return flat.reshape(like.shape)
