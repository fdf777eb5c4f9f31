"""Who has what: offers, and pulling the offered updates chunk by chunk with credit."""

from collections.abc import Callable

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, Inspect, Refuse, Send
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire import limits
from gossipjax.wire.envelope import (
    SealedUpdate,
    Verified,
    chunk_count,
    chunk_size,
    open_header,
)
from gossipjax.wire.merkle import leaf_hash, proves
from gossipjax.wire.messages import Chunk, Get, Missing, Offer, PeerRecord, UpdateHeader

_AUTHORS_REMEMBERED = 4096
_DROPPED_REMEMBERED = 256


class _Download:
    """A transfer under way: which chunks are here, which are asked for."""

    __slots__ = ("chunks", "header", "missing", "next_index", "progress_ns")

    def __init__(self, header: Verified[UpdateHeader], now_ns: Nanoseconds):
        self.header = header
        self.missing = chunk_count(header.body.size)
        self.chunks: list[bytes | memoryview | None] = [None] * self.missing
        self.next_index = 0
        self.progress_ns = now_ns

    @property
    def outstanding(self) -> int:
        """Chunks asked for and not here: the credit spent."""
        return self.next_index - (len(self.chunks) - self.missing)

    def wants(self, chunk: Chunk) -> bool:
        """Whether this chunk was asked for and is not here."""
        return (
            chunk.root == self.header.body.root
            and chunk.index < self.next_index
            and self.chunks[chunk.index] is None
        )

    def ask(self, peer: PeerId, count: int) -> Effects:
        """Spend up to `count` chunks of credit."""
        count = min(count, len(self.chunks) - self.next_index)
        if count == 0:
            return []
        first, self.next_index = self.next_index, self.next_index + count
        return [Send(peer, Get(self.header.body.root, first, count))]


