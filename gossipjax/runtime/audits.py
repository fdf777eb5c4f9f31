"""The states of committed rounds on their way from authors to auditors.

An author keeps the states of its last rounds and serves them by their Merkle roots, as it serves
payloads. An auditor asks for the openings of one segment, takes the state that it starts from,
redoes it, and takes the claimed end only if its own differs. The protocol's machine knows nothing
of it: what belongs to an audit is taken out before it.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.effects import Send
from gossipjax.protocol.events import Received
from gossipjax.types import PeerId
from gossipjax.verification.auditor import Auditor, Buffers
from gossipjax.verification.states import PackedState
from gossipjax.wire import limits
from gossipjax.wire.commitment import Opening, RoundCommitment, StateDigest, check_opening
from gossipjax.wire.envelope import chunk_count, chunk_size
from gossipjax.wire.merkle import MerkleTree, leaf_hash, proves
from gossipjax.wire.messages import Chunk, Get, GetRound, Missing, Round, RoundClaim, UpdateHeader

_ANSWER_TIMEOUT_S = 20.0

InWorker = Callable[..., Awaitable[Any]]


class KeptRound(NamedTuple):
    """One committed round of one's own."""

    commitment: RoundCommitment
    states: list[PackedState]

    @property
    def nbytes(self) -> int:
        """Memory that its states take."""
        return sum(len(state.params) + len(state.rest) for state in self.states)


class _Buffer(NamedTuple):
    """One half of a kept state, and in how many kept states it is."""

    data: memoryview
    tree: MerkleTree
    uses: int


class Archive:
    """The states of the own last rounds; the oldest give way.

    Args:
        bytes_max: memory for them; the newest round is kept in any case.
    """

    def __init__(self, bytes_max: int):
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._rounds: OrderedDict[int, KeptRound] = OrderedDict()
        self._buffers: dict[bytes, _Buffer] = {}
        self._nbytes = 0

    def keep(self, sequence: int, states: list[PackedState]) -> None:
        """Keep a round for those who audit update `sequence`."""
        kept = KeptRound(RoundCommitment([state.digest for state in states]), states)
        with self._lock:
            self._rounds[sequence] = kept
            self._nbytes += kept.nbytes
            self._count(states, 1)
            while self._nbytes > self._bytes_max and len(self._rounds) > 1:
                _, oldest = self._rounds.popitem(last=False)
                self._nbytes -= oldest.nbytes
                self._count(oldest.states, -1)

    def openings(self, sequence: int, segment: int) -> tuple[Opening, ...]:
        """Start and end of a segment, and the end of the round; nothing when it is not kept."""
        with self._lock:
            kept = self._rounds.get(sequence)
        if kept is None or segment + 1 >= len(kept.states):
            return ()
        return tuple(kept.commitment.open(i) for i in (segment, segment + 1, len(kept.states) - 1))

    def chunks(self, get: Get) -> list[tuple[Chunk, memoryview]]:
        """The chunks of a kept buffer that are asked for; none when it is not kept."""
        with self._lock:
            found = self._buffers.get(get.root)
        if found is None:
            return []
        size = limits.CHUNK_BYTES
        return [
            (
                Chunk(get.root, index, found.tree.proof(index)),
                found.data[index * size : (index + 1) * size],
            )
            for index in range(get.first, min(get.first + get.count, chunk_count(len(found.data))))
        ]

    def _count(self, states: list[PackedState], change: int) -> None:
        for state in states:
            for data, tree in ((state.params, state.params_tree), (state.rest, state.rest_tree)):
                known = self._buffers.get(tree.root, _Buffer(data, tree, 0))
                self._buffers[tree.root] = known._replace(uses=known.uses + change)
                if known.uses + change == 0:
                    del self._buffers[tree.root]


class _Fetch:
    """A buffer on its way, chunk by chunk."""

    def __init__(self, root: bytes, size: int):
        self.root = root
        self.size = size
        self.count = chunk_count(size)
        self.chunks: dict[int, bytes] = {}
        self.asked = 0
        self.arrived = asyncio.Event()
        self.refused = False

    def take(self, chunk: Chunk, data: bytes | memoryview) -> None:
        """Keep a chunk if it is one of this buffer."""
        if chunk.index < self.count and len(data) == chunk_size(self.size, chunk.index):
            leaf = leaf_hash(data)
            if proves(self.root, chunk.index, self.count, leaf, chunk.proof):
                self.chunks[chunk.index] = bytes(data)
                self.arrived.set()

    def next_get(self) -> Get | None:
        """What to ask for next, with as many chunks in flight as there is credit."""
        in_flight = self.asked - len(self.chunks)
        count = min(limits.CREDIT_CHUNKS - in_flight, self.count - self.asked)
        if count < 1:
            return None
        first, self.asked = self.asked, self.asked + count
        return Get(self.root, first, count)


