"""Counters that the network thread and the training thread share, and the JSON-lines file."""

import json
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from gossipjax.types import PeerId

_STALENESS_SAMPLES = 4096


class Conviction(NamedTuple):
    """Why a peer is banned.

    Attributes:
        reason: see `gossipjax.protocol.effects.Ban`.
        evidence: digest of what proves it.
        sequence: number of the update that it is about.
    """

    reason: str
    evidence: bytes
    sequence: int


class Snapshot(NamedTuple):
    """The counters at one moment.

    Attributes:
        bytes_out, bytes_in: message bytes handed to and taken from ZeroMQ.
        updates_mixed: neighbors' updates folded into the own parameters.
        updates_refused: refused messages and updates by reason (`gossipjax.wire.limits.REASONS`).
        strangers_refused: connection attempts turned away before anything was delivered.
        staleness: of the last mixed updates, in local steps.
        banned: peers that are proven, or voted, to have cheated.
    """

    bytes_out: int
    bytes_in: int
    updates_mixed: int
    updates_refused: dict[str, int]
    strangers_refused: int
    staleness: list[float]
    banned: dict[PeerId, Conviction]

    @property
    def staleness_p50(self) -> float:
        """Median staleness of the last mixed updates; 0 when there are none."""
        return sorted(self.staleness)[len(self.staleness) // 2] if self.staleness else 0.0

    @property
    def staleness_max(self) -> float:
        """Largest staleness of the last mixed updates; 0 when there are none."""
        return max(self.staleness, default=0.0)


class Metrics:
    """Thread-safe counters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes_out = 0
        self._bytes_in = 0
        self._mixed = 0
        self._strangers = 0
        self._refused: Counter[str] = Counter()
        self._banned: dict[PeerId, Conviction] = {}
        self._staleness: deque[float] = deque(maxlen=_STALENESS_SAMPLES)

    def sent(self, count: int) -> None:
        """Count bytes handed to ZeroMQ."""
        with self._lock:
            self._bytes_out += count

    def received(self, count: int) -> None:
        """Count bytes taken from ZeroMQ."""
        with self._lock:
            self._bytes_in += count

    def refused(self, reason: str) -> None:
        """Count one refusal."""
        with self._lock:
            self._refused[reason] += 1

    def stranger_refused(self) -> None:
        """Count a connection that was turned away."""
        with self._lock:
            self._strangers += 1

    def banned(self, peer: PeerId, conviction: Conviction) -> None:
        """Note a ban."""
        with self._lock:
            self._banned[peer] = conviction

    def pardoned(self, peer: PeerId) -> None:
        """Note that a ban was wrong."""
        with self._lock:
            self._banned.pop(peer, None)

    def mixed(self, staleness: list[float]) -> None:
        """Count updates folded in, with the staleness of each."""
        with self._lock:
            self._mixed += len(staleness)
            self._staleness.extend(staleness)

    def snapshot(self) -> Snapshot:
        """A consistent copy."""
        with self._lock:
            return Snapshot(
                self._bytes_out,
                self._bytes_in,
                self._mixed,
                dict(sorted(self._refused.items())),
                self._strangers,
                list(self._staleness),
                dict(self._banned),
            )


class JsonLines:
    """Appends one JSON object per line, each handed to the operating system when written."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
