"""What the training thread and the network thread hand each other."""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gossipjax.types import PeerId
from gossipjax.verification.rounds import CommittedRound


class Outgoing(NamedTuple):
    """A payload to be sealed and offered: a function that gives its arrays, and its claims.

    `sequence` is a number reserved for it before; None: the next one. `round` is the round of
    training that it ends, when others may audit it.
    """

    arrays: Callable[[], list[np.ndarray]]
    version: int
    samples: int
    sequence: int | None = None
    round: CommittedRound | None = None


class Arrival(NamedTuple):
    """An update that has passed every check."""

    author: PeerId
    arrays: list[np.ndarray]
    version: int
    samples: int
    adopt: bool


class Mailbox:
    """Newest payload out, newest arrival per author in; neither side ever waits for the other.

    Args:
        inbox_max: arrivals kept; the oldest gives way, so that peers that come and go cannot fill
            the memory.
    """

    def __init__(self, inbox_max: int):
        self._inbox_max = inbox_max
        self._lock = threading.Lock()
        self._inbox: dict[PeerId, Arrival] = {}
        self._outbox: Outgoing | None = None
        self._is_sealing = False

    def put(self, outgoing: Outgoing) -> None:
        """Training: leave a payload; one that still waits is replaced."""
        with self._lock:
            self._outbox = outgoing

    @property
    def is_busy(self) -> bool:
        """Training: whether an earlier payload is not out yet, so that another would only wait."""
        with self._lock:
            return self._is_sealing or self._outbox is not None

    def take(self, count: int) -> list[Arrival]:
        """Training: the `count` oldest arrivals, by author; if one is to be adopted, it alone.

        By author, so that the same arrivals give the same sums to the last bit, in whatever order
        they came.
        """
        with self._lock:
            adopted = [a.author for a in self._inbox.values() if a.adopt]
            authors = sorted((adopted or list(self._inbox))[:count])
            return [self._inbox.pop(author) for author in authors]

    @property
    def waiting(self) -> int:
        """Training: arrivals to be taken."""
        with self._lock:
            return len(self._inbox)

    def next_outgoing(self) -> Outgoing | None:
        """Network: the payload to seal now, if any; `sealed` has to follow."""
        with self._lock:
            if self._is_sealing or self._outbox is None:
                return None
            outgoing, self._outbox = self._outbox, None
            self._is_sealing = True
            return outgoing

    def sealed(self) -> None:
        """Network: the payload that was taken last is done with."""
        with self._lock:
            self._is_sealing = False

    def deliver(self, arrival: Arrival) -> None:
        """Network: leave an arrival; one of the same author that still waits is replaced."""
        with self._lock:
            waiting = self._inbox.pop(arrival.author, None)
            if waiting is not None and waiting.adopt:
                arrival = arrival._replace(adopt=True)
            self._inbox[arrival.author] = arrival
            if len(self._inbox) > self._inbox_max:
                del self._inbox[next(a.author for a in self._inbox.values() if not a.adopt)]
