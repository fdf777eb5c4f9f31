"""Sealing what is signed, and the only way from received (`Sealed`) to believed (`Verified`)."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.types import PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.address import parse_endpoint
from gossipjax.wire.codec import decode_body, encode
from gossipjax.wire.merkle import MerkleTree, chunk_tree
from gossipjax.wire.messages import PeerRecord, RoundClaim, Sealed, UpdateHeader, Vote

T = TypeVar("T")

RECORD_DOMAIN = b"record"
UPDATE_DOMAIN = b"update"
_RECORDS_REMEMBERED = 4096
_IDS_REMEMBERED = 16_384
VOTE_DOMAIN = b"vote"


@dataclass(frozen=True, slots=True)
class Verified(Generic[T]):
    """A body whose signature has been checked, and the signed bytes themselves.

    Only this module makes one (held by a test), so a function that takes `Verified[T]` cannot be
    given anything unchecked. `sealed` is what is passed on to others, or kept as evidence.
    """

    body: T
    sealed: Sealed


def run_id(name: str, manifest_digest: bytes) -> RunId:
    """The id of a run: peers that differ in the run's name or in the payload's form never meet."""
    return RunId(hashlib.sha256(b"gossipjax/v1/run\0" + manifest_digest + name.encode()).digest())


@lru_cache(maxsize=_IDS_REMEMBERED)  # asked for with every record that comes: eight times cheaper
def peer_id(run: bytes, sign_key: bytes, vrf_key: bytes) -> PeerId:
    """`BLAKE2b-256(run ‖ sign_key ‖ vrf_key)`: whoever changes the VRF key is a new peer."""
    digest = hashlib.blake2b(
        run + sign_key + vrf_key, person=b"gossipjax.id", digest_size=32
    ).digest()
    return PeerId(digest)


def record_author(record: PeerRecord) -> PeerId:
    """The peer that a record describes."""
    return peer_id(record.run, record.sign_key, record.vrf_key)


def seal_record(record: PeerRecord, identity: Identity, suite: CryptoSuite) -> Verified[PeerRecord]:
    """Sign one's own record.

    Raises:
        LocalProtocolError: a field is out of bounds, so that everybody would refuse the record.
    """
    return _seal(record, identity, suite, RECORD_DOMAIN)


def open_record(sealed: Sealed, run: RunId, suite: CryptoSuite, now_s: int) -> Verified[PeerRecord]:
    """Check a peer record: form, run, expiry, signature by the key that it names.

    Raises:
        RemoteProtocolError: `malformed`, `protocol`, `expired` or `signature`.
    """
    record = _signed_record(sealed, run, suite)
    expires_s = record.body.expires_s
    if expires_s <= now_s:
        raise RemoteProtocolError("expired", f"record expired at {expires_s}, now {now_s}")
    return record


@lru_cache(maxsize=_RECORDS_REMEMBERED)
def _signed_record(sealed: Sealed, run: RunId, suite: CryptoSuite) -> Verified[PeerRecord]:
    """What of `open_record` does not depend on the time: a record comes from many neighbors."""
    record = decode_body(PeerRecord, sealed.body)
    for endpoint in record.addresses:
        parse_endpoint(endpoint)
    if record.run != run:
        raise RemoteProtocolError(
            "protocol", "the peer takes part in another run, or its payload has another form"
        )
    if not suite.verify(record.sign_key, RECORD_DOMAIN, sealed.body, sealed.signature):
        raise RemoteProtocolError("signature", "the record is not signed by its own key")
    return Verified(record, sealed)


def open_header(
    sealed: Sealed, sender: PeerRecord, manifest_digest: bytes, size: int, suite: CryptoSuite
) -> Verified[UpdateHeader]:
    """Check the header of an update that `sender` offers, cheapest check first.

    Raises:
        RemoteProtocolError: `malformed`, `protocol`, `author`, `shape`, `size` or `signature`.
    """
    header = _header_of(sealed, sender)
    if header.manifest != manifest_digest:
        raise RemoteProtocolError("shape", "names, shapes or dtypes are not those of this run")
    if header.size != size:
        raise RemoteProtocolError(
            "size", f"the manifest has {size} B, the header says {header.size}"
        )
    return _verified_header(header, sealed, sender, suite)


def open_claim(sealed: Sealed, author: PeerRecord, suite: CryptoSuite) -> Verified[UpdateHeader]:
    """Check that `author` has signed this header, whatever form of payload it claims.

    Raises:
        RemoteProtocolError: `malformed`, `protocol`, `author` or `signature`.
    """
    return _verified_header(_header_of(sealed, author), sealed, author, suite)


def _header_of(sealed: Sealed, author: PeerRecord) -> UpdateHeader:
    header = decode_body(UpdateHeader, sealed.body)
    if header.run != author.run:
        raise RemoteProtocolError("protocol", "an update of another run")
    if header.author != record_author(author):
        raise RemoteProtocolError("author", "an update of another peer")
    return header


def _verified_header(
    header: UpdateHeader, sealed: Sealed, author: PeerRecord, suite: CryptoSuite
) -> Verified[UpdateHeader]:
    if not suite.verify(author.sign_key, UPDATE_DOMAIN, sealed.body, sealed.signature):
        raise RemoteProtocolError("signature", "the update is not signed by its author")
    return Verified(header, sealed)


def seal_vote(vote: Vote, identity: Identity, suite: CryptoSuite) -> Verified[Vote]:
    """Sign one's own vote.

    Raises:
        LocalProtocolError: a field is out of bounds, so that everybody would refuse the vote.
    """
    return _seal(vote, identity, suite, VOTE_DOMAIN)


def open_vote(sealed: Sealed, vote: Vote, sign_key: bytes, suite: CryptoSuite) -> Verified[Vote]:
    """Check who has signed a decoded vote.

    Raises:
        RemoteProtocolError: `signature`.
    """
    if not suite.verify(sign_key, VOTE_DOMAIN, sealed.body, sealed.signature):
        raise RemoteProtocolError("signature", "the vote is not signed by its voter")
    return Verified(vote, sealed)


@dataclass(frozen=True, slots=True)
class SealedUpdate:
    """A signed update of one's own, ready to be served chunk by chunk."""

    header: Verified[UpdateHeader]
    payload: memoryview
    tree: MerkleTree

    def chunk(self, index: int) -> memoryview:
        """Bytes of chunk `index`."""
        start = index * limits.CHUNK_BYTES
        return self.payload[start : start + limits.CHUNK_BYTES]


