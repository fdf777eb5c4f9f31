"""Valid values of everything on the wire, and hypothesis strategies for them."""

from typing import Any

from hypothesis import strategies as st

from gossipjax.crypto.identity import Identity, identity_from_root
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.types import RunId
from gossipjax.wire import limits
from gossipjax.wire.commitment import Opening
from gossipjax.wire.envelope import Verified, run_id, seal_record
from gossipjax.wire.messages import (
    Alive,
    AnyMessage,
    Ballot,
    Case,
    Certificate,
    Chunk,
    DataPort,
    DialBack,
    Evidence,
    Get,
    GetPeers,
    GetRound,
    GetSnapshots,
    Hello,
    Leave,
    Missing,
    Offer,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    Relay,
    Role,
    Round,
    RoundClaim,
    Sealed,
    Snapshot,
    Snapshots,
    Suspect,
    Ticket,
    Tickets,
    Undelivered,
    UpdateHeader,
    Verdict,
    Vote,
)

SUITE = ed25519_suite()
MANIFEST_DIGEST = bytes(range(32, 64))
RUN: RunId = run_id("test", MANIFEST_DIGEST)
NOW_S = 1_700_000_000

SEALED = Sealed(b"body", bytes(64))
DIGEST = bytes(32)
BEACON, PROOF = bytes(64), bytes(80)
TICKET = Ticket(5, DIGEST, BEACON, PROOF)
MESSAGES: dict[type[Any], AnyMessage] = {
    type(message): message
    for message in (
        Hello(limits.PROTOCOL_VERSION, False, SEALED),
        Ping(1, 2, 4),
        Pong(1, 2, 4),
        GetPeers(),
        Peers((SEALED, SEALED)),
        Offer(SEALED),
        GetSnapshots(),
        Get(DIGEST, 3, 4),
        Chunk(DIGEST, 3, (DIGEST, DIGEST)),
        Missing(DIGEST),
        Leave("stopping"),
        Snapshots((Snapshot(SEALED, SEALED),)),
        Relay(DIGEST, DIGEST, True),
        Undelivered(DIGEST),
        Suspect(DIGEST, 5),
        Alive(DIGEST, 6),
        DialBack(),
        Tickets((TICKET, TICKET)),
        Case(6, SEALED, SEALED, 5, BEACON),
        Ballot(6, SEALED),
        Evidence(6, SEALED, (SEALED, SEALED)),
        Certificate(6, SEALED, SEALED, 5, BEACON, (SEALED,)),
        GetRound(DIGEST, 1, 2),
        Round(DIGEST, 1, (Opening(2, DIGEST, DIGEST, (DIGEST,)),)),
        DataPort(4300, DIGEST, DIGEST),
    )
}

digests = st.binary(min_size=32, max_size=32)
counters = st.integers(0, limits.INTEGER_MAX)
indices = st.integers(0, limits.CHUNKS_MAX - 1)
texts = st.text(max_size=limits.TEXT_LENGTH_MAX)
sealed = st.builds(Sealed, st.binary(max_size=500), st.binary(min_size=64, max_size=64))
hosts = st.from_regex(r"[A-Za-z0-9.-]{1,120}", fullmatch=True)
endpoints = st.builds("tcp://{}:{}".format, hosts, st.integers(1, 65535))

beacons = st.binary(min_size=64, max_size=64)
proofs = st.binary(min_size=80, max_size=80)
hops = st.integers(0, limits.RUMOR_HOPS_MAX)
tickets = st.lists(
    st.builds(Ticket, counters, digests, beacons, proofs), max_size=limits.TICKETS_PER_MESSAGE_MAX
)
votes = st.builds(
    Vote,
    run=digests,
    voter=digests,
    epoch=counters,
    beacon=digests,
    role=st.sampled_from(Role),
    case=digests,
    verdict=st.sampled_from(Verdict),
    proof=proofs,
)
segments = st.integers(0, limits.SEGMENTS_MAX - 1)
openings = st.builds(
    Opening,
    segments,
    digests,
    digests,
    st.lists(digests, max_size=limits.PROOF_HASHES_MAX).map(tuple),
)
claims = st.builds(
    RoundClaim,
    counters,
    st.integers(1, limits.INTEGER_MAX),
    st.integers(1, limits.SEGMENTS_MAX),
    digests,
    counters,
    st.binary(max_size=64),
)

messages: st.SearchStrategy[AnyMessage] = st.one_of(
    st.builds(Hello, counters, st.booleans(), sealed),
    st.builds(Ping, counters, counters, counters),
    st.builds(Pong, counters, counters, counters),
    st.just(GetPeers()),
    st.builds(Peers, st.lists(sealed, max_size=limits.RECORDS_PER_MESSAGE_MAX).map(tuple)),
    st.builds(Offer, sealed),
    st.just(GetSnapshots()),
    st.builds(Get, digests, indices, st.integers(1, limits.CREDIT_CHUNKS)),
    st.builds(
        Chunk, digests, indices, st.lists(digests, max_size=limits.PROOF_HASHES_MAX).map(tuple)
    ),
    st.builds(Missing, digests),
    st.builds(Leave, texts),
    st.builds(
        Snapshots,
        st.lists(
            st.builds(Snapshot, sealed, sealed), max_size=limits.SNAPSHOTS_PER_MESSAGE_MAX
        ).map(tuple),
    ),
    st.builds(Relay, digests, digests, st.booleans()),
    st.builds(Undelivered, digests),
    st.builds(Suspect, digests, counters),
    st.builds(Alive, digests, counters),
    st.just(DialBack()),
    st.builds(Tickets, tickets.map(tuple)),
    st.builds(Case, hops, sealed, sealed, counters, beacons),
    st.builds(Ballot, hops, sealed),
    st.builds(
        Evidence,
        hops,
        sealed,
        st.lists(sealed, min_size=1, max_size=2).map(tuple),
        st.none() | beacons,
    ),
    st.builds(
        Certificate,
        hops,
        sealed,
        sealed,
        counters,
        beacons,
        st.lists(sealed, max_size=4).map(tuple),
    ),
    st.builds(GetRound, digests, counters, segments),
    st.builds(Round, digests, counters, st.lists(openings, max_size=3).map(tuple)),
    st.builds(DataPort, st.integers(1, 65535), digests, digests),
)
records = st.builds(
    PeerRecord,
    run=digests,
    sign_key=digests,
    vrf_key=digests,
    transport_key=digests,
    addresses=st.lists(endpoints, max_size=limits.ADDRESSES_MAX).map(tuple),
    sequence=counters,
    expires_s=counters,
)
headers = st.builds(
    UpdateHeader,
    run=digests,
    author=digests,
    sequence=counters,
    version=counters,
    samples=counters,
    manifest=digests,
    size=st.integers(1, limits.CHUNKS_MAX * limits.CHUNK_BYTES),
    root=digests,
    claim=st.none() | claims,
)


def identity_of(number: int) -> Identity:
    """One of many fixed identities."""
    return identity_from_root(number.to_bytes(32, "little"))


def record_of(number: int, **changes: Any) -> Verified[PeerRecord]:
    """The signed record of a fixed identity, with some fields of one's own."""
    identity = identity_of(number)
    fields: dict[str, Any] = {
        "run": RUN,
        "sign_key": identity.public.sign,
        "vrf_key": identity.public.vrf,
        "transport_key": identity.public.transport,
        "addresses": (f"tcp://127.0.0.1:{20000 + number}",),
        "sequence": 1,
        "expires_s": NOW_S + 1000,
    }
    return seal_record(PeerRecord(**{**fields, **changes}), identity, SUITE)
