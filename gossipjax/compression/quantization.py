"""Tell each coordinate with fewer bits."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gossipjax.compression.base import Compressor, by_leaf
from gossipjax.compression.blocks import cut, fitting, joined
from gossipjax.compression.packing import bits_for, pack_bits, unpack_bits
from gossipjax.compression.seeds import uniform
from gossipjax.mixing.checks import require_at_least, require_below

_TINY = 2.0**-100
_GOLDEN = 0x9E3779B9  # 2^32 / the golden ratio: multiples of it, modulo 2^32, spread evenly


class Quantized(NamedTuple):
    """Norm of an array, float32, and its coordinates as whole steps of norm / levels, packed."""

    norm: jax.Array
    steps: jax.Array


class Grid(NamedTuple):
    """Coordinates on a grid of each block.

    Attributes:
        codes: uint8, packed: number of the point of the grid.
        scales: bfloat16, one for each block: the grid reaches from -scale to scale.
        seed: uint32: decides how far each coordinate's grid is shifted.
    """

    codes: jax.Array
    scales: jax.Array
    seed: jax.Array


def int8(block: int = 64) -> Compressor:
    """Round each coordinate to one of 256 points between the extremes of its block.

        A = max |x| over the block,   s = 2 A / (2^b - 1),   b = 8
        code = ⌊(x + A) / s + u⌋,   D = (code + ½ - u) s - A

    with u uniform on [0, 1), different for each coordinate, which the receiver derives from a seed
    in the payload (subtractive dither). The error is uniform on ±s / 2 whatever x is, so
    `|x - D| ≤ s / 2` and `E D = x`. A travels as bfloat16, rounded up: 8 + 16 / block bits per
    coordinate, and 4 bytes per array. Blocks below 2^-100 are told as zeros.

    Args:
        block: coordinates that share a scale; in arrays from 16,384 coordinates on down to half as
            many, if that makes whole blocks.

    References:
        Schuchman 1964, "Dither signals and their effect on quantization noise"; Dettmers et al.
        2022, "8-bit Optimizers via Block-wise Quantization", section 2 (blocks).
    """
    return _on_grid(8, block)


def int4(block: int = 64) -> Compressor:
    """As `int8` with 16 points: 4 + 16 / block bits per coordinate."""
    return _on_grid(4, block)


def int2(block: int = 32) -> Compressor:
    """As `int8` with 4 points: 2 + 16 / block bits per coordinate.

    On normal numbers it keeps about three quarters of the energy; a larger block keeps less.
    """
    return _on_grid(2, block)


def _on_grid(bits: int, block: int) -> Compressor:
    require_at_least(1, block=block)
    top, rows = 2**bits - 1, 8 // bits
    shifts = (bits * np.arange(rows, dtype=np.int32))[:, None, None]

    def compress(array: jax.Array, seed: jax.Array) -> Grid:
        blocks = cut(array, rows, fitting(block, rows, array.size))
        scales = _rounded_up(jnp.abs(blocks).max(axis=2)).reshape(-1)
        codes = jnp.clip(floors(blocks, scales, seed), 0, top).astype(jnp.int32)
        packed = (codes << shifts).sum(axis=0).astype(jnp.uint8).reshape(-1)
        return Grid(packed[: -(-array.size // rows)], scales, seed)

    def floors(blocks: jax.Array, scales: jax.Array, seed: jax.Array) -> jax.Array:
        scale = scales.astype(jnp.float32).reshape(rows, -1, 1)
        steps = (blocks + scale) * (top / (2 * jnp.where(scale > 0, scale, 1)))
        return jnp.floor(steps + _dither(blocks.shape, seed))

    def values(codes: jax.Array, scales: jax.Array, seed: jax.Array) -> jax.Array:
        scale = scales.astype(jnp.float32).reshape(rows, -1, 1)
        return (codes + 0.5 - _dither(codes.shape, seed)) * (scale * (2 / top)) - scale

    def decompress(payload: Grid, like: jax.Array) -> jax.Array:
        count = payload.scales.size // rows
        size = fitting(block, rows, like.size)
        packed = jnp.pad(payload.codes, (0, count * size - payload.codes.size))
        codes = (packed.reshape(count, size).astype(jnp.int32) >> shifts) & top
        return joined(values(codes.astype(jnp.float32), payload.scales, payload.seed), like)

    def retold(payload: Grid, array: jax.Array) -> jax.Array:
        # On the author's grid, which goes on beyond its extremes: cut off there, what is larger
        # would never be pulled back. A grid of zeros alone is exact.
        blocks = cut(array, rows, fitting(block, rows, array.size))
        told = values(floors(blocks, payload.scales, payload.seed), payload.scales, payload.seed)
        is_exact = payload.scales.reshape(rows, -1, 1) == 0
        return joined(jnp.where(is_exact, blocks, told), array)

    return by_leaf(compress, decompress, retold)


def _dither(shape: tuple[int, ...], seed: jax.Array) -> jax.Array:
    """The shift u of each coordinate's grid, in steps, in [0, 1)."""
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    bits = place * jnp.uint32(_GOLDEN) + seed
    return (bits >> 8).astype(jnp.int32).astype(jnp.float32) * 2.0**-24


