"""Floating-point numbers of 16 bits."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gossipjax.compression.base import Compressor, by_leaf


def bf16() -> Compressor:
    """Round to bfloat16: the range of float32, eight bits of precision.

    `|x - Q(x)| ≤ 2⁻⁸ |x|`, to the nearest, for numbers that are not subnormal.
    """
    return _cast(jnp.bfloat16)


def fp16() -> Compressor:
    """Round to IEEE float16: eleven bits of precision, up to 65,504.

    `|x - Q(x)| ≤ 2⁻¹¹ |x|`, to the nearest, from 6.2e-5 on; below it, at most 3e-8. What is larger
    becomes an infinity, which every peer refuses to send and to take.
    """
    return _cast(jnp.float16)


def _cast(dtype: DTypeLike) -> Compressor:
    def retold(payload: jax.Array, array: jax.Array) -> jax.Array:
        return array.astype(dtype).astype(array.dtype)

    return by_leaf(
        lambda array, seed: array.astype(dtype),
        lambda payload, like: payload.astype(like.dtype),
        retold,
    )
