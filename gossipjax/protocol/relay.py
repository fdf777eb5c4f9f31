"""Peers that nobody can dial: passing packets on between neighbors, and finding who does it."""

import heapq
from collections.abc import Iterable, Mapping

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, OpenTunnel, Send
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire import limits
from gossipjax.wire.envelope import Verified, record_author
from gossipjax.wire.messages import PeerRecord, Relay, Undelivered

_SECOND = 1_000_000_000
_TOLD_MAX = 256
_PAIRS_MAX = 1024
_PAIRS_SHARE = 4
_BACKLOG_BYTES_MAX = 32 << 20
_PAIR_BACKLOG_BYTES_MAX = 2 * limits.CREDIT_CHUNKS * limits.CHUNK_BYTES
_CONTROL_BYTES_MAX = limits.CHUNK_BYTES  # beyond the backlog, so that bulk does not use it up
_MESSAGE_BYTES = 256  # what a relayed message costs besides its packet


class _Told:
    """A peer that cannot be dialled, who told of it, and when to try again."""

    __slots__ = ("next_ns", "record", "relay", "wait_ns")

    def __init__(self, record: Verified[PeerRecord], relay: PeerId, wait_ns: Nanoseconds):
        self.record = record
        self.relay = relay
        self.next_ns: Nanoseconds = 0
        self.wait_ns = wait_ns


