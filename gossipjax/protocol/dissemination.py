"""Pulling the updates that neighbors offer, chunk by chunk with credit."""

from collections import deque
from typing import NamedTuple

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, Inspect, Refuse
from gossipjax.protocol.pace import deadline_of
from gossipjax.protocol.transfer import Pulling, Transfer
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import Chunk, Missing, PeerRecord, UpdateHeader

_SECOND = 1_000_000_000
_AUTHORS_REMEMBERED = 4096
_SPANS_REMEMBERED = 64
_SPAN_FIRST_NS = 60 * _SECOND
_SPAN_BOUNDS_NS = (10 * _SECOND, 600 * _SECOND)


class _Offered(NamedTuple):
    author: Verified[PeerRecord]
    header: Verified[UpdateHeader]


class DisseminationMachine:
    """Takes offers, and pulls what they offer from their authors.

    Accepts: offers, `Chunk`, `Missing`, results of inspections, deadlines.
    Emits: `Send`, `Inspect`, `Refuse`.
    Keeps true: bulk data is taken only when asked for; at most `downloads_max` transfers, and
    `2 · downloads_max` payloads with those being inspected; sequence numbers of what is delivered
    strictly increase per author; while others wait, no transfer keeps a place for longer than
    `median + 6 · MAD` of the last ones took, within 10 s and 10 min.
    """

    def __init__(self, config: ProtocolConfig, pulling: Pulling):
        self._config = config
        self._pulling = pulling
        self._pace, self._owed = pulling.pace, pulling.owed
        self._downloads: dict[PeerId, Transfer] = {}
        self._began_ns: dict[PeerId, Nanoseconds] = {}
        self._waiting: dict[PeerId, _Offered] = {}
        self._inspecting: dict[PeerId, Transfer] = {}
        self._last_sequence = BoundedDict[PeerId, int](_AUTHORS_REMEMBERED)
        self._spans_ns: deque[Nanoseconds] = deque(maxlen=_SPANS_REMEMBERED)

    @property
    def next_deadline_ns(self) -> Nanoseconds | None:
        """When to look at a transfer that may have stalled, or has taken too long."""
        due_ns: Nanoseconds | None = None
        for download in self._downloads.values():
            next_ns = download.next_due_ns
            if next_ns is not None and (due_ns is None or next_ns < due_ns):
                due_ns = next_ns
        if due_ns is not None and self._is_place_wanted():
            due_ns = min(due_ns, self._next_end_ns())
        return due_ns

    def excuse(self, pause_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Do not count a pause of this process as a stall of others."""
        for peer, download in self._downloads.items():
            download.excuse(pause_ns, now_ns)
            self._began_ns[peer] = min(self._began_ns[peer] + pause_ns, now_ns)

    def on_offer(
        self, author: Verified[PeerRecord], header: Verified[UpdateHeader], now_ns: Nanoseconds
    ) -> Effects:
        """Start, or line up, the transfer. Newest offer per author wins.

        Raises:
            RemoteProtocolError: `sequence` or `replay`.
        """
        peer = PeerId(header.body.author)
        sequence = header.body.sequence
        self._check_sequence(peer, sequence)
        if sequence <= self._pending_sequence(peer):
            return []
        if not self._pace.is_relied_on(peer, now_ns):
            return []
        self._waiting[peer] = _Offered(author, header)
        return self.start_waiting(now_ns)

    def on_chunk(
        self, peer: PeerId, chunk: Chunk, data: bytes | memoryview, now_ns: Nanoseconds
    ) -> Effects:
        """Check and keep a chunk; ask for the next; inspect when all are here.

        Raises:
            RemoteProtocolError: `unsolicited`, `size` or `root`; the last two end the transfer.
        """
        download = self._downloads.get(peer)
        if download is None or not download.wants(peer, chunk):
            self._owed.forgive(peer, chunk)
            return []
        try:
            effects = download.take(peer, chunk, data, now_ns)
        except RemoteProtocolError:
            self._drop(peer)
            raise
        if download.missing:
            return effects
        self._pace.succeeded(peer)
        self._spans_ns.append(now_ns - self._began_ns[peer])
        self._drop(peer)
        self._inspecting[peer] = download
        return [Inspect(download.header, download.chunks), *self.start_waiting(now_ns)]

    def on_missing(self, peer: PeerId, missing: Missing, now_ns: Nanoseconds) -> Effects:
        """The author has moved on; take its next offer."""
        download = self._downloads.get(peer)
        if download is not None and download.root == missing.root:
            self._drop(peer)
        return self.start_waiting(now_ns)

    def inspected(self, author: PeerId, root: bytes) -> Transfer | None:
        """An inspected update that is still wanted."""
        download = self._inspecting.get(author)
        if download is None or download.root != root:
            return None
        del self._inspecting[author]
        self.note_taken(download.header.body)
        return download

    def note_taken(self, header: UpdateHeader) -> None:
        """An update is no longer new."""
        self._last_sequence[PeerId(header.author)] = header.sequence

    def lost(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """Forget what was expected of a peer that is gone. What has come entirely still counts."""
        self._downloads.pop(peer, None)
        self._began_ns.pop(peer, None)
        self._waiting.pop(peer, None)
        return self.start_waiting(now_ns)

    def tick(self, now_ns: Nanoseconds) -> Effects:
        """Drop transfers that make no progress, or for which others have waited long enough."""
        effects: Effects = []
        for peer, download in list(self._downloads.items()):
            more, given_up = download.tick(now_ns)
            effects += more
            if given_up:
                effects += self._give_up(peer, now_ns)
        if self._is_place_wanted() and self._next_end_ns() <= now_ns:
            effects += self._give_up(next(iter(self._downloads)), now_ns)
        return effects + self.start_waiting(now_ns)

    def start_waiting(self, now_ns: Nanoseconds) -> Effects:
        """Begin the transfers that there is room for, in the order of the first offers."""
        effects: Effects = []
        for author in list(self._waiting):
            if max(len(self._downloads), len(self._inspecting)) >= self._config.downloads_max:
                break
            if author in self._downloads or author in self._inspecting:
                continue
            record, header = self._waiting.pop(author)
            download = Transfer(record, header, self._pulling)
            self._downloads[author] = download
            self._began_ns[author] = now_ns
            effects += download.add([author], now_ns)
        return effects

    def _is_place_wanted(self) -> bool:
        return (
            bool(self._waiting)
            and len(self._downloads) >= self._config.downloads_max
            and any(author not in self._downloads for author in self._waiting)
        )

    def _next_end_ns(self) -> Nanoseconds:
        """When the oldest transfer has to make place for one that waits."""
        span_max_ns = deadline_of(self._spans_ns, _SPAN_FIRST_NS, _SPAN_BOUNDS_NS)
        return next(iter(self._began_ns.values())) + span_max_ns

    def _give_up(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        self._pace.failed(peer, now_ns)
        self._drop(peer)
        self._waiting.pop(peer, None)
        return [Refuse(peer, "stalled")]

    def _drop(self, peer: PeerId) -> None:
        """End a transfer; what was asked for may still come."""
        self._downloads.pop(peer).drop(peer)
        del self._began_ns[peer]

    def _check_sequence(self, author: PeerId, sequence: int) -> None:
        last = self._last_sequence.get(author, -1)
        if sequence == last:
            raise RemoteProtocolError("replay", f"update {sequence} was taken before")
        if sequence < last:
            raise RemoteProtocolError("sequence", f"update {sequence} after update {last}")

    def _pending_sequence(self, author: PeerId) -> int:
        headers = [
            pending.header.body.sequence
            for pending in (
                self._waiting.get(author),
                self._inspecting.get(author),
                self._downloads.get(author),
            )
            if pending is not None
        ]
        return max(headers, default=-1)
