"""When to dial whom: one attempt at a time per peer, with growing waits between failures."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds
from gossipjax.wire.address import Address


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
    over; the wait doubles with every failure from `retry_min_ns` to `retry_max_ns`.
    """

    def __init__(self, config: ProtocolConfig, rng: SplitMix64):
        self._config = config
        self._rng = rng
        self._plans = BoundedDict[bytes, _Plan](2 * config.book_size)

    def dial(
        self, candidates: Mapping[bytes, Dialable], places: int, now_ns: Nanoseconds
    ) -> list[Connect]:
        """Dial random candidates that are due, so that at most `places` attempts are under way."""
        self._settle(candidates, now_ns)
        plans = [self._plans.get(key) for key in candidates]
        places -= sum(plan is not None and plan.pending for plan in plans)
        due = [
            key
            for key, plan in zip(candidates, plans, strict=True)
            if plan is None or (not plan.pending and plan.next_ns <= now_ns)
        ]
        chosen = self._rng.sample(due, max(places, 0))
        return [Connect(self._start(key, candidates[key], now_ns)) for key in chosen]

    def is_dialling(self, key: bytes, now_ns: Nanoseconds) -> bool:
        """Whether an attempt is under way."""
        plan = self._plans.get(key)
        return plan is not None and plan.pending and plan.next_ns > now_ns

    def connected(self, key: bytes) -> None:
        """An attempt has worked, or the peer has dialled."""
        self._plans.pop(key, None)

    def postpone(self, key: bytes, wait_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """A connection has ended: do not dial again before `wait_ns` have passed."""
        plan = self._plans[key] = _Plan(self._config.retry_min_ns)
        plan.next_ns = now_ns + wait_ns

    def next_ns(self, keys: Iterable[bytes], now_ns: Nanoseconds) -> Nanoseconds:
        """When to look again: one of these becomes due, or an attempt may have failed.

        In steps of `retry_min_ns` at least, so that a thousand dead addresses cost little.
        """
        plans = [self._plans[key] for key in keys if key in self._plans]
        waiting = [plan.next_ns for plan in plans if plan.next_ns > now_ns]
        earliest_ns = min(waiting, default=now_ns + self._config.retry_max_ns)
        return max(earliest_ns, now_ns + self._config.retry_min_ns)

    def _settle(self, keys: Iterable[bytes], now_ns: Nanoseconds) -> None:
        """Attempts without an answer in time have failed: wait, longer each time."""
        for key in keys:
            plan = self._plans.get(key)
            if plan is not None and plan.pending and plan.next_ns <= now_ns:
                plan.pending = False
                plan.next_ns = now_ns + self._rng.jittered(plan.wait_ns)
                plan.wait_ns = min(2 * plan.wait_ns, self._config.retry_max_ns)

    def _start(self, key: bytes, candidate: Dialable, now_ns: Nanoseconds) -> Address:
        plan = self._plans.get(key) or _Plan(self._config.retry_min_ns)
        self._plans[key] = plan
        plan.pending = True
        plan.next_ns = now_ns + self._config.connect_timeout_ns
        plan.attempts += 1
        endpoint = candidate.addresses[(plan.attempts - 1) % len(candidate.addresses)]
        return Address(endpoint, candidate.transport_key)
