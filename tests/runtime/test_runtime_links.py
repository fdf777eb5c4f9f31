"""Links over real sockets: who is let in, what is believed, what happens to the rest."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from runtime_peers import (
    Listener,
    in_loop,
    make_record,
    new_identity,
    receives,
    stranger,
    until,
)

import gossipjax.runtime.gate
from gossipjax.crypto.identity import Identity
from gossipjax.errors import LocalProtocolError
from gossipjax.protocol.events import Event, Misbehaved, PeerConnected, PeerLost, Received
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode, encode
from gossipjax.wire.messages import Chunk, Hello, Leave, Ping, Pong, Sealed

QUICK: dict[str, Any] = {"protocol": {"connect_timeout_ns": 500_000_000}}


async def meet(a: Listener, b: Listener) -> None:
    """Let `a` dial `b`."""
    known = len(a.peers()), len(b.peers())
    await a.links.dial(b.address)
    await until(lambda: len(a.peers()) > known[0] and len(b.peers()) > known[1])


async def still_works(listener: Listener) -> None:
    """An honest newcomer connects and is heard and answered."""
    async with Listener() as honest:
        await meet(honest, listener)
        honest.tell(listener.id, Ping(7, 7, 1))
        await until(lambda: Ping(7, 7, 1) in listener.messages)
        listener.tell(honest.id, Pong(7, 7, 1))
        await until(lambda: Pong(7, 7, 1) in honest.messages)
        listener.links.disconnect(honest.id)


def greeting(identity: Identity, *, bulk: bool = False, **changes: Any) -> bytes:
    hello = Hello(limits.PROTOCOL_VERSION, bulk, make_record(identity).sealed)
    return encode(msgspec.structs.replace(hello, **changes))


@in_loop
async def test_two_peers_greet_and_talk_in_both_directions():
    async with Listener() as a, Listener() as b:
        await meet(a, b)
        assert (a.peers(), b.peers()) == ([b.id], [a.id])
        chunk = Chunk(bytes(32), 0, ())
        data = os.urandom(limits.CHUNK_BYTES)
        for sender, receiver in ((a, b), (b, a)):
            sender.tell(receiver.id, Ping(1, 2, 1))
            sender.tell(receiver.id, chunk, data)
            await until(lambda receiver=receiver: len(receiver.messages) == 2)
            got = [event for event in receiver.events if isinstance(event, Received)]
            assert {event.sender for event in got} == {sender.id}
            assert next(e.data for e in got if isinstance(e.message, Chunk)) == data
        assert a.metrics.snapshot().bytes_out > limits.CHUNK_BYTES
        assert a.metrics.snapshot().bytes_in == b.metrics.snapshot().bytes_out
        assert b.metrics.snapshot().bytes_in == a.metrics.snapshot().bytes_out


@in_loop
async def test_a_stranger_without_the_right_keys_gets_nothing_delivered():
    friend = new_identity()
    allow = [new_identity().public.transport.hex(), friend.public.transport.hex()]
    async with Listener(allow=allow) as peer:
        endpoint, key = peer.address
        outsider = new_identity()
        hello = greeting(outsider)
        with (
            stranger(endpoint, None) as plain,
            stranger(endpoint, new_identity().public.transport) as wrong_server_key,
            stranger(endpoint, key, outsider.transport_secret) as not_allowed,
            stranger(endpoint, key, friend.transport_secret) as allowed,
        ):
            for dealer in (plain, wrong_server_key, not_allowed, allowed):
                with contextlib.suppress(zmq.Again):  # refused before it could send
                    dealer.send(hello, zmq.DONTWAIT)
                    dealer.send(encode(Ping(1, 1, 1)), zmq.DONTWAIT)
            # The one with a key on the list is heard (and turned away: the record is not its own).
            assert isinstance(decode((await receives(allowed))[0]), Leave)
            await until(lambda: peer.metrics.snapshot().strangers_refused >= 3)
            for dealer in (plain, wrong_server_key, not_allowed):
                assert not dealer.poll(0)
        assert peer.events == []
        assert peer.metrics.snapshot().updates_refused == {"signature": 1}
        async with Listener(friend) as honest:
            await meet(honest, peer)


@in_loop
async def test_a_link_needs_a_greeting_that_holds():
    async with Listener() as peer:
        endpoint, key = peer.address
        other = new_identity()
        expired = Sealed(make_record(other).sealed.body, bytes(64))
        cases: list[tuple[dict[str, Any], str]] = [
            ({"record": expired}, "signature"),
            ({"record": Sealed(b"\x90", bytes(64))}, "malformed"),
            ({"protocol": limits.PROTOCOL_VERSION + 1}, "protocol"),
        ]
        for changes, reason in cases:
            before = peer.metrics.snapshot().updates_refused.get(reason, 0)
            with stranger(endpoint, key, other.transport_secret) as dealer:
                dealer.send(greeting(other, **changes))
                assert isinstance(decode((await receives(dealer))[0]), Leave)
            assert peer.metrics.snapshot().updates_refused[reason] == before + 1
        with stranger(endpoint, key) as thief:  # a record of somebody else
            thief.send(greeting(other))
            assert isinstance(decode((await receives(thief))[0]), Leave)
        assert peer.events == []
        await still_works(peer)


@in_loop
async def test_bytes_before_a_greeting_are_dropped_unread():
    async with Listener() as peer:
        with stranger(*peer.address) as dealer:
            dealer.send(encode(Ping(1, 1, 1)))
            dealer.send(b"")
            dealer.send_multipart([os.urandom(100), os.urandom(100)])
            dealer.send_multipart([b""] * 50)
            await until(lambda: peer.metrics.snapshot().strangers_refused == 4)
        assert peer.events == []
        assert peer.metrics.snapshot().bytes_in == 0
        await still_works(peer)


@in_loop
async def test_malformed_frames_are_charged_to_who_sent_them():
    async with Listener() as peer:
        other = new_identity()
        endpoint, key = peer.address
        with (
            stranger(endpoint, key, other.transport_secret) as control,
            stranger(endpoint, key, other.transport_secret) as bulk,
        ):
            control.send(greeting(other))
            bulk.send(greeting(other, bulk=True))
            await until(peer.peers)
            chunk = encode(Chunk(bytes(32), 0, ()))
            for frames in (
                [b""],
                [os.urandom(200)],
                [encode(Ping(1, 1, 1)), b"more"],
                [chunk],
                [chunk, b""],
                [chunk, bytes(limits.CHUNK_BYTES + 1)],
                [chunk, b"a", b"b"],
                [bytes(limits.MESSAGE_BYTES_MAX + 1)],
            ):
                control.send_multipart(frames)
            await until(lambda: len(peer.events) == 9)
            assert peer.events[1:] == [Misbehaved(peer.peers()[0], "malformed")] * 8
            control.send(encode(Ping(3, 3, 1)))  # the machine decides when it is enough
            await until(lambda: peer.messages == [Ping(3, 3, 1)])
        await still_works(peer)


@in_loop
async def test_an_oversized_frame_ends_the_connection():
    async with Listener() as peer:
        other = new_identity()
        with stranger(*peer.address, other.transport_secret) as dealer:
            dealer.send(encode(Ping(1, 1, 1)))
            await until(lambda: peer.metrics.snapshot().strangers_refused == 1)
            dealer.send(bytes(limits.FRAME_BYTES_MAX + 1))
            with contextlib.suppress(zmq.Again):  # already cut off: nothing left to send on
                dealer.send(encode(Ping(1, 1, 1)))
            await asyncio.sleep(0.3)
            assert peer.metrics.snapshot().strangers_refused == 1
        await still_works(peer)


@in_loop
async def test_a_routing_id_is_no_identity():
    async with Listener() as peer:
        endpoint, key = peer.address
        alice, mallory = new_identity(), new_identity()
        with (
            stranger(endpoint, key, alice.transport_secret, b"alice") as control,
            stranger(endpoint, key, alice.transport_secret) as bulk,
        ):
            control.send(greeting(alice))
            bulk.send(greeting(alice, bulk=True))
            await until(peer.peers)
            # While Alice is there, her routing id is taken: Mallory is not even connected.
            with stranger(endpoint, key, mallory.transport_secret, b"alice") as squatter:
                squatter.send(encode(Ping(6, 6, 1)))
                control.send(encode(Ping(1, 1, 1)))
                await until(lambda: peer.messages == [Ping(1, 1, 1)])
                assert not squatter.poll(100)
        # Alice has gone, and the peer does not know yet. Now Mallory can have the routing id.
        with stranger(endpoint, key, mallory.transport_secret, b"alice") as squatter:
            squatter.send(encode(Ping(6, 6, 1)))
            await until(lambda: peer.metrics.snapshot().strangers_refused)
            squatter.send(greeting(mallory))
            [alices_id] = peer.peers()
            await until(lambda: peer.events[-1] == PeerLost(alices_id))
            peer.tell(alices_id, Pong(1, 1, 1))
            assert not squatter.poll(200)
        assert peer.messages == [Ping(1, 1, 1)]
        await still_works(peer)


@in_loop
async def test_silent_connections_do_not_keep_anybody_out():
    async with Listener(connections_max=8) as peer:
        host, port = peer.address.endpoint.removeprefix("tcp://").split(":")
        silent = [socket.create_connection((host, int(port)), 5) for _ in range(200)]
        try:
            started_s = time.monotonic()
            await still_works(peer)
            assert time.monotonic() - started_s < 3
        finally:
            for connection in silent:
                connection.close()


@in_loop
async def test_connections_are_bounded_and_places_become_free(monkeypatch):
    monkeypatch.setattr(gossipjax.runtime.gate, "_SETTLED_S", 0.3)
    async with Listener(connections_max=4) as peer:
        async with Listener() as a, Listener() as b, Listener(**QUICK) as late:
            await meet(a, peer)
            await meet(b, peer)
            await asyncio.sleep(0.4)  # both count as settled now
            await late.links.dial(peer.address)
            assert late.peers() == []
            assert peer.metrics.snapshot().strangers_refused >= 1
        await asyncio.sleep(0.4)
        await still_works(peer)


FLOOD = """
import contextlib, sys
from runtime_peers import stranger
with contextlib.ExitStack() as stack:
    args = sys.argv[1], bytes.fromhex(sys.argv[2])
    dealers = [stack.enter_context(stranger(*args)) for _ in range(20)]
    while True:
        for dealer in dealers:
            dealer.send(b"x" * 50)
