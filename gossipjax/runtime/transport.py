"""Encrypted, authenticated message links over ZeroMQ.

One ROUTER per peer accepts; each dialled peer gets two DEALERs to its ROUTER, one for control and
one for bulk data, so that a backlog of chunks cannot delay a keep-alive, over a single open port.
CURVE encrypts, and a ZAP handler decides who may connect; a link is known by the key that ZAP
authenticated, never by a routing id, which anyone may choose.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import zmq
import zmq.asyncio
from zmq.utils import z85

from gossipjax.crypto.identity import Identity
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.runtime.address import numeric_endpoint
from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.data import DataConnection, DataPorts
from gossipjax.runtime.gate import HANDSHAKE_MS, ZAP_DOMAIN, Gate
from gossipjax.runtime.metrics import Metrics
from gossipjax.types import PeerId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode_frames, encode
from gossipjax.wire.messages import AnyMessage, DataPort, Hello, is_bulk

_logger = logging.getLogger("gossipjax")

_LIBZMQ_MIN = (4, 3, 5)  # older ones have open advisories
_LINGER_MS = 500  # what was just sent gets so long to leave

_OPTIONS: dict[int, int] = {
    zmq.MAXMSGSIZE: limits.FRAME_BYTES_MAX,  # per frame; a larger one ends the connection
    zmq.RCVHWM: 4,  # messages, not bytes: the default of 1000 chunks would be 1 GiB per peer
    zmq.SNDHWM: 2 * limits.CREDIT_CHUNKS,  # more than the credit allows: full means stuck
    zmq.LINGER: 0,
    zmq.HANDSHAKE_IVL: HANDSHAKE_MS,  # ends silent TCP connections
    # No ZMTP heartbeats: with a small RCVHWM they abort the process (docs/decisions).
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
}


class Link:
    """Two connections with the holder of `key`: control and bulk.

    Attributes:
        key: X25519 key of the other side, authenticated by CURVE.
        endpoint: where the other side is; of an accepted link the port means nothing.
        dialled: whether this side opened it.
        peer: the peer it is bound to, once a greeting has been verified.
        settled: set once it is bound or closed.
        data: a faster connection for chunks, where there is one.
    """

    def __init__(self, key: bytes, endpoint: str, *, dialled: bool):
        self.key = key
        self.endpoint = endpoint
        self.numeric_endpoint = endpoint
        self.dialled = dialled
        self.peer: PeerId | None = None
        self.is_open = True
        self.settled = asyncio.Event()
        self.sockets: dict[bool, zmq.asyncio.Socket] = {}  # dialled: by bulk
        self.routing_ids: dict[bool, bytes] = {}  # accepted: by bulk
        self.tasks: list[asyncio.Task[None]] = []
        self.data: DataConnection | None = None

    @property
    def is_complete(self) -> bool:
        """Whether both connections are there."""
        return len(self.sockets if self.dialled else self.routing_ids) == 2

    def bind(self, peer: PeerId) -> None:
        """Note whose it is."""
        self.peer = peer
        self.settled.set()


class Listeners(NamedTuple):
    """What a transport reports.

    Attributes:
        message: a message (and a chunk's data) and its link; on an accepted link the first two are
            a `Hello` each, one per connection.
        malformed: bytes of a link that are no message.
        lost: a link that has been closed here: the other side has replaced it by a new one, or it
            brought a defect to light.
    """

    message: Callable[[Link, AnyMessage, memoryview | None], None]
    malformed: Callable[[Link, RemoteProtocolError], None]
    lost: Callable[[Link], None]


class Transport:
    """Opens, accepts and closes links; turns frames into messages. Lives in one event loop.

    Args:
        identity: whose transport key to use.
        config: where to listen and whom to admit.
        metrics: counts bytes and strangers.
        listeners: who is told what happens.
    """

    def __init__(
        self, identity: Identity, config: PeerConfig, metrics: Metrics, listeners: Listeners
    ):
        if not zmq.has("curve") or zmq.zmq_version_info() < _LIBZMQ_MIN:
            raise LocalProtocolError(
                f"needs libzmq ≥ 4.3.5 with CURVE, found {zmq.zmq_version()}; "
                "install pyzmq from a wheel"
            )
        self._identity = identity
        self._config = config
        self._metrics = metrics
        self._listeners = listeners
        self._gate = Gate(config, metrics)
        self._context = zmq.asyncio.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self._zap = self._context.socket(zmq.REP)
        self._router = self._socket(zmq.ROUTER, config.listen)
        self._monitor = self._router.get_monitor_socket(Gate.MONITORED)
        self._accepted: dict[bytes, Link] = {}  # by key
        self._by_routing_id: dict[bytes, Link] = {}
        self._dialled: set[Link] = set()
        self._data = DataPorts(self._plain_socket, self._gate.tokens, metrics)
        self.endpoint = ""

    @property
    def data_port(self) -> int:
        """Where data connections are accepted; 0: nowhere."""
        return self._data.port

    @property
    def data_tokens(self) -> frozenset[bytes]:
        """What admits to the data port at present."""
        return frozenset(self._gate.tokens)

    def listen(self) -> None:
        """Open the listening socket; `serve` reads it.

        Raises:
            LocalProtocolError: the address cannot be listened on.
        """
        self._zap.bind("inproc://zeromq.zap.01")
        self._router.curve_server = True
        # Without a domain that is enforced, a missing ZAP handler would let anyone in.
        self._router.zap_domain = ZAP_DOMAIN
        self._router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        try:
            self._router.bind(self._config.listen)
            if self._config.offers_data_port:
                host = self._config.listen.rpartition(":")[0]
                self._data.listen(f"{host}:{max(self._config.data_port, 0)}")
        except zmq.ZMQError as error:
            raise LocalProtocolError(
                f"cannot listen on {self._config.listen}: {error.strerror}; "
                "expected tcp://ADDRESS:PORT with an address of this machine and a free port "
                "(0 takes any)"
            ) from None
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)

    async def serve(self) -> None:
        """Admit connections and take what arrives on them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._gate.answer(self._zap))
            group.create_task(self._gate.watch(self._monitor))
            group.create_task(self._read_router())
            group.create_task(self._data.serve())

    def stop(self) -> None:
        """Close everything, after `serve` has ended; waits until what was just sent has left."""
        for link in list(self._dialled):
            self.close(link)
        self._router.disable_monitor()
        self._monitor.close(linger=0)
        self._router.close(linger=_LINGER_MS)
        self._data.stop()
        self._zap.close(linger=0)
        self._context.term()

    async def dial(self, address: Address, hello: Callable[[bool], Hello]) -> Link:
        """Open a link and greet on both connections; `Link.settled` tells when it is answered.

        The bulk connection comes first, so that a link is never bound that cannot carry chunks.
        If this is cancelled, the link is closed.

        Raises:
            OSError: the name is unknown, or there are too many open files.
        """
        endpoint = await numeric_endpoint(address.endpoint)
        link = Link(address.transport_key, address.endpoint, dialled=True)
        link.numeric_endpoint = endpoint
        self._dialled.add(link)
        try:
            for bulk in (True, False):
                dealer = self._socket(zmq.DEALER, endpoint)
                link.sockets[bulk] = dealer
                dealer.curve_serverkey = z85.encode(address.transport_key)
                dealer.connect(endpoint)
                link.tasks.append(asyncio.create_task(self._read_dealer(link, dealer)))
                greeting = encode(hello(bulk))
                await dealer.send(greeting)
                self._metrics.sent(len(greeting))
        except zmq.ZMQError as error:
            self.close(link)
            raise OSError(error.errno, error.strerror) from None
        except BaseException:
            self.close(link)
            raise
        return link

    def send(self, link: Link, message: AnyMessage, data: bytes | memoryview | None = None) -> bool:
        """Send without waiting; False when the other side is gone or takes nothing any more.

        Data is copied, so that a peer that does not read cannot pin old payloads in memory.
        """
        if not link.is_open:
            return False
        bulk = is_bulk(message)
        frames: list[bytes | memoryview] = [encode(message)]
        if data is not None:
            frames.append(data)
        if bulk and link.data is not None and self._data.send(link.data, frames):
            return True
        size = sum(map(len, frames))
        if link.dialled:
            out = link.sockets.get(bulk)
        else:
            out = self._router
            frames.insert(0, link.routing_ids.get(bulk, b""))
        if out is None:
            return False
        # With DONTWAIT the future is done when it is returned.
        sending = cast("asyncio.Future[Any]", out.send_multipart(frames, zmq.DONTWAIT))
        if not sending.done() or sending.exception() is not None:
            return False
        self._metrics.sent(size)
        return True

    def offer_data_port(self, link: Link) -> None:
        """Tell the peer that has dialled of the data port, if there is one."""
        offered = self._data.offer(partial(self._receive, link))
        if offered is not None:
            link.data, message = offered
            self.send(link, message)

    def dial_data_port(self, link: Link, offer: DataPort) -> None:
        """Use the data port of a peer that was dialled; of a second offer nothing comes."""
        if link.dialled and link.data is None:
            host = link.numeric_endpoint.removeprefix("tcp://").rpartition(":")[0]
            link.data = self._data.dial(host, offer, partial(self._receive, link))

    def close(self, link: Link) -> None:
        """Close a link; closing twice does nothing.

        libzmq cannot close one accepted connection: what still comes on it is dropped.
        """
        if not link.is_open:
            return
        link.is_open = False
        link.settled.set()
        for task in link.tasks:
            task.cancel()
        for dealer in link.sockets.values():
            dealer.close(linger=_LINGER_MS)
        if link.data is not None:
            self._data.close(link.data)
        self._dialled.discard(link)
        if self._accepted.get(link.key) is link:
            del self._accepted[link.key]
        for routing_id in link.routing_ids.values():
            del self._by_routing_id[routing_id]

    def _plain_socket(self, kind: int, endpoint: str) -> zmq.asyncio.Socket:
        options = _LISTEN_OPTIONS if kind == zmq.ROUTER else _DIAL_OPTIONS
        made = self._context.socket(kind)
        for option, value in {**_OPTIONS, **options}.items():
            made.setsockopt(option, value)
        made.setsockopt(zmq.IPV6, int("[" in endpoint))
        return made

    def _socket(self, kind: int, endpoint: str) -> zmq.asyncio.Socket:
        made = self._plain_socket(kind, endpoint)
        made.curve_secretkey = z85.encode(self._identity.transport_secret)
        made.curve_publickey = z85.encode(self._identity.public.transport)
        return made

    async def _read_dealer(self, link: Link, dealer: zmq.asyncio.Socket) -> None:
        while link.is_open:
            frames = await dealer.recv_multipart(copy=False)
            self._receive(link, [frame.buffer for frame in frames])
            await asyncio.sleep(0)  # while messages wait, the await above never yields

    async def _read_router(self) -> None:
        while True:
            routing_id, *frames = await self._router.recv_multipart(copy=False)
            key = bytes.fromhex(str(frames[0].get("User-Id")))
            host = str(frames[0].get("Peer-Address"))
            parts = [frame.buffer for frame in frames]
            link = self._by_routing_id.get(routing_id.bytes)
            if link is None or link.key != key:
                link = self._greeted(key, host, routing_id.bytes, parts)
            if link is not None:
                self._receive(link, parts)
            await asyncio.sleep(0)  # while messages wait, the await above never yields

    def _greeted(
        self, key: bytes, host: str, routing_id: bytes, parts: list[memoryview]
    ) -> Link | None:
        """The link that a connection's first message makes or joins; None when it is no `Hello`."""
        try:
            message, _ = decode_frames(parts)
        except RemoteProtocolError:
            message = None
        if not isinstance(message, Hello):
            self._metrics.stranger_refused()
            return None
        taken = self._by_routing_id.get(routing_id)
        if taken is not None:  # chosen by somebody, who is gone, and by somebody else after that
            self._give_up(taken)
        link = self._accepted.get(key)
        if link is not None and message.bulk in link.routing_ids:
            # The newest connection of a key counts: the older is a half-open one of a restart.
            self._give_up(link)
            link = None
        if link is None:
            endpoint = f"tcp://[{host}]:0" if ":" in host else f"tcp://{host}:0"
            link = self._accepted[key] = Link(key, endpoint, dialled=False)
            timeout_s = self._config.protocol.connect_timeout_ns / 1e9
            asyncio.get_running_loop().call_later(timeout_s, self._expire, link)
        link.routing_ids[message.bulk] = routing_id
        self._by_routing_id[routing_id] = link
        return link

    def _give_up(self, link: Link) -> None:
        self.close(link)
        self._listeners.lost(link)

    def _expire(self, link: Link) -> None:
        if link.peer is None:
            self.close(link)

    def _receive(self, link: Link, parts: list[memoryview]) -> None:
        self._metrics.received(sum(map(len, parts)))
        try:
            self._pass_on(link, parts)
        except Exception:  # must not end the reading of everybody's messages
            _logger.exception("defect: taking a message")
            self._give_up(link)

    def _pass_on(self, link: Link, parts: list[memoryview]) -> None:
        try:
            message, data = decode_frames(parts)
        except RemoteProtocolError as error:
            self._listeners.malformed(link, error)
        else:
            self._listeners.message(link, message, data)
