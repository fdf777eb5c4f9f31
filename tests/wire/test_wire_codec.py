import contextlib
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import DIGEST, MESSAGES, headers, messages, records, votes

from gossipjax.errors import RemoteProtocolError
from gossipjax.wire import limits
from gossipjax.wire.codec import decode, decode_body, decode_frames, encode
from gossipjax.wire.messages import (
    AnyMessage,
    Chunk,
    PeerRecord,
    Ping,
    Relay,
    Role,
    UpdateHeader,
    Verdict,
    Vote,
)

pack = msgspec.msgpack.encode
TAG = {kind: kind.__struct_config__.tag for kind in typing.get_args(AnyMessage)}

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=70)
    | st.binary(min_size=32, max_size=32),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
nearly_messages = st.builds(
    lambda tag, rest: [tag, *rest], st.integers(0, 26), st.lists(plain_values)
)


def decodes_or_is_refused(data: bytes) -> AnyMessage | None:
    try:
        message = decode(data)
    except RemoteProtocolError as error:
        refused_as = error.reason
    else:
        assert encode(message) == data
        return message
    assert refused_as == "malformed"
    return None


# ---- any bytes ---------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes):
    decodes_or_is_refused(data)


@given(nearly_messages | plain_values)
def test_any_messagepack_is_a_message_or_refused(value: Any):
    decodes_or_is_refused(pack(value))


@given(messages, st.data())
def test_a_damaged_message_is_another_message_or_refused(message: AnyMessage, data: st.DataObject):
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_is_refused(bytes(raw))


@given(messages, st.binary(max_size=10), st.integers(0, 100))
def test_a_cut_or_lengthened_message_is_refused(message: AnyMessage, tail: bytes, cut: int):
    raw = encode(message)
    if tail:
        assert decodes_or_is_refused(raw + tail) is None
    if 0 < cut <= len(raw):
        assert decodes_or_is_refused(raw[:-cut]) is None


@given(
    st.sampled_from([PeerRecord, UpdateHeader, Vote]),
    st.binary(max_size=400) | plain_values.map(pack),
)
def test_any_bytes_are_a_body_or_refused(kind: Any, data: bytes):
    with contextlib.suppress(RemoteProtocolError):
        assert encode(decode_body(kind, data)) == data


@given(st.lists(st.binary(max_size=60), max_size=4), st.none() | messages)
def test_any_frames_are_a_message_or_refused(parts: list[bytes], first: AnyMessage | None):
    frames = [memoryview(part) for part in parts]
    if first is not None:
        frames.insert(0, memoryview(encode(first)))
    with contextlib.suppress(RemoteProtocolError):
        message, data = decode_frames(frames)
        assert (data is not None) == isinstance(message, Chunk | Relay)


# ---- round trips -------------------------------------------------------------------------------


@given(messages)
def test_every_message_comes_back(message: AnyMessage):
    assert decode(encode(message)) == message
    assert decode(memoryview(encode(message))) == message


@given(records)
def test_every_record_comes_back(record: PeerRecord):
    assert decode_body(PeerRecord, encode(record)) == record


@given(headers)
def test_every_header_comes_back(header: UpdateHeader):
    assert decode_body(UpdateHeader, encode(header)) == header


@given(votes)
def test_every_vote_comes_back(vote: Vote):
    assert decode_body(Vote, encode(vote)) == vote


def test_every_kind_of_message_has_a_sample_and_a_tag_of_its_own():
    assert set(MESSAGES) == set(TAG)
    assert len(set(TAG.values())) == len(TAG)


# ---- one value, one byte sequence --------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        bytes([0x94, 2, 0xCC, 1, 2, 3]),  # 1 as uint8
        bytes([0x94, 2, 0xCF, *bytes(7), 1, 2, 3]),  # 1 as uint64
        bytes([0x94, 2, 0xD0, 1, 2, 3]),  # 1 as int8
        bytes([0xDC, 0, 4, 2, 1, 2, 3]),  # an array of four with a long header
        bytes([0x94, 0xCC, 2, 1, 2, 3]),  # the tag as uint8
        bytes([0x92, 11, 0xD9, 1, 0x61]),  # a short text with a long header
    ],
)
def test_a_longer_encoding_of_the_same_value_is_refused(data: bytes):
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode(data)


