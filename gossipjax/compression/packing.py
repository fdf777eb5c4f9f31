"""Numbers of a few bits, side by side in bytes."""

import jax
import jax.numpy as jnp
import numpy as np

_PLANES = (8, 4, 2, 1)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` numbers of `bits` bits: `⌈count · p / 8⌉` for each power of two p in `bits`.

    That is `count · bits / 8` where `count` is a multiple of 8, and at most 3 bytes more elsewhere
    (at most 4 for more than 8 bits).
    """
    return sum(-(-count * plane // 8) for plane in _planes(bits))


def pack_bits(numbers: jax.Array, bits: int) -> jax.Array:
    """Numbers below `2^bits` as bytes.

    They are cut into planes of 8, 4, 2 and 1 bits, lowest first, as many as their number of bits
    asks for. In a plane of p bits the first byte holds the numbers 0, m, 2 m, …, lowest bits first,
    with `m = ⌈count · p / 8⌉`; the second 1, m + 1, …: so it takes no shuffle to put them there.

    Args:
        numbers: integers `[count]`, 0 to `2^bits - 1`.
        bits: from 1 to 32.

    Returns:
        uint8 `[packed_bytes(count, bits)]`.
    """
    wide = numbers.astype(jnp.uint32)
    parts = [jnp.zeros(0, jnp.uint8)]
    for plane in _planes(bits):
        per_byte = 8 // plane
        padding = -wide.size % per_byte
        rows = jnp.pad(wide & (2**plane - 1), (0, padding)).reshape(per_byte, -1)
        parts.append((rows << _shifts(plane)).sum(axis=0).astype(jnp.uint8))
        wide >>= plane
    return jnp.concatenate(parts)


def unpack_bits(packed: jax.Array, bits: int, count: int) -> jax.Array:
    """The `count` numbers, uint32, that `pack_bits` put into these bytes."""
    numbers = jnp.zeros(count, jnp.uint32)
    start = shift = 0
    for plane in _planes(bits):
        end = start + packed_bytes(count, plane)
        byte = packed[start:end].astype(jnp.uint32)
        rows = (byte >> _shifts(plane)) & (2**plane - 1)
        numbers |= rows.reshape(-1)[:count] << shift
        start, shift = end, shift + plane
    return numbers


def bits_for(count: int) -> int:
    """Bits that tell `count` different numbers apart: at least 1."""
    return max(1, (count - 1).bit_length())


def _planes(bits: int) -> list[int]:
    whole, rest = divmod(bits, 8)
    return [8] * whole + [plane for plane in _PLANES[1:] if rest & plane]


def _shifts(plane: int) -> np.ndarray:
    return (plane * np.arange(8 // plane, dtype=np.uint32))[:, None]
