"""Virtual time: what happens when."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from gossipjax.types import Nanoseconds


class Schedule:
    """A heap of calls to be made at points in virtual time.

    Calls at the same time are made in the order in which they were scheduled, so that a run is a
    function of its seed.

    Attributes:
        now_ns: the present, from 0.
        calls_made: events so far.
    """

    __slots__ = ("_heap", "_number", "calls_made", "now_ns")

    def __init__(self):
        self._heap: list[tuple[Nanoseconds, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self.now_ns: Nanoseconds = 0
        self.calls_made = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, time_ns: Nanoseconds, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(*arguments)` at a time; at once when that has passed."""
        self._number = number = self._number + 1
        if time_ns < self.now_ns:
            time_ns = self.now_ns
        heappush(self._heap, (time_ns, number, function, arguments))

    def after(self, wait_ns: Nanoseconds, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(*arguments)` after a wait."""
        self.at(self.now_ns + wait_ns, function, *arguments)

    def run_until(self, end_ns: Nanoseconds) -> None:
        """Make every call that is due up to and including `end_ns`."""
        heap = self._heap
        while heap and heap[0][0] <= end_ns:
            self.now_ns, _, function, arguments = heappop(heap)
            self.calls_made += 1
            function(*arguments)
        self.now_ns = end_ns
