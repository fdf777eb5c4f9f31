import ast
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import MANIFEST_DIGEST, NOW_S, RUN, SUITE, identity_of, record_of

import gossipjax
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.wire import limits
from gossipjax.wire.codec import encode
from gossipjax.wire.envelope import (
    SealedUpdate,
    chunk_count,
    chunk_size,
    open_claim,
    open_header,
    open_record,
    open_vote,
    peer_id,
    record_author,
    run_id,
    seal_record,
    seal_update,
    seal_vote,
)
from gossipjax.wire.merkle import leaf_hash, proves
from gossipjax.wire.messages import Role, Sealed, UpdateHeader, Verdict, Vote

SIZE = 2 * limits.CHUNK_BYTES + 5
PAYLOAD = bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256)


def update_of(number: int = 1, **changes: Any) -> SealedUpdate:
    fields: dict[str, Any] = {
        "run": RUN,
        "sequence": 7,
        "version": 120,
        "samples": 64,
        "manifest_digest": MANIFEST_DIGEST,
        "identity": identity_of(number),
        "suite": SUITE,
    }
    return seal_update(PAYLOAD, **{**fields, **changes})


def as_fields(vote: Vote) -> dict[str, Any]:
    return {name: getattr(vote, name) for name in vote.__struct_fields__}


UPDATE = update_of()
RECORD = record_of(1)


# ---- ids ---------------------------------------------------------------------------------------


def test_ids_are_the_hashes_of_the_specification():
    digest, sign, vrf = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
    run = run_id("größe", digest)
    text = "größe".encode()
    assert run == hashlib.sha256(b"gossipjax/v1/run\0" + digest + text).digest()
    hasher = hashlib.blake2b(run + sign + vrf, person=b"gossipjax.id", digest_size=32)
    assert peer_id(run, sign, vrf) == hasher.digest()


def test_a_peer_is_another_one_in_another_run_or_with_another_vrf_key():
    base = RECORD.body
    ids = {
        record_author(base),
        record_author(record_of(1, run=bytes(32)).body),
        record_author(record_of(1, vrf_key=bytes(32)).body),
        record_author(record_of(2).body),
    }
    assert len(ids) == 4
    assert record_author(record_of(1, transport_key=bytes(32), sequence=9).body) == record_author(
        base
    )


# ---- records -----------------------------------------------------------------------------------


def test_a_record_opens():
    verified = open_record(RECORD.sealed, RUN, SUITE, NOW_S)
    assert verified == RECORD


@pytest.mark.parametrize(
    ("reason", "sealed"),
    [
        ("malformed", Sealed(b"", RECORD.sealed.signature)),
        ("malformed", UPDATE.header.sealed),
        ("malformed", record_of(1, addresses=("tcp://127.0.0.1:0",)).sealed),
        ("malformed", record_of(1, addresses=("tcp://127.0.0.1:1", "ipc://x")).sealed),
        ("protocol", record_of(1, run=bytes(32)).sealed),
        ("expired", record_of(1, expires_s=NOW_S).sealed),
        ("signature", Sealed(RECORD.sealed.body, bytes(64))),
        ("signature", Sealed(RECORD.sealed.body, record_of(2).sealed.signature)),
        ("signature", record_of(1, sign_key=identity_of(2).public.sign).sealed),
    ],
)
def test_a_record_is_refused(reason: str, sealed: Sealed):
    with pytest.raises(RemoteProtocolError) as caught:
        open_record(sealed, RUN, SUITE, NOW_S)
    assert caught.value.reason == reason


def test_a_record_lives_until_its_expiry():
    assert open_record(record_of(1, expires_s=NOW_S + 1).sealed, RUN, SUITE, NOW_S)


@given(st.binary(max_size=600) | st.just(RECORD.sealed.body), st.binary(min_size=64, max_size=64))
def test_any_sealed_bytes_are_no_record(body: bytes, signature: bytes):
    with pytest.raises(RemoteProtocolError):
        open_record(Sealed(body, signature), RUN, SUITE, NOW_S)


@given(st.data())
def test_no_altered_byte_of_a_record_passes(data: st.DataObject):
    raw = bytearray(RECORD.sealed.body + RECORD.sealed.signature)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError):
        open_record(Sealed(bytes(raw[:-64]), bytes(raw[-64:])), RUN, SUITE, NOW_S)


# ---- headers -----------------------------------------------------------------------------------


def open_as_sent_by(number: int, sealed: Sealed, size: int = SIZE) -> UpdateHeader:
    return open_header(sealed, record_of(number).body, MANIFEST_DIGEST, size, SUITE).body


def test_a_header_opens():
    assert open_as_sent_by(1, UPDATE.header.sealed) == UPDATE.header.body


def signed_as_a_record(update: SealedUpdate) -> Sealed:
    raw = update.header.sealed.body
    return Sealed(raw, SUITE.sign(identity_of(1).sign_seed, b"record", raw))


