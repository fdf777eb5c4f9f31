"""Where a peer can be dialled: ZeroMQ endpoints and the join string that people paste.

A join string is `gossipjax://HOST:PORT/KEY` with the X25519 key of the peer in URL-safe base64:
the address to dial and the key that must answer there, so nobody in between can take its place.
"""

import base64
import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from gossipjax.errors import LocalProtocolError, RemoteProtocolError

_PLACE = r"([A-Za-z0-9.-]{1,120}|\[[0-9A-Fa-f:.]{2,45}\]):([1-9][0-9]{0,4})"
_ENDPOINT = re.compile("tcp://" + _PLACE)
_JOIN = re.compile("gossipjax://" + _PLACE + "/([A-Za-z0-9_-]{43})")
_PORT_MAX = 65535


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
    if match is None or int(match[2]) > _PORT_MAX:
        raise RemoteProtocolError("malformed", f"expected tcp://host:port, got {endpoint!r}")
    return match[1], int(match[2])


@lru_cache(maxsize=1 << 14)
def network_of(endpoint: str) -> bytes:
    """The network that an endpoint is in: what tells one peer in many guises from many peers.

    The /16 of an IPv4 address, the /32 of an IPv6 one. All names together are one network, since
    whoever has one domain has as many names in it as they like.
    """
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return b"by name"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return ip.packed[:4]
        ip = ip.ipv4_mapped
    return ip.packed[:2]


def format_join(address: Address) -> str:
    """The join string of an address."""
    key = base64.urlsafe_b64encode(address.transport_key).rstrip(b"=").decode()
    return f"gossipjax://{address.endpoint.removeprefix('tcp://')}/{key}"


def parse_join(text: str) -> Address:
    """Read a join string.

    Raises:
        LocalProtocolError: it is not one; a person pasted it, so the text says what is expected.
    """
    match = _JOIN.fullmatch(text.strip())
    if match is None or int(match[2]) > _PORT_MAX:
        raise LocalProtocolError(
            "expected a join string like gossipjax://HOST:PORT/KEY (the first peer prints it when "
            f"it starts), got {text!r}"
        )
    return Address(f"tcp://{match[1]}:{match[2]}", base64.urlsafe_b64decode(match[3] + "="))