def test_what_is_not_an_array_is_refused():
    named = {"type": 2, "nonce": 1, "version": 2}
    for value in (named, {0: 2, 1: 1, 2: 2}, "2", 2, None, [], [[2, 1, 2]]):
        assert decodes_or_is_refused(pack(value)) is None


@pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda m: type(m).__name__)
def test_a_missing_or_additional_field_is_refused(message: AnyMessage):
    fields = msgspec.msgpack.decode(encode(message))
    assert decodes_or_is_refused(pack([*fields, 0])) is None
    assert decodes_or_is_refused(pack([*fields, None])) is None
    assert decodes_or_is_refused(pack(fields[:-1])) is None


@pytest.mark.parametrize("tag", [0, 19, 25, -1, 2**63, "2", 2.0, True, None])
def test_an_unknown_tag_is_refused(tag: object):
    assert decodes_or_is_refused(pack([tag, 1, 2])) is None


@pytest.mark.parametrize(
    "nonce", [-1, 1.0, True, "1", b"1", None, limits.INTEGER_MAX + 1, 2**64 - 1]
)
def test_what_is_no_counter_is_refused(nonce: object):
    assert decodes_or_is_refused(pack([2, nonce, 2])) is None


def test_extension_types_and_timestamps_are_refused():
    assert decodes_or_is_refused(pack([2, msgspec.msgpack.Ext(5, b"1"), 2])) is None
    assert decodes_or_is_refused(bytes([0x94, 2, 0xD6, 0xFF, *bytes(4), 2, 3])) is None


def test_text_that_is_no_utf8_is_refused():
    assert decodes_or_is_refused(bytes([0x92, 11, 0xA2, 0xC3, 0x28])) is None
    assert decodes_or_is_refused(bytes([0x92, 11, 0xA3, 0xED, 0xA0, 0x80])) is None  # a surrogate


def test_deep_nesting_and_huge_claims_are_refused_without_memory():
    assert decodes_or_is_refused(b"\x91" * 16_000) is None
    assert decodes_or_is_refused(b"\x92\x05" + b"\x91" * 16_000) is None
    assert decodes_or_is_refused(b"\xdd\xff\xff\xff\xff\x05") is None
    assert decodes_or_is_refused(b"\x92\x05\xdd\xff\xff\xff\xff") is None
    assert decodes_or_is_refused(b"\x92\x0a\xc6\xff\xff\xff\xff") is None


# ---- every limit -------------------------------------------------------------------------------


def raw_sealed(body: bytes = b"", signature: bytes = bytes(64)) -> list[bytes]:
    return [body, signature]


TICKET = [0, DIGEST, bytes(64), bytes(80)]


def case_of(tag: int, hops: int = 1, epoch: int = 0, beacon: bytes = bytes(64)) -> list[Any]:
    return [tag, hops, raw_sealed(), raw_sealed(), epoch, beacon]


def certificate_of(votes: int, **changes: Any) -> list[Any]:
    return [*case_of(24, **changes), [raw_sealed()] * votes]


def evidence_of(headers: int, hops: int = 1) -> list[Any]:
    return [23, hops, raw_sealed(), [raw_sealed()] * headers, None]


