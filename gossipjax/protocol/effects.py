"""What a machine wants done: the outputs of `PeerMachine.handle`, in order."""

from msgspec import Struct

from gossipjax.types import PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import AnyMessage, PeerRecord, UpdateHeader


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
)
Effects = list[Effect]
