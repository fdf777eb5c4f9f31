"""One payload on its way, chunk by chunk, from one peer or from several at once."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.effects import Effects, Send
from gossipjax.protocol.pace import Pace
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire import limits
from gossipjax.wire.envelope import Verified, chunk_count, chunk_size
from gossipjax.wire.merkle import MerkleTree, proves
from gossipjax.wire.messages import Chunk, Get, PeerRecord, UpdateHeader

SILENT_DEADLINES_MAX = 4
"""Deadlines in a row without a chunk after which a source is given up."""

_OWED_REMEMBERED = 256


class Owed:
    """Chunks that were asked for and are not waited for any more, but may still come."""

    def __init__(self):
        self._counts = BoundedDict[tuple[PeerId, bytes], int](_OWED_REMEMBERED)

    def add(self, peer: PeerId, root: bytes, count: int) -> None:
        """So many more chunks of an update may come from a peer."""
        if count:
            self._counts[peer, root] = self._counts.get((peer, root), 0) + count

    def forgive(self, peer: PeerId, chunk: Chunk) -> None:
        """Take note of a chunk that nobody waits for.

        Raises:
            RemoteProtocolError: (`unsolicited`) it was never asked for.
        """
        count = self._counts.pop((peer, chunk.root), 0)
        if count == 0:
            raise RemoteProtocolError("unsolicited", f"chunk {chunk.index} was not asked for")
        if count > 1:
            self._counts[peer, chunk.root] = count - 1


class Pulling(NamedTuple):
    """What all transfers of one peer share.

    Attributes:
        pace: how fast others are.
        owed: what may come late.
        hash_leaf: how a received chunk is hashed.
    """

    pace: Pace
    owed: Owed
    hash_leaf: Callable[[bytes | memoryview], bytes]


class _Source:
    """What was asked of one peer and is not here."""

    __slots__ = ("asked_ns", "due_ns", "probe", "progress_ns", "silent_deadlines")

    def __init__(self, now_ns: Nanoseconds):
        self.asked_ns: dict[int, Nanoseconds] = {}  # by chunk, in the order of asking
        self.progress_ns = now_ns
        self.due_ns = now_ns
        self.silent_deadlines = 0
        self.probe: int | None = None


class Transfer:
    """Pulls one update with credit, from whoever has it.

    Every chunk is asked of one source at a time; a source that is dropped gives back what it still
    owed, and the others are asked for that. So nothing that has come is asked for again, however
    often sources change.

    A source from which nothing has come for its deadline (see `Pace`) is asked once more for the
    last chunk that it owes. When that comes before any other, what was asked before it has got
    lost, since chunks arrive in order, and is asked for again (the tail loss probe of RFC 8985,
    section 7).

    Keeps true: at most `CREDIT_CHUNKS` chunks are asked for and not here, per source; a chunk that
    is kept belongs to the root.
    """

    def __init__(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        pulling: Pulling,
    ):
        self.author = author
        self.header = header
        self.root = header.body.root
        self._pace, self._owed, self._hash_leaf = pulling
        self._count = self._missing = chunk_count(header.body.size)
        self._chunks: list[bytes | memoryview | None] = [None] * self._count
        self._leaves = [b""] * self._count
        self._next_index = 0
        self._returned: deque[int] = deque()
        self._sources: dict[PeerId, _Source] = {}

    @property
    def sources(self) -> list[PeerId]:
        """Who is asked."""
        return list(self._sources)

    @property
    def missing(self) -> int:
        """Chunks that are not here."""
        return self._missing

    @property
    def next_due_ns(self) -> Nanoseconds | None:
        """When to look at a source that may have fallen silent."""
        return min(
            (source.due_ns for source in self._sources.values() if source.asked_ns), default=None
        )

    @property
    def chunks(self) -> tuple[bytes | memoryview, ...]:
        """The payload; complete when nothing is missing."""
        return tuple(chunk for chunk in self._chunks if chunk is not None)

    def tree(self) -> MerkleTree:
        """Of the complete payload."""
        return MerkleTree(self._leaves)

    def add(self, peers: list[PeerId], now_ns: Nanoseconds) -> Effects:
        """Ask these peers, too."""
        for peer in peers:
            self._sources.setdefault(peer, _Source(now_ns))
        return self.refill(now_ns)

    def drop(self, peer: PeerId) -> None:
        """Expect nothing more of a source; what it owes goes back to be asked of others."""
        source = self._sources.pop(peer, None)
        if source is not None:
            self._owed.add(peer, self.root, len(source.asked_ns))
            self._returned.extend(source.asked_ns)

    def refill(self, now_ns: Nanoseconds) -> Effects:
        """Spend the credit that every source has left; they share evenly what is left to ask."""
        left = self._count - self._next_index + len(self._returned)
        if not left or not self._sources:
            return []
        share = min(limits.CREDIT_CHUNKS, -(-left // len(self._sources)))
        effects: Effects = []
        for peer, source in self._sources.items():
            effects += self._ask(peer, source, share - len(source.asked_ns), now_ns)
        return effects

    def wants(self, peer: PeerId, chunk: Chunk) -> bool:
        """Whether this chunk was asked of this peer and is not here."""
        source = self._sources.get(peer)
        return source is not None and chunk.root == self.root and chunk.index in source.asked_ns

    def take(
        self, peer: PeerId, chunk: Chunk, data: bytes | memoryview, now_ns: Nanoseconds
    ) -> Effects:
        """Check and keep a chunk that is wanted; ask for the next.

        Raises:
            RemoteProtocolError: `size` or `root`; the source is dropped.
        """
        source = self._sources[peer]
        try:
            self._leaves[chunk.index] = self._checked_leaf(chunk, data)
        except RemoteProtocolError:
            del source.asked_ns[chunk.index]
            self._returned.append(chunk.index)
            self.drop(peer)
            raise
        self._chunks[chunk.index] = data
        self._missing -= 1
        asked_ns = source.asked_ns.pop(chunk.index)
        effects: Effects = []
        if chunk.index == source.probe:
            effects += self._ask_again(peer, source, now_ns)
        else:
            self._pace.answered(peer, now_ns - max(asked_ns, source.progress_ns))
        source.probe = None
        source.progress_ns = now_ns
        source.silent_deadlines = 0
        if self._missing:
            self._set_due(peer, source)
            credit = limits.CREDIT_CHUNKS - len(source.asked_ns)
            effects += self._ask(peer, source, min(credit, 1), now_ns)
        return effects

    def tick(self, now_ns: Nanoseconds) -> tuple[Effects, list[PeerId]]:
        """Look at sources that have fallen silent: probe them; drop, and name, the lost ones."""
        effects: Effects = []
        given_up: list[PeerId] = []
        for peer, source in list(self._sources.items()):
            if not source.asked_ns or source.due_ns > now_ns:
                continue
            source.silent_deadlines += 1
            if source.silent_deadlines >= SILENT_DEADLINES_MAX:
                self.drop(peer)
                given_up.append(peer)
                continue
            source.probe = next(reversed(source.asked_ns))
            self._owed.add(peer, self.root, 1)
            effects.append(Send(peer, Get(self.root, source.probe, 1)))
            source.due_ns = now_ns + self._pace.deadline_ns(peer)
        return effects, given_up

    def excuse(self, pause_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Do not count a pause of this process as the silence of others."""
        for peer, source in self._sources.items():
            source.progress_ns = min(source.progress_ns + pause_ns, now_ns)
            self._set_due(peer, source)

    def _set_due(self, peer: PeerId, source: _Source) -> None:
        source.due_ns = source.progress_ns + self._pace.deadline_ns(peer)

    def _ask(self, peer: PeerId, source: _Source, count: int, now_ns: Nanoseconds) -> Effects:
        indices: list[int] = []
        while len(indices) < count and self._returned:
            indices.append(self._returned.popleft())
        fresh = min(count - len(indices), self._count - self._next_index)
        if fresh > 0:
            indices += range(self._next_index, self._next_index + fresh)
            self._next_index += fresh
        if not indices:
            return []
        if not source.asked_ns:  # it owed nothing, so its silence meant nothing
            source.progress_ns = now_ns
            self._set_due(peer, source)
        for index in indices:
            source.asked_ns[index] = now_ns
        return self._gets(peer, indices)

    def _ask_again(self, peer: PeerId, source: _Source, now_ns: Nanoseconds) -> Effects:
        """What was asked before the chunk that has just come is lost."""
        lost = list(source.asked_ns)
        self._owed.add(peer, self.root, len(lost))
        source.asked_ns = dict.fromkeys(lost, now_ns)
        return self._gets(peer, lost)

    def _gets(self, peer: PeerId, indices: list[int]) -> Effects:
        """Questions for these chunks, one per unbroken run."""
        effects: Effects = []
        first = 0
        for end in range(1, len(indices) + 1):
            if end == len(indices) or indices[end] != indices[end - 1] + 1:
                effects.append(Send(peer, Get(self.root, indices[first], end - first)))
                first = end
        return effects

    def _checked_leaf(self, chunk: Chunk, data: bytes | memoryview) -> bytes:
        index, expected = chunk.index, chunk_size(self.header.body.size, chunk.index)
        if len(data) != expected:
            raise RemoteProtocolError("size", f"chunk {index} has {expected} B, got {len(data)}")
        leaf = self._hash_leaf(data)
        if not proves(self.root, index, self._count, leaf, chunk.proof):
            raise RemoteProtocolError("root", f"chunk {index} is not the announced one")
        return leaf
