"""Parts that the tests of this folder share: peers without a model, and strangers."""

import asyncio
import functools
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Self

import zmq
from zmq.utils import z85

from gossipjax.crypto.identity import Identity, generate_root, identity_from_root
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.protocol.effects import Send
from gossipjax.protocol.events import Event, PeerConnected, Received
from gossipjax.runtime.config import load_config
from gossipjax.runtime.links import Links
from gossipjax.runtime.metrics import Metrics
from gossipjax.types import PeerId, RunId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, peer_id, record_author, run_id, seal_record
from gossipjax.wire.messages import AnyMessage, PeerRecord

RUN = run_id("test", bytes(32))
SUITE = ed25519_suite()
PATIENCE_S = 10.0


def new_identity() -> Identity:
    return identity_from_root(generate_root())


def make_record(
    identity: Identity, endpoint: str = "tcp://127.0.0.1:9", run: RunId = RUN
) -> Verified[PeerRecord]:
    public = identity.public
    record = PeerRecord(
        run=run,
        sign_key=public.sign,
        vrf_key=public.vrf,
        transport_key=public.transport,
        addresses=(endpoint,),
        sequence=time.time_ns() // 1_000_000,
        expires_s=int(time.time()) + 3600,
    )
    return seal_record(record, identity, SUITE)


class Listener:
    """The connections of a peer that only notes what happens; open within `async with`."""

    def __init__(self, identity: Identity | None = None, run: RunId = RUN, **settings: Any):
        self.identity = identity or new_identity()
        self.run = run
        public = self.identity.public
        self.id = peer_id(run, public.sign, public.vrf)
        self.metrics = Metrics()
        self.events: list[Event] = []
        config = load_config({"listen": "tcp://127.0.0.1:0", **settings})
        self.links = Links(
            self.identity, config, self.metrics, run, SUITE, lambda event: self.events.append(event)
        )

    async def __aenter__(self) -> Self:
        transport = self.links.transport
        try:
            transport.listen()
        except BaseException:
            transport.stop()
            raise
        self.record = make_record(self.identity, transport.endpoint, self.run)
        self.links.introduce(self.record)
        self._serving = asyncio.create_task(transport.serve())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._serving.cancel()
        await asyncio.wait({self._serving})
        self.links.transport.stop()

    @property
    def address(self) -> Address:
        return Address(self.links.transport.endpoint, self.identity.public.transport)

    def peers(self) -> list[PeerId]:
        """Who has connected, in order."""
        records = [event.record for event in self.events if isinstance(event, PeerConnected)]
        return [record_author(record.body) for record in records]

    @property
    def messages(self) -> list[AnyMessage]:
        return [event.message for event in self.events if isinstance(event, Received)]

    def tell(self, peer: PeerId, message: AnyMessage, data: bytes | None = None) -> None:
        self.links.send(Send(peer, message, data))


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 20))

    return run


async def until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    """Wait for a condition; fail when it takes too long."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    """The same outside of an event loop."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "timeout"
        time.sleep(0.01)


@contextmanager
def stranger(
    endpoint: str,
    server_key: bytes | None,
    secret: bytes | None = None,
    routing_id: bytes | None = None,
) -> Iterator[zmq.Socket[bytes]]:
    """A DEALER of somebody who does not use this library; without CURVE when `server_key` is None.

    Args:
        endpoint: where to connect.
        server_key: the key expected there.
        secret: the own X25519 secret; by default a new one.
        routing_id: the routing id to claim; by default none.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.reconnect_ivl = -1
    dealer.sndtimeo = 1000
    if routing_id is not None:
        dealer.routing_id = routing_id
    if server_key is not None:
        secret_key = z85.encode(secret or secrets.token_bytes(32))
        dealer.curve_secretkey = secret_key
        dealer.curve_publickey = zmq.curve_public(secret_key)
        dealer.curve_serverkey = z85.encode(server_key)
    dealer.connect(endpoint)
    try:
        yield dealer
    finally:
        context.destroy(0)


async def receives(dealer: "zmq.Socket[bytes]", seconds: float = PATIENCE_S) -> list[bytes]:
    """The next message of a stranger's socket."""
    await until(lambda: dealer.poll(0), seconds)
    return dealer.recv_multipart()
