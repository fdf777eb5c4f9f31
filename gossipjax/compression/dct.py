"""Tell the strongest frequencies of each chunk."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gossipjax.compression.base import Compressor, by_leaf
from gossipjax.compression.packing import bits_for, pack_bits, unpack_bits
from gossipjax.mixing.checks import require_at_least, require_share


class Frequencies(NamedTuple):
    """Amplitudes of the frequencies told, bfloat16, and which these are, uint8, packed."""

    amplitudes: jax.Array
    frequencies: jax.Array


def dct(share: float = 1 / 16, chunk: int = 64) -> Compressor:
    """Keep the coefficients of greatest modulus of the discrete cosine transform of each chunk.

        X = C x,   C_fn = √(2 / d) cos(π (2 n + 1) f / (2 d)),   row 0 divided by √2

    C is orthogonal, so the k = ⌈share · d⌉ greatest coefficients keep at least the share k / d of
    the energy, as `top_k` does; where neighboring weights move together they keep much more. The
    flattened array is cut into chunks of d (the last one padded with zeros). 16 + ⌈log2 d⌉ bits per
    coefficient.

    Args:
        share: of the coefficients of each chunk, in (0, 1].
        chunk: d.

    References:
        Peng, Quesnelle, Kingma 2024, "Decoupled Momentum Optimization" (DeMo, arXiv:2411.19870),
        section 3.2, for one dimension at a time.
    """
    require_share(share=share)
    require_at_least(1, chunk=chunk)
    kept, bits = math.ceil(share * chunk), bits_for(chunk)
    basis = _cosines(chunk)

    def spectrum(array: jax.Array) -> jax.Array:
        flat = jnp.pad(array.astype(jnp.float32).reshape(-1), (0, -array.size % chunk))
        return jnp.matmul(flat.reshape(-1, chunk), basis.T, precision="highest")

    def strongest(array: jax.Array, seed: jax.Array) -> Frequencies:
        found = spectrum(array)
        _, places = jax.lax.top_k(jnp.abs(found), kept)
        return Frequencies(_at(found, places), pack_bits(places.reshape(-1), bits))

    def places_of(payload: Frequencies) -> jax.Array:
        places = unpack_bits(payload.frequencies, bits, payload.amplitudes.size)
        return places.reshape(-1, kept).astype(jnp.int32)

    def decompress(payload: Frequencies, like: jax.Array) -> jax.Array:
        places = places_of(payload)
        amplitudes = payload.amplitudes.astype(jnp.float32).reshape(-1, kept)
        rows = jnp.arange(len(places))[:, None]
        found = jnp.zeros((len(places), chunk)).at[rows, places].add(amplitudes, mode="drop")
        flat = jnp.matmul(found, basis, precision="highest").reshape(-1)[: like.size]
        return flat.reshape(like.shape).astype(like.dtype)

    def retell(payload: Frequencies, array: jax.Array) -> Frequencies:
        return payload._replace(amplitudes=_at(spectrum(array), places_of(payload)))

    return by_leaf(strongest, decompress, retell=retell)


def _at(spectrum: jax.Array, places: jax.Array) -> jax.Array:
    found = jnp.take_along_axis(spectrum, places, axis=1, mode="fill", fill_value=0)
    return found.reshape(-1).astype(jnp.bfloat16)


def _cosines(size: int) -> np.ndarray:
    """C, float32 `[frequency, place]`."""
    frequency, place = np.arange(size)[:, None], np.arange(size)
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * size))
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)
