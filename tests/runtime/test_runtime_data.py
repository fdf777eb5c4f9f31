"""Data connections over real sockets: chunks take them, strangers gain nothing."""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq
from runtime_peers import Listener, in_loop, until

from gossipjax.crypto.channel import shared_channel
from gossipjax.protocol.events import Received
from gossipjax.runtime.data import DataPorts
from gossipjax.runtime.transport import Link
from gossipjax.wire import limits
from gossipjax.wire.codec import encode
from gossipjax.wire.messages import Chunk, DataPort

CHUNK = Chunk(bytes(32), 0, ())


def link_of(listener: Listener, other: Listener) -> Link:
    (link,) = listener.links.links_with(other.id)
    return link


def is_proven(listener: Listener, other: Listener) -> bool:
    data = link_of(listener, other).data
    return data is not None and data.is_proven


async def meet(a: Listener, b: Listener, *, with_data: bool = True) -> None:
    await a.links.dial(b.address)
    await until(lambda: a.peers() and b.peers())
    if with_data:
        await until(lambda: is_proven(a, b) and is_proven(b, a))


async def exchange(a: Listener, b: Listener, count: int = 3) -> None:
    """Chunks in both directions, at once; all arrive, in order, as they were sent."""
    chunks = [(Chunk(bytes(32), i, ()), os.urandom(limits.CHUNK_BYTES)) for i in range(count)]
    for listener in (a, b):
        listener.events.clear()
    for chunk, data in chunks:
        a.tell(b.id, chunk, data)
        b.tell(a.id, chunk, data)
    for listener in (a, b):
        await until(lambda listener=listener: len(listener.messages) == count)
        received = [event for event in listener.events if isinstance(event, Received)]
        assert [(e.message, bytes(e.data or b"")) for e in received] == chunks


@contextmanager
def intruder(port: int, token: bytes) -> Iterator[zmq.Socket[bytes]]:
    """Somebody who knows a token, or thinks so."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.plain_username, dealer.plain_password = b"data", token
        dealer.connect(f"tcp://127.0.0.1:{port}")
        yield dealer


@in_loop
async def test_chunks_take_the_data_connection_and_are_counted_whole():
    async with Listener() as a, Listener() as b:
        await meet(a, b)
        await exchange(a, b)
        for one, other in ((a, b), (b, a)):
            sent = one.metrics.snapshot().bytes_out
            await until(lambda other=other, sent=sent: other.metrics.snapshot().bytes_in == sent)
            data = link_of(one, other).data
            assert data is not None
            number = int.from_bytes(data.channel.seal(True, b"")[:8], "little")
            assert number == 1 + 2 * 3 + 1, "a greeting, two frames for each chunk, and this one"


@pytest.mark.parametrize("setting", [{"data_port": -1}, {"public_address": "tcp://127.0.0.1:9"}])
@in_loop
async def test_without_a_data_port_chunks_go_over_the_link(setting: dict[str, Any]):
    async with Listener() as a, Listener(**setting) as b:
        await meet(a, b, with_data=False)
        await exchange(a, b)
        assert link_of(a, b).data is None


@in_loop
async def test_a_port_that_nobody_gets_through_to_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    def dead(self: DataPorts, take: Callable[[list[memoryview]], None]) -> Any:
        return original(self, take)[0], DataPort(9, bytes(32), bytes(32))

    original: Any = DataPorts.offer
    monkeypatch.setattr(DataPorts, "offer", dead)
    async with Listener() as a, Listener() as b:
        await meet(a, b, with_data=False)
        await exchange(a, b)
        assert not is_proven(a, b)
        assert not is_proven(b, a)


@in_loop
async def test_when_the_data_connection_breaks_the_link_takes_over():
    async with Listener() as a, Listener() as b:
        await meet(a, b)
        data = link_of(a, b).data
        assert data is not None
        assert data.dealer is not None
        data.dealer.disconnect(data.dealer.getsockopt_string(zmq.LAST_ENDPOINT))
        await asyncio.sleep(0.2)
        await exchange(a, b)


@in_loop
async def test_a_guessed_token_is_refused_and_a_seen_one_is_worth_nothing():
    async with Listener() as a, Listener() as b:
        await a.links.dial(b.address)
        await until(lambda: a.peers() and b.peers())
        (token,) = b.links.transport.data_tokens
        port = b.links.transport.data_port
        with intruder(port, secrets.token_bytes(32)) as dealer:
            dealer.send(b"")
            await asyncio.sleep(0.3)
            assert not dealer.poll(0)
        before = b.metrics.snapshot().strangers_refused
        with intruder(port, token) as dealer:
            forged = shared_channel(bytes(32), opens=True)
            boxes = [forged.seal(True, encode(CHUNK)), forged.seal(True, b"poison")]
            dealer.send_multipart(boxes)
            dealer.send_multipart([b"", b"short"])
            await until(lambda: b.metrics.snapshot().strangers_refused == before + 2)
            await exchange(a, b)
            assert not dealer.poll(0), "no chunk is sent to whoever proves nothing"


@in_loop
async def test_tokens_end_with_their_link():
    async with Listener() as a, Listener() as b:
        await meet(a, b)
        a.links.disconnect(b.id)
        b.links.disconnect(a.id)
        assert not b.links.transport.data_tokens


@in_loop
async def test_what_is_no_message_in_a_good_box_is_the_neighbors_fault():
    async with Listener() as a, Listener() as b:
        await meet(a, b)
        data = link_of(a, b).data
        assert data is not None
        assert data.dealer is not None
        await data.dealer.send_multipart([data.channel.seal(True, b"nonsense")])
        await until(lambda: any(type(event).__name__ == "Misbehaved" for event in b.events))
