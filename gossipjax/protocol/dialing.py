"""When to dial whom: one attempt at a time per peer, with growing waits between failures."""

from collections.abc import Container, Iterable
from typing import NamedTuple, Protocol

from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds
from gossipjax.wire.address import Address

_STRANGER_WAITS = 64


class Dialable(Protocol):
    """Where a peer may be reached: a `PeerRecord`, or a `Place`."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Endpoints."""
        ...

    @property
    def transport_key(self) -> bytes:
        """The key that must answer there."""
        ...


class Place(NamedTuple):
    """Where a peer may be reached of which no record is known."""

    addresses: tuple[str, ...]
    transport_key: bytes


class _Plan:
    """What is next for one peer: the end of an attempt, or the beginning of another."""

    __slots__ = ("attempts", "next_ns", "pending", "wait_ns")

    def __init__(self, wait_ns: Nanoseconds):
        self.next_ns: Nanoseconds = 0
        self.pending = False
        self.wait_ns = wait_ns
        self.attempts = 0


class Dialer:
    """Plans attempts by `key`: a peer id, or the transport key where no more is known of a peer.

    Keeps true: one attempt at a time per key, at its addresses in turn; none before its wait is
    over; the wait doubles with every failure from `retry_min_ns` to `retry_max_ns`. For strangers,
    of whom others have only told, it goes on growing to 64 times that: they may not exist.

    Args:
        config: waits.
        rng: of the random part of each wait.
        known: keys that are no strangers from the start.

    Attributes:
        is_alone: whether there is no neighbor; then nobody is a stranger.
    """

    def __init__(self, config: ProtocolConfig, rng: SplitMix64, known: Iterable[bytes] = ()):
        self._config = config
        self._rng = rng
        self._plans = BoundedDict[bytes, _Plan](2 * config.book_size)
        self._answered = BoundedDict[bytes, None](2 * config.book_size)
        self.is_alone = True
        for key in known:
            self._answered[key] = None

    def due_ns(self, key: bytes, now_ns: Nanoseconds) -> Nanoseconds:
        """From when on a peer may be dialled; when an attempt is under way: until when it may work.

        An attempt without an answer in time has failed.
        """
        plan = self._plans.get(key)
        if plan is None:
            return now_ns
        if plan.pending and plan.next_ns <= now_ns:
            self._fail(key, plan, now_ns)
        return plan.next_ns

    @property
    def plans(self) -> Container[bytes]:
        """Keys of all others than those that may be dialled at any time, at the first address."""
        return self._plans

    def is_dialling(self, key: bytes, now_ns: Nanoseconds) -> bool:
        """Whether an attempt is under way."""
        plan = self._plans.get(key)
        return plan is not None and plan.pending and plan.next_ns > now_ns

    def endpoint(self, key: bytes, candidate: Dialable) -> str:
        """Where the next attempt goes."""
        plan = self._plans.get(key)
        attempts = plan.attempts if plan else 0
        return candidate.addresses[attempts % len(candidate.addresses)]

    def dial(self, key: bytes, candidate: Dialable, now_ns: Nanoseconds) -> Connect:
        """Begin an attempt at a peer that is due."""
        endpoint = self.endpoint(key, candidate)
        plan = self._plans.get(key) or _Plan(self._config.retry_min_ns)
        self._plans[key] = plan
        plan.pending = True
        plan.next_ns = now_ns + self._config.connect_timeout_ns
        plan.attempts += 1
        return Connect(Address(endpoint, candidate.transport_key))

    def connected(self, key: bytes) -> None:
        """An attempt has worked, or the peer has dialled."""
        self._plans.pop(key, None)
        self._answered[key] = None

    def postpone(self, key: bytes, wait_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """A connection has ended: do not dial again before `wait_ns` have passed."""
        plan = self._plans[key] = _Plan(self._config.retry_min_ns)
        plan.next_ns = now_ns + wait_ns

    def _fail(self, key: bytes, plan: _Plan, now_ns: Nanoseconds) -> None:
        is_known = self.is_alone or key in self._answered
        wait_max_ns = self._config.retry_max_ns * (1 if is_known else _STRANGER_WAITS)
        wait_ns = min(plan.wait_ns, wait_max_ns)
        plan.pending = False
        plan.next_ns = now_ns + self._rng.jittered(wait_ns)
        plan.wait_ns = min(2 * wait_ns, wait_max_ns)