@pytest.mark.parametrize(
    ("reason", "sealed"),
    [
        ("malformed", RECORD.sealed),
        ("malformed", Sealed(b"\xff", bytes(64))),
        ("protocol", update_of(run=bytes(32)).header.sealed),
        ("author", update_of(2).header.sealed),
        ("shape", update_of(manifest_digest=bytes(32)).header.sealed),
        ("signature", Sealed(UPDATE.header.sealed.body, bytes(64))),
        ("signature", signed_as_a_record(UPDATE)),
    ],
)
def test_a_header_is_refused(reason: str, sealed: Sealed):
    with pytest.raises(RemoteProtocolError) as caught:
        open_as_sent_by(1, sealed)
    assert caught.value.reason == reason


def test_a_claim_opens_whatever_form_it_has():
    other = update_of(manifest_digest=bytes(32)).header
    assert open_claim(other.sealed, RECORD.body, SUITE) == other
    with pytest.raises(RemoteProtocolError, match="shape"):
        open_header(other.sealed, RECORD.body, MANIFEST_DIGEST, SIZE, SUITE)
    forged = Sealed(other.sealed.body, bytes(64))
    for sealed, author, reason in (
        (forged, RECORD, "signature"),
        (other.sealed, record_of(2), "author"),
        (update_of(run=bytes(32)).header.sealed, RECORD, "protocol"),
        (Sealed(b"", bytes(64)), RECORD, "malformed"),
    ):
        with pytest.raises(RemoteProtocolError, match=reason):
            open_claim(sealed, author.body, SUITE)


def test_a_vote_opens_under_its_voters_key_only():
    digest = bytes(32)
    vote = Vote(RUN, digest, 5, digest, Role.AUDIT, digest, Verdict.SOUND, bytes(80))
    sealed = seal_vote(vote, identity_of(1), SUITE).sealed
    key = identity_of(1).public.sign
    assert open_vote(sealed, vote, key, SUITE).body == vote
    with pytest.raises(RemoteProtocolError, match="signature"):
        open_vote(sealed, vote, identity_of(2).public.sign, SUITE)
    with pytest.raises(LocalProtocolError, match="refuse"):
        seal_vote(Vote(**{**as_fields(vote), "epoch": -1}), identity_of(1), SUITE)


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1])
def test_a_header_of_another_size_is_refused(size: int):
    with pytest.raises(RemoteProtocolError, match=f"size: the manifest has {size} B"):
        open_as_sent_by(1, UPDATE.header.sealed, size)


@given(st.data())
def test_no_altered_byte_of_a_header_passes(data: st.DataObject):
    sealed = UPDATE.header.sealed
    raw = bytearray(sealed.body + sealed.signature)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError):
        open_as_sent_by(1, Sealed(bytes(raw[:-64]), bytes(raw[-64:])))


@given(st.binary(max_size=400), st.binary(min_size=64, max_size=64))
def test_any_sealed_bytes_are_no_header(body: bytes, signature: bytes):
    with pytest.raises(RemoteProtocolError):
        open_as_sent_by(1, Sealed(body, signature))


# ---- sealing -----------------------------------------------------------------------------------


def test_an_update_is_served_in_chunks_that_its_root_proves():
    body = UPDATE.header.body
    assert chunk_count(body.size) == 3
    chunks = [UPDATE.chunk(index) for index in range(3)]
    assert b"".join(chunks) == PAYLOAD
    for index, chunk in enumerate(chunks):
        assert len(chunk) == chunk_size(body.size, index)
        assert proves(body.root, index, 3, leaf_hash(chunk), UPDATE.tree.proof(index))
    assert UPDATE.payload.readonly


@pytest.mark.parametrize(
    ("size", "count", "last"),
    [(1, 1, 1), (1 << 20, 1, 1 << 20), ((1 << 20) + 1, 2, 1), (1 << 36, 1 << 16, 1 << 20)],
)
def test_chunks_of_a_payload(size: int, count: int, last: int):
    assert chunk_count(size) == count
    assert chunk_size(size, count - 1) == last


@pytest.mark.parametrize("field", ["sequence", "version", "samples"])
@pytest.mark.parametrize("value", [-1, limits.INTEGER_MAX + 1])
def test_what_others_would_refuse_is_not_signed(field: str, value: int):
    with pytest.raises(LocalProtocolError, match="others would refuse"):
        update_of(**{field: value})


def test_a_record_that_others_would_refuse_is_not_signed():
    with pytest.raises(LocalProtocolError, match="others would refuse"):
        record_of(1, addresses=("tcp://127.0.0.1:1",) * 5)


def test_the_signed_bytes_are_the_encoded_body():
    assert RECORD.sealed.body == encode(RECORD.body)
    assert seal_record(RECORD.body, identity_of(1), SUITE) == RECORD


def test_only_the_envelope_makes_verified_values():
    package = Path(gossipjax.__file__).parent
    makers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split("[")[0].endswith("Verified")
    }
    assert makers == {"wire/envelope.py"}
