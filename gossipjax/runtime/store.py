"""What a peer keeps on disk besides its model: keys, sequence numbers, address book, ledger."""

import contextlib
import fcntl
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gossipjax.crypto.identity import Identity, generate_root, identity_from_root
from gossipjax.errors import LocalProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.types import PeerId, RunId
from gossipjax.wire.messages import Sealed

KEY_FILE = "peer.key"
DATABASE_FILE = "peer.sqlite"
_SEQUENCES_PER_COMMIT = 64
_BOOK_WRITE_INTERVAL_S = 5.0

# WAL with FULL: a commit is on disk before it returns, whatever happens next.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, reserved INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS book (
    peer BLOB PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (run BLOB PRIMARY KEY, content BLOB NOT NULL);
"""


def create_key_file(path: Path) -> Identity:
    """Write a new root seed, readable by the owner only; never overwrites.

    Raises:
        LocalProtocolError: the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Complete under another name first: a crash leaves no half-written key file behind.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(generate_root().hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise LocalProtocolError(f"key file {path} exists; it is never overwritten") from None
    finally:
        draft.unlink()
    _sync_folder(path.parent)
    return read_key_file(path)


def read_key_file(path: Path) -> Identity:
    """Read a root seed and derive the keys.

    Raises:
        LocalProtocolError: absent, readable by others than the owner, or no key file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise LocalProtocolError(f"key file {path}: {error.strerror}") from None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise LocalProtocolError(
                f"key file {path} is open to other users; run: chmod 600 {path}"
            )
        text = file.read(256).strip()
    try:
        return identity_from_root(bytes.fromhex(text))
    except ValueError:
        raise LocalProtocolError(
            f"key file {path}: expected 64 hexadecimal digits, got {len(text)} characters"
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """The state folder of one identity, or nothing but memory when there is no folder.

    Used from one thread, but for `next_sequence`, which any may call.

    Args:
        folder: made when absent; None: memory.
        book_size: peer records kept; the ones written longest ago give way.

    Raises:
        LocalProtocolError: another process uses the folder, or its database is damaged.
    """

    def __init__(self, folder: Path | None, book_size: int):
        self._book_size = book_size
        self._unwritten = BoundedDict[PeerId, Sealed](book_size)
        self._forgotten = BoundedDict[PeerId, None](book_size)
        self._next_write_s = 0.0
        self._lock: int | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_folder(folder)
        path = folder / DATABASE_FILE if folder else ":memory:"
        self._counting = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._database.executescript(_SCHEMA)
            self._sequence = self._reserved_end = self._reserve(0)
        except sqlite3.DatabaseError as error:
            self.close()
            raise LocalProtocolError(
                f"{path}: {error}; restore it from a backup, or move the whole state folder away "
                "to begin again as a new peer (an old key without its counters would be refused)"
            ) from None

    def next_sequence(self) -> int:
        """A number never given out before, in this life or an earlier one.

        Blocks are reserved on disk before use, so that a peer that crashes cannot sign two updates
        with one number, which would look like equivocation.
        """
        with self._counting:
            if self._sequence == self._reserved_end:
                self._reserved_end = self._reserve(_SEQUENCES_PER_COMMIT)
            self._sequence += 1
            return self._sequence

    def remember(self, peer: PeerId, record: Sealed) -> None:
        """Keep a verified peer record in the address book.

        Written at most every few seconds, so that a flood of records is no flood of disk writes;
        a crash loses what is younger, which others will tell again.
        """
        self._forgotten.pop(peer, None)
        self._unwritten[peer] = record
        if time.monotonic() >= self._next_write_s:
            self._write_book()
            self._next_write_s = time.monotonic() + _BOOK_WRITE_INTERVAL_S

    def forget(self, peer: PeerId) -> None:
        """Take a peer out of the address book; written together with what is remembered."""
        self._unwritten.pop(peer, None)
        self._forgotten[peer] = None

    def book(self) -> Iterator[Sealed]:
        """The remembered records, as they were signed; to be verified again."""
        for body, signature in self._database.execute("SELECT body, signature FROM book"):
            yield Sealed(body, signature)

    def keep_ledger(self, run: RunId, content: bytes) -> None:
        """What this peer knows of the others of a run, in place of what was kept before."""
        self._database.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?)", (run, content))

    def ledger(self, run: RunId) -> bytes | None:
        """What was kept last of a run."""
        query = "SELECT content FROM ledger WHERE run = ?"
        row = self._database.execute(query, (run,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Write what is left and release the folder."""
        with contextlib.suppress(sqlite3.Error):
            self._write_book()
        self._database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write_book(self) -> None:
        rows = [(peer, record.body, record.signature) for peer, record in self._unwritten.items()]
        gone = [(peer,) for peer in self._forgotten]
        self._unwritten.clear()
        self._forgotten.clear()
        self._database.execute("BEGIN")
        with self._database:  # commits, or rolls back
            self._database.executemany("DELETE FROM book WHERE peer = ?", gone)
            self._database.executemany("INSERT OR REPLACE INTO book VALUES (?, ?, ?)", rows)
            # A replaced row gets a new row id, so the highest ones are the newest records.
            self._database.execute(
                "DELETE FROM book WHERE rowid NOT IN "
                "(SELECT rowid FROM book ORDER BY rowid DESC LIMIT ?)",
                (self._book_size,),
            )

    def _reserve(self, count: int) -> int:
        row = self._database.execute(
            "INSERT INTO counter VALUES ('sequence', ?) "
            "ON CONFLICT (name) DO UPDATE SET reserved = reserved + excluded.reserved "
            "RETURNING reserved",
            (count,),
        ).fetchone()
        return int(row[0])


def _lock_folder(folder: Path) -> int:
    """Hold an exclusive lock until closed; the kernel releases it when the process dies."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    os.close(descriptor)
    raise LocalProtocolError(
        f"state folder {folder} is in use by another peer; give each peer a folder of its own"
    )


def open_identity(folder: Path | None) -> Identity:
    """The identity of a state folder, made on first use; a passing one without a folder."""
    if folder is None:
        return identity_from_root(generate_root())
    path = folder / KEY_FILE
    return read_key_file(path) if path.exists() else create_key_file(path)
