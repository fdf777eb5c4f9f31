"""Arrays cut into blocks, so that what is packed into one byte comes of different rows."""

import jax
import jax.numpy as jnp

Blocks = jax.Array
"""float32 `[rows, blocks, block]`: the flattened array, cut into as many rows as a byte has codes
(the last one padded with zeros), and each row into blocks (the last one padded likewise)."""


def cut(array: jax.Array, rows: int, block: int) -> Blocks:
    """The blocks of an array of any shape."""
    flat = array.astype(jnp.float32).reshape(-1)
    length = -(-flat.size // rows)
    if rows * length > flat.size:
        flat = jnp.pad(flat, (0, rows * length - flat.size))
    matrix = flat.reshape(rows, length)
    if length % block:
        matrix = jnp.pad(matrix, ((0, 0), (0, -length % block)))
    return matrix.reshape(rows, -1, block)


_LARGE = 1 << 14


def fitting(block: int, rows: int, size: int) -> int:
    """The block of an array: `block`; of a large one down to half of it if that needs no padding.

    Padding a large array takes as long as all that is done with its blocks.
    """
    length = -(-size // rows)
    smallest = block // 2 if size >= _LARGE else block - 1
    return next((b for b in range(block, smallest, -1) if length % b == 0), block)


def joined(blocks: Blocks, like: jax.Array) -> jax.Array:
    """The array of the shape and dtype of `like` that was cut into these blocks."""
    rows = blocks.shape[0]
    matrix = blocks.reshape(rows, -1)[:, : -(-like.size // rows)]
    return matrix.reshape(-1)[: like.size].reshape(like.shape).astype(like.dtype)