class DisseminationMachine:
    """Offers the own updates, serves them, and pulls those of others.

    Accepts: `Offer`, `Get`, `Chunk`, `Missing`, results of inspections, deadlines.
    Emits: `Send`, `Inspect`, `Refuse`.
    Keeps true: bulk data is taken only when asked for; at most `CREDIT_CHUNKS` are asked for and
    not here, per transfer; at most `downloads_max` transfers, and `2 · downloads_max` payloads with
    those being inspected; sequence numbers of what is delivered strictly increase per author.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        manifest_digest: bytes,
        payload_bytes: int,
        suite: CryptoSuite,
        hash_leaf: Callable[[bytes | memoryview], bytes] = leaf_hash,
    ):
        self._config = config
        self._hash_leaf = hash_leaf
        self._manifest_digest = manifest_digest
        self._payload_bytes = payload_bytes
        self._suite = suite
        self._own = BoundedDict[bytes, SealedUpdate](config.own_updates_max)
        self._newest: SealedUpdate | None = None
        self._downloads: dict[PeerId, _Download] = {}
        self._waiting: dict[PeerId, Verified[UpdateHeader]] = {}
        self._inspecting: dict[PeerId, Verified[UpdateHeader]] = {}
        self._last_sequence = BoundedDict[PeerId, int](_AUTHORS_REMEMBERED)
        self._owed = BoundedDict[tuple[PeerId, bytes], int](_DROPPED_REMEMBERED)

    @property
    def next_deadline_ns(self) -> Nanoseconds | None:
        """When the first transfer counts as stalled."""
        if not self._downloads:
            return None
        oldest = min(download.progress_ns for download in self._downloads.values())
        return oldest + self._config.stall_after_ns

    def is_pulling_from(self, peer: PeerId) -> bool:
        """Whether an update of this peer is on its way, in line or being inspected."""
        return peer in self._downloads or peer in self._waiting or peer in self._inspecting

    def excuse(self, pause_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Do not count a pause of this process as a stall of others."""
        for download in self._downloads.values():
            download.progress_ns = min(download.progress_ns + pause_ns, now_ns)

    def publish(self, update: SealedUpdate) -> None:
        """Keep a new update of one's own for those who ask."""
        self._own[update.header.body.root] = update
        self._newest = update

    def offer_newest(self, peers: list[PeerId]) -> Effects:
        """Tell these peers of the newest own update, if there is one."""
        if self._newest is None:
            return []
        offer = Offer(self._newest.header.sealed)
        return [Send(peer, offer) for peer in peers]

    def open_offer(self, sender: PeerRecord, offer: Offer) -> Verified[UpdateHeader]:
        """The offered header, verified.

        Raises:
            RemoteProtocolError: the header is refused.
        """
        return open_header(
            offer.header, sender, self._manifest_digest, self._payload_bytes, self._suite
        )

    def on_offer(
        self, header: Verified[UpdateHeader], now_ns: Nanoseconds, *, may_repeat: bool
    ) -> Effects:
        """Start, or line up, the transfer. Newest offer per author wins.

        Args:
            header: of the offered update.
            now_ns: the time.
            may_repeat: the author was asked for its newest update, which may have come before.

        Raises:
            RemoteProtocolError: `sequence` or `replay`.
        """
        author = PeerId(header.body.author)
        sequence = header.body.sequence
        if may_repeat and sequence == self._last_sequence.get(author):
            return []
        self._check_sequence(author, sequence)
        if sequence > self._pending_sequence(author):
            self._waiting[author] = header
        return self.start_waiting(now_ns)

    def on_get(self, peer: PeerId, get: Get) -> Effects:
        """Serve chunks of an own update.

        Raises:
            RemoteProtocolError: (`credit`) chunks that the update does not have.
        """
        update = self._own.get(get.root)
        if update is None:
            return [Send(peer, Missing(get.root))]
        count = chunk_count(update.header.body.size)
        if get.first + get.count > count:
            raise RemoteProtocolError("credit", f"the update has {count} chunks")
        self._own[get.root] = update  # set anew: in use
        return [
            Send(peer, Chunk(get.root, index, update.tree.proof(index)), update.chunk(index))
            for index in range(get.first, get.first + get.count)
        ]

    def on_chunk(
        self, peer: PeerId, chunk: Chunk, data: bytes | memoryview, now_ns: Nanoseconds
    ) -> Effects:
        """Check and keep a chunk; ask for the next; inspect when all are here.

        Raises:
            RemoteProtocolError: `unsolicited`, `size` or `root`; the last two end the transfer.
        """
        download = self._downloads.get(peer)
        if download is None or not download.wants(chunk):
            self._forgive_late_chunk(peer, chunk)
            return []
        try:
            _check_chunk(download.header.body, chunk, data, self._hash_leaf)
        except RemoteProtocolError:
            self._drop(peer)
            raise
        download.chunks[chunk.index] = data
        download.missing -= 1
        download.progress_ns = now_ns
        if download.missing:
            return download.ask(peer, 1)
        del self._downloads[peer]
        self._inspecting[peer] = download.header
        chunks = tuple(part for part in download.chunks if part is not None)
        return [Inspect(download.header, chunks), *self.start_waiting(now_ns)]

    def on_missing(self, peer: PeerId, missing: Missing, now_ns: Nanoseconds) -> Effects:
        """The author has moved on; take its next offer."""
        download = self._downloads.get(peer)
        if download is not None and download.header.body.root == missing.root:
            self._drop(peer)
        return self.start_waiting(now_ns)

    def inspected(self, author: PeerId, root: bytes) -> Verified[UpdateHeader] | None:
        """The header of an inspected update that is still wanted."""
        header = self._inspecting.get(author)
        if header is None or header.body.root != root:
            return None
        del self._inspecting[author]
        self._last_sequence[author] = header.body.sequence
        return header

    def lost(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """Forget what was expected of a peer that is gone. What has come entirely still counts."""
        self._downloads.pop(peer, None)
        self._waiting.pop(peer, None)
        return self.start_waiting(now_ns)

    def tick(self, now_ns: Nanoseconds) -> Effects:
        """Drop transfers that make no progress."""
        effects: Effects = []
        for peer, download in list(self._downloads.items()):
            if now_ns - download.progress_ns >= self._config.stall_after_ns:
                self._drop(peer)
                effects.append(Refuse(peer, "stalled"))
        return effects + self.start_waiting(now_ns)

    def start_waiting(self, now_ns: Nanoseconds) -> Effects:
        """Begin the transfers that there is room for, in the order of the first offers."""
        effects: Effects = []
        for author in list(self._waiting):
            if max(len(self._downloads), len(self._inspecting)) >= self._config.downloads_max:
                break
            if author in self._downloads or author in self._inspecting:
                continue
            download = _Download(self._waiting.pop(author), now_ns)
            self._downloads[author] = download
            effects += download.ask(author, limits.CREDIT_CHUNKS)
        return effects

    def _drop(self, peer: PeerId) -> None:
        """End a transfer; remember what was asked for, since it may still come."""
        download = self._downloads.pop(peer)
        key = (peer, download.header.body.root)
        self._owed[key] = self._owed.get(key, 0) + download.outstanding

    def _forgive_late_chunk(self, peer: PeerId, chunk: Chunk) -> None:
        owed = self._owed.pop((peer, chunk.root), 0)
        if owed == 0:
            raise RemoteProtocolError("unsolicited", f"chunk {chunk.index} was not asked for")
        if owed > 1:
            self._owed[peer, chunk.root] = owed - 1

    def _check_sequence(self, author: PeerId, sequence: int) -> None:
        last = self._last_sequence.get(author, -1)
        if sequence == last:
            raise RemoteProtocolError("replay", f"update {sequence} was taken before")
        if sequence < last:
            raise RemoteProtocolError("sequence", f"update {sequence} after update {last}")

    def _pending_sequence(self, author: PeerId) -> int:
        headers = [self._waiting.get(author), self._inspecting.get(author)]
        if author in self._downloads:
            headers.append(self._downloads[author].header)
        return max((header.body.sequence for header in headers if header is not None), default=-1)


def _check_chunk(
    header: UpdateHeader,
    chunk: Chunk,
    data: bytes | memoryview,
    hash_leaf: Callable[[bytes | memoryview], bytes],
) -> None:
    expected = chunk_size(header.size, chunk.index)
    if len(data) != expected:
        raise RemoteProtocolError("size", f"chunk {chunk.index} has {expected} B, got {len(data)}")
    count = chunk_count(header.size)
    if not proves(header.root, chunk.index, count, hash_leaf(data), chunk.proof):
        raise RemoteProtocolError("root", f"chunk {chunk.index} is not the announced one")