OPENING = [0, DIGEST, DIGEST, []]
LIMITS: dict[str, tuple[Any, Any]] = {
    "Ping.nonce": ([2, limits.INTEGER_MAX, 0, 0], [2, limits.INTEGER_MAX + 1, 0, 0]),
    "Ping.version": ([2, 0, limits.INTEGER_MAX, 0], [2, 0, limits.INTEGER_MAX + 1, 0]),
    "Ping.incarnation": ([2, 0, 0, limits.INTEGER_MAX], [2, 0, 0, limits.INTEGER_MAX + 1]),
    "Pong.nonce": ([3, limits.INTEGER_MAX, 0, 0], [3, limits.INTEGER_MAX + 1, 0, 0]),
    "Pong.version": ([3, 0, limits.INTEGER_MAX, 0], [3, 0, limits.INTEGER_MAX + 1, 0]),
    "Pong.incarnation": ([3, 0, 0, limits.INTEGER_MAX], [3, 0, 0, limits.INTEGER_MAX + 1]),
    "Hello.protocol": ([1, 0, False, raw_sealed()], [1, -1, False, raw_sealed()]),
    "Sealed.body": ([6, raw_sealed(bytes(4096))], [6, raw_sealed(bytes(4097))]),
    "Sealed.signature long": ([6, raw_sealed()], [6, raw_sealed(b"", bytes(65))]),
    "Sealed.signature short": ([6, raw_sealed()], [6, raw_sealed(b"", bytes(63))]),
    "Peers.records": ([5, [raw_sealed()] * 16], [5, [raw_sealed()] * 17]),
    "Get.root": ([8, DIGEST, 0, 1], [8, bytes(31), 0, 1]),
    "Get.first": ([8, DIGEST, 65535, 1], [8, DIGEST, 65536, 1]),
    "Get.count high": ([8, DIGEST, 0, 8], [8, DIGEST, 0, 9]),
    "Get.count low": ([8, DIGEST, 0, 1], [8, DIGEST, 0, 0]),
    "Chunk.index": ([9, DIGEST, 65535, []], [9, DIGEST, 65536, []]),
    "Chunk.proof": ([9, DIGEST, 0, [DIGEST] * 16], [9, DIGEST, 0, [DIGEST] * 17]),
    "Chunk.proof hash": ([9, DIGEST, 0, [DIGEST]], [9, DIGEST, 0, [bytes(33)]]),
    "Missing.root": ([10, DIGEST], [10, bytes(33)]),
    "Suspect.peer": ([17, DIGEST, 0], [17, bytes(33), 0]),
    "Suspect.incarnation": ([17, DIGEST, limits.INTEGER_MAX], [17, DIGEST, limits.INTEGER_MAX + 1]),
    "Alive.peer": ([18, DIGEST, 0], [18, bytes(33), 0]),
    "Alive.incarnation": ([18, DIGEST, limits.INTEGER_MAX], [18, DIGEST, limits.INTEGER_MAX + 1]),
    "Tickets.tickets": ([20, [TICKET] * 6], [20, [TICKET] * 7]),
    "Ticket.epoch": ([20, [TICKET]], [20, [[-1, *TICKET[1:]]]]),
    "Ticket.peer": ([20, [TICKET]], [20, [[0, bytes(31), *TICKET[2:]]]]),
    "Ticket.parent": ([20, [TICKET]], [20, [[0, DIGEST, bytes(63), bytes(80)]]]),
    "Ticket.proof": ([20, [TICKET]], [20, [[0, DIGEST, bytes(64), bytes(79)]]]),
    "Case.hops": (case_of(21, hops=16), case_of(21, hops=17)),
    "Case.epoch": (case_of(21, epoch=limits.INTEGER_MAX), case_of(21, epoch=-1)),
    "Case.beacon": (case_of(21), case_of(21, beacon=bytes(65))),
    "Ballot.hops": ([22, 16, raw_sealed()], [22, 17, raw_sealed()]),
    "Evidence.hops": (evidence_of(1, hops=16), evidence_of(1, hops=-1)),
    "Evidence.headers high": (evidence_of(2), evidence_of(3)),
    "Evidence.headers low": (evidence_of(1), evidence_of(0)),
    "Evidence.draw": ([*evidence_of(1)[:4], bytes(64)], [*evidence_of(1)[:4], bytes(65)]),
    "Certificate.hops": (certificate_of(0, hops=16), certificate_of(0, hops=17)),
    "Certificate.beacon": (certificate_of(0), certificate_of(0, beacon=bytes(63))),
    "Certificate.votes": (certificate_of(40), certificate_of(41)),
    "GetRound.author": ([26, DIGEST, 0, 0], [26, bytes(31), 0, 0]),
    "GetRound.segment": ([26, DIGEST, 0, 1023], [26, DIGEST, 0, 1024]),
    "Round.author": ([27, DIGEST, 0, []], [27, bytes(33), 0, []]),
    "Round.openings": ([27, DIGEST, 0, [OPENING] * 3], [27, DIGEST, 0, [OPENING] * 4]),
    "Opening.index": (
        [27, DIGEST, 0, [[1024, *OPENING[1:]]]],
        [27, DIGEST, 0, [[1025, *OPENING[1:]]]],
    ),
    "Opening.params": ([27, DIGEST, 0, [OPENING]], [27, DIGEST, 0, [[0, bytes(31), DIGEST, []]]]),
    "Opening.rest": ([27, DIGEST, 0, [OPENING]], [27, DIGEST, 0, [[0, DIGEST, bytes(33), []]]]),
    "DataPort.port high": ([28, 65535, DIGEST, DIGEST], [28, 65536, DIGEST, DIGEST]),
    "DataPort.port low": ([28, 1, DIGEST, DIGEST], [28, 0, DIGEST, DIGEST]),
    "DataPort.token": ([28, 1, DIGEST, DIGEST], [28, 1, bytes(31), DIGEST]),
    "DataPort.secret": ([28, 1, DIGEST, DIGEST], [28, 1, DIGEST, bytes(33)]),
    "Opening.proof": (
        [27, DIGEST, 0, [[0, DIGEST, DIGEST, [DIGEST] * 16]]],
        [27, DIGEST, 0, [[0, DIGEST, DIGEST, [DIGEST] * 17]]],
    ),
    "Leave.reason": ([11, "é" * 200], [11, "e" * 201]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_largest_value_passes_and_the_next_is_refused(name: str):
    allowed, refused = LIMITS[name]
    assert decodes_or_is_refused(pack(allowed)) is not None
    assert decodes_or_is_refused(pack(refused)) is None


RECORD = [DIGEST, DIGEST, DIGEST, DIGEST, [], 0, 0]
HEADER = [DIGEST, DIGEST, 0, 0, 0, DIGEST, 1, DIGEST, None]

VOTE = [DIGEST, DIGEST, 0, DIGEST, 1, DIGEST, 0, bytes(80)]
BODY_LIMITS: dict[str, tuple[Any, int, Any, Any]] = {
    "run": (PeerRecord, 0, bytes(32), bytes(31)),
    "sign_key": (PeerRecord, 1, bytes(32), bytes(33)),
    "vrf_key": (PeerRecord, 2, bytes(32), bytes(31)),
    "transport_key": (PeerRecord, 3, bytes(32), bytes(33)),
    "addresses": (PeerRecord, 4, ["a"] * 4, ["a"] * 5),
    "address": (PeerRecord, 4, ["a" * 200], ["a" * 201]),
    "record sequence": (PeerRecord, 5, limits.INTEGER_MAX, limits.INTEGER_MAX + 1),
    "expires_s": (PeerRecord, 6, limits.INTEGER_MAX, limits.INTEGER_MAX + 1),
    "author": (UpdateHeader, 1, bytes(32), bytes(31)),
    "sequence": (UpdateHeader, 2, limits.INTEGER_MAX, limits.INTEGER_MAX + 1),
    "version": (UpdateHeader, 3, limits.INTEGER_MAX, -1),
    "samples": (UpdateHeader, 4, limits.INTEGER_MAX, limits.INTEGER_MAX + 1),
    "manifest": (UpdateHeader, 5, bytes(32), bytes(33)),
    "size high": (UpdateHeader, 6, 1 << 36, (1 << 36) + 1),
    "size low": (UpdateHeader, 6, 1, 0),
    "root": (UpdateHeader, 7, bytes(32), b""),
    "vote run": (Vote, 0, bytes(32), bytes(31)),
    "voter": (Vote, 1, bytes(32), bytes(33)),
    "epoch": (Vote, 2, limits.INTEGER_MAX, limits.INTEGER_MAX + 1),
    "beacon": (Vote, 3, bytes(32), bytes(64)),
    "role high": (Vote, 4, max(Role), max(Role) + 1),
    "role low": (Vote, 4, min(Role), min(Role) - 1),
    "case": (Vote, 5, bytes(32), bytes(31)),
    "verdict high": (Vote, 6, max(Verdict), max(Verdict) + 1),
    "verdict low": (Vote, 6, 0, -1),
    "proof": (Vote, 7, bytes(80), bytes(81)),
    "claim": (UpdateHeader, 8, None, []),
    "claim version": (UpdateHeader, 8, [0, 1, 1, DIGEST, 0, b""], [-1, 1, 1, DIGEST, 0, b""]),
    "claim steps": (UpdateHeader, 8, [0, 1, 1, DIGEST, 0, b""], [0, 0, 1, DIGEST, 0, b""]),
    "claim segments low": (UpdateHeader, 8, [0, 1, 1, DIGEST, 0, b""], [0, 1, 0, DIGEST, 0, b""]),
    "claim segments high": (
        UpdateHeader,
        8,
        [0, 1, 1024, DIGEST, 0, b""],
        [0, 1, 1025, DIGEST, 0, b""],
    ),
    "claim epoch": (UpdateHeader, 8, [0, 1, 1, DIGEST, 0, b""], [0, 1, 1, DIGEST, -1, b""]),
    "claim beacon": (
        UpdateHeader,
        8,
        [0, 1, 1, DIGEST, 0, bytes(64)],
        [0, 1, 1, DIGEST, 0, bytes(65)],
    ),
    "claim states": (UpdateHeader, 8, [0, 1, 1, DIGEST, 0, b""], [0, 1, 1, bytes(31), 0, b""]),
}
BODIES = {PeerRecord: RECORD, UpdateHeader: HEADER, Vote: VOTE}


@pytest.mark.parametrize("name", BODY_LIMITS)
def test_the_largest_body_value_passes_and_the_next_is_refused(name: str):
    kind, place, allowed, refused = BODY_LIMITS[name]
    fields = list(BODIES[kind])
    fields[place] = allowed
    decode_body(kind, pack(fields))
    fields[place] = refused
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_body(kind, pack(fields))


def test_a_message_above_the_size_limit_is_refused_unread():
    with pytest.raises(RemoteProtocolError, match=r"at most 16384 bytes, got 16385"):
        decode(bytes(limits.MESSAGE_BYTES_MAX + 1))


def test_the_largest_honest_peers_message_fits():
    # The longest endpoint that `parse_endpoint` accepts, in the largest record, in full messages.
    endpoint = f"tcp://{'h' * 120}:65535"
    big = limits.INTEGER_MAX
    record = PeerRecord(
        DIGEST, DIGEST, DIGEST, DIGEST, (endpoint,) * limits.ADDRESSES_MAX, big, big
    )
    sealed = raw_sealed(encode(record))
    raw = pack([5, [sealed] * limits.RECORDS_PER_MESSAGE_MAX])
    assert len(raw) <= limits.MESSAGE_BYTES_MAX
    decode(raw)


def test_the_largest_certificate_fits():
    big = limits.INTEGER_MAX
    endpoint = f"tcp://{'h' * 120}:65535"
    record = PeerRecord(
        DIGEST, DIGEST, DIGEST, DIGEST, (endpoint,) * limits.ADDRESSES_MAX, big, big
    )
    header = UpdateHeader(DIGEST, DIGEST, big, big, big, DIGEST, 1 << 36, DIGEST)
    vote = Vote(DIGEST, DIGEST, big, DIGEST, Role.JUDGE, DIGEST, Verdict.WITHHELD, bytes(80))
    sealed = [raw_sealed(encode(body)) for body in (record, header, vote)]
    votes = [sealed[2]] * limits.VOTES_PER_CERTIFICATE_MAX
    raw = pack([24, 16, sealed[0], sealed[1], big, bytes(64), votes])
    assert len(raw) <= limits.MESSAGE_BYTES_MAX
    decode(raw)


# ---- frames ------------------------------------------------------------------------------------


def frames_of(*parts: bytes) -> list[memoryview]:
    return [memoryview(part) for part in parts]


@pytest.mark.parametrize(
    ("kind", "bytes_max"), [(Chunk, limits.CHUNK_BYTES), (Relay, limits.PACKET_BYTES_MAX)]
)
def test_some_messages_come_with_data(kind: type, bytes_max: int):
    for size in (1, bytes_max):
        message, data = decode_frames(frames_of(encode(MESSAGES[kind]), bytes(size)))
        assert message == MESSAGES[kind]
        assert data == bytes(size)
    for size in (0, bytes_max + 1):
        with pytest.raises(RemoteProtocolError, match=f"got {size}"):
            decode_frames(frames_of(encode(MESSAGES[kind]), bytes(size)))


def test_a_wrong_number_of_frames_is_refused():
    ping, chunk = encode(MESSAGES[Ping]), encode(MESSAGES[Chunk])
    for parts in ([], [ping, b"x"], [chunk], [chunk, b"x", b"x"], [b"", ping]):
        with pytest.raises(RemoteProtocolError, match="malformed"):
            decode_frames(frames_of(*parts))
