"""What this peer has for others, and how much of its uplink each of them gets."""

from collections import deque
from typing import NamedTuple

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, Send
from gossipjax.protocol.pace import DEADLINE_FIRST_NS
from gossipjax.protocol.transfer import Transfer
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire import limits
from gossipjax.wire.envelope import SealedUpdate, chunk_count
from gossipjax.wire.merkle import MerkleTree
from gossipjax.wire.messages import (
    Certificate,
    Chunk,
    Get,
    Missing,
    Offer,
    Sealed,
    Snapshot,
    Snapshots,
)

_SECOND = 1_000_000_000
_WAITING_MAX = 2 * limits.CREDIT_CHUNKS
_TIMES_SERVED_MAX = 4


class _Held(NamedTuple):
    """A whole payload, and the proof of whose it is.

    Attributes:
        offered_to: neighbors that were told of it, and may pull it at any time.
        served: chunks that each neighbor has asked for.
    """

    snapshot: Snapshot
    chunks: tuple[bytes | memoryview, ...]
    tree: MerkleTree
    offered_to: dict[PeerId, None]
    served: BoundedDict[PeerId, int]


class UploadMachine:
    """Serves the own updates, and those received last, chunk by chunk.

    Accepts: own and received updates, `Get`, `GetSnapshots`, deadlines.
    Emits: `Send`.
    Keeps true: chunks leave at `upload_bytes_per_s` at most, those of the neighbors that wait in
    turn, so that each gets the same share; of one update a neighbor gets four times its chunks at
    most, and sixteen; no more than `snapshot_uploads_max` neighbors are served at a time with what
    they were not offered; at most `own_updates_max + received_updates_max` payloads are kept.
    """

    def __init__(self, config: ProtocolConfig, own_record: Sealed):
        self._config = config
        self._own_record = own_record
        self._own = BoundedDict[bytes, _Held](config.own_updates_max)
        self._received = BoundedDict[bytes, _Held](config.received_updates_max)
        self._newest_root = b""
        self._waiting: dict[PeerId, deque[tuple[bytes, int]]] = {}
        burst_bytes = limits.CREDIT_CHUNKS * limits.CHUNK_BYTES
        self._burst_ns: Nanoseconds = burst_bytes * _SECOND // config.upload_bytes_per_s
        self._free_ns = -self._burst_ns
        self._joiners: dict[PeerId, Nanoseconds] = {}

    @property
    def next_deadline_ns(self) -> Nanoseconds | None:
        """When the next chunk may leave."""
        return self._free_ns if self._waiting else None

    def publish(self, update: SealedUpdate, peers: list[PeerId]) -> Effects:
        """Keep a new update of one's own for those who pull it; offer it to some."""
        header = update.header
        self._newest_root = header.body.root
        self._own[header.body.root] = _Held(
            Snapshot(self._own_record, header.sealed),
            tuple(update.chunk(index) for index in range(chunk_count(header.body.size))),
            update.tree,
            dict.fromkeys(peers),
            BoundedDict(self._config.book_size),
        )
        offer = Offer(header.sealed)
        return [Send(peer, offer) for peer in peers]

    def offer_certified(self, certificate: Certificate, peers: list[PeerId]) -> Effects:
        """Offer an own update again, with its certificate; nothing when it has given way."""
        effects: Effects = []
        for held in self._own.values():
            if held.snapshot.header == certificate.header:
                offer = Offer(certificate.header)
                held.offered_to.update(dict.fromkeys(peers))
                effects += [Send(peer, told) for peer in peers for told in (certificate, offer)]
        return effects

    def keep(self, transfer: Transfer) -> None:
        """Keep an inspected update of somebody else for those who catch up."""
        snapshot = Snapshot(transfer.author.sealed, transfer.header.sealed)
        self._received[transfer.root] = _Held(
            snapshot,
            transfer.chunks,
            transfer.tree(),
            {},
            BoundedDict(self._config.book_size),
        )

    def on_get_snapshots(self, peer: PeerId) -> Effects:
        """Tell of the newest own update, and of those received last."""
        newest = self._own.get(self._newest_root)
        held = [*([] if newest is None else [newest]), *reversed(self._received.values())]
        told = tuple(update.snapshot for update in held[: limits.SNAPSHOTS_PER_MESSAGE_MAX])
        return [Send(peer, Snapshots(told))]

    def on_get(self, peer: PeerId, get: Get, now_ns: Nanoseconds) -> Effects:
        """Serve chunks, now or in turn.

        Raises:
            RemoteProtocolError: `credit`: chunks that the update does not have, or too many at
                once; `quota`: too often.
        """
        held = self._find(get.root)
        if held is None or not self._admits(peer, held, now_ns):
            return [Send(peer, Missing(get.root))]
        self._check(peer, get, held)
        line = self._waiting.setdefault(peer, deque())
        line.extend((get.root, index) for index in range(get.first, get.first + get.count))
        if held.served[peer] >= len(held.chunks):
            self._joiners.pop(peer, None)  # it has all that it may want
        return self.tick(now_ns)

    def tick(self, now_ns: Nanoseconds) -> Effects:
        """Send what may leave now, one chunk of each neighbor in turn."""
        effects: Effects = []
        while self._waiting and self._free_ns <= now_ns:
            peer = next(iter(self._waiting))
            line = self._waiting.pop(peer)
            root, index = line.popleft()
            if line:
                self._waiting[peer] = line  # at the end
            held = self._find(root)
            if held is None:
                effects.append(Send(peer, Missing(root)))
                continue
            data = held.chunks[index]
            effects.append(Send(peer, Chunk(root, index, held.tree.proof(index)), data))
            self._spend(len(data), now_ns)
        return effects

    def lost(self, peer: PeerId) -> None:
        """Forget what a peer that is gone has asked for."""
        self._waiting.pop(peer, None)
        self._joiners.pop(peer, None)

    def _find(self, root: bytes) -> _Held | None:
        for store in (self._own, self._received):
            held = store.get(root)
            if held is not None:
                store[root] = held  # set anew: in use
                return held
        return None

    def _spend(self, size: int, now_ns: Nanoseconds) -> None:
        """A token bucket: as much as the credit of one transfer may leave at once after a rest."""
        cost_ns = size * _SECOND // self._config.upload_bytes_per_s
        self._free_ns = max(self._free_ns, now_ns - self._burst_ns) + cost_ns

    def _admits(self, peer: PeerId, held: _Held, now_ns: Nanoseconds) -> bool:
        """Whether there is a place for one that pulls what it was not offered."""
        if peer in held.offered_to:
            return True
        if peer not in self._joiners:
            active = {
                joiner: seen_ns
                for joiner, seen_ns in self._joiners.items()
                if now_ns - seen_ns < DEADLINE_FIRST_NS
            }
            if len(active) >= self._config.snapshot_uploads_max:
                return False
            self._joiners = active
        self._joiners[peer] = now_ns
        return True

    def _check(self, peer: PeerId, get: Get, held: _Held) -> None:
        count = len(held.chunks)
        if get.first + get.count > count:
            raise RemoteProtocolError("credit", f"the update has {count} chunks")
        if len(self._waiting.get(peer, ())) + get.count > _WAITING_MAX:
            raise RemoteProtocolError("credit", f"more than {_WAITING_MAX} chunks wait for it")
        served = held.served.get(peer, 0) + get.count
        if served > _TIMES_SERVED_MAX * count + _WAITING_MAX:
            raise RemoteProtocolError("quota", f"asked for {served} chunks of {count}")
        held.served[peer] = served
