"""The trace of a run, as one digest."""

import hashlib
import struct
from itertools import chain

from gossipjax.types import Nanoseconds

_ENTRIES_PER_BLOCK = 1 << 14


class Trace:
    """Digest of everything that happened, in order: `BLAKE2b-256` over 64-bit numbers.

    Two runs with equal digests have processed the same events at the same virtual times: each
    message enters with the checksum of its bytes.
    """

    def __init__(self):
        self._hash = hashlib.blake2b(digest_size=32)
        self._block: list[tuple[Nanoseconds, int, int]] = []

    def add(self, now_ns: Nanoseconds, participant: int, what: int) -> None:
        """Note that something happened to a participant; `what` is a kind or a checksum."""
        block = self._block
        block.append((now_ns, participant, what))
        if len(block) >= _ENTRIES_PER_BLOCK:
            self._flush()

    def digest(self) -> str:
        """64 hexadecimal digits for all that was added so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        numbers = [*chain.from_iterable(self._block)]
        self._hash.update(struct.pack(f"<{len(numbers)}q", *numbers))
        self._block.clear()