def _rounded_up(scales: jax.Array) -> jax.Array:
    """To bfloat16, never down; what is next to nothing becomes 0, and a NaN stays one."""
    bits = jax.lax.bitcast_convert_type(scales, jnp.uint32)
    up = jax.lax.bitcast_convert_type((bits + 0xFFFF) >> 16 << 16, jnp.float32)
    up = jnp.where(scales < _TINY, 0, jnp.where(jnp.isnan(scales), scales, up))
    return up.astype(jnp.bfloat16)


def qsgd(levels: int = 64) -> Compressor:
    """Round each coordinate at random to one of s levels of the norm, scaled to be a contraction.

        Q(x) = sign(x) ‖x‖ / (s τ) · ⌊s |x| / ‖x‖ + ξ⌋,   ξ uniform on [0, 1)
        τ = 1 + min(d / s², √d / s)

    `E Q(x) = x / τ` and `E ‖x - Q(x)‖² ≤ (1 - 1/τ) ‖x‖²`: what CHOCO asks of a compressor.
    Without the division by τ it would be unbiased, and no contraction. Each array of a tree by
    itself; `⌈log2(2 s + 1)⌉` bits per coordinate, and 4 bytes.

    Args:
        levels: s, from 1 to 32,767.

    References:
        Alistarh et al. 2017, "QSGD", section 3.1; Koloskova, Stich, Jaggi 2019, "Decentralized
        Stochastic Optimization and Gossip Algorithms with Compressed Communication", section 3.5.
    """
    require_at_least(1, levels=levels)
    require_below(1 << 15, levels=levels)
    bits = bits_for(2 * levels + 1)

    def compress(array: jax.Array, seed: jax.Array) -> Quantized:
        wide = array.astype(jnp.float32)
        norm = jnp.sqrt(jnp.square(wide).sum())
        ratio = jnp.abs(wide) / jnp.where(norm > 0, norm, 1)
        steps = jnp.floor(levels * ratio + uniform(seed, array.shape))
        steps = jnp.minimum(steps, levels) * jnp.sign(wide) + levels
        return Quantized(norm, pack_bits(steps.astype(jnp.int32).reshape(-1), bits))

    def decompress(payload: Quantized, like: jax.Array) -> jax.Array:
        tau = 1 + min(like.size / levels**2, like.size**0.5 / levels)
        steps = unpack_bits(payload.steps, bits, like.size).astype(jnp.int32) - levels
        told = steps * (payload.norm / (levels * tau))
        return told.reshape(like.shape).astype(like.dtype)

    return by_leaf(compress, decompress)
