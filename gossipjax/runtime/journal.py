"""Append-only journal of one life of a peer, from which its machine can be replayed offline.

A journal has what the machine was made of, and then every event with its time and digests of the
effects. It holds no keys and no payloads: of a chunk only its length and leaf hash are kept, which
is all that the machine looks at. It does hold the seed of the machine's random choices, so it is
readable by its owner only.

A file is a sequence of entries: length (uint32, little-endian), CRC-32 (the same), MessagePack.
Each is handed to the operating system as a whole: a killed process leaves at most one torn entry.
"""

import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
from msgspec import Raw, Struct

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effect, Effects, Inspect, Send
from gossipjax.protocol.events import Event, PeerConnected, Published, Received, RecordSigned
from gossipjax.protocol.ledger import LedgerMemory
from gossipjax.protocol.peer import PeerMachine
from gossipjax.protocol.rules import OFF, Rules
from gossipjax.types import Nanoseconds, PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode, decode_body, encode
from gossipjax.wire.envelope import SealedUpdate, Verified, open_header, open_record
from gossipjax.wire.merkle import MerkleTree, leaf_hash
from gossipjax.wire.messages import PeerRecord, Sealed

_logger = logging.getLogger("gossipjax")

_FRAME = struct.Struct("<II")
_DIGEST_BYTES = 6
_NOTHING = memoryview(bytes(limits.FRAME_BYTES_MAX))
_EVENTS = {kind.__name__: kind for kind in get_args(Event)}


class Beginning(Struct, frozen=True, kw_only=True):
    """What a `PeerMachine` is made of, except for the suite; see there."""

    run: bytes
    config: ProtocolConfig
    record: Sealed
    manifest_digest: bytes
    payload_bytes: int
    seed: int
    bootstrap: tuple[Address, ...]
    book: tuple[Sealed, ...]
    version: int
    epoch_s: int

    def machine(
        self,
        suite: CryptoSuite,
        hash_leaf: Callable[[bytes | memoryview], bytes] = leaf_hash,
        identity: Identity | None = None,
        rules: Rules = OFF,
        memory: LedgerMemory | None = None,
    ) -> PeerMachine:
        """The machine; records of the book that do not verify are left out."""
        book: list[Verified[PeerRecord]] = []
        for sealed in self.book:
            try:
                book.append(open_record(sealed, RunId(self.run), suite, self.epoch_s))
            except RemoteProtocolError as error:
                _logger.debug("address book: %s", error)
        return PeerMachine(
            self.config,
            open_record(self.record, RunId(self.run), suite, self.epoch_s),
            manifest_digest=self.manifest_digest,
            payload_bytes=self.payload_bytes,
            suite=suite,
            seed=self.seed,
            identity=identity,
            rules=rules,
            bootstrap=self.bootstrap,
            book=book,
            memory=memory,
            version=self.version,
            epoch_s=self.epoch_s,
            hash_leaf=hash_leaf,
        )


class _Entry(Struct, frozen=True, array_like=True):
    """One event: its time, its class, its fields, and what came of it."""

    now_ns: Nanoseconds
    kind: str
    fields: Raw
    effects: tuple[bytes, ...]
    raised: str


class _Heard(Struct, frozen=True, array_like=True):
    """`Received` without the bytes of a chunk."""

    sender: bytes
    message: bytes
    length: int
    leaf: bytes


class _Met(Struct, frozen=True, array_like=True):
    """`PeerConnected`, with the record as it was signed."""

    record: Sealed
    endpoint: str
    dialled: bool
    relay: bytes | None


class _Made(Struct, frozen=True, array_like=True):
    """`Published` without the payload."""

    header: Sealed
    leaves: tuple[bytes, ...]


class Journal:
    """Writes the journal of one life.

    Whatever goes wrong with the file ends the journal, never the peer.

    Args:
        path: a new file; an older one is replaced.
        bytes_max: nothing is written beyond this size.
        beginning: what the machine was made of.
    """

    def __init__(self, path: Path, bytes_max: int, beginning: Beginning):
        self._path = path
        self._bytes_left = bytes_max
        self._file: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise LocalProtocolError(f"journal_file {path}: {error.strerror}") from None
        self._append(msgspec.msgpack.encode(beginning))

    def note(self, event: Event, now_ns: Nanoseconds, outcome: "Effects | Exception") -> None:
        """Append an event and what came of it."""
        if self._file is None:
            return
        raised, effects = "", ()
        if isinstance(outcome, Exception):
            raised = repr(outcome)
        else:
            effects = tuple(_digest(effect) for effect in outcome)
        fields = Raw(msgspec.msgpack.encode(_without_bulk(event)))
        entry = _Entry(now_ns, type(event).__name__, fields, effects, raised)
        self._append(msgspec.msgpack.encode(entry))

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, body: bytes) -> None:
        assert self._file is not None
        raw = _FRAME.pack(len(body), zlib.crc32(body)) + body
        if len(raw) > self._bytes_left:
            _logger.warning("journal %s is full: it ends here", self._path)
            self.close()
            return
        try:
            written = os.write(self._file, raw)
        except OSError as error:
            _logger.warning("journal %s ends here: %s", self._path, error.strerror)
            self.close()
            return
        self._bytes_left -= written
        if written < len(raw):  # the disk is full: what follows a torn entry could not be read
            self.close()


