"""What a peer keeps on disk besides its model: the key file, sequence numbers, the address book."""

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from gossipjax.crypto.identity import Identity, generate_root, identity_from_root
from gossipjax.errors import LocalProtocolError
from gossipjax.types import PeerId
from gossipjax.wire.messages import Sealed

KEY_FILE = "peer.key"
_SEQUENCES_PER_COMMIT = 64


def create_key_file(path: Path) -> Identity:
    """Write a new root seed, readable by the owner only; never overwrites.

    Raises:
        LocalProtocolError: the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise LocalProtocolError(f"key file {path} exists; it is never overwritten") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(generate_root().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
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

    Used from one thread.

    Raises:
        LocalProtocolError: another process uses the folder.
    """

    def __init__(self, folder: Path | None):
        self._lock: int | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_folder(folder)
        self._database = sqlite3.connect(
            folder / "peer.sqlite" if folder else ":memory:", isolation_level=None
        )
        # WAL with FULL: a commit is on disk before it returns, whatever happens next.
        self._database.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, reserved INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS book (
                peer BLOB PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL);
            """
        )
        self._sequence = self._reserved_end = self._reserve(0)

    def next_sequence(self) -> int:
        """A number never given out before, in this life or an earlier one.

        Blocks are reserved on disk before use, so that a peer that crashes cannot sign two updates
        with one number, which would look like equivocation.
        """
        if self._sequence == self._reserved_end:
            self._reserved_end = self._reserve(_SEQUENCES_PER_COMMIT)
        self._sequence += 1
        return self._sequence

    def remember(self, peer: PeerId, record: Sealed) -> None:
        """Keep a verified peer record in the address book."""
        self._database.execute(
            "INSERT OR REPLACE INTO book VALUES (?, ?, ?)", (peer, record.body, record.signature)
        )

    def book(self) -> Iterator[Sealed]:
        """The remembered records, as they were signed; to be verified again."""
        for body, signature in self._database.execute("SELECT body, signature FROM book"):
            yield Sealed(body, signature)

    def close(self) -> None:
        """Release the folder."""
        self._database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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
