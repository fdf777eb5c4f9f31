"""What peers say to each other, as msgspec structs.

Each message is one MessagePack array `[tag, field, …]`: no keys, so no duplicate keys, and one
byte sequence per value. `gossipjax.wire.codec` turns them into bytes and back.
"""

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from gossipjax.wire import limits
from gossipjax.wire.commitment import Opening

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Counter = Annotated[int, Meta(ge=0, le=limits.INTEGER_MAX)]
ChunkIndex = Annotated[int, Meta(ge=0, lt=limits.CHUNKS_MAX)]
Beacon = Annotated[bytes, Meta(min_length=64, max_length=64)]
Proof = Annotated[bytes, Meta(min_length=80, max_length=80)]
Hops = Annotated[int, Meta(ge=0, le=limits.RUMOR_HOPS_MAX)]
Text = Annotated[str, Meta(max_length=limits.TEXT_LENGTH_MAX)]
SealedBody = Annotated[bytes, Meta(max_length=4096)]


class Sealed(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A signed body, not yet verified: the raw bytes as received, and the signature over them.

    Open it with `gossipjax.wire.envelope`. The raw bytes are what is hashed, signed and passed on,
    never a re-encoding.
    """

    body: SealedBody
    signature: Signature


class PeerRecord(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Who a peer is and where it can be dialled; signed by itself.

    Attributes:
        run: the run that it takes part in.
        sign_key, vrf_key, transport_key: its public keys.
        addresses: ZeroMQ endpoints (`tcp://host:port`); empty when it cannot be dialled.
        sequence: grows with every new record of the same peer; the highest one counts.
        expires_s: Unix time, seconds, after which the record is void.
    """

    run: Digest
    sign_key: Key
    vrf_key: Key
    transport_key: Key
    addresses: Annotated[tuple[Text, ...], Meta(max_length=limits.ADDRESSES_MAX)]
    sequence: Counter
    expires_s: Counter


class RoundClaim(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What an author says of the round of training that an update ends, so that it can be audited.

    Attributes:
        version: of the model at the start of the round.
        steps: local steps of the round, on the samples that are assigned to it.
        segments: into which it is cut.
        states: commitment to the states at the boundaries: `gossipjax.wire.commitment`.
        epoch, beacon: the value of which epoch has drawn the samples; 0 and empty where there is
            none yet.
    """

    version: Counter
    steps: Annotated[int, Meta(ge=1, le=limits.INTEGER_MAX)]
    segments: Annotated[int, Meta(ge=1, le=limits.SEGMENTS_MAX)]
    states: Digest
    epoch: Counter = 0
    beacon: Annotated[bytes, Meta(max_length=64)] = b""


class UpdateHeader(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What an author says of one payload; signed by the author.

    Attributes:
        run: the run that it belongs to.
        author: peer id.
        sequence: strictly increasing per author; two headers with one number are evidence of a lie.
        version: local training steps that the model has absorbed, its own and others'.
        samples: training samples of the author's last round: its claim to weight.
        manifest: digest of the tensor names, shapes and dtypes.
        size: payload bytes.
        root: Merkle root over the payload's chunks.
        claim: of the round of training that the update ends; None where nobody audits.
    """

    run: Digest
    author: Digest
    sequence: Counter
    version: Counter
    samples: Counter
    manifest: Digest
    size: Annotated[int, Meta(ge=1, le=limits.CHUNKS_MAX * limits.CHUNK_BYTES)]
    root: Digest
    claim: RoundClaim | None = None


class Verdict(IntEnum):
    """What a committee member says of an update."""

    SOUND = 0
    """Nothing wrong was found."""

    FAULT = 1
    """Wrong in a way that anybody can check again."""

    HARMFUL = 2
    """It makes the model worse, as the member sees it."""

    WITHHELD = 3
    """Its author committed to it and does not show it."""


class Role(IntEnum):
    """What a committee is drawn for."""

    AUDIT = 1
    """A few, who check one update thoroughly."""

    JUDGE = 2
    """Many, whose votes decide what cannot be checked again."""


class Vote(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The verdict of one committee member, with the proof that it is one; signed by it.

    Attributes:
        run: the run that it belongs to.
        voter: peer id.
        epoch: whose beacon value the committee hangs on.
        beacon: SHA-256 of that value.
        role: what the committee was drawn for.
        case: digest of the header of the update.
        verdict: what the voter found.
        proof: of the voter's verifiable random function, for its seats.
    """

    run: Digest
    voter: Digest
    epoch: Counter
    beacon: Digest
    role: Role
    case: Digest
    verdict: Verdict
    proof: Proof


class Ticket(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A draw of one peer for the beacon value of one epoch.

    Attributes:
        epoch: Unix time divided by the length of an epoch.
        peer: whose ticket it is.
        parent: the beacon value of the epoch before that it hangs on.
        proof: of the peer's verifiable random function; its output may become the value.
    """

    epoch: Counter
    peer: Digest
    parent: Beacon
    proof: Proof


class Message(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of everything that is sent; never sent itself."""


class Hello(Message, frozen=True, tag=1):
    """First message on a connection, in both directions.

    `bulk` says which of the pair's two connections this one is: chunks travel on their own, so
    that a backlog of them cannot delay keep-alives.
    """

    protocol: Counter
    bulk: bool
    record: Sealed


class Ping(Message, frozen=True, tag=2):
    """Are you there? `version` is the sender's model version, `incarnation` see `Suspect`."""

    nonce: Counter
    version: Counter
    incarnation: Counter


class Pong(Message, frozen=True, tag=3):
    """Answer to a `Ping`, with its nonce."""

    nonce: Counter
    version: Counter
    incarnation: Counter


class GetPeers(Message, frozen=True, tag=4):
    """Tell me of others."""


class Peers(Message, frozen=True, tag=5):
    """Answer to `GetPeers`: records of peers, signed by each of them."""

    records: Annotated[tuple[Sealed, ...], Meta(max_length=limits.RECORDS_PER_MESSAGE_MAX)]


class Offer(Message, frozen=True, tag=6):
    """I have this update; ask for its chunks if you want it."""

    header: Sealed


class GetSnapshots(Message, frozen=True, tag=7):
    """Which updates do you hold? What a peer asks that has nothing yet."""


class Get(Message, frozen=True, tag=8):
    """Send `count` chunks of the update with this root, beginning with `first`."""

    root: Digest
    first: ChunkIndex
    count: Annotated[int, Meta(ge=1, le=limits.CREDIT_CHUNKS)]


class Chunk(Message, frozen=True, tag=9):
    """One chunk; its bytes are the frame that follows. `proof` leads from its hash to the root."""

    root: Digest
    index: ChunkIndex
    proof: Annotated[tuple[Digest, ...], Meta(max_length=limits.PROOF_HASHES_MAX)]


class Missing(Message, frozen=True, tag=10):
    """I do not have the update with this root, or no place for another that pulls it unoffered."""

    root: Digest


class Leave(Message, frozen=True, tag=11):
    """I am going, or I do not talk to you; `reason` is for people to read."""

    reason: Text


class Snapshot(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An update that somebody holds: whose it is, by the author's own record, and its header."""

    author: Sealed
    header: Sealed


class Snapshots(Message, frozen=True, tag=12):
    """Answer to `GetSnapshots`: updates of which every chunk can be had from the sender."""

    snapshots: Annotated[tuple[Snapshot, ...], Meta(max_length=limits.SNAPSHOTS_PER_MESSAGE_MAX)]


class GetRound(Message, frozen=True, tag=26):
    """I audit segment `segment` of the round that update `sequence` of `author` ends.

    Asked of the author, and of those who may have found a fault in it before.
    """

    author: Digest
    sequence: Counter
    segment: Annotated[int, Meta(ge=0, lt=limits.SEGMENTS_MAX)]


class Round(Message, frozen=True, tag=27):
    """Answer to `GetRound`: the segment's start and end, and the round's end; or nothing.

    The states themselves are asked for by their roots, as the payload of an update is.
    """

    author: Digest
    sequence: Counter
    openings: Annotated[tuple[Opening, ...], Meta(max_length=3)]


class DataPort(Message, frozen=True, tag=28):
    """Chunks may take a connection to this port of mine, in boxes that `secret` opens.

    Sent once, by the peer that was dialled, over the control connection. `token` admits to the
    port. AES-256-GCM takes less of the processor than CURVE; whoever does not get through to the
    port gets every chunk over the bulk connection.
    """

    port: Annotated[int, Meta(ge=1, le=65535)]
    token: Key
    secret: Key


class Tickets(Message, frozen=True, tag=20):
    """The lowest tickets that the sender knows of this epoch and the one before."""

    tickets: Annotated[tuple[Ticket, ...], Meta(max_length=limits.TICKETS_PER_MESSAGE_MAX)]


class Relay(Message, frozen=True, tag=15):
    """Pass the frame that follows on to `target`, a neighbor of yours; it comes from `source`.

    The frame is a packet of `gossipjax.protocol.tunnels`, which only `target` can read. `bulk` says
    on which of a pair's two connections it travels.
    """

    source: Digest
    target: Digest
    bulk: bool


class Undelivered(Message, frozen=True, tag=16):
    """I pass nothing on to this peer at present."""

    target: Digest


class Suspect(Message, frozen=True, tag=17):
    """I no longer hear this peer, whose incarnation was so much when I last did; do you?

    Only the peer itself raises its incarnation, and it does so when it hears that it is suspected.
    So whoever knows a higher one has heard it later.
    """

    peer: Digest
    incarnation: Counter


class Alive(Message, frozen=True, tag=18):
    """This peer is alive: its incarnation is now so much. Answer to a `Suspect`."""

    peer: Digest
    incarnation: Counter


class DialBack(Message, frozen=True, tag=19):
    """Open a connection to an address of my record: I want to know whether anybody can."""


class Case(Message, frozen=True, tag=21):
    """An update that has to be audited: whose it is, by the author's own record, and its header.

    `hops` more times it may be passed on; `beacon` is the value of epoch `epoch` that drew it.
    """

    hops: Hops
    author: Sealed
    header: Sealed
    epoch: Counter
    beacon: Beacon


class Ballot(Message, frozen=True, tag=22):
    """The vote of a committee member, on its way to all who know the case."""

    hops: Hops
    vote: Sealed


class Evidence(Message, frozen=True, tag=23):
    """What proves by itself that a peer has lied.

    Two different headers with one number, or one header with another form than the run's payloads,
    or one header and a draw: the segment that it picks does not come out as its author claims.
    """

    hops: Hops
    author: Sealed
    headers: Annotated[tuple[Sealed, ...], Meta(min_length=1, max_length=2)]
    draw: Beacon | None = None


class Certificate(Message, frozen=True, tag=24):
    """A verdict that stands: a case, and votes on it that reach the threshold."""

    hops: Hops
    author: Sealed
    header: Sealed
    epoch: Counter
    beacon: Beacon
    votes: Annotated[tuple[Sealed, ...], Meta(max_length=limits.VOTES_PER_CERTIFICATE_MAX)]


AnyMessage = (
    Hello
    | Ping
    | Pong
    | GetPeers
    | Peers
    | Offer
    | GetSnapshots
    | Get
    | Chunk
    | Missing
    | Leave
    | Snapshots
    | Relay
    | Undelivered
    | Suspect
    | Alive
    | DialBack
    | Tickets
    | Case
    | Ballot
    | Evidence
    | Certificate
    | GetRound
    | Round
    | DataPort
)


def is_bulk(message: AnyMessage) -> bool:
    """Whether a message travels on the bulk connection of a pair."""
    return isinstance(message, Chunk) or (isinstance(message, Relay) and message.bulk)
