"""Who may connect at all: the ZAP handler (ZeroMQ RFC 27) behind the listening socket."""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import deque
from typing import NamedTuple

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.metrics import Metrics

ZAP_DOMAIN = b"gossipjax"
DATA_DOMAIN = b"gossipjax-data"
HANDSHAKE_MS = 5_000
"""libzmq ends a connection that has not shown its key after so long."""

# An accepted connection that is older has completed its handshake.
_SETTLED_S = HANDSHAKE_MS / 1000 + 1.0

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_UNKNOWN = ipaddress.IPv4Network("0.0.0.0/32")


class _Connection(NamedTuple):
    since_s: float
    network: Network


class Gate:
    """Admits or refuses each handshake, and bounds the number of connections.

    libzmq has no limit on connections and does not say which one a handshake belongs to. So the
    ones that count are those that were accepted long enough ago to have completed the handshake,
    and the handshakes admitted since then. Silent connections are in neither set: they cannot
    take the places of honest peers.
    """

    MONITORED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    MONITORED |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH

    def __init__(self, config: PeerConfig, metrics: Metrics):
        self._allow = {bytes.fromhex(key) for key in config.allow}
        self._connections_max = config.connections_max
        self._prefix_max = config.prefix_connections_max
        self._metrics = metrics
        self.tokens: set[bytes] = set()
        self._accepted: dict[int, _Connection] = {}  # by file descriptor
        self._admitted: deque[_Connection] = deque()

    async def answer(self, zap: zmq.asyncio.Socket) -> None:
        """Answer libzmq's questions, one per handshake."""
        while True:
            request = await zap.recv_multipart()
            _, request_id, domain, address, _, mechanism, *credentials = request
            match domain, mechanism, credentials:
                case b"gossipjax", b"CURVE", [credential]:
                    admitted = self._admits(credential, address.decode())
                case b"gossipjax-data", b"PLAIN", [_, credential]:
                    admitted = credential in self.tokens
                case _:
                    credential, admitted = b"", False
            verdict = [b"200", b"OK"] if admitted else [b"400", b"refused"]
            user_id = credential.hex().encode() if admitted else b""
            await zap.send_multipart([b"1.0", request_id, *verdict, user_id, b""])
            await asyncio.sleep(0)

    async def watch(self, monitor: zmq.asyncio.Socket) -> None:
        """Follow connections as they come and go."""
        while True:
            event = await recv_monitor_message(monitor)
            descriptor = int(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._accepted[descriptor] = _Connection(time.monotonic(), _remote(descriptor))
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._accepted.pop(descriptor, None)
            else:
                self._metrics.stranger_refused()
            await asyncio.sleep(0)

    def _admits(self, key: bytes, address: str) -> bool:
        if self._allow and key not in self._allow:
            return False
        try:
            ip = _ip(address)
        except ValueError:  # empty when the connection is gone already
            return False
        now_s = time.monotonic()
        settled_s = now_s - _SETTLED_S
        while self._admitted and self._admitted[0].since_s <= settled_s:
            self._admitted.popleft()
        settled = [c.network for c in self._accepted.values() if c.since_s <= settled_s]
        open_networks = settled + [c.network for c in self._admitted]
        network = _network(ip)
        if len(open_networks) >= self._connections_max:
            return False
        if not ip.is_private and open_networks.count(network) >= self._prefix_max:
            return False
        self._admitted.append(_Connection(now_s, network))
        return True


def _ip(address: str) -> IP:
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def _network(ip: IP) -> Network:
    """The /24 of an IPv4 address or the /48 of an IPv6 one: what one person easily has."""
    if ip.version == 4:
        return ipaddress.IPv4Network((int(ip), 24), strict=False)
    return ipaddress.IPv6Network((int(ip), 48), strict=False)


def _remote(descriptor: int) -> Network:
    """The other side's network.

    The descriptor belongs to libzmq and may be closed, or be another file by now. So it is only
    looked at: closing even a duplicate would drop the locks of a file that took its number. The
    answer for a connection that is gone does not matter, since its end is the next event.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        borrowed = socket.socket(fileno=descriptor)
        try:
            return _network(_ip(borrowed.getpeername()[0]))
        finally:
            borrowed.detach()
    return _UNKNOWN
