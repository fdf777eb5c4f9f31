"""How fast peers answer: how long to wait for one, and whom to rely on less. Nothing to tune."""

from collections import deque
from collections.abc import Iterable

from gossipjax.protocol.bounded import BoundedDict
from gossipjax.types import Nanoseconds, PeerId

DEADLINE_MIN_NS: Nanoseconds = 2_000_000_000
"""No answer counts as late before this: a busy process may stand still for a moment."""

DEADLINE_MAX_NS: Nanoseconds = 10_000_000_000
"""Every answer counts as late after this, however slow the peer was before."""

DEADLINE_FIRST_NS: Nanoseconds = 4_000_000_000
"""Used before anything was seen."""

_WAITS_PER_PEER = 16
_WAITS_OF_ALL = 64
_WAITS_NEEDED = 4
_DEVIATIONS = 6
_REST_NS: Nanoseconds = 15_000_000_000
_FAILURES_MAX = 5


class Pace:
    """What was seen of each peer's speed, in bounded memory.

    The deadline for an answer of a peer is `median + 6 · MAD` of the waits seen last, where MAD is
    the median absolute deviation from the median, at least a quarter of the median: for a normal
    distribution four standard deviations above the mean. Neither is moved by a few outliers, honest
    or not (Leys et al. 2013, "Detecting outliers", section 2). Fewer than four waits of a peer:
    those of all peers count.

    A peer that lets a transfer die is left alone for 15 s, twice as long with every further time up
    to 4 minutes, and half as long again with every transfer that it ends. Slowness is no fault and
    never leads to a ban.

    Args:
        peers_max: peers remembered; the one seen longest ago gives way.
    """

    def __init__(self, peers_max: int):
        self._waits = BoundedDict[PeerId, deque[Nanoseconds]](peers_max)
        self._waits_of_all: deque[Nanoseconds] = deque(maxlen=_WAITS_OF_ALL)
        self._deadlines = BoundedDict[PeerId, Nanoseconds](peers_max)
        self._failures = BoundedDict[PeerId, int](peers_max)
        self._rests_until_ns = BoundedDict[PeerId, Nanoseconds](peers_max)

    def answered(self, peer: PeerId, wait_ns: Nanoseconds) -> None:
        """An answer of this peer has come after a wait."""
        waits = self._waits.get(peer)
        if waits is None:
            waits = self._waits[peer] = deque(maxlen=_WAITS_PER_PEER)
        waits.append(wait_ns)
        self._waits_of_all.append(wait_ns)
        self._deadlines.pop(peer, None)

    def deadline_ns(self, peer: PeerId) -> Nanoseconds:
        """How long to wait for an answer of this peer."""
        deadline_ns = self._deadlines.get(peer)
        if deadline_ns is None:
            waits = self._waits.get(peer, ())
            if len(waits) < _WAITS_NEEDED:
                waits = self._waits_of_all
            deadline_ns = self._deadlines[peer] = deadline_of(waits)
        return deadline_ns

    def succeeded(self, peer: PeerId) -> None:
        """A transfer from this peer has ended well."""
        failures = self._failures.pop(peer, 0)
        if failures > 1:
            self._failures[peer] = failures - 1

    def failed(self, peer: PeerId, now_ns: Nanoseconds) -> None:
        """A transfer from this peer has died of its silence."""
        failures = min(self._failures.get(peer, 0) + 1, _FAILURES_MAX)
        self._failures[peer] = failures
        self._rests_until_ns[peer] = now_ns + (_REST_NS << failures - 1)

    def is_relied_on(self, peer: PeerId, now_ns: Nanoseconds) -> bool:
        """Whether to take what this peer offers."""
        return self._rests_until_ns.get(peer, now_ns) <= now_ns

    def failures(self, peer: PeerId) -> int:
        """Transfers that have died, less those that have ended well."""
        return self._failures.get(peer, 0)


def deadline_of(
    waits: Iterable[Nanoseconds],
    first_ns: Nanoseconds = DEADLINE_FIRST_NS,
    bounds_ns: tuple[Nanoseconds, Nanoseconds] = (DEADLINE_MIN_NS, DEADLINE_MAX_NS),
) -> Nanoseconds:
    """`median + 6 · MAD` within the bounds; `first_ns` for fewer than four waits."""
    ordered = sorted(waits)
    if len(ordered) < _WAITS_NEEDED:
        return first_ns
    middle = ordered[len(ordered) // 2]
    spread = sorted(abs(wait - middle) for wait in ordered)[len(ordered) // 2]
    late_ns = middle + _DEVIATIONS * max(spread, middle // 4)
    return min(max(late_ns, bounds_ns[0]), bounds_ns[1])
