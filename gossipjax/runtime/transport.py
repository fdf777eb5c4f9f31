"""Encrypted, authenticated message links over ZeroMQ.

One ROUTER per peer accepts; each dialled peer gets two DEALERs to its ROUTER, one for control and
one for bulk data, so that a backlog of chunks cannot delay a keep-alive, over a single open port.
CURVE encrypts, and a ZAP handler decides who may connect; a link is known by the key that ZAP
authenticated, never by a routing id, which anyone may choose.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from gossipjax.crypto.identity import Identity
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.metrics import Metrics
from gossipjax.types import PeerId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode_frames, encode
from gossipjax.wire.messages import AnyMessage, Chunk, Hello

ZAP_DOMAIN = b"gossipjax"
_LIBZMQ_MIN = (4, 3, 5)  # older ones have open advisories

_OPTIONS: dict[int, int] = {
    zmq.MAXMSGSIZE: limits.FRAME_BYTES_MAX,  # per frame; a larger one ends the connection
    zmq.RCVHWM: 4,  # messages, not bytes: the default of 1000 chunks would be 1 GiB per peer
    zmq.SNDHWM: 2 * limits.CREDIT_CHUNKS,  # more than the credit allows: full means stuck
    zmq.LINGER: 0,
    zmq.HANDSHAKE_IVL: 5_000,  # ends silent TCP connections
    zmq.HEARTBEAT_IVL: 10_000,
    zmq.HEARTBEAT_TIMEOUT: 30_000,
    zmq.HEARTBEAT_TTL: 60_000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 60,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_KEEPALIVE_INTVL: 15,
    zmq.TCP_MAXRT: 60_000,
}
_DIAL_OPTIONS: dict[int, int] = {
    zmq.IMMEDIATE: 1,  # queue nothing for a peer that is not there
    zmq.CONNECT_TIMEOUT: 5_000,
    zmq.RECONNECT_IVL: -1,  # the protocol decides when to dial again
}
_LISTEN_OPTIONS: dict[int, int] = {
    zmq.ROUTER_MANDATORY: 1,  # an error instead of silence when a peer is gone or stuck
    zmq.BACKLOG: 64,
    zmq.IPV6: 0,
}


class Link:
    """Two connections with the holder of `key`: control and bulk.

    Attributes:
        key: X25519 key of the other side, authenticated by CURVE.
        dialled: whether this side opened it.
        peer: the peer it is bound to, once a greeting has been verified.
    """

    def __init__(self, key: bytes, *, dialled: bool):
        self.key = key
        self.dialled = dialled
        self.peer: PeerId | None = None
        self.is_open = True
        self.sockets: dict[bool, zmq.asyncio.Socket] = {}  # dialled: by bulk
        self.routing_ids: dict[bool, bytes] = {}  # accepted: by bulk
        self.tasks: list[asyncio.Task[None]] = []


class Transport:
    """Opens, accepts and closes links; turns frames into messages. Lives in one event loop.

    Args:
        identity: whose transport key to use.
        config: where to listen and whom to admit.
        metrics: counts bytes and strangers.
        on_message: called with each message (and a chunk's data) and its link; for an accepted
            link the first is a `Hello`.
        on_malformed: called with a link and the error when its bytes are no message.
    """

    def __init__(
        self,
        identity: Identity,
        config: PeerConfig,
        metrics: Metrics,
        on_message: Callable[[Link, AnyMessage, memoryview | None], None],
        on_malformed: Callable[[Link, RemoteProtocolError], None],
    ):
        if not zmq.has("curve") or zmq.zmq_version_info() < _LIBZMQ_MIN:
            raise LocalProtocolError(
                f"needs libzmq ≥ 4.3.5 with CURVE, found {zmq.zmq_version()}; "
                "install pyzmq from a wheel"
            )
        self._identity = identity
        self._config = config
        self._metrics = metrics
        self._on_message = on_message
        self._on_malformed = on_malformed
        self._context = zmq.asyncio.Context()
        self._router: zmq.asyncio.Socket | None = None
        self._accepted: dict[bytes, Link] = {}  # by key
        self._by_routing_id: dict[bytes, Link] = {}
        self._dialled: set[Link] = set()
        self._gate = _Gate(config, metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self.endpoint = ""

    async def start(self) -> None:
        """Listen.

        Raises:
            LocalProtocolError: the address cannot be listened on.
        """
        self._context.set(zmq.MAX_SOCKETS, 4096)
        zap = self._context.socket(zmq.REP)
        zap.bind("inproc://zeromq.zap.01")
        router = self._socket(zmq.ROUTER, _LISTEN_OPTIONS)
        router.curve_server = True
        # Without a domain that is enforced, a missing ZAP handler would let anyone in.
        router.zap_domain = ZAP_DOMAIN
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        monitor = router.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        try:
            router.bind(self._config.listen)
        except zmq.ZMQError as error:
            zap.close(0)
            router.close(0)
            self._context.destroy(0)
            raise LocalProtocolError(
                f"cannot listen on {self._config.listen}: {error.strerror}; "
                "expected tcp://HOST:PORT with a free port (0 takes any)"
            ) from None
        self.endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._router = router
        self._spawn(self._gate.answer(zap))
        self._spawn(self._gate.watch(monitor))
        self._spawn(self._read_router(router))

    async def stop(self) -> None:
        """Close everything; what was just sent gets half a second to leave."""
        for task in [*self._tasks, *(t for link in self._dialled for t in link.tasks)]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, self._context.destroy, 500)

    def dial(self, address: Address) -> Link:
        """Open a link; messages sent on it wait for the connection."""
        link = Link(address.transport_key, dialled=True)
        for bulk in (False, True):
            dealer = self._socket(zmq.DEALER, _DIAL_OPTIONS)
            dealer.curve_serverkey = _z85(address.transport_key)
            dealer.connect(address.endpoint)
            link.sockets[bulk] = dealer
            link.tasks.append(asyncio.create_task(self._read_dealer(link, dealer)))
        self._dialled.add(link)
        return link

    async def greet(self, link: Link, hello: Callable[[bool], Hello]) -> None:
        """Send the first message on both connections of a dialled link, once they are up."""
        for bulk, dealer in link.sockets.items():
            await dealer.send(encode(hello(bulk)))

    def send(self, link: Link, message: AnyMessage, data: bytes | memoryview | None = None) -> bool:
        """Send without waiting; False when the other side is gone or takes nothing any more.

        Data is copied, so that a peer that does not read cannot pin old payloads in memory.
        """
        bulk = isinstance(message, Chunk)
        frames: list[bytes | memoryview] = [encode(message)]
        if data is not None:
            frames.append(data)
        if link.dialled:
            out = link.sockets.get(bulk)
        else:
            out = self._router
            frames.insert(0, link.routing_ids.get(bulk, b""))
        if out is None or not link.is_open:
            return False
        # With DONTWAIT the future is done when it is returned.
        sending = cast("asyncio.Future[None]", out.send_multipart(frames, zmq.DONTWAIT))
        if sending.exception() is not None:
            return False
        self._metrics.sent(sum(map(len, frames)))
        return True

    def close(self, link: Link) -> None:
        """Close a link; closing twice does nothing."""
        if not link.is_open:
            return
        link.is_open = False
        for task in link.tasks:
            task.cancel()
        for dealer in link.sockets.values():
            dealer.close(linger=500)
        self._dialled.discard(link)
        if self._accepted.get(link.key) is link:
            del self._accepted[link.key]
        for routing_id in link.routing_ids.values():
            self._by_routing_id.pop(routing_id, None)

    def _socket(self, kind: int, options: dict[int, int]) -> zmq.asyncio.Socket:
        made = self._context.socket(kind)
        for option, value in {**_OPTIONS, **options}.items():
            made.setsockopt(option, value)
        made.curve_secretkey = _z85(self._identity.transport_secret)
        made.curve_publickey = _z85(self._identity.public.transport)
        return made

    async def _read_dealer(self, link: Link, dealer: zmq.asyncio.Socket) -> None:
        while True:
            frames = await dealer.recv_multipart(copy=False)
            self._receive(link, [frame.buffer for frame in frames])

    async def _read_router(self, router: zmq.asyncio.Socket) -> None:
        while True:
            routing_id, *frames = await router.recv_multipart(copy=False)
            key = bytes.fromhex(str(frames[0].get("User-Id"))) if frames else b""
            parts = [frame.buffer for frame in frames]
            link = self._by_routing_id.get(routing_id.bytes)
            if link is None or link.key != key:
                link = self._greeted(key, routing_id.bytes, parts)
            if link is not None:
                self._receive(link, parts)

    def _greeted(self, key: bytes, routing_id: bytes, parts: list[memoryview]) -> Link | None:
        """The link that a connection's first message makes or joins; None when it is no `Hello`."""
        try:
            message, _ = decode_frames(parts)
        except RemoteProtocolError:
            message = None
        if not isinstance(message, Hello):
            self._metrics.stranger_refused()
            return None
        link = self._accepted.get(key)
        if link is None:
            link = self._accepted[key] = Link(key, dialled=False)
        # The newest connection of a key counts: the older is likely a half-open one of a restart.
        self._by_routing_id.pop(link.routing_ids.get(message.bulk, b""), None)
        link.routing_ids[message.bulk] = routing_id
        self._by_routing_id[routing_id] = link
        return link

    def _receive(self, link: Link, parts: list[memoryview]) -> None:
        self._metrics.received(sum(map(len, parts)))
        try:
            message, data = decode_frames(parts)
        except RemoteProtocolError as error:
            self._on_malformed(link, error)
            return
        self._on_message(link, message, data)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine))


