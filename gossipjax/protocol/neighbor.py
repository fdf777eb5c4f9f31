"""What is kept about a peer with a live connection."""

from gossipjax.protocol.allowance import Allowance
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import PeerRecord


class Neighbor:
    """A peer with a live connection.

    Attributes:
        record: its newest record that it has greeted with.
        network: where it is, as seen by the shell, not as it claims.
        has_dialled: whether it has opened one of the connections.
        last_heard_ns: when it last sent something.
        suspected: whether it has been silent for too long to be offered anything.
        version: of its model, as of its last keep-alive or offer.
        pinged_ns: when a `Ping` was sent to it that it has not answered; None: there is none.
        round_trip_ns: from a `Ping` to its `Pong`, smoothed as in RFC 6298; None: not known yet.
        incarnation: as of its last keep-alive; see `wire.messages.Suspect`.
        answers_due: `GetPeers` sent without a `Peers` back.
        allowance: what it may still ask.
        asked_ns: when it was last told that somebody suspects it.
        asked_by: who is to be told when it answers.
    """

    __slots__ = (
        "allowance",
        "answers_due",
        "asked_by",
        "asked_ns",
        "has_dialled",
        "incarnation",
        "last_heard_ns",
        "network",
        "pinged_ns",
        "record",
        "round_trip_ns",
        "suspected",
        "version",
    )

    def __init__(self, record: Verified[PeerRecord], network: bytes, now_ns: Nanoseconds):
        self.record = record
        self.network = network
        self.has_dialled = False
        self.last_heard_ns = now_ns
        self.suspected = False
        self.version: int | None = None
        self.pinged_ns: Nanoseconds | None = None
        self.round_trip_ns: Nanoseconds | None = None
        # Numbers of records grow from life to life, so this one is above all of earlier lives.
        self.incarnation = record.body.sequence
        self.answers_due = 0
        self.allowance = Allowance()
        self.asked_ns: Nanoseconds | None = None
        self.asked_by: dict[PeerId, None] = {}

    def heard(self, now_ns: Nanoseconds) -> None:
        """Any message shows that the peer is alive."""
        self.last_heard_ns = now_ns
        self.suspected = False

    def answered(self, now_ns: Nanoseconds) -> None:
        """A `Pong` has come: note how far away the peer is."""
        if self.pinged_ns is None:
            return
        took_ns, self.pinged_ns = now_ns - self.pinged_ns, None
        known_ns = self.round_trip_ns
        self.round_trip_ns = took_ns if known_ns is None else (7 * known_ns + took_ns) // 8
