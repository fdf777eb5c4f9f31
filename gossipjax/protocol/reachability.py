"""Whether others can open connections to this peer: neighbors are asked to try."""

from collections.abc import Sequence

from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect, Effects, Send
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.messages import DialBack, PeerRecord

_ASKED_MAX = 3
_SECOND = 1_000_000_000
_AGAIN_AFTER_NS = 600 * _SECOND
_SERVED_EVERY_NS = 60 * _SECOND


class ReachabilityMachine:
    """Finds out whether this peer can be dialled, and helps others to find out.

    Accepts: connections made, `DialBack`, deadlines.
    Emits: `Send(DialBack)`, `Connect`.
    Keeps true: `is_reachable` is true once somebody has opened a connection to this peer; it is
    false when up to three neighbors were asked to, one after the other, and none has; a peer is
    dialled back at an address of its own record only, once a minute, and one peer every second.
    """

    def __init__(self, config: ProtocolConfig, own: PeerRecord, rng: SplitMix64):
        self._config = config
        self._rng = rng
        self._asked = 0
        self._next_ns: Nanoseconds | None = None
        self._served_ns = BoundedDict[PeerId, Nanoseconds](config.book_size)
        self._serve_again_ns: Nanoseconds = 0
        self.is_reachable: bool | None = None if own.addresses else False
        """None while it is not known."""

    def connected(self, now_ns: Nanoseconds, *, dialled: bool) -> None:
        """A direct connection is up: opened by this peer (`dialled`), or by the other one."""
        if not dialled:
            self.is_reachable = True
        elif self._next_ns is None and self.is_reachable is None:
            # Likely somebody dials this peer before long, and nobody need be asked.
            self._next_ns = now_ns + self._config.connect_timeout_ns

    def is_due(self, now_ns: Nanoseconds) -> bool:
        """Whether `tick` has something to do."""
        return not self.is_reachable and self._next_ns is not None and now_ns >= self._next_ns

    def tick(self, neighbors: Sequence[PeerId], now_ns: Nanoseconds) -> Effects:
        """Ask one more of the direct neighbors, or conclude that nobody gets through."""
        if not neighbors:
            return []
        # An attempt may take two timeouts: the other one need not begin at once.
        self._next_ns = now_ns + 2 * self._config.connect_timeout_ns
        if self._asked < _ASKED_MAX:
            self._asked += 1
            return [Send(peer, DialBack()) for peer in self._rng.sample(neighbors, 1)]
        self.is_reachable = False
        self._asked = 0
        self._next_ns = now_ns + _AGAIN_AFTER_NS
        return []

    def on_dial_back(self, peer: PeerId, record: PeerRecord, now_ns: Nanoseconds) -> Effects:
        """Open a connection to a neighbor that asks for it, unless it asks too often."""
        last_ns = self._served_ns.get(peer)
        too_often = last_ns is not None and now_ns < last_ns + _SERVED_EVERY_NS
        if too_often or now_ns < self._serve_again_ns or not record.addresses:
            return []
        self._served_ns[peer] = now_ns
        self._serve_again_ns = now_ns + _SECOND
        return [Connect(Address(record.addresses[0], record.transport_key))]