class RelayMachine:
    """Relays for its neighbors, within a budget, and asks neighbors to relay.

    Accepts: `Relay`, `Undelivered`, records of others, connections made and lost, deadlines.
    Emits: `Send(Relay)`, `Send(Undelivered)`, `OpenTunnel`.
    Keeps true: a packet is passed on between two direct neighbors only, as it came, and never for
    anybody else than its sender; at most `relay_bytes_per_s` for all together and a quarter of it
    for one pair; what waits is at most 32 MiB, and 16 MiB of one pair. Keep-alives do not wait.
    """

    def __init__(self, config: ProtocolConfig, rng: SplitMix64):
        self._config = config
        self._rng = rng
        self._relay_of: dict[PeerId, PeerId] = {}
        self._told = BoundedDict[PeerId, _Told](_TOLD_MAX)
        self._next_ns: Nanoseconds = 0
        self._free_ns: Nanoseconds = 0
        self._pair_free_ns = BoundedDict[tuple[bytes, bytes], Nanoseconds](_PAIRS_MAX)
        self._queue: list[tuple[Nanoseconds, int, Send]] = []
        self._queued_bytes = 0
        self._count = 0

    @property
    def next_deadline_ns(self) -> Nanoseconds | None:
        """When the next packet may be passed on."""
        return max(self._queue[0][0], self._free_ns) if self._queue else None

    def is_direct(self, peer: PeerId) -> bool:
        """Whether a neighbor is reached without a relay."""
        return peer not in self._relay_of

    def connected(self, peer: PeerId, relay: PeerId | None) -> None:
        """A connection is up, direct or through a relay."""
        if relay is None:
            self._relay_of.pop(peer, None)
        else:
            self._relay_of[peer] = relay
        if peer in self._told:
            self._told[peer].wait_ns = self._config.retry_min_ns

    def lost(self, peer: PeerId) -> None:
        """A neighbor is gone."""
        self._relay_of.pop(peer, None)

    def told(self, teller: PeerId, records: Iterable[Verified[PeerRecord]]) -> None:
        """A neighbor has told of others, and likely of its own neighbors."""
        if not self.is_direct(teller):
            return
        for record in records:
            if record.body.addresses:
                continue
            peer = record_author(record.body)
            known = self._told.get(peer)
            if known is None:
                self._told[peer] = _Told(record, teller, self._config.retry_min_ns)
            else:
                known.record, known.relay = record, teller

    def on_relay(
        self,
        sender: PeerId,
        message: Relay,
        packet: bytes | memoryview,
        neighbors: Mapping[PeerId, object],
        now_ns: Nanoseconds,
    ) -> Effects:
        """Pass a packet on, now or when the budget allows it.

        Raises:
            RemoteProtocolError: (`author`) it is said to come from somebody else.
        """
        if message.source != sender:
            raise RemoteProtocolError("author", "a packet of somebody else")
        target = PeerId(message.target)
        serves = target in neighbors and self.is_direct(target) and target != sender
        if not serves or not self._charge(message, len(packet), now_ns):
            return [Send(sender, Undelivered(target))]
        passed_on = Send(target, message, packet)
        if not message.bulk:
            return [passed_on]
        self._count += 1
        pair_free_ns = self._pair_free_ns[message.source, message.target]
        due_ns = pair_free_ns - self._cost_ns(len(packet)) * _PAIRS_SHARE
        heapq.heappush(self._queue, (due_ns, self._count, passed_on))
        self._queued_bytes += len(packet)
        return self._release(neighbors, now_ns)

    def on_undelivered(self, teller: PeerId, message: Undelivered) -> bool:
        """Whether a neighbor was reached through this relay, which passes on no more."""
        return self._relay_of.get(PeerId(message.target)) == teller

    def tick(self, neighbors: Mapping[PeerId, object], places: int, now_ns: Nanoseconds) -> Effects:
        """Pass on what is due; with free places, try to reach somebody who cannot be dialled."""
        effects = self._release(neighbors, now_ns)
        if places > 0 and self._told and now_ns >= self._next_ns:
            self._next_ns = now_ns + self._config.probe_interval_ns
            effects += self._open(neighbors, places, now_ns)
        return effects

    def _open(
        self, neighbors: Mapping[PeerId, object], places: int, now_ns: Nanoseconds
    ) -> Effects:
        due = [
            told
            for peer, told in self._told.items()
            if peer not in neighbors
            and told.next_ns <= now_ns
            and told.relay in neighbors
            and self.is_direct(told.relay)
        ]
        effects: Effects = []
        for told in self._rng.sample(due, places):
            wait_ns = self._config.connect_timeout_ns + self._rng.jittered(told.wait_ns)
            told.next_ns = now_ns + wait_ns
            told.wait_ns = min(2 * told.wait_ns, self._config.retry_max_ns)
            effects.append(OpenTunnel(told.relay, told.record))
        return effects

    def _release(self, neighbors: Mapping[PeerId, object], now_ns: Nanoseconds) -> Effects:
        """Pass on what is due, as far as the budget of all pairs goes."""
        effects: Effects = []
        while self._queue and max(self._queue[0][0], self._free_ns) <= now_ns:
            _, _, passed_on = heapq.heappop(self._queue)
            size = len(passed_on.data or b"")
            self._queued_bytes -= size
            self._free_ns = now_ns + self._cost_ns(size)
            if passed_on.peer in neighbors:
                effects.append(passed_on)
        return effects

    def _charge(self, message: Relay, size: int, now_ns: Nanoseconds) -> bool:
        """Charge a pair with a packet; false when too much waits."""
        rate = self._config.relay_bytes_per_s
        if not rate or (message.bulk and self._queued_bytes + size > _BACKLOG_BYTES_MAX):
            return False
        pair = (message.source, message.target)
        free_ns = max(self._pair_free_ns.get(pair, 0), now_ns)
        waiting = (free_ns - now_ns) * rate // (_SECOND * _PAIRS_SHARE)
        backlog_max = _PAIR_BACKLOG_BYTES_MAX + (0 if message.bulk else _CONTROL_BYTES_MAX)
        if waiting + size > backlog_max:
            return False
        self._pair_free_ns[pair] = free_ns + self._cost_ns(size) * _PAIRS_SHARE
        return True

    def _cost_ns(self, size: int) -> Nanoseconds:
        """What a packet takes of the budget of all pairs."""
        return (size + _MESSAGE_BYTES) * _SECOND // self._config.relay_bytes_per_s
