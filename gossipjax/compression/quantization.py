"""Tell each coordinate with fewer bits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.compression.base import Compressor, by_leaf
from gossipjax.mixing.checks import require_at_least, require_below


class Quantized(NamedTuple):
    """Norm of an array, float32, and its coordinates as whole steps of norm / levels."""

    norm: jax.Array
    steps: jax.Array


def qsgd(levels: int) -> Compressor:
    """Round each coordinate at random to one of s levels of the norm, scaled to be a contraction.

        Q(x) = sign(x) ‖x‖ / (s τ) · ⌊s |x| / ‖x‖ + ξ⌋,   ξ uniform on [0, 1)
        τ = 1 + min(d / s², √d / s)

    `E Q(x) = x / τ` and `E ‖x - Q(x)‖² ≤ (1 - 1/τ) ‖x‖²`: what CHOCO asks of a compressor.
    Without the division by τ it would be unbiased, and no contraction. Each array of a tree by
    itself; the steps travel as int8 up to 127 levels, above as int16.

    Args:
        levels: s, from 1 to 32,767.

    References:
        Alistarh et al. 2017, "QSGD", section 3.1; Koloskova, Stich, Jaggi 2019, "Decentralized
        Stochastic Optimization and Gossip Algorithms with Compressed Communication", section 3.5.
    """
    require_at_least(1, levels=levels)
    require_below(1 << 15, levels=levels)
    dtype = jnp.int8 if levels < 1 << 7 else jnp.int16

    def compress(array: jax.Array, key: jax.Array) -> Quantized:
        wide = array.astype(jnp.float32)
        norm = jnp.sqrt(jnp.square(wide).sum())
        ratio = jnp.abs(wide) / jnp.where(norm > 0, norm, 1)
        steps = jnp.floor(levels * ratio + jax.random.uniform(key, array.shape))
        steps = jnp.minimum(steps, levels) * jnp.sign(wide)
        return Quantized(norm, steps.astype(dtype))

    def decompress(payload: Quantized, like: jax.Array) -> jax.Array:
        tau = 1 + min(like.size / levels**2, like.size**0.5 / levels)
        return (payload.steps * (payload.norm / (levels * tau))).astype(like.dtype)

    return by_leaf(compress, decompress)