class Replay(NamedTuple):
    """How a replay ended.

    Attributes:
        events: how many gave the same effects.
        divergence: what was different at the next one; empty when nothing was.
        torn_bytes: of an entry at the end of the file that was not written completely.
    """

    events: int
    divergence: str
    torn_bytes: int

    def __str__(self) -> str:
        told = self.divergence or f"{self.events} events, same effects"
        if self.torn_bytes:
            told += f"\nskipped {self.torn_bytes} B of a torn entry at the end"
        return told


def replay(path: Path, suite: CryptoSuite) -> Replay:
    """Feed a machine what a journal says, until its effects differ.

    Raises:
        LocalProtocolError: the file cannot be read or is no journal.
    """
    try:
        raw = memoryview(path.read_bytes())
    except OSError as error:
        raise LocalProtocolError(f"{path}: {error.strerror}") from None
    entries = _entries(raw)
    try:
        end, body = next(entries)
        beginning = msgspec.msgpack.decode(body, type=Beginning)
    except (StopIteration, msgspec.DecodeError) as error:
        raise LocalProtocolError(
            f"{path}: expected a journal of this version of gossipjax, got something else "
            f"({error or 'no complete entry'})"
        ) from None
    machine = _Machine(beginning, suite)
    count = 0
    for entry_end, body in entries:
        entry = msgspec.msgpack.decode(body, type=_Entry)
        divergence = machine.divergence(entry)
        if divergence:
            seconds = entry.now_ns / 1e9
            where = f"event {count + 1}, {entry.kind} at {seconds:.3f} s"
            return Replay(count, f"{where}: {divergence}", 0)
        count, end = count + 1, entry_end
    return Replay(count, "", len(raw) - end)


class _Machine:
    """A machine that is fed entries of a journal."""

    def __init__(self, beginning: Beginning, suite: CryptoSuite):
        self._beginning = beginning
        self._suite = suite
        self._record = decode_body(PeerRecord, beginning.record.body)
        self._leaf = b""
        # The journal has no chunks, only their leaf hashes; one chunk is hashed per event at most.
        self._machine = beginning.machine(suite, hash_leaf=lambda _: self._leaf)

    def divergence(self, entry: _Entry) -> str:
        """What is different from what the journal says; empty when nothing is."""
        event = self._event(entry)
        effects: Effects = []
        raised = ""
        try:
            effects = self._machine.handle(event, entry.now_ns)
        except Exception as error:
            raised = repr(error)
        if raised != entry.raised:
            return f"then {entry.raised or 'nothing'} was raised, now {raised or 'nothing'}"
        digests = tuple(map(_digest, effects))
        if digests == entry.effects:
            return ""
        if len(digests) != len(entry.effects):
            told = ", ".join(type(effect).__name__ for effect in effects) or "none"
            return f"then {len(entry.effects)} effects, now {len(effects)}: {told}"
        first = next(i for i, digest in enumerate(digests) if digest != entry.effects[i])
        return f"effect {first + 1} of {len(effects)} is another one, now {effects[first]}"

    def _event(self, entry: _Entry) -> Event:
        beginning, suite, fields = self._beginning, self._suite, entry.fields
        match entry.kind:
            case "Received":
                heard = msgspec.msgpack.decode(fields, type=_Heard)
                self._leaf = heard.leaf
                data = _NOTHING[: heard.length] if heard.leaf else None
                return Received(PeerId(heard.sender), decode(heard.message), data)
            case "PeerConnected":
                met = msgspec.msgpack.decode(fields, type=_Met)
                record = open_record(met.record, RunId(beginning.run), suite, now_s=0)
                relay = None if met.relay is None else PeerId(met.relay)
                return PeerConnected(record, met.endpoint, met.dialled, relay)
            case "RecordSigned":
                sealed = msgspec.msgpack.decode(fields, type=Sealed)
                return RecordSigned(open_record(sealed, RunId(beginning.run), suite, now_s=0))
            case "Published":
                made = msgspec.msgpack.decode(fields, type=_Made)
                size = beginning.payload_bytes
                digest = beginning.manifest_digest
                header = open_header(made.header, self._record, digest, size, suite)
                # Zeros that are never touched take no memory.
                return Published(
                    SealedUpdate(header, memoryview(bytes(size)), MerkleTree(made.leaves))
                )
            case _:
                return msgspec.msgpack.decode(fields, type=_EVENTS[entry.kind])


def _entries(raw: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Bodies of the whole entries, and where each ends; stops before the first damaged one."""
    position = 0
    while position + _FRAME.size <= len(raw):
        length, checksum = _FRAME.unpack_from(raw, position)
        body = raw[position + _FRAME.size : position + _FRAME.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        position += _FRAME.size + length
        yield position, body


def _without_bulk(event: Event) -> object:
    match event:
        case Received():
            data = event.data
            leaf = b"" if data is None else leaf_hash(data)
            return _Heard(event.sender, encode(event.message), len(data or b""), leaf)
        case PeerConnected():
            return _Met(event.record.sealed, event.endpoint, event.dialled, event.relay)
        case RecordSigned():
            return event.record.sealed
        case Published():
            return _Made(event.update.header.sealed, event.update.tree.leaves)
        case _:
            return event


def _digest(effect: Effect) -> bytes:
    told: object = effect
    if isinstance(effect, Send):
        told = (effect.peer, effect.message, len(effect.data or b""))
    elif isinstance(effect, Inspect):
        told = (effect.header.sealed, len(effect.chunks))
    name = type(effect).__name__.encode()
    return blake2b(name + msgspec.msgpack.encode(told), digest_size=_DIGEST_BYTES).digest()
