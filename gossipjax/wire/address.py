"""Where a peer can be dialled: ZeroMQ endpoints and the join string that people paste.

A join string is `gossipjax://HOST:PORT/KEY` with the X25519 key of the peer in URL-safe base64:
the address to dial and the key that must answer there, so nobody in between can take its place.
"""

import base64
import binascii
import re
from typing import NamedTuple

from gossipjax.errors import LocalProtocolError, RemoteProtocolError

_ENDPOINT = re.compile(r"tcp://([A-Za-z0-9.-]{1,120}|\[[0-9A-Fa-f:.]{2,45}\]):([1-9][0-9]{0,4})")
_SCHEME = "gossipjax://"


class Address(NamedTuple):
    """A ZeroMQ endpoint `tcp://host:port` and the 32-byte X25519 key expected there."""

    endpoint: str
    transport_key: bytes


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`. No other transport is dialled for a stranger.

    Raises:
        RemoteProtocolError: (`malformed`) anything else.
    """
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or int(match[2]) > 65535:
        raise RemoteProtocolError("malformed", f"expected tcp://host:port, got {endpoint!r}")
    return match[1], int(match[2])


def format_join(address: Address) -> str:
    """The join string of an address."""
    key = base64.urlsafe_b64encode(address.transport_key).rstrip(b"=").decode()
    return f"{_SCHEME}{address.endpoint.removeprefix('tcp://')}/{key}"


def parse_join(text: str) -> Address:
    """Read a join string.

    Raises:
        LocalProtocolError: it is not one; a person pasted it, so the text says what is expected.
    """
    place, _, key_text = text.strip().removeprefix(_SCHEME).partition("/")
    try:
        key = base64.b64decode(key_text + "=", altchars=b"-_", validate=True)
        endpoint = f"tcp://{place}"
        parse_endpoint(endpoint)
        if len(key) != 32 or not text.strip().startswith(_SCHEME):
            raise ValueError
    except (RemoteProtocolError, binascii.Error, ValueError):
        raise LocalProtocolError(
            f"expected a join string like {_SCHEME}HOST:PORT/KEY (the first peer prints it when it "
            f"starts), got {text!r}"
        ) from None
    return Address(endpoint, key)
