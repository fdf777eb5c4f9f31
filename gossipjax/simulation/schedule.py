"""Virtual time: what happens when."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from gossipjax.types import Nanoseconds

_SLICE_BITS = 22

_Call = tuple[Nanoseconds, int, Callable[..., None], tuple[Any, ...]]


class Schedule:
    """Calls to be made at points in virtual time.

    Calls at the same time are made in the order in which they were scheduled, so that a run is a
    function of its seed. Time is cut into slices of 4 ms: only the calls of the present slice are
    in a heap, which stays in the cache of the processor as one of all calls would not.

    Attributes:
        now_ns: the present, from 0.
        calls_made: events so far.
    """

    __slots__ = ("_later", "_number", "_present", "_slice", "_slices", "calls_made", "now_ns")

    def __init__(self):
        self._slice = 0
        self._present: list[_Call] = []  # a heap: of this slice and of earlier ones
        self._slices: list[int] = []  # a heap: of the keys of `_later`
        self._later: dict[int, list[_Call]] = {}
        self._number = 0
        self.now_ns: Nanoseconds = 0
        self.calls_made = 0

    def __len__(self) -> int:
        return len(self._present) + sum(map(len, self._later.values()))

    def at(self, time_ns: Nanoseconds, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(*arguments)` at a time; at once when that has passed."""
        self._number = number = self._number + 1
        if time_ns < self.now_ns:
            time_ns = self.now_ns
        call = (time_ns, number, function, arguments)
        time_slice = time_ns >> _SLICE_BITS
        if time_slice <= self._slice:
            heappush(self._present, call)
        elif (calls := self._later.get(time_slice)) is not None:
            calls.append(call)
        else:
            self._later[time_slice] = [call]
            heappush(self._slices, time_slice)

    def after(self, wait_ns: Nanoseconds, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(*arguments)` after a wait."""
        self.at(self.now_ns + wait_ns, function, *arguments)

    def run_until(self, end_ns: Nanoseconds) -> None:
        """Make every call that is due up to and including `end_ns`."""
        while True:
            calls = self._present
            while calls and calls[0][0] <= end_ns:
                self.now_ns, _, function, arguments = heappop(calls)
                self.calls_made += 1
                function(*arguments)
            if calls or not self._slices or self._slices[0] > end_ns >> _SLICE_BITS:
                break
            self._slice = heappop(self._slices)
            self._present = self._later.pop(self._slice)
            heapify(self._present)
        self.now_ns = end_ns
