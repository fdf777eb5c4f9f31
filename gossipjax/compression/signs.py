"""One bit for each coordinate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gossipjax.compression.base import Compressor, by_leaf
from gossipjax.compression.blocks import cut, joined
from gossipjax.mixing.checks import require_at_least

_ROWS = 8
_SHIFTS = np.arange(_ROWS, dtype=np.int32)[:, None, None]


class Signs(NamedTuple):
    """Signs, uint8, packed, and the mean modulus of each block, bfloat16."""

    signs: jax.Array
    moduli: jax.Array


def sign(block: int = 256) -> Compressor:
    """Tell the sign of each coordinate, and the mean modulus of each block.

        Q(x)_i = sign(x_i) · mean_j |x_j| over the block of i

    `‖x - Q(x)‖² = ‖x‖² - ‖x‖₁² / d` in each block: a contraction, which keeps 2 / π of the energy
    of normal numbers; biased, so it wants error feedback. 1 + 16 / block bits per coordinate. For
    differences only: signs of parameters say nothing about how peers differ.

    Args:
        block: coordinates that share a modulus.

    References:
        Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression
        Schemes", section 3.
    """
    require_at_least(1, block=block)

    def compress(array: jax.Array, seed: jax.Array) -> Signs:
        blocks = cut(array, _ROWS, block)
        full = cut(jnp.ones(array.size), _ROWS, block).sum(axis=2)
        moduli = jnp.abs(blocks).sum(axis=2) / jnp.maximum(full, 1)
        packed = ((blocks > 0).astype(jnp.int32) << _SHIFTS).sum(axis=0).astype(jnp.uint8)
        bits = packed.reshape(-1)[: -(-array.size // _ROWS)]
        return Signs(bits, moduli.astype(jnp.bfloat16).reshape(-1))

    def decompress(payload: Signs, like: jax.Array) -> jax.Array:
        modulus = payload.moduli.astype(jnp.float32).reshape(_ROWS, -1, 1)
        count = modulus.shape[1]
        packed = jnp.pad(payload.signs, (0, count * block - payload.signs.size))
        bits = (packed.reshape(count, block).astype(jnp.int32) >> _SHIFTS) & 1
        return joined(jnp.where(bits > 0, modulus, -modulus), like)

    return by_leaf(compress, decompress)