class AuditDesk:
    """Both sides of audits of one peer; used from the network thread.

    Args:
        archive: the own rounds.
        auditor: of the run; None where nobody can audit.
        send: hands a message to the connections.
        in_worker: `(function, *arguments) → awaitable` of its result, off the event loop.
    """

    def __init__(
        self,
        archive: Archive,
        auditor: Auditor | None,
        send: Callable[[Send], None],
        in_worker: InWorker,
    ):
        self._archive = archive
        self._auditor = auditor
        self._send = send
        self._in_worker = in_worker
        # Two audits of one update would take each other's answers; and training comes first.
        self._one_at_a_time = asyncio.Lock()
        self._fetches: dict[tuple[PeerId, bytes], _Fetch] = {}
        self._rounds: dict[tuple[PeerId, int], asyncio.Future[tuple[Opening, ...]]] = {}

    def takes(self, event: Received) -> bool:
        """Handle a message that belongs to an audit; false for all others."""
        sender, message = event.sender, event.message
        match message:
            case GetRound():
                openings = self._archive.openings(message.sequence, message.segment)
                self._send(Send(sender, Round(message.sequence, openings)))
            case Round():
                waiting = self._rounds.get((sender, message.sequence))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message.openings)
            case Get():
                chunks = self._archive.chunks(message)
                for chunk, data in chunks:
                    self._send(Send(sender, chunk, data))
                return bool(chunks)
            case Chunk() if event.data is not None:
                fetch = self._fetches.get((sender, message.root))
                if fetch is None:
                    return False
                fetch.take(message, event.data)
            case Missing():
                fetch = self._fetches.get((sender, message.root))
                if fetch is None:
                    return False
                fetch.refused = True
                fetch.arrived.set()
            case _:
                return False
        return True

    async def audit(self, author: PeerId, header: UpdateHeader, segment: int) -> bool | None:
        """Redo one segment of an update's round.

        Args:
            author: a connected peer: the update's.
            header: of the update, verified.
            segment: which one; taken modulo the number of segments.

        Returns:
            True when it is sound, False when it is not: whoever gets the same answers from the
            author finds the same. None when the author does not show what it has committed to, or
            has not committed to anything, as when it only exchanges at the end of its training.
        """
        if self._auditor is None or header.claim is None:
            return None
        try:
            claim = self._auditor.check_claim(header)
        except RemoteProtocolError:
            return False
        async with self._one_at_a_time:
            try:
                return await self._compare(author, header, claim, segment % claim.segments)
            except (TimeoutError, RemoteProtocolError):
                return None

    async def _compare(
        self, author: PeerId, header: UpdateHeader, claim: RoundClaim, segment: int
    ) -> bool:
        assert self._auditor is not None
        start, end, last = await self._openings(author, header.sequence, claim, segment)
        if last.params != header.root:  # committed to one thing, and shared another
            return False
        begin = await self._state(author, start)
        try:
            digest, explains = await self._in_worker(self._auditor.redo, header, segment, begin)
            if digest == end:
                return True
            claimed = await self._state(author, end)
            return bool(await self._in_worker(explains, claimed))
        except RemoteProtocolError:  # a committed state that is none of this run's
            return False

    async def _openings(
        self, author: PeerId, sequence: int, claim: RoundClaim, segment: int
    ) -> list[StateDigest]:
        key = (author, sequence)
        self._rounds[key] = asyncio.get_running_loop().create_future()
        try:
            self._send(Send(author, GetRound(sequence, segment)))
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                openings = await self._rounds[key]
        finally:
            del self._rounds[key]
        if [opening.index for opening in openings] != [segment, segment + 1, claim.segments]:
            raise RemoteProtocolError("root", "these are not the boundaries that were asked for")
        return [check_opening(claim.states, claim.segments, opening) for opening in openings]

    async def _state(self, author: PeerId, digest: StateDigest) -> Buffers:
        assert self._auditor is not None
        form = self._auditor.form
        params = await self._fetch(author, digest.params, form.params.nbytes)
        return params, await self._fetch(author, digest.rest, form.rest.nbytes)

    async def _fetch(self, author: PeerId, root: bytes, size: int) -> bytes:
        """A buffer, by its root; each chunk is checked when it comes."""
        fetch = _Fetch(root, size)
        self._fetches[author, root] = fetch
        try:
            while len(fetch.chunks) < fetch.count:
                while (get := fetch.next_get()) is not None:
                    self._send(Send(author, get))
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    await fetch.arrived.wait()
                fetch.arrived.clear()
                if fetch.refused:
                    raise RemoteProtocolError(
                        "root", "the author does not have this state any more"
                    )
        finally:
            del self._fetches[author, root]
        return b"".join(fetch.chunks[index] for index in range(fetch.count))