class _Gate:
    """The ZAP handler (RFC 27): who may connect at all.

    libzmq has no limit on connections, so the listening socket's events are counted here.
    """

    def __init__(self, config: PeerConfig, metrics: Metrics):
        self._allow = {bytes.fromhex(key) for key in config.allow}
        self._connections_max = config.connections_max
        self._prefix_max = config.prefix_connections_max
        self._metrics = metrics
        self._prefix_of: dict[int, str] = {}  # by file descriptor

    async def answer(self, zap: zmq.asyncio.Socket) -> None:
        """Answer libzmq's questions, one per handshake."""
        while True:
            (
                version,
                request,
                domain,
                address,
                _,
                mechanism,
                *credentials,
            ) = await zap.recv_multipart()
            admitted = (
                version == b"1.0"
                and domain == ZAP_DOMAIN
                and mechanism == b"CURVE"
                and len(credentials) == 1
                and self._admits(credentials[0], address.decode())
            )
            if not admitted:
                self._metrics.stranger_refused()
            verdict = [b"200", b"OK"] if admitted else [b"400", b"refused"]
            user_id = credentials[0].hex().encode() if admitted else b""
            await zap.send_multipart([b"1.0", request, *verdict, user_id, b""])

    async def watch(self, monitor: zmq.asyncio.Socket) -> None:
        """Count accepted connections by network prefix."""
        while True:
            event = await recv_monitor_message(monitor)
            descriptor = int(event["value"])
            if event["event"] == zmq.EVENT_DISCONNECTED:
                self._prefix_of.pop(descriptor, None)
                continue
            with (
                contextlib.suppress(OSError),  # gone already
                socket.socket(fileno=os.dup(descriptor)) as accepted,
            ):
                self._prefix_of[descriptor] = _prefix(accepted.getpeername()[0])

    def _admits(self, key: bytes, address: str) -> bool:
        if self._allow and key not in self._allow:
            return False
        if len(self._prefix_of) > self._connections_max:
            return False
        if ipaddress.ip_address(address).is_private:
            return True
        return Counter(self._prefix_of.values())[_prefix(address)] <= self._prefix_max


def _prefix(address: str) -> str:
    return address.rpartition(".")[0]


def _z85(key: bytes) -> bytes:
    from zmq.utils import z85

    return z85.encode(key)