def chunk_count(size: int) -> int:
    """Chunks of a payload of `size` bytes."""
    return -(-size // limits.CHUNK_BYTES)


def chunk_size(size: int, index: int) -> int:
    """Bytes of chunk `index` of a payload of `size` bytes."""
    return min(limits.CHUNK_BYTES, size - index * limits.CHUNK_BYTES)


def seal_update(
    payload: bytes | bytearray | memoryview,
    tree: MerkleTree | None = None,
    *,
    run: RunId,
    sequence: int,
    version: int,
    samples: int,
    manifest_digest: bytes,
    identity: Identity,
    suite: CryptoSuite,
    claim: RoundClaim | None = None,
) -> SealedUpdate:
    """Hash a packed payload into its Merkle root and sign the header. Payload must not change.

    `tree` is over the payload's chunks, when the caller has it already.

    Raises:
        LocalProtocolError: a number is out of bounds, so that everybody would refuse the update.
    """
    view = memoryview(payload).toreadonly()
    tree = tree or chunk_tree(view)
    header = UpdateHeader(
        run=run,
        author=peer_id(run, identity.public.sign, identity.public.vrf),
        sequence=sequence,
        version=version,
        samples=samples,
        manifest=manifest_digest,
        size=len(view),
        root=tree.root,
        claim=claim,
    )
    return SealedUpdate(_seal(header, identity, suite, UPDATE_DOMAIN), view, tree)


B = TypeVar("B", PeerRecord, UpdateHeader, Vote)


def _seal(body: B, identity: Identity, suite: CryptoSuite, domain: bytes) -> Verified[B]:
    raw = encode(body)
    try:  # msgspec checks bounds when it decodes only
        decode_body(type(body), raw)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"others would refuse {body}: {error}") from None
    return Verified(body, Sealed(raw, suite.sign(identity.sign_seed, domain, raw)))
