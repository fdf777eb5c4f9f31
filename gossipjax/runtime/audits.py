"""The states of committed rounds on their way from authors to auditors.

An author keeps the states of its last rounds and serves them by their Merkle roots, as it serves
payloads. An auditor asks for the openings of one segment, takes the state that it starts from,
redoes it, and takes the claimed end only if its own differs. Who has found a fault keeps what shows
it and serves it too, so that others find it when the author is gone or silent. The protocol's
machine knows nothing of it: what belongs to an audit is taken out before it.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.credentials import segment_of
from gossipjax.protocol.effects import Send
from gossipjax.protocol.events import Received
from gossipjax.types import PeerId
from gossipjax.verification.auditor import Auditor, Buffers
from gossipjax.verification.states import PackedState
from gossipjax.wire import limits
from gossipjax.wire.commitment import Opening, RoundCommitment, StateDigest, check_opening
from gossipjax.wire.envelope import chunk_count, chunk_size
from gossipjax.wire.merkle import MerkleTree, chunk_tree, leaf_hash, proves
from gossipjax.wire.messages import Chunk, Get, GetRound, Missing, Round, RoundClaim, UpdateHeader

_ANSWER_TIMEOUT_S = 5.0
_CHUNK_TIMEOUT_S = 20.0
_AUDITS_AT_ONCE = 4
_AUTHORS_MAX = 256

InWorker = Callable[..., Awaitable[Any]]
Openings = tuple[Opening, ...]
Segment = tuple[PeerId, int, int]
"""Author, number of the update, and segment of its round."""

K = TypeVar("K")
V = TypeVar("V")


class _Buffer(NamedTuple):
    """One half of a kept state, and in how many kept states it is."""

    data: memoryview
    tree: MerkleTree
    uses: int


class _Shelf(Generic[K, V]):
    """Entries with the buffers that belong to them, the oldest of which give way.

    Args:
        bytes_max: memory for the buffers; the newest entry is kept in any case.
    """

    def __init__(self, bytes_max: int):
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, tuple[V, list[PackedState]]] = OrderedDict()
        self._buffers: dict[bytes, _Buffer] = {}
        self._nbytes = 0

    def put(self, key: K, value: V, states: list[PackedState]) -> None:
        """Keep an entry, unless it is there already."""
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = value, states
            self._count(states, 1)
            while self._nbytes > self._bytes_max and len(self._entries) > 1:
                self._count(self._entries.popitem(last=False)[1][1], -1)

    def find(self, key: K) -> V | None:
        """What is kept under a key."""
        with self._lock:
            found = self._entries.get(key)
        return None if found is None else found[0]

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
            self._nbytes += change * (len(state.params) + len(state.rest))
            for data, tree in ((state.params, state.params_tree), (state.rest, state.rest_tree)):
                known = self._buffers.get(tree.root, _Buffer(data, tree, 0))
                self._buffers[tree.root] = known._replace(uses=known.uses + change)
                if known.uses + change == 0:
                    del self._buffers[tree.root]


class Archive(_Shelf[int, RoundCommitment]):
    """The states of the own last rounds; the oldest give way.

    Args:
        bytes_max: memory for them; the newest round is kept in any case.
    """

    def keep(self, sequence: int, states: list[PackedState]) -> None:
        """Keep a round for those who audit update `sequence`."""
        self.put(sequence, RoundCommitment([state.digest for state in states]), states)

    def openings(self, sequence: int, segment: int) -> Openings:
        """Start and end of a segment, and the end of the round; nothing when it is not kept."""
        kept = self.find(sequence)
        if kept is None or segment + 1 >= len(kept.states):
            return ()
        return tuple(kept.open(index) for index in (segment, segment + 1, len(kept.states) - 1))


class Faults(_Shelf[Segment, Openings]):
    """What shows the faults that this peer has found; the oldest give way."""

    def keep(self, segment: Segment, openings: Openings, states: Sequence[Buffers]) -> None:
        """Keep the openings of a false segment, and its states as far as they are needed."""
        packed = [
            PackedState(memoryview(params), memoryview(rest), chunk_tree(params), chunk_tree(rest))
            for params, rest in states
        ]
        self.put(segment, openings, packed)


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
        own: this peer.
        archive: its rounds.
        faults: what it has found in those of others.
        auditor: of the run; None where nobody can audit.
        send: hands a message to the connections.
        in_worker: `(function, *arguments) → awaitable` of its result, off the event loop.
    """

    def __init__(
        self,
        own: PeerId,
        archive: Archive,
        faults: Faults,
        auditor: Auditor | None,
        send: Callable[[Send], None],
        in_worker: InWorker,
    ):
        self._own = own
        self._archive = archive
        self._faults = faults
        self._auditor = auditor
        self._send = send
        self._in_worker = in_worker
        self._at_once = asyncio.Semaphore(_AUDITS_AT_ONCE)
        # Two audits of one author would take each other's answers.
        self._turns = BoundedDict[PeerId, asyncio.Lock](_AUTHORS_MAX)
        self._fetches: dict[tuple[PeerId, bytes], _Fetch] = {}
        self._rounds: dict[tuple[PeerId, PeerId, int], asyncio.Future[Openings]] = {}

    def takes(self, event: Received) -> bool:
        """Handle a message that belongs to an audit; false for all others."""
        sender, message = event.sender, event.message
        match message:
            case GetRound():
                self._send(Send(sender, self._answer(message)))
            case Round():
                key = (sender, PeerId(message.author), message.sequence)
                waiting = self._rounds.get(key)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message.openings)
            case Get():
                chunks = self._archive.chunks(message) or self._faults.chunks(message)
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

    def _answer(self, asked: GetRound) -> Round:
        author = PeerId(asked.author)
        found = self._faults.find((author, asked.sequence, asked.segment))
        if found is None and author == self._own:
            found = self._archive.openings(asked.sequence, asked.segment)
        return Round(asked.author, asked.sequence, found or ())

    async def audit(
        self, header: UpdateHeader, draw: bytes, neighbors: Sequence[PeerId]
    ) -> bool | None:
        """Redo one segment of an update's round.

        Args:
            header: of the update, verified.
            draw: what picks the segment.
            neighbors: connected peers. The author is asked first; when it is not among them or does
                not answer, the others: one of them may have found a fault in this very segment.

        Returns:
            True when it is sound, or this peer's own; False when it is not: whoever gets the same
            answers finds the same. None when nobody shows what the author has committed to, or it
            has not committed to anything, as when it only exchanges at the end of its training.
        """
        if header.author == self._own:  # accused: it knows what it has done
            return True
        if self._auditor is None or header.claim is None:
            return None
        try:
            claim = self._auditor.check_claim(header)
        except RemoteProtocolError:
            return False
        author = PeerId(header.author)
        segment = (author, header.sequence, segment_of(draw, claim.segments))
        turn = self._turns.get(author)
        if turn is None:
            turn = self._turns[author] = asyncio.Lock()
        async with turn, self._at_once:
            if author in neighbors:
                openings = await self._openings(author, claim, segment)
                found = await self._compare(author, header, segment, openings)
                if found is not None:
                    return found
            witnesses = [peer for peer in neighbors if peer != author]
            asked = [self._openings(peer, claim, segment) for peer in witnesses]
            for peer, openings in zip(witnesses, await asyncio.gather(*asked), strict=True):
                found = await self._compare(peer, header, segment, openings)
                if found is not None:
                    return found
        return None

    async def _compare(
        self, holder: PeerId, header: UpdateHeader, segment: Segment, openings: Openings
    ) -> bool | None:
        """Audit with what one peer has of the round; None when it has nothing, or is slow."""
        if not openings:
            return None
        assert self._auditor is not None
        start, end, last = (StateDigest(opening.params, opening.rest) for opening in openings)
        states: list[Buffers] = []
        try:
            # Committed to one thing, and shared another: then no state is needed.
            sound = last.params == header.root and await self._redo(
                holder, header, segment[2], start, end, states
            )
        except TimeoutError:
            return None
        except RemoteProtocolError as error:
            if error.reason == "root":
                return None
            sound = False  # a committed state that is none of this run's
        if not sound:
            await self._in_worker(self._faults.keep, segment, openings, states)
        return sound

    async def _redo(
        self,
        holder: PeerId,
        header: UpdateHeader,
        segment: int,
        start: StateDigest,
        end: StateDigest,
        states: list[Buffers],
    ) -> bool:
        """Whether a segment comes out as claimed; what was needed for that goes to `states`."""
        assert self._auditor is not None
        states.append(await self._state(holder, start))
        digest, explains = await self._in_worker(self._auditor.redo, header, segment, states[0])
        if digest == end:
            return True
        states.append(await self._state(holder, end))
        return bool(await self._in_worker(explains, states[1]))

    async def _openings(
        self,
        holder: PeerId,
        claim: RoundClaim,
        segment: Segment,
    ) -> Openings:
        """The three openings, checked; nothing when this peer does not have them."""
        author, sequence, index = segment
        key = (holder, author, sequence)
        self._rounds[key] = asyncio.get_running_loop().create_future()
        try:
            self._send(Send(holder, GetRound(author, sequence, index)))
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                openings = await self._rounds[key]
            for opening in openings:
                check_opening(claim.states, claim.segments, opening)
        except (TimeoutError, RemoteProtocolError):
            return ()
        finally:
            del self._rounds[key]
        asked = [index, index + 1, claim.segments]
        return openings if [opening.index for opening in openings] == asked else ()

    async def _state(self, holder: PeerId, digest: StateDigest) -> Buffers:
        assert self._auditor is not None
        form = self._auditor.form
        params = await self._fetch(holder, digest.params, form.params.nbytes)
        return params, await self._fetch(holder, digest.rest, form.rest.nbytes)

    async def _fetch(self, holder: PeerId, root: bytes, size: int) -> bytes:
        """A buffer, by its root; each chunk is checked when it comes."""
        fetch = self._fetches[holder, root] = _Fetch(root, size)
        try:
            while len(fetch.chunks) < fetch.count:
                while (get := fetch.next_get()) is not None:
                    self._send(Send(holder, get))
                async with asyncio.timeout(_CHUNK_TIMEOUT_S):
                    await fetch.arrived.wait()
                fetch.arrived.clear()
                if fetch.refused:
                    raise RemoteProtocolError("root", "this peer does not have this state any more")
        finally:
            self._fetches.pop((holder, root), None)
        return b"".join(fetch.chunks[index] for index in range(fetch.count))
