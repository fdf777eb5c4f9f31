"""What a machine wants done: the outputs of `PeerMachine.handle`, in order."""

from msgspec import Struct

from gossipjax.types import PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import AnyMessage, PeerRecord, Role, UpdateHeader


class Send(Struct, frozen=True):
    """Send a message (and, with a `Chunk`, its data) to a connected peer. May get lost."""

    peer: PeerId
    message: AnyMessage
    data: bytes | memoryview | None = None


class Connect(Struct, frozen=True):
    """Dial this address; `PeerConnected` follows if somebody answers with the expected key."""

    address: Address


class OpenTunnel(Struct, frozen=True):
    """Ask a neighbor to relay to a peer that cannot be dialled.

    `PeerConnected` follows if the neighbor does so and the other one answers.
    """

    relay: PeerId
    record: Verified[PeerRecord]


class Disconnect(Struct, frozen=True):
    """Close every connection with this peer. `reason` is for people to read."""

    peer: PeerId
    reason: str


class Inspect(Struct, frozen=True):
    """Check the values of a complete payload off the hot path, then report `Inspected`."""

    header: Verified[UpdateHeader]
    chunks: tuple[bytes | memoryview, ...]


class Deliver(Struct, frozen=True):
    """Hand an inspected update to training.

    `adopt` is true for the one that a joiner catches up with: it replaces the joiner's parameters.
    """

    header: Verified[UpdateHeader]
    adopt: bool


class Learn(Struct, frozen=True):
    """A peer record worth keeping in the address book on disk."""

    record: Verified[PeerRecord]


class Forget(Struct, frozen=True):
    """A peer record that has given way to others: no longer worth keeping on disk."""

    record: Verified[PeerRecord]


class SignRecord(Struct, frozen=True):
    """The own record expires before long: sign a new one, then report `RecordSigned`."""


class Refuse(Struct, frozen=True):
    """Something that a peer sent was refused; to be counted by reason."""

    peer: PeerId
    reason: str


class Audit(Struct, frozen=True):
    """Check an update thoroughly, off the hot path, then report `Audited`.

    The update need not have come to this peer before: `author` says where it can be had.

    Attributes:
        author: the author's record.
        header: of the update.
        role: `Role.AUDIT`: recompute the segment that `draw` picks; `Role.JUDGE`: say whether the
            update is useful.
        draw: 64 bytes that nobody could foresee; of another peer when its finding is checked again.
    """

    author: Verified[PeerRecord]
    header: Verified[UpdateHeader]
    role: Role
    draw: bytes


class Ban(Struct, frozen=True):
    """A peer is proven, or voted, to have cheated: it has lost its weight and is not talked to.

    Attributes:
        peer: who.
        reason: `equivocation`, `form`, `fault`, `harmful`, `withheld` or `false accusation`.
        evidence: digest of what proves it.
        sequence: of the update that it is about.
    """

    peer: PeerId
    reason: str
    evidence: bytes
    sequence: int


class Pardon(Struct, frozen=True):
    """A ban was found to be wrong."""

    peer: PeerId


Effect = (
    Send
    | Connect
    | OpenTunnel
    | Disconnect
    | Inspect
    | Deliver
    | Learn
    | Forget
    | SignRecord
    | Refuse
    | Audit
    | Ban
    | Pardon
)
Effects = list[Effect]
