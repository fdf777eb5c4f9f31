"""Random choices of the simulator: one seed, many independent streams."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from gossipjax.protocol.rng import SplitMix64

T = TypeVar("T")

MILLION = 1_000_000

_BLOCK = 1 << 12


def derive_seed(seed: int, *labels: str | int) -> int:
    """A 64-bit seed for one purpose: `BLAKE2b-64(seed, labels)`.

    Streams for different purposes are independent, so that one more random choice of the network
    does not change what the peers choose.
    """
    text = repr((seed, *labels)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Draws(SplitMix64):
    """A stream of random choices for one purpose."""

    def __init__(self, seed: int, *labels: str | int):
        super().__init__(derive_seed(seed, *labels))

    def between(self, low: int, high: int) -> int:
        """An integer in `[low, high]`."""
        return low + self.below(high - low + 1)

    def log_between(self, low: int, high: int) -> int:
        """An integer in `[low, high]`; every power of two in between is equally likely."""
        top = low << self.below(max(1, (high // low).bit_length()))
        return min(high, self.between(top, max(top, 2 * top - 1)))

    def chance(self, per_million: int) -> bool:
        """True with a probability of `per_million / 10⁶`."""
        return self.below(MILLION) < per_million

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def exponential(self, mean: int) -> int:
        """A waiting time with this mean, in whole units; at most 16 times the mean.

        Drawn as a geometric number of sixteenths: integers only, so that it is the same on every
        machine, which logarithms do not promise.
        """
        steps = 0
        while steps < 256 and self.below(17):
            steps += 1
        return mean * steps // 16


class BlockDraws(Draws):
    """The same numbers as `Draws`, computed a block at a time: for streams that are used a lot."""

    def __init__(self, seed: int, *labels: str | int):
        super().__init__(seed, *labels)
        self._block: list[int] = []

    def next_u64(self) -> int:
        """The next 64 bits."""
        if not self._block:
            self._block = self._next_block()
        return self._block.pop()

    def _next_block(self) -> list[int]:
        """SplitMix64 has a counter as its state, so that numpy can compute many steps at once."""
        steps = np.arange(_BLOCK, 0, -1, dtype=np.uint64)
        z = np.uint64(self._state) + steps * np.uint64(0x9E3779B97F4A7C15)
        self._state = int(z[0])
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).tolist()