"""


@in_loop
async def test_a_flood_does_not_stop_the_clock():
    async with Listener() as peer:
        endpoint, key = peer.address
        flood = subprocess.Popen(
            [sys.executable, "-c", FLOOD, endpoint, key.hex()],
            cwd=Path(__file__).parent,
            stderr=subprocess.DEVNULL,
        )
        try:
            await until(lambda: peer.metrics.snapshot().strangers_refused > 1000)
            pauses = []
            for _ in range(20):
                started_s = time.monotonic()
                await asyncio.sleep(0.01)
                pauses.append(time.monotonic() - started_s)
            assert max(pauses) < 1.0
            assert sorted(pauses)[10] < 0.2
            await still_works(peer)
        finally:
            flood.kill()
            flood.wait()


@in_loop
async def test_a_restarted_peer_replaces_its_old_connections():
    async with Listener() as peer:
        identity = new_identity()
        async with Listener(identity) as first:
            await meet(first, peer)
            async with Listener(identity) as second:  # the old one is still open
                await meet(second, peer)
                assert [type(event) for event in peer.events] == [
                    PeerConnected,
                    PeerLost,
                    PeerConnected,
                ]
                peer.tell(second.id, Pong(5, 5, 1))
                second.tell(peer.id, Ping(6, 6, 1))
                await until(lambda: second.messages == [Pong(5, 5, 1)])
                await until(lambda: peer.messages == [Ping(6, 6, 1)])
                first.tell(peer.id, Ping(9, 9, 1))
                await asyncio.sleep(0.2)
                assert peer.messages == [Ping(6, 6, 1)]
                assert first.messages == []


@in_loop
async def test_a_defect_costs_one_link(monkeypatch, caplog):
    async with Listener() as peer, Listener() as a, Listener() as b:
        await meet(a, peer)
        await meet(b, peer)
        feed = peer.events.append

        def stumble(event: Event) -> None:
            feed(event)
            if isinstance(event, Received) and event.message == Ping(13, 13, 1):
                raise ZeroDivisionError

        monkeypatch.setattr(peer.links, "_feed", stumble)
        a.tell(peer.id, Ping(13, 13, 1))
        await until(lambda: PeerLost(a.id) in peer.events)
        assert "defect" in caplog.text
        b.tell(peer.id, Ping(1, 1, 1))
        await until(lambda: Ping(1, 1, 1) in peer.messages)


@in_loop
async def test_both_sides_dial_at_the_same_time():
    async with Listener() as a, Listener() as b:
        await asyncio.gather(a.links.dial(b.address), b.links.dial(a.address))
        await until(lambda: len(a.peers()) == 2 and len(b.peers()) == 2)
        for number in range(10):
            a.tell(b.id, Ping(number, 0, 1))
            b.tell(a.id, Ping(number, 0, 1))
        expected = [Ping(number, 0, 1) for number in range(10)]
        await until(lambda: a.messages == expected and b.messages == expected)


@in_loop
async def test_one_peer_is_dialled_once_at_a_time():
    async with Listener() as a, Listener() as b:
        localhost = Address(b.address.endpoint.replace("127.0.0.1", "localhost"), b.address[1])
        await asyncio.gather(a.links.dial(b.address), a.links.dial(localhost))
        await until(a.peers)
        await asyncio.sleep(0.2)
        assert len(a.peers()) == len(b.peers()) == 1


@in_loop
async def test_half_a_link_is_none_and_is_given_up():
    async with Listener(**QUICK) as peer:
        other = new_identity()
        for bulk in (False, True):
            with stranger(*peer.address, other.transport_secret) as half:
                half.send(greeting(other, bulk=bulk))
                half.send(encode(Ping(1, 1, 1)))
                await until(lambda: peer.metrics.snapshot().updates_refused)
                await asyncio.sleep(0.6)
                before = peer.metrics.snapshot().strangers_refused
                half.send(encode(Ping(1, 1, 1)))  # by now it is forgotten
                await until(
                    lambda before=before: peer.metrics.snapshot().strangers_refused == before + 1
                )
        assert peer.events == []
        await still_works(peer)


@in_loop
async def test_nobody_there(caplog):
    async with Listener(**QUICK) as peer:
        key = new_identity().public.transport
        for endpoint in (
            "tcp://127.0.0.1:1",
            "tcp://no-such-host.invalid:4000",
            "tcp://a..b:4000",
            peer.address.endpoint,  # somebody, but with another key
        ):
            started_s = time.monotonic()
            await peer.links.dial(Address(endpoint, key))
            assert time.monotonic() - started_s < 3, endpoint
        assert peer.events == []
        await still_works(peer)


@in_loop
async def test_who_does_not_read_costs_a_bounded_number_of_messages():
    async with Listener() as peer:
        other = new_identity()
        endpoint, key = peer.address
        with (
            stranger(endpoint, key, other.transport_secret) as control,
            stranger(endpoint, key, other.transport_secret) as bulk,
        ):
            control.rcvhwm = bulk.rcvhwm = 1
            control.send(greeting(other))
            bulk.send(greeting(other, bulk=True))
            await until(peer.peers)
            sent_before = peer.metrics.snapshot().bytes_out
            data = bytes(limits.CHUNK_BYTES)
            started_s = time.monotonic()
            [deaf] = peer.peers()
            for index in range(200):
                peer.tell(deaf, Chunk(bytes(32), index, ()), data)
                await asyncio.sleep(0)
            assert time.monotonic() - started_s < 5
            # What the high-water mark and the kernel's buffers take, and no more.
            assert peer.metrics.snapshot().bytes_out - sent_before < 60 * limits.CHUNK_BYTES
        await still_works(peer)


@in_loop
async def test_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with Listener(listen="tcp://[::1]:0") as a, Listener() as b:
        assert a.address.endpoint.startswith("tcp://[::1]:")
        await meet(b, a)
        await meet(a, b)


def test_an_address_in_use_is_named():
    @in_loop
    async def occupy():
        async with Listener() as peer:
            with pytest.raises(LocalProtocolError, match="cannot listen on tcp://127"):
                async with Listener(listen=peer.address.endpoint):
                    pass

    occupy()


def test_stopping_leaves_nothing_behind():
    @in_loop
    async def live_and_die():
        async with Listener() as a, Listener() as b:
            await meet(a, b)
            a.tell(b.id, Ping(1, 1, 1))

    live_and_die()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        live_and_die()
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files + 2
