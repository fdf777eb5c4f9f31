"""Messages and signed bodies to bytes and back.

Decoding is strict: size limit, exact types and bounds, no unknown or missing fields, no trailing
bytes, and the bytes must be the ones that encoding the value gives. The last rule closes what
MessagePack leaves open (non-minimal integers), so that one value has one byte sequence.
"""

from typing import TypeVar

import msgspec

from gossipjax.errors import RemoteProtocolError
from gossipjax.wire import limits
from gossipjax.wire.messages import (
    AnyMessage,
    Chunk,
    Message,
    PeerRecord,
    Relay,
    UpdateHeader,
    Vote,
)

_DATA_BYTES_MAX: dict[type, int] = {
    Chunk: limits.CHUNK_BYTES,
    Relay: limits.PACKET_BYTES_MAX,
}
"""Of the second frame of a message; others have none."""

Body = TypeVar("Body", PeerRecord, UpdateHeader, Vote)

_encoder = msgspec.msgpack.Encoder()
_message_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_body_decoders = {kind: msgspec.msgpack.Decoder(kind) for kind in (PeerRecord, UpdateHeader, Vote)}


def encode(value: Message | PeerRecord | UpdateHeader | Vote) -> bytes:
    """The one byte sequence of a message, or of the body of a signed one."""
    return _encoder.encode(value)


def decode(data: bytes | memoryview) -> AnyMessage:
    """Read one message.

    Raises:
        RemoteProtocolError: (`malformed`) whatever else the bytes are.
    """
    return _strict(_message_decoder, data)


def decode_body(kind: type[Body], data: bytes) -> Body:
    """Read the body of a `Sealed`: a `PeerRecord`, an `UpdateHeader` or a `Vote`.

    Raises:
        RemoteProtocolError: (`malformed`) whatever else the bytes are.
    """
    return _strict(_body_decoders[kind], data)  # pyright: ignore[reportReturnType]


def decode_frames(frames: list[memoryview]) -> tuple[AnyMessage, memoryview | None]:
    """Read a message and, for a `Chunk` or `Relay` only, the frame with its data.

    Raises:
        RemoteProtocolError: (`malformed`) a wrong number of frames, a second frame that is empty or
            too large, or a first frame that is no message.
    """
    if not frames:
        raise RemoteProtocolError("malformed", "no frame")
    message = decode(frames[0])
    bytes_max = _DATA_BYTES_MAX.get(type(message), 0)
    frames_expected = 2 if bytes_max else 1
    if len(frames) != frames_expected:
        raise RemoteProtocolError(
            "malformed",
            f"{type(message).__name__} has {frames_expected} frames, got {len(frames)}",
        )
    if frames_expected == 1:
        return message, None
    if not 1 <= len(frames[1]) <= bytes_max:
        raise RemoteProtocolError(
            "malformed",
            f"a {type(message).__name__} has 1 to {bytes_max} bytes, got {len(frames[1])}",
        )
    return message, frames[1]


T = TypeVar("T")


def _strict(decoder: "msgspec.msgpack.Decoder[T]", data: bytes | memoryview) -> T:
    if len(data) > limits.MESSAGE_BYTES_MAX:
        raise RemoteProtocolError(
            "malformed", f"at most {limits.MESSAGE_BYTES_MAX} bytes, got {len(data)}"
        )
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError("malformed", str(error)) from None
    if _encoder.encode(value) != data:
        raise RemoteProtocolError("malformed", "not the shortest encoding of its value")
    return value
