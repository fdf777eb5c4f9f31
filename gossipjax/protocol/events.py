"""What can happen to a peer: the inputs of `PeerMachine.handle`."""

from msgspec import Struct

from gossipjax.types import PeerId
from gossipjax.wire.envelope import SealedUpdate, Verified
from gossipjax.wire.messages import AnyMessage, PeerRecord, Verdict


class Received(Struct, frozen=True):
    """A decoded message came over a connection that is bound to `sender`.

    `data` with a `Chunk` or a `Relay` only.
    """

    sender: PeerId
    message: AnyMessage
    data: bytes | memoryview | None = None


class Misbehaved(Struct, frozen=True):
    """The shell refused bytes of `sender` before they became a message."""

    sender: PeerId
    reason: str


class PeerConnected(Struct, frozen=True):
    """A connection with this peer is up, in either direction, and both have greeted.

    Attributes:
        record: of the other one.
        endpoint: where the other one is: what was dialled, or where its connection comes from;
            empty when it is reached through a relay.
        dialled: whether this peer opened the connection.
        relay: the neighbor that it leads through, None when it is a direct one.
    """

    record: Verified[PeerRecord]
    endpoint: str = ""
    dialled: bool = False
    relay: PeerId | None = None


class PeerLost(Struct, frozen=True):
    """The last connection with this peer is gone."""

    peer: PeerId


class DeadlinePassed(Struct, frozen=True):
    """`PeerMachine.next_deadline_ns` has passed."""


class Published(Struct, frozen=True):
    """This peer's training has sealed a new update."""

    update: SealedUpdate


class Inspected(Struct, frozen=True):
    """Answer to the effect `Inspect`: the reason of a refusal, None when all is well."""

    author: PeerId
    root: bytes
    refusal: str | None


class RecordSigned(Struct, frozen=True):
    """Answer to the effect `SignRecord`, or a new address of this peer: its newest own record."""

    record: Verified[PeerRecord]


class Audited(Struct, frozen=True):
    """Answer to the effect `Audit`.

    Attributes:
        case: SHA-256 of the signed bytes of the update's header.
        draw: of the effect.
        verdict: what was found; None when nothing can be said, as when this peer's own network or
            memory fails.
    """

    case: bytes
    draw: bytes
    verdict: Verdict | None


class Appealed(Struct, frozen=True):
    """The person who runs this peer wants a ban to be checked again."""

    peer: PeerId


class Stopping(Struct, frozen=True):
    """This peer is about to end; nothing is handled after it."""


Event = (
    Received
    | Misbehaved
    | PeerConnected
    | PeerLost
    | DeadlinePassed
    | Published
    | Inspected
    | RecordSigned
    | Audited
    | Appealed
    | Stopping
)
