"""What outlives a crash, and what a crash does to it."""

from gossipjax.crypto.identity import Identity
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.wire.messages import Sealed

_SEQUENCES_PER_SYNC = 16
_RECORDS_PER_SYNC = 8


class Disk:
    """Keys, sequence numbers and the address book of one peer; the rules are `runtime.store`'s.

    Sequence numbers are reserved in blocks, and a reservation is synced before any of its numbers
    is used. Records are synced now and then: a power failure loses those written since.

    Attributes:
        identity: keys.
        sequence: given out last in this life.
        book: records by signing key.
    """

    def __init__(self, identity: Identity, book_size: int):
        self.identity = identity
        self.sequence = 0
        self.book: dict[bytes, Sealed] = BoundedDict(book_size)
        self._reserved = 0
        self._unsynced: dict[bytes, Sealed | None] = {}  # what was there at the last sync

    def begin_life(self) -> None:
        """A process opens it: what an earlier one had reserved is never given out again."""
        self.sequence = self._reserved
        self._unsynced.clear()

    def next_sequence(self) -> int:
        """A number never given out before, in this life or an earlier one."""
        if self.sequence == self._reserved:
            self._reserved += _SEQUENCES_PER_SYNC
        self.sequence += 1
        return self.sequence

    def remember(self, record: Sealed, sign_key: bytes) -> None:
        """Write a record."""
        self._unsynced.setdefault(sign_key, self.book.get(sign_key))
        self.book[sign_key] = record
        if len(self._unsynced) >= _RECORDS_PER_SYNC:
            self._unsynced.clear()

    def forget(self, sign_key: bytes) -> None:
        """Remove a record."""
        if sign_key in self.book:
            self._unsynced.setdefault(sign_key, self.book.pop(sign_key))

    def lose_writes(self) -> None:
        """The power fails: records since the last sync are as before, the last one is torn."""
        torn = next(reversed(self._unsynced), None)
        for key, before in self._unsynced.items():
            written = self.book.pop(key, None)
            if key == torn and written is not None:
                half = written.body[: len(written.body) // 2]
                self.book[key] = Sealed(half, written.signature)
            elif before is not None:
                self.book[key] = before
        self._unsynced.clear()
