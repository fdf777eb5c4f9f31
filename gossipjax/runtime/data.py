"""Data connections: chunks past CURVE, in boxes of AES-256-GCM, which processors help with.

A peer that was dialled tells the other, over CURVE, of a second port, a token that admits to it and
a secret of which both derive the keys of a `gossipjax.crypto.channel`. The token alone is of no
use: a connection counts once a box has come over it that opens. Where nobody gets through to that
port, behind a router that forwards one port only, chunks go on over the bulk connection.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, cast

import zmq
import zmq.asyncio

from gossipjax.crypto.channel import BOX_OVERHEAD, Channel, InvalidBox, shared_channel
from gossipjax.crypto.suite import KEY_BYTES
from gossipjax.runtime.gate import DATA_DOMAIN
from gossipjax.runtime.metrics import Metrics
from gossipjax.wire.messages import DataPort

_GREETING = b""
_USER = b"data"

Frames = Sequence[bytes | memoryview]


class DataConnection:
    """One end of a data connection.

    Attributes:
        take: gets the frames of each message that has come.
        is_proven: whether a box of the other end has come, so that it can be used.
    """

    def __init__(self, channel: Channel, take: Callable[[list[memoryview]], None]):
        self.channel = channel
        self.take = take
        self.is_proven = False
        self.token = b""  # accepted
        self.routing_id = b""  # accepted
        self.dealer: zmq.asyncio.Socket | None = None  # dialled
        self.reading: asyncio.Task[None] | None = None  # dialled


class DataPorts:
    """The data port of this peer, and its connections to those of others.

    Attributes:
        port: where it is; 0: there is none.

    Args:
        make_socket: a socket of this type for this endpoint, with the limits of all sockets.
        tokens: of the gate, which admits to the port with one of them.
        metrics: counts bytes and strangers.
    """

    def __init__(
        self,
        make_socket: Callable[[int, str], zmq.asyncio.Socket],
        tokens: set[bytes],
        metrics: Metrics,
    ):
        self._make_socket = make_socket
        self._tokens = tokens
        self._metrics = metrics
        self._router: zmq.asyncio.Socket | None = None
        self.port = 0
        self._by_token: dict[bytes, DataConnection] = {}

    def listen(self, endpoint: str) -> None:
        """Open the port.

        Raises:
            zmq.ZMQError: it cannot be listened on.
        """
        self._router = router = self._make_socket(zmq.ROUTER, endpoint)
        router.plain_server = True
        router.zap_domain = DATA_DOMAIN
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        router.bind(endpoint)
        self.port = int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def offer(
        self, take: Callable[[list[memoryview]], None]
    ) -> tuple[DataConnection, DataPort] | None:
        """Prepare for a neighbor that has dialled; None when this peer has no data port."""
        if self._router is None:
            return None
        token, secret = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
        connection = DataConnection(shared_channel(secret, opens=False), take)
        connection.token = token
        self._by_token[token] = connection
        self._tokens.add(token)
        return connection, DataPort(self.port, token, secret)

    def dial(
        self, host: str, offer: DataPort, take: Callable[[list[memoryview]], None]
    ) -> DataConnection:
        """Connect to the data port of a neighbor that was dialled at `host`."""
        connection = DataConnection(shared_channel(offer.secret, opens=True), take)
        endpoint = f"tcp://{host}:{offer.port}"
        connection.dealer = dealer = self._make_socket(zmq.DEALER, endpoint)
        dealer.plain_username, dealer.plain_password = _USER, offer.token
        dealer.connect(endpoint)
        connection.reading = asyncio.create_task(self._read_dealer(connection, dealer))
        return connection

    def send(self, connection: DataConnection, frames: Frames) -> bool:
        """Seal and send without waiting; False when this connection takes nothing (any more)."""
        if not connection.is_proven:
            return False
        boxes = [connection.channel.seal(True, frame) for frame in frames]
        return self._send(connection, boxes)

    def close(self, connection: DataConnection) -> None:
        """End a connection; closing twice does nothing."""
        connection.is_proven = False
        self._tokens.discard(connection.token)
        self._by_token.pop(connection.token, None)
        if connection.reading is not None:
            connection.reading.cancel()
        if connection.dealer is not None:
            connection.dealer.close(linger=0)

    def stop(self) -> None:
        """Close the port."""
        if self._router is not None:
            self._router.close(linger=0)

    async def serve(self) -> None:
        """Take what arrives on the port, until cancelled."""
        while self._router is not None:
            routing_id, *frames = await self._router.recv_multipart(copy=False)
            token = bytes.fromhex(str(frames[0].get("User-Id")))
            connection = self._by_token.get(token)
            if connection is not None:
                self._receive(connection, [frame.buffer for frame in frames], routing_id.bytes)
            await asyncio.sleep(0)  # while messages wait, the await above never yields

    async def _read_dealer(self, connection: DataConnection, dealer: zmq.asyncio.Socket) -> None:
        greeting = connection.channel.seal(True, _GREETING)
        await dealer.send(greeting)  # waits for the connection
        self._metrics.sent(len(greeting))
        while True:
            frames = await dealer.recv_multipart(copy=False)
            self._receive(connection, [frame.buffer for frame in frames])
            await asyncio.sleep(0)

    def _receive(
        self, connection: DataConnection, boxes: list[memoryview], routing_id: bytes = b""
    ) -> None:
        try:
            frames = [memoryview(connection.channel.open(True, box)) for box in boxes]
        except InvalidBox:  # somebody who has seen the token: not the neighbor's fault
            self._metrics.stranger_refused()
            return
        if not connection.is_proven:
            connection.is_proven = True
            if routing_id:
                connection.routing_id = routing_id
                self._send(connection, [connection.channel.seal(True, _GREETING)])
        self._metrics.received(BOX_OVERHEAD * len(boxes))  # what is in them counts as any message
        if len(frames[0]):
            connection.take(frames)

    def _send(self, connection: DataConnection, boxes: list[bytearray]) -> bool:
        out = connection.dealer or self._router
        assert out is not None
        address = [] if connection.dealer is not None else [connection.routing_id]
        # With DONTWAIT the future is done when it is returned.
        sending = cast(
            "asyncio.Future[Any]",
            out.send_multipart([*address, *boxes], zmq.DONTWAIT, copy=False),
        )
        if not sending.done() or sending.exception() is not None:
            return False
        self._metrics.sent(sum(map(len, boxes)))
        return True
