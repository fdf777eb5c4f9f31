"""How kernels are drawn."""

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def scaled_normal(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Normal with variance 1 / fan-in: a layer's results have about the variance of its inputs.

    Drawn flat, since XLA's CPU backend is slow to compile random bits over several axes: 4.5 s of
    CPU time for `CNN`, 1.1 s so.

    Args:
        key: of the draw.
        shape: `[..., outputs]`; all axes but the last one are summed over.
        dtype: of the result.

    References:
        LeCun et al., Efficient backprop, 1998, section 4.6.
    """
    draws = jax.random.normal(key, (math.prod(shape),), dtype)
    return (draws / math.sqrt(math.prod(shape[:-1]))).reshape(shape)
