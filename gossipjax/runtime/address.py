"""Names and addresses as this machine sees them."""

import asyncio
import socket

from gossipjax.runtime.config import NO_ADDRESS, PeerConfig
from gossipjax.wire.address import parse_endpoint


def advertised_endpoint(config: PeerConfig, bound: str) -> str | None:
    """What others should dial: the public address, or this machine's where it listens on all.

    None when nobody can.
    """
    if config.public_address == NO_ADDRESS:
        return None
    if config.public_address:
        return config.public_address
    host, port = parse_endpoint(bound)
    if host == "0.0.0.0":
        host = _own_address(socket.AF_INET, "192.0.2.1") or "127.0.0.1"
    elif host == "[::]":
        host = f"[{_own_address(socket.AF_INET6, '2001:db8::1') or '::1'}]"
    return f"tcp://{host}:{port}"


def describe_reachability(is_reachable: bool, endpoint: str) -> str:
    """What to tell a person: whether others can open connections to this peer, and what to do.

    Args:
        is_reachable: whether anybody has.
        endpoint: what the peer advertises; empty when nothing.
    """
    without = "you take part through the connections that you open, and through relays"
    if not endpoint:
        return f"others cannot dial this peer, as its settings say: {without}"
    if is_reachable:
        return f"others can reach this peer at {endpoint}"
    _, port = parse_endpoint(endpoint)
    return (
        f"others cannot reach this peer at {endpoint}: open port {port} in the firewall, let the "
        f"router forward it, and set public_address if that leads to another address; or go on: "
        f"{without}"
    )


async def numeric_endpoint(endpoint: str) -> str:
    """An endpoint with its host's address, IPv4 where it has one.

    libzmq would look the name up in the thread that moves everybody's data.

    Raises:
        OSError: the name is unknown, or none at all.
    """
    host, port = parse_endpoint(endpoint)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # such as "a..b"
        raise OSError(f"{host}: {error}") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    numeric = str(address[0])
    return f"tcp://{numeric}:{port}" if family == socket.AF_INET else f"tcp://[{numeric}]:{port}"


def _own_address(family: socket.AddressFamily, anywhere: str) -> str | None:
    """The address of the interface towards the internet; no packet is sent.

    `anywhere` is an address that is never assigned (RFC 5737, RFC 3849).
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
