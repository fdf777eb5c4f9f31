"""How often a neighbor may ask."""

from gossipjax.types import Nanoseconds


class Allowance:
    """A token bucket: `burst` questions at once, one per `interval_ns` on average.

    Kept as the one time at which the bucket will be full again (the generic cell rate algorithm of
    ITU-T I.371).
    """

    __slots__ = ("_full_ns",)

    def __init__(self):
        self._full_ns: Nanoseconds = 0

    def takes(self, burst: int, interval_ns: Nanoseconds, now_ns: Nanoseconds) -> bool:
        """Take a token, if one is there."""
        full_ns = max(self._full_ns, now_ns) + interval_ns
        if full_ns - now_ns > burst * interval_ns:
            return False
        self._full_ns = full_ns
        return True
