"""Deterministic random choices from a seed."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


class SplitMix64:
    """SplitMix64 (Steele, Lea, Flood 2014): 64-bit state, passes BigCrush, nine lines.

    For choices that need to be even and reproducible, not secret: nobody gains by predicting which
    neighbor is offered an update. Committees are drawn by a verifiable random function instead.
    """

    def __init__(self, seed: int):
        self._state = seed & _MASK

    def next_u64(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """A number in `[0, bound)`, even to within `bound / 2⁶⁴`."""
        if bound < 1:
            raise ValueError(f"bound must be at least 1, got {bound}")
        return (self.next_u64() * bound) >> 64

    def jittered(self, span: int) -> int:
        """Between half and the whole of `span`, at random."""
        return span - self.below(span // 2 + 1)

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items (all, when there are fewer) in random order."""
        return list(islice(self.shuffled(items), count))

    def shuffled(self, items: Iterable[T]) -> Iterator[T]:
        """All items in random order; a number is drawn for each one that is taken."""
        pool = list(items)
        for i in range(len(pool)):
            j = i + self.below(len(pool) - i)
            yield pool[j]
            pool[j] = pool[i]
