"""What is known of whom: learning peer records, passing them on, renewing the own one."""

from collections.abc import Iterable, Iterator
from itertools import islice

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.book import Book
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, Forget, Learn, Refuse, Send, SignRecord
from gossipjax.protocol.neighbor import Neighbor
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds, PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.envelope import Verified, open_record, record_author
from gossipjax.wire.messages import Hello, PeerRecord, Peers, Sealed


class Records:
    """The address book, and how records come in and go out.

    Args:
        config, suite, rng: of the membership machine.
        own: the own record.
        neighbors: of the membership machine, which changes them.
        epoch_s: Unix time at protocol time 0.

    Attributes:
        book: all that is remembered.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        own: Verified[PeerRecord],
        suite: CryptoSuite,
        rng: SplitMix64,
        neighbors: dict[PeerId, Neighbor],
        epoch_s: int,
    ):
        self.book = Book(config.book_size)
        self._own = own
        self._own_id = record_author(own.body)
        self._run = RunId(own.body.run)
        self._suite = suite
        self._rng = rng
        self._neighbors = neighbors
        self._epoch_s = epoch_s
        self._sign_at_s = (epoch_s + own.body.expires_s) // 2
        self._signed_by = BoundedDict[bytes, PeerId](config.book_size)  # by signature: verified

    def now_s(self, now_ns: Nanoseconds) -> int:
        """Unix time, for the expiry of records."""
        return self._epoch_s + now_ns // 1_000_000_000

    # ---- coming in -----------------------------------------------------------------------------

    def learn(self, peer: PeerId, record: Verified[PeerRecord], teller: bytes | None) -> Effects:
        """Put a record into the book; old news only when the peer itself tells, as it is there.

        Args:
            peer: whom it describes.
            record: it.
            teller: the network of whoever told; None when the peer itself did, or the own disk.
        """
        known = self.book.get(peer)
        is_news = known is None or known.body.sequence < record.body.sequence
        if peer == self._own_id or not (is_news or teller is None):
            return []
        gone = self.book.put(peer, record if known is None or is_news else known, teller)
        effects: Effects = [Forget(other) for other in gone]
        if is_news:
            self._signed_by[record.sealed.signature] = peer
            effects.append(Learn(record))
        return effects

    def keep_neighbors(self) -> Effects:
        """Let the records of neighbors be the newest, so that those of strangers give way first."""
        effects: Effects = []
        for peer, neighbor in self._neighbors.items():
            effects += self.learn(peer, neighbor.record, None)
        return effects

    def told(self, peer: PeerId, records: Iterable[Sealed], now_ns: Nanoseconds) -> Effects:
        """Learn what a neighbor tells; a false record is refused and charged to it."""
        effects: Effects = []
        for sealed in records:
            if self._signed_by.get(sealed.signature) in self.book:
                continue  # this one, or a later one of the same peer
            try:
                record = self._open(sealed, now_ns)
            except RemoteProtocolError as error:
                # An honest peer may pass on a record in the second in which it expires.
                if error.reason != "expired":
                    effects.append(Refuse(peer, error.reason))
                continue
            teller = self._neighbors[peer].network
            effects += self.learn(record_author(record.body), record, teller)
        return effects

    def known(self, records: Iterable[Sealed]) -> list[Verified[PeerRecord]]:
        """Those of received records that are in the book, or newer ones of the same peers."""
        found = (self.book.get(self._signed_by.get(r.signature, self._own_id)) for r in records)
        return [record for record in found if record is not None]

    def renewed(self, peer: PeerId, hello: Hello, now_ns: Nanoseconds) -> Effects:
        """A neighbor introduces itself again with a newer record.

        Raises:
            RemoteProtocolError: `malformed` when the record is not a newer one of this peer with
                the same transport key; or what is wrong with the record.
        """
        record = self._open(hello.record, now_ns)
        neighbor = self._neighbors[peer]
        known = neighbor.record.body
        if (
            record_author(record.body) != peer
            or record.body.transport_key != known.transport_key
            or record.body.sequence <= known.sequence
        ):
            raise RemoteProtocolError("malformed", "a greeting in mid-conversation, nothing new")
        neighbor.record = record
        return self.learn(peer, record, None)

    # ---- going out -----------------------------------------------------------------------------

    def tell(self, peer: PeerId, chosen: Iterable[PeerId], now_ns: Nanoseconds) -> Send:
        """Tell of some chosen neighbors, which are alive, and of a random sample of the book.

        Of everybody alike, whether neighbor or not: whoever pushes itself on all, so that it is
        everybody's guest and known already, must not take the places of those that are not.
        """
        most = limits.RECORDS_PER_MESSAGE_MAX
        alive = self._rng.sample([other for other in chosen if other != peer], most // 4)
        records = [self._newest(other) for other in alive]
        others = self._others({peer, *alive}, self.now_s(now_ns))
        records += islice(others, most - len(records))
        return Send(peer, Peers(tuple(record.sealed for record in records)))

    def _others(self, without: set[PeerId], now_s: int) -> Iterator[Verified[PeerRecord]]:
        """Records in the book that have not expired, in random order."""
        for other in self._rng.shuffled(self.book.peers()):
            record = self.book[other]
            if other not in without and record.body.expires_s > now_s:
                yield record

    def sign(self, now_ns: Nanoseconds) -> Effects:
        """Ask for a new own record after half of the old one's time; again after half the rest."""
        now_s = self.now_s(now_ns)
        if now_s < self._sign_at_s:
            return []
        self._sign_at_s = now_s + max((self._own.body.expires_s - now_s) // 2, 1)
        return [SignRecord()]

    def signed(self, record: Verified[PeerRecord], now_ns: Nanoseconds) -> Effects:
        """This peer has a newer record: tell the neighbors, who tell others."""
        self._own = record
        self._sign_at_s = (self.now_s(now_ns) + record.body.expires_s) // 2
        hello = Hello(limits.PROTOCOL_VERSION, False, record.sealed)
        return [Send(peer, hello) for peer in self._neighbors]

    # ---- details -------------------------------------------------------------------------------

    def _open(self, sealed: Sealed, now_ns: Nanoseconds) -> Verified[PeerRecord]:
        return open_record(sealed, self._run, self._suite, self.now_s(now_ns))

    def _newest(self, peer: PeerId) -> Verified[PeerRecord]:
        """Of what a neighbor has greeted with and what others tell of it."""
        greeted = self._neighbors[peer].record
        known = self.book.get(peer)
        return known if known and known.body.sequence > greeted.body.sequence else greeted
