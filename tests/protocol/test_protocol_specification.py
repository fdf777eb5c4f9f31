"""`docs/specification/` says what the code does; and its test vectors follow from it alone."""

import base64
import hashlib
import re
import struct
import typing
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from nacl.public import PrivateKey
from nacl.signing import SigningKey
from specification_pages import COMMAND, FOLDER, PAGES, vectors

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.rules import Rules
from gossipjax.wire import limits
from gossipjax.wire.messages import AnyMessage, PeerRecord, UpdateHeader, Vote

BY_HAND = (
    "index.md",
    "identity.md",
    "updates.md",
    "messages.md",
    "audits.md",
    "relays.md",
    "committees.md",
)
WRITTEN = {name: (FOLDER / name).read_text(encoding="utf-8") for name in (*BY_HAND, *PAGES)}
MESSAGES = typing.get_args(AnyMessage)


@pytest.mark.parametrize("page", PAGES)
def test_pages_made_from_the_source_are_up_to_date(page: str):
    assert WRITTEN[page] == PAGES[page](), f"out of date; run: {COMMAND}"


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_message_has_a_row_with_its_fields_and_a_section(kind: Any):
    name, tag = kind.__name__, kind.__struct_config__.tag
    page = WRITTEN["messages.md"]
    (row,) = re.findall(rf"^\| {tag} \| \[`{name}`\]\(#{name.lower()}\) \|.*\|(.*)\|$", page, re.M)
    before_second_frame = row.split(";")[0]
    fields = tuple(re.findall(r"`([a-z_]+)`", before_second_frame))
    assert fields == kind.__struct_fields__
    assert f"\n### {name}\n" in page


@pytest.mark.parametrize(
    ("page", "kind"),
    [("identity.md", PeerRecord), ("updates.md", UpdateHeader), ("committees.md", Vote)],
)
def test_signed_bodies_are_described_field_by_field(page: str, kind: Any):
    assert tuple(re.findall(r"^\| `([a-z_]+)` \|", WRITTEN[page], re.M)) == kind.__struct_fields__


@pytest.mark.parametrize("page", WRITTEN)
def test_every_name_of_a_limit_or_parameter_exists(page: str):
    text = WRITTEN[page]
    for name in re.findall(r"[` ]([A-Z]+_[A-Z_]+)[` ,]", text):
        assert hasattr(limits, name), name
    for name in re.findall(r"\b([a-z_]+_(?:ns|max|size|gap))\b", text):
        assert name in ProtocolConfig.__struct_fields__, name


def test_every_parameter_and_reason_is_explained_in_the_written_pages():
    written = "".join(text for name, text in WRITTEN.items() if name != "parameters.md")
    for name in (*ProtocolConfig.__struct_fields__, *Rules.__struct_fields__):
        assert f"`{name}`" in written or f"· {name}`" in written, name
    prose = "".join(WRITTEN[name] for name in BY_HAND)
    assert [reason for reason in limits.REASONS if f"`{reason}`" not in prose] == []


# ---- the vectors, a second time, from the pages alone ------------------------------------------


def packed(value: Any) -> bytes:
    """MessagePack as the specification asks for it, of what the protocol needs."""
    match value:
        case bool():
            return b"\xc3" if value else b"\xc2"
        case None:
            return b"\xc0"
        case int() if value < 0x80:
            return bytes([value])
        case int():
            code, size = next(
                (code, size)
                for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8))
                if value < 1 << 8 * size
            )
            return bytes([code]) + value.to_bytes(size, "big")
        case str() if len(value.encode()) < 32:
            return bytes([0xA0 + len(value.encode())]) + value.encode()
        case bytes() if len(value) < 256:
            return b"\xc4" + bytes([len(value)]) + value
        case list() if len(value) < 16:
            return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
        case _:
            raise NotImplementedError(value)


def derived(root: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(b"", key=root, person=purpose, digest_size=32).digest()


def test_vectors_follow_from_the_specification():
    root = bytes(range(32))
    sign, vrf, transport = (
        derived(root, b"gossipjax." + purpose) for purpose in (b"sign", b"vrf", b"curve")
    )
    sign_key = SigningKey(sign).verify_key.encode()
    vrf_key = SigningKey(vrf).verify_key.encode()
    transport_key = PrivateKey(transport).public_key.encode()

    form = packed([[["w", [1100, 1000], "uint8"], ["b", [2], "float32"]]])
    manifest = hashlib.sha256(b"gossipjax/v1/manifest\0" + form).digest()
    run = hashlib.sha256(b"gossipjax/v1/run\0" + manifest + b"vectors").digest()
    peer = hashlib.blake2b(
        run + sign_key + vrf_key, person=b"gossipjax.id", digest_size=32
    ).digest()

    payload = bytes(i % 256 for i in range(1000)) * 1100 + struct.pack("<2f", 1.5, -2.0)
    first, second = payload[: 1 << 20], payload[1 << 20 :]
    left, right = (blake3(b"\0" + chunk).digest() for chunk in (first, second))
    merkle_root = blake3(b"\1" + left + right).digest()

    addresses = ["tcp://192.0.2.7:4300"]
    record = packed(
        [run, sign_key, vrf_key, transport_key, addresses, 1_700_000_000_000, 1_702_592_000]
    )
    header = packed([run, peer, 3, 1200, 64, manifest, len(payload), merkle_root, None])
    record_signature, header_signature = (
        SigningKey(sign).sign(b"gossipjax/v1/" + domain + b"\0" + body).signature
        for domain, body in ((b"record", record), (b"update", header))
    )
    key_text = base64.urlsafe_b64encode(transport_key).decode().rstrip("=")
    computed = {
        "root seed": root,
        "signing seed": sign,
        "VRF seed": vrf,
        "transport secret": transport,
        "signing key": sign_key,
        "VRF key": vrf_key,
        "transport key": transport_key,
        "manifest digest": manifest,
        "run id": run,
        "peer id": peer,
        "record body": record,
        "record signature": record_signature,
        "payload SHA-256": hashlib.sha256(payload).digest(),
        "Merkle root": merkle_root,
        "proof of chunk 1": left,
        "header body": header,
        "header signature": header_signature,
        "Hello on control": packed([1, 1, False, [record, record_signature]]),
        "Ping, nonce 2^53, version 1200, incarnation 5": packed([2, 2**53, 1200, 5]),
        "Offer": packed([6, [header, header_signature]]),
        "Get, chunks 0 and 1": packed([8, merkle_root, 0, 2]),
        "first frame of chunk 1": packed([9, merkle_root, 1, [left]]),
        "Leave, stopping": packed([11, "stopping"]),
    }
    expected = {name: value.hex() for name, value in computed.items()}
    assert vectors() == {**expected, "join string": f"gossipjax://192.0.2.7:4300/{key_text}"}


def test_the_small_encoder_agrees_with_the_library():
    for value in (0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, True, False):
        assert packed(value) == msgspec.msgpack.encode(value)
    value = [[1, "é", b"x" * 255], [], ["a" * 31]]
    assert packed(value) == msgspec.msgpack.encode(value)
