"""Tell a few coordinates of each array, and where they are."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.compression.base import Compressor, by_leaf
from gossipjax.compression.packing import bits_for, pack_bits, unpack_bits
from gossipjax.compression.seeds import hashed
from gossipjax.mixing.checks import require_at_least, require_share


class Sparse(NamedTuple):
    """The coordinates told of each chunk of a flattened array.

    Attributes:
        values: in the array's dtype, `[chunks · k]`.
        places: uint8, packed: of each value within its chunk.
    """

    values: jax.Array
    places: jax.Array


class Scattered(NamedTuple):
    """Values at places that follow from a seed, uint32."""

    values: jax.Array
    seed: jax.Array


class Binned(NamedTuple):
    """As `Sparse`, with values in four bins.

    Attributes:
        bins: uint8, packed: of each value, two bits.
        levels: float32 `[4]`: the mean of the values in each bin.
        places: uint8, packed: of each value within its chunk.
    """

    bins: jax.Array
    levels: jax.Array
    places: jax.Array


class _Chunks(NamedTuple):
    """How an array is cut: into so many chunks of `length`, of each of which `kept` are told."""

    chunks: int
    length: int
    kept: int

    @property
    def told(self) -> int:
        return self.chunks * self.kept

    def cut(self, array: jax.Array) -> jax.Array:
        flat = array.reshape(-1)
        if flat.size < self.chunks * self.length:
            flat = jnp.pad(flat, (0, self.chunks * self.length - flat.size))
        return flat.reshape(self.chunks, self.length)

    def largest(self, array: jax.Array) -> jax.Array:
        """Places in their chunks of the coordinates of greatest modulus: `[chunks · kept]`."""
        return jax.lax.top_k(jnp.abs(self.cut(array)), self.kept)[1].reshape(-1)

    def pack(self, places: jax.Array) -> jax.Array:
        return pack_bits(places, bits_for(self.length))

    def indices(self, packed: jax.Array) -> jax.Array:
        """Of packed places: indices into the flattened array; what is outside points nowhere."""
        places = unpack_bits(packed, bits_for(self.length), self.told).astype(jnp.int32)
        first = jnp.repeat(jnp.arange(self.chunks, dtype=jnp.int32) * self.length, self.kept)
        return jnp.where(places < self.length, first + places, self.chunks * self.length)


def _chunks(array: jax.Array, share: float, chunk: int | None) -> _Chunks:
    count = 1 if chunk is None else -(-array.size // chunk)
    length = -(-array.size // count)
    return _Chunks(count, length, math.ceil(share * length))


def top_k(share: float = 0.01, chunk: int | None = 4096) -> Compressor:
    """Keep the coordinates of greatest modulus, of the whole array or of each chunk of it.

        Q(x)_i = x_i if |x_i| is among the k greatest of its chunk, else 0;   k = ⌈share · chunk⌉

    `‖x - Q(x)‖² ≤ (1 - k/d) ‖x‖²`, d the length of a chunk. Each array of a tree by itself; of
    equals the first. A value travels in the array's dtype, with ⌈log2 d⌉ bits for its place.

    Args:
        share: of the coordinates of each chunk, in (0, 1].
        chunk: greatest length of a chunk: arrays are cut into equal ones. None: no chunks. In
            chunks it is several times faster on CPUs, and places take 12 bits.

    References:
        Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", definition 2.2; chunks as in
        Sarfi et al. 2025, "SparseLoCo", section 3.
    """
    _check(share, chunk)

    def compress(array: jax.Array, seed: jax.Array) -> Sparse:
        cut = _chunks(array, share, chunk)
        places = cut.largest(array)
        values = jnp.take_along_axis(cut.cut(array), places.reshape(cut.chunks, -1), axis=1)
        return Sparse(values.reshape(-1), cut.pack(places))

    def decompress(payload: Sparse, like: jax.Array) -> jax.Array:
        indices = _chunks(like, share, chunk).indices(payload.places)
        return _scatter(payload.values, indices, like)

    def retell(payload: Sparse, array: jax.Array) -> Sparse:
        indices = _chunks(array, share, chunk).indices(payload.places)
        return payload._replace(values=_gather(array, indices))

    return by_leaf(compress, decompress, retell=retell)


def top_k_2bit(share: float = 1 / 64, chunk: int = 4096) -> Compressor:
    """Keep the coordinates of greatest modulus of each chunk, with two bits for the value of each.

    The k values kept of an array fall into four bins: negative or positive, modulus above or below
    the mean modulus of the kept; a value is told as the mean of its bin. So its error is at most
    that of leaving it out, and the whole is a contraction as `top_k` is. ⌈log2 d⌉ + 2 bits per
    value (14 with chunks of 4,096), and 16 bytes per array. For differences only.

    The paper cuts the range of ± 3 standard deviations into four equal bins, most of which stay
    empty, since the values kept are those that are far from 0.

    Args:
        share: of the coordinates of each chunk, in (0, 1].
        chunk: greatest length of a chunk.

    References:
        Sarfi et al. 2025, "SparseLoCo" (arXiv:2508.15706), section 3.
    """
    _check(share, chunk)

    def compress(array: jax.Array, seed: jax.Array) -> Binned:
        cut = _chunks(array, share, chunk)
        places = cut.largest(array)
        chosen = jnp.take_along_axis(cut.cut(array), places.reshape(cut.chunks, -1), axis=1)
        values = chosen.reshape(-1).astype(jnp.float32)
        large = jnp.abs(values) > jnp.abs(values).mean()
        bins = 2 * (values > 0).astype(jnp.int32) + large
        is_in = bins == jnp.arange(4)[:, None]
        totals = jnp.where(is_in, values, 0).sum(axis=1)
        levels = totals / jnp.maximum(is_in.sum(axis=1), 1)
        return Binned(pack_bits(bins, 2), levels, cut.pack(places))

    def decompress(payload: Binned, like: jax.Array) -> jax.Array:
        cut = _chunks(like, share, chunk)
        values = payload.levels[unpack_bits(payload.bins, 2, cut.told)]
        return _scatter(values, cut.indices(payload.places), like)

    return by_leaf(compress, decompress)


def random_k(share: float = 0.01) -> Compressor:
    """Keep random coordinates, each equally likely, and do not scale them.

        Q(x)_i = x_i if i is in a random set of k coordinates, else 0;   k = ⌈share · size⌉

    `E ‖x - Q(x)‖² = (1 - k/d) ‖x‖²`. Each array of a tree by itself. The array, as a ring turned by
    a random offset, is cut into k parts of equal length (to one), and one coordinate of each is
    drawn; a seed of 4 bytes tells all places.

    Args:
        share: of the coordinates of each array, in (0, 1].

    References:
        Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", definition 2.2.
    """
    require_share(share=share)

    def at(array: jax.Array, seed: jax.Array) -> Scattered:
        return Scattered(_gather(array, _drawn(seed, array.size, share)), seed)

    return by_leaf(
        lambda array, seed: at(array, seed),
        lambda payload, like: _scatter(
            payload.values, _drawn(payload.seed, like.size, share), like
        ),
        retell=lambda payload, array: at(array, payload.seed),
    )


def _drawn(seed: jax.Array, size: int, share: float) -> jax.Array:
    """`⌈share · size⌉` different indices below `size`."""
    count = math.ceil(share * size)
    # The first `rest` parts are longer by one than the others.
    each, rest = divmod(size, count)
    part = jnp.arange(count, dtype=jnp.uint32)
    longer = jnp.minimum(part, rest)
    first = part * each + longer
    length = each + (part < rest).astype(jnp.uint32)
    draws = hashed(jnp.arange(count + 1), seed)
    place = first + draws[1:] % length
    offset = draws[0] % jnp.uint32(size)
    turned = jnp.where(place >= size - offset, place - (size - offset), place + offset)
    return turned.astype(jnp.int32)


def _check(share: float, chunk: int | None) -> None:
    require_share(share=share)
    if chunk is not None:
        require_at_least(1, chunk=chunk)


def _gather(array: jax.Array, indices: jax.Array) -> jax.Array:
    # An index outside of the array, which an honest payload has for padding, reads zeros.
    return jnp.asarray(array).reshape(-1).at[indices].get(mode="fill", fill_value=0)


def _scatter(values: jax.Array, indices: jax.Array, like: jax.Array) -> jax.Array:
    # What a wrong index points at outside of the array is dropped.
    flat = jnp.zeros(like.size, like.dtype)
    flat = flat.at[indices].add(values.astype(like.dtype), mode="drop")
    return flat.reshape(like.shape)
