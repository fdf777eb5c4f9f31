"""Who is there: joining, keep-alives, suspicion, peer exchange, re-dialling when cut off."""

from collections.abc import Iterable

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.dialing import Dialable, Dialer, Place
from gossipjax.protocol.effects import Disconnect, Effects, Learn, Refuse, Send
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds, PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, open_record, record_author
from gossipjax.wire.messages import GetPeers, Leave, PeerRecord, Peers, Ping, Pong, Sealed

_DIALS_PER_RETRY = 2
_RECORDS_PER_PLACE = 2  # in the book; with fewer, every new neighbor is asked for more


class Neighbor:
    """A peer with a live connection."""

    __slots__ = ("answers_due", "last_heard_ns", "record", "suspected", "version")

    def __init__(self, record: Verified[PeerRecord], now_ns: Nanoseconds):
        self.record = record
        self.last_heard_ns = now_ns
        self.suspected = False
        self.version: int | None = None
        self.answers_due = 0  # `GetPeers` sent without a `Peers` back


class MembershipMachine:
    """Keeps about `view_size` neighbors, twice as many at most, and a book of the rest.

    Accepts: connections made and lost, `Ping`, `Pong`, `GetPeers`, `Peers`, `Leave`, deadlines.
    Emits: `Connect`, `Disconnect`, `Learn`, `Refuse`, and the answers.
    Keeps true: a neighbor has been heard within `dead_after_ns`, not counting pauses of this very
    process; the own peer is never a neighbor; there are at most `2 · view_size` neighbors.
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
        self._dialer = Dialer(config, rng)
        self._dial_below = (config.view_size + 1) // 2
        self._bootstrap = tuple(
            address for address in bootstrap if address.transport_key != own.body.transport_key
        )
        self._next_probe_ns: Nanoseconds = 0
        self._next_gossip_ns: Nanoseconds = 0
        self._next_renewal_ns: Nanoseconds = 0
        self._next_dial_ns: Nanoseconds = 0
        self._book = BoundedDict[PeerId, Verified[PeerRecord]](config.book_size)
        self._signed_by = BoundedDict[bytes, PeerId](config.book_size)  # by signature: verified
        self.neighbors: dict[PeerId, Neighbor] = {}
        for record in book:
            self._learn(record, now_ns=0)
        self.joins_others = bool(self._bootstrap or self._book)

    @property
    def next_deadline_ns(self) -> Nanoseconds:
        """When `tick` has something to do."""
        return min(self._next_probe_ns, self._next_dial_ns)

    @property
    def places(self) -> int:
        """How many more neighbors this peer looks for."""
        return self._dial_below - len(self.neighbors)

    def known(self, records: Iterable[Sealed]) -> list[Verified[PeerRecord]]:
        """Those of received records that are in the book, or newer ones of the same peers."""
        found = (self._book.get(self._signed_by.get(r.signature, self._own_id)) for r in records)
        return [record for record in found if record is not None]

    def own_pause_ns(self, now_ns: Nanoseconds) -> Nanoseconds:
        """For how long this process did not run; 0 when that is less than `probe_interval_ns`."""
        late_ns = now_ns - self._next_probe_ns
        return late_ns if late_ns > self._config.probe_interval_ns else 0

    def excuse(self, pause_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Do not count a pause of this process as the silence of others."""
        for neighbor in self.neighbors.values():
            neighbor.last_heard_ns = min(neighbor.last_heard_ns + pause_ns, now_ns)

    def trusted_neighbors(self) -> list[PeerId]:
        """Neighbors that are not suspected to be gone."""
        return [peer for peer, neighbor in self.neighbors.items() if not neighbor.suspected]

    def connected(self, record: Verified[PeerRecord], version: int, now_ns: Nanoseconds) -> Effects:
        """A connection is up: greet with the own version, and ask for others."""
        peer = record_author(record.body)
        if peer == self._own_id:
            return [Disconnect(peer, "this is the peer itself")]
        known = self.neighbors.get(peer)
        if known is None and len(self.neighbors) >= 2 * self._config.view_size:
            # Tell it of others first: it may know nobody else.
            return self.on_get_peers(peer) + part(peer, "no room for another neighbor")
        self._dialer.connected(peer)
        self._dialer.connected(record.body.transport_key)
        effects = self._learn(record, now_ns)
        if known is not None and known.record.body.sequence >= record.body.sequence:
            self.heard(peer, now_ns)  # both have dialled, or it has reconnected
            return effects
        self.neighbors[peer] = neighbor = Neighbor(record, now_ns)
        neighbor.answers_due = 1  # also unasked: one that has no room tells of others
        effects.append(Send(peer, Ping(self._rng.below(limits.INTEGER_MAX), version)))
        if len(self._book) < _RECORDS_PER_PLACE * self._config.view_size:
            effects.append(Send(peer, GetPeers()))
        return effects

    def lost(self, peer: PeerId, now_ns: Nanoseconds, wait_ns: Nanoseconds | None = None) -> None:
        """A neighbor is gone; dial it again after `wait_ns`, by default soon."""
        neighbor = self.neighbors.pop(peer, None)
        if neighbor is None:
            return
        if wait_ns is None:
            wait_ns = self._rng.jittered(self._config.retry_min_ns)
        self._dialer.postpone(peer, wait_ns, now_ns)
        self._dialer.postpone(neighbor.record.body.transport_key, wait_ns, now_ns)
        # Set anew: who was a neighbor is worth more than what strangers tell.
        self._book[peer] = self._newest_record(peer, neighbor)
        self._next_dial_ns = min(self._next_dial_ns, now_ns)

    def heard(self, peer: PeerId, now_ns: Nanoseconds) -> None:
        """Any message of a neighbor shows that it is alive."""
        neighbor = self.neighbors[peer]
        neighbor.last_heard_ns = now_ns
        neighbor.suspected = False

    def on_ping(self, peer: PeerId, ping: Ping, version: int) -> Effects:
        """Answer, and note how far the peer is."""
        self.note_version(peer, ping.version)
        return [Send(peer, Pong(ping.nonce, version))]

    def on_pong(self, peer: PeerId, pong: Pong) -> Effects:
        """Note how far the peer is."""
        self.note_version(peer, pong.version)
        return []

    def note_version(self, peer: PeerId, version: int) -> None:
        """Remember how far a neighbor is; its offers tell too, and a busy link is not probed."""
        self.neighbors[peer].version = version

    def on_get_peers(self, peer: PeerId) -> Effects:
        """Tell of this peer's neighbors first, since they are known to be alive."""
        alive = [other for other in self.neighbors if other != peer]
        known = [other for other in self._book if other != peer and other not in self.neighbors]
        chosen = self._rng.sample(alive, limits.RECORDS_PER_MESSAGE_MAX)
        chosen += self._rng.sample(known, limits.RECORDS_PER_MESSAGE_MAX - len(chosen))
        records = [self._newest_record(other, self.neighbors.get(other)) for other in chosen]
        return [Send(peer, Peers(tuple(record.sealed for record in records)))]

    def on_peers(self, peer: PeerId, message: Peers, now_s: int, now_ns: Nanoseconds) -> Effects:
        """Keep the records that verify; a false one is refused and charged to whoever sent it.

        Raises:
            RemoteProtocolError: (`unsolicited`) nobody asked.
        """
        if not self.neighbors[peer].answers_due:
            raise RemoteProtocolError("unsolicited", "peer records that nobody asked for")
        self.neighbors[peer].answers_due -= 1
        effects: Effects = []
        for sealed in message.records:
            if self._signed_by.get(sealed.signature) in self._book:
                continue  # this one, or a later one of the same peer
            try:
                record = open_record(sealed, RunId(self._own.body.run), self._suite, now_s)
            except RemoteProtocolError as error:
                # An honest peer may pass on a record in the second in which it expires.
                if error.reason != "expired":
                    effects.append(Refuse(peer, error.reason))
                continue
            effects += self._learn(record, now_ns)
        return effects

    def on_leave(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """The peer goes, or has no room: do not come back to it at once."""
        self.lost(peer, now_ns, self._config.retry_max_ns)
        return [Disconnect(peer, "it left")]

    def tick(self, version: int, now_ns: Nanoseconds) -> Effects:
        """Probe, drop the dead, look for more neighbors."""
        effects: Effects = []
        if now_ns >= self._next_probe_ns:
            self._next_probe_ns = now_ns + self._config.probe_interval_ns
            effects += self._probe(version, now_ns)
            effects += self._renew(now_ns)
        if now_ns >= self._next_dial_ns:
            self._next_dial_ns = now_ns + self._config.retry_max_ns
            if self.places > 0:
                effects += self._dial(self.places, now_ns)
        return effects

    def _probe(self, version: int, now_ns: Nanoseconds) -> Effects:
        effects: Effects = []
        for peer, neighbor in list(self.neighbors.items()):
            silence_ns = now_ns - neighbor.last_heard_ns
            if silence_ns >= self._config.dead_after_ns:
                self.lost(peer, now_ns)
                effects += part(peer, f"silent for {silence_ns / 1e9:.1f} s")
                continue
            neighbor.suspected = silence_ns >= self._config.suspect_after_ns
            if silence_ns < self._config.probe_interval_ns // 2:
                continue  # it has probed this peer, so it need not be probed
            effects.append(Send(peer, Ping(self._rng.below(limits.INTEGER_MAX), version)))
        alive = self.trusted_neighbors()
        if alive and now_ns >= self._next_gossip_ns:
            self._next_gossip_ns = now_ns + self._config.gossip_peers_interval_ns
            effects.append(self._ask_for_peers(self._rng.sample(alive, 1)[0]))
        return effects

    def _renew(self, now_ns: Nanoseconds) -> Effects:
        """With a full view, dial somebody else; with one that is too full, let somebody go."""
        if now_ns < self._next_renewal_ns:
            return []
        self._next_renewal_ns = now_ns + self._rng.jittered(self._config.renew_interval_ns)
        if len(self.neighbors) <= self._config.view_size:
            return self._dial(1, now_ns)
        peer = self._rng.sample(list(self.neighbors), 1)[0]
        self.lost(peer, now_ns, self._config.retry_max_ns)
        return part(peer, "making room for another neighbor")

    def _dial(self, places: int, now_ns: Nanoseconds) -> Effects:
        """Fill free places; note when to look again."""
        candidates = self._candidates(now_ns)
        dialled = self._dialer.dial(candidates, places, now_ns)
        self._next_dial_ns = self._dialer.next_ns(candidates, now_ns)
        return [*dialled]

    def _candidates(self, now_ns: Nanoseconds) -> dict[bytes, Dialable]:
        """Where those are who are not connected: of the book, and of the bootstrap.

        The bootstrap is not left out when there are neighbors: these may be attackers all, who tell
        of nobody else.

        A peer of the bootstrap is in the book, too, as soon as others tell of it. It is not dialled
        as both: not at the same address at once, nor while an attempt at its key is under way.
        """
        taken = {neighbor.record.body.transport_key for neighbor in self.neighbors.values()}
        taken.add(self._own.body.transport_key)
        missing = [a for a in self._bootstrap if a.transport_key not in taken]
        taken.update(
            a.transport_key for a in missing if self._dialer.is_dialling(a.transport_key, now_ns)
        )
        candidates: dict[bytes, Dialable] = {
            peer: record.body
            for peer, record in self._book.items()
            if record.body.addresses
            and record.body.transport_key not in taken
            and peer not in self.neighbors
        }
        for endpoint, key in missing:
            places = candidates.values()
            if not any(p.transport_key == key and endpoint in p.addresses for p in places):
                others = candidates.get(key, Place((), key)).addresses
                candidates[key] = Place((*others, endpoint), key)
        return candidates

    def _learn(self, record: Verified[PeerRecord], now_ns: Nanoseconds) -> Effects:
        """Put a record into the book, unless it is old news."""
        peer = record_author(record.body)
        known = self._book.get(peer)
        if peer == self._own_id:
            return []
        if known is not None and known.body.sequence >= record.body.sequence:
            return []
        self._book[peer] = record
        self._signed_by[record.sealed.signature] = peer
        if len(self.neighbors) < self._dial_below:
            # Not at once: records come many at a time, and to choose among them is work.
            wait_ns = self._config.retry_min_ns // _DIALS_PER_RETRY
            self._next_dial_ns = min(self._next_dial_ns, now_ns + wait_ns)
        return [Learn(record)]

    def _newest_record(self, peer: PeerId, neighbor: Neighbor | None) -> Verified[PeerRecord]:
        """Of what the book and the greeting say; the book may have forgotten a neighbor."""
        if neighbor is None:
            return self._book[peer]
        known = self._book.get(peer, neighbor.record)
        return max(known, neighbor.record, key=lambda record: record.body.sequence)

    def _ask_for_peers(self, peer: PeerId) -> Send:
        self.neighbors[peer].answers_due += 1
        return Send(peer, GetPeers())


def part(peer: PeerId, reason: str) -> Effects:
    """Say why, so that the other side need not wait for silence, and close the connection."""
    return [Send(peer, Leave(reason)), Disconnect(peer, reason)]
