"""Who is there: joining, keep-alives, suspicion, peer exchange, re-dialling when cut off."""

from collections.abc import Iterable

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect, Disconnect, Effects, Learn, Refuse, Send
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds, PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, open_record, record_author
from gossipjax.wire.messages import GetPeers, Leave, PeerRecord, Peers, Ping, Pong


class Neighbor:
    """A peer with a live connection."""

    __slots__ = ("last_heard_ns", "record", "suspected", "version")

    def __init__(self, record: Verified[PeerRecord], now_ns: Nanoseconds):
        self.record = record
        self.last_heard_ns = now_ns
        self.suspected = False
        self.version: int | None = None


class _Dial:
    """When an address may be dialled next, and how long to wait after the next failure."""

    __slots__ = ("next_ns", "pending", "wait_ns")

    def __init__(self, next_ns: Nanoseconds, wait_ns: Nanoseconds):
        self.next_ns = next_ns
        self.wait_ns = wait_ns
        self.pending = False


class MembershipMachine:
    """Keeps up to `view_size` neighbors and a book of everybody else.

    Accepts: connections made and lost, `Ping`, `Pong`, `GetPeers`, `Peers`, `Leave`, deadlines.
    Emits: `Connect`, `Disconnect`, `Learn`, and the answers.
    Keeps true: a neighbor has been heard within `dead_after_ns`; the own peer is never a neighbor;
    no address is dialled more often than its backoff allows.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        own: Verified[PeerRecord],
        suite: CryptoSuite,
        rng: SplitMix64,
        bootstrap: Iterable[Address],
        book: Iterable[Verified[PeerRecord]],
    ):
        self._config = config
        self._own = own
        self._own_id = record_author(own.body)
        self._suite = suite
        self._rng = rng
        self._bootstrap = tuple(bootstrap)
        self._book = BoundedDict[PeerId, Verified[PeerRecord]](config.book_size)
        for record in book:
            self._learn(record)
        self._dials = BoundedDict[Address, _Dial](4 * config.book_size)
        self._next_probe_ns: Nanoseconds = 0
        self._next_gossip_ns: Nanoseconds = 0
        self._next_dial_ns: Nanoseconds = 0
        self.neighbors: dict[PeerId, Neighbor] = {}
        self.joins_others = bool(self._bootstrap or self._book)

    @property
    def next_deadline_ns(self) -> Nanoseconds:
        """When `tick` has something to do."""
        return min(self._next_probe_ns, self._next_dial_ns)

    def trusted_neighbors(self) -> list[PeerId]:
        """Neighbors that are not suspected to be gone."""
        return [peer for peer, neighbor in self.neighbors.items() if not neighbor.suspected]

    def connected(self, record: Verified[PeerRecord], version: int, now_ns: Nanoseconds) -> Effects:
        """A connection is up: greet with the own version, and ask for others."""
        peer = record_author(record.body)
        if peer == self._own_id:
            own_key = record.body.transport_key
            self._bootstrap = tuple(a for a in self._bootstrap if a.transport_key != own_key)
            return [Disconnect(peer, "this is the peer itself")]
        if len(self.neighbors) >= self._config.view_size and peer not in self.neighbors:
            return [Send(peer, Leave("no room for another neighbor")), Disconnect(peer, "full")]
        self._dial_after(record.body, self._config.retry_min_ns, now_ns)
        self.neighbors[peer] = Neighbor(record, now_ns)
        ping = Ping(self._rng.below(limits.INTEGER_MAX), version)
        return [*self._learn(record), Send(peer, ping), Send(peer, GetPeers())]

    def lost(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """A neighbor's last connection is gone."""
        neighbor = self.neighbors.pop(peer, None)
        if neighbor is not None:
            self._dial_after(neighbor.record.body, self._config.retry_min_ns, now_ns)
        return []

    def heard(self, peer: PeerId, now_ns: Nanoseconds) -> None:
        """Any message of a peer shows that it is alive."""
        neighbor = self.neighbors.get(peer)
        if neighbor is not None:
            neighbor.last_heard_ns = now_ns
            neighbor.suspected = False

    def on_ping(self, peer: PeerId, ping: Ping, version: int) -> Effects:
        """Answer, and note how far the peer is."""
        self.neighbors[peer].version = ping.version
        return [Send(peer, Pong(ping.nonce, version))]

    def on_pong(self, peer: PeerId, pong: Pong) -> Effects:
        """Note how far the peer is."""
        self.neighbors[peer].version = pong.version
        return []

    def on_get_peers(self, peer: PeerId) -> Effects:
        """Tell of this peer's neighbors first, since they are known to be alive."""
        records = {other: neighbor.record for other, neighbor in self.neighbors.items()}
        alive = self._rng.sample(list(records), limits.RECORDS_PER_MESSAGE_MAX)
        others = [other for other in self._book if other not in records]
        chosen = alive + self._rng.sample(others, limits.RECORDS_PER_MESSAGE_MAX - len(alive))
        sealed = [
            (records.get(other) or self._book[other]).sealed for other in chosen if other != peer
        ]
        return [Send(peer, Peers(tuple(sealed)))] if sealed else []

    def on_peers(self, peer: PeerId, message: Peers, now_s: int) -> Effects:
        """Keep the records that verify; a false one is refused and charged to whoever sent it."""
        effects: Effects = []
        for sealed in message.records:
            try:
                record = open_record(sealed, RunId(self._own.body.run), self._suite, now_s)
            except RemoteProtocolError as error:
                # An honest peer may pass on a record in the second in which it expires.
                if error.reason != "expired":
                    effects.append(Refuse(peer, error.reason))
                continue
            effects += self._learn(record)
        return effects

    def on_leave(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """The peer goes, or has no room: do not come back to it at once."""
        neighbor = self.neighbors.pop(peer)
        self._dial_after(neighbor.record.body, self._config.retry_max_ns, now_ns)
        return [Disconnect(peer, "it left")]

    def tick(self, version: int, now_ns: Nanoseconds) -> Effects:
        """Probe, drop the dead, look for more neighbors."""
        effects: Effects = []
        if now_ns >= self._next_probe_ns:
            self._next_probe_ns = now_ns + self._config.probe_interval_ns
            effects += self._probe(version, now_ns)
        if now_ns >= self._next_dial_ns:
            effects += self._dial_candidates(now_ns)
        return effects

    def _probe(self, version: int, now_ns: Nanoseconds) -> Effects:
        effects: Effects = []
        for peer, neighbor in list(self.neighbors.items()):
            silence_ns = now_ns - neighbor.last_heard_ns
            if silence_ns >= self._config.dead_after_ns:
                del self.neighbors[peer]
                self._dial_after(neighbor.record.body, self._config.retry_min_ns, now_ns)
                effects.append(Disconnect(peer, f"silent for {silence_ns / 1e9:.1f} s"))
                continue
            neighbor.suspected = silence_ns >= self._config.suspect_after_ns
            effects.append(Send(peer, Ping(self._rng.below(limits.INTEGER_MAX), version)))
        alive = self.trusted_neighbors()
        if alive and now_ns >= self._next_gossip_ns:
            self._next_gossip_ns = now_ns + self._config.gossip_peers_interval_ns
            effects.append(Send(self._rng.sample(alive, 1)[0], GetPeers()))
        return effects

    def _dial_candidates(self, now_ns: Nanoseconds) -> Effects:
        """Fill the free places; note when to look again."""
        dials = [(address, self._dial(address, now_ns)) for address in self._candidates()]
        for _, dial in dials:
            if dial.pending and dial.next_ns <= now_ns:  # failed: wait, longer each time
                dial.pending = False
                dial.next_ns = now_ns + dial.wait_ns
                dial.wait_ns = min(2 * dial.wait_ns, self._config.retry_max_ns)
        room = self._config.view_size - len(self.neighbors)
        room -= sum(dial.pending for _, dial in dials)
        due = [item for item in dials if not item[1].pending and item[1].next_ns <= now_ns]
        chosen = self._rng.sample(due, max(room, 0))
        for _, dial in chosen:
            dial.pending = True
            dial.next_ns = now_ns + self._config.connect_timeout_ns
        waiting = [dial.next_ns for _, dial in dials if dial.next_ns > now_ns]
        self._next_dial_ns = min(waiting, default=now_ns + self._config.retry_max_ns)
        return [Connect(address) for address, _ in chosen]

    def _candidates(self) -> list[Address]:
        """Addresses of peers that are not connected; the bootstrap's only when alone."""
        connected = {n.record.body.transport_key for n in self.neighbors.values()}
        connected.add(self._own.body.transport_key)
        known = [a for record in self._book.values() for a in _addresses(record.body)]
        if not self.neighbors:
            known = list(dict.fromkeys([*self._bootstrap, *known]))
        return [address for address in known if address.transport_key not in connected]

    def _learn(self, record: Verified[PeerRecord]) -> Effects:
        peer = record_author(record.body)
        known = self._book.get(peer)
        if peer == self._own_id:
            return []
        if known is not None and known.body.sequence >= record.body.sequence:
            return []
        self._book[peer] = record
        self._next_dial_ns = 0
        return [Learn(record)]

    def _dial(self, address: Address, now_ns: Nanoseconds) -> _Dial:
        if address not in self._dials:
            self._dials[address] = _Dial(now_ns, self._config.retry_min_ns)
        return self._dials[address]

    def _dial_after(self, record: PeerRecord, wait_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Restart the backoff of a peer's addresses after a connection that worked or ended."""
        for address in _addresses(record):
            self._dials[address] = _Dial(now_ns + wait_ns, self._config.retry_min_ns)
        self._next_dial_ns = min(self._next_dial_ns, now_ns + self._config.retry_min_ns)


def _addresses(record: PeerRecord) -> list[Address]:
    return [Address(endpoint, record.transport_key) for endpoint in record.addresses]
