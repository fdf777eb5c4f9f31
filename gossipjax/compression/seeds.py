"""Random numbers that follow from a seed of four bytes, the same for author and receiver."""

import math

import jax
import jax.numpy as jnp


def hashed(numbers: jax.Array, seed: jax.Array) -> jax.Array:
    """uint32 numbers, mixed with the seed by the finalizer of MurmurHash3: a bijection.

    `jax.random` would do, but a threefry in every `decompress` costs time to compile and to run.
    """
    bits = numbers.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + seed
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def uniform(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """float32 numbers of this shape in [0, 1), as good as independent."""
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return (hashed(place, seed) >> 8).astype(jnp.float32) * 2.0**-24
