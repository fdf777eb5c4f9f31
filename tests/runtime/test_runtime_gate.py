"""The ZAP handler asked directly, with addresses that a test on one machine cannot have."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio
from runtime_peers import in_loop

import gossipjax.runtime.gate
from gossipjax.runtime.config import load_config
from gossipjax.runtime.gate import ZAP_DOMAIN, Gate
from gossipjax.runtime.metrics import Metrics

Ask = Callable[..., Coroutine[Any, Any, bool]]


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[Ask]:
    """A function that asks a gate as libzmq does, and says whether it admits."""
    context = zmq.asyncio.Context()
    zap, question = context.socket(zmq.REP), context.socket(zmq.REQ)
    zap.bind("inproc://zap")
    question.connect("inproc://zap")
    answering = asyncio.create_task(Gate(load_config(**settings), Metrics()).answer(zap))

    async def ask(
        address: str,
        key: bytes = bytes(32),
        domain: bytes = ZAP_DOMAIN,
        mechanism: bytes = b"CURVE",
    ) -> bool:
        request = [b"1.0", b"1", domain, address.encode(), b"", mechanism, key]
        await question.send_multipart(request)
        version, request_id, status, _, user_id, _ = await question.recv_multipart()
        assert (version, request_id) == (b"1.0", b"1")
        assert user_id == (key.hex().encode() if status == b"200" else b"")
        return status == b"200"

    try:
        yield ask
    finally:
        answering.cancel()
        context.destroy(0)


@in_loop
async def test_only_this_domain_and_curve():
    async with asking() as ask:
        assert await ask("192.0.2.1")
        assert not await ask("192.0.2.1", domain=b"")
        assert not await ask("192.0.2.1", mechanism=b"NULL")
        assert not await ask("192.0.2.1", mechanism=b"PLAIN")


@in_loop
async def test_a_connection_that_is_gone_already_has_no_address():
    async with asking() as ask:
        assert not await ask("")
        assert await ask("192.0.2.1")


@in_loop
async def test_a_list_of_keys():
    async with asking(allow=["11" * 32]) as ask:
        assert await ask("192.0.2.1", key=b"\x11" * 32)
        assert not await ask("192.0.2.1", key=b"\x12" * 32)


@pytest.mark.parametrize(
    ("one_network", "another"),
    [
        ("8.8.4.{}", "8.8.5.1"),
        ("2600:1:2:{}::1", "2600:1:3::1"),
        ("::ffff:8.8.4.{}", "8.8.5.1"),
    ],
)
def test_one_network_has_few_places(one_network, another):
    @in_loop
    async def check():
        async with asking(prefix_connections_max=4) as ask:
            admitted = [await ask(one_network.format(host)) for host in range(1, 7)]
            assert admitted == [True] * 4 + [False] * 2
            assert await ask(another)

    check()


@pytest.mark.parametrize("network", ["127.0.0.{}", "10.0.0.{}", "192.168.1.{}", "fd00::{}", "::1"])
def test_private_networks_are_bounded_by_the_total_alone(network):
    @in_loop
    async def check():
        async with asking(prefix_connections_max=2, connections_max=6) as ask:
            admitted = [await ask(network.format(host)) for host in range(1, 9)]
            assert admitted == [True] * 6 + [False] * 2
            assert not await ask("8.8.4.4")

    check()


@in_loop
async def test_an_admission_counts_until_the_connection_would(monkeypatch):
    monkeypatch.setattr(gossipjax.runtime.gate, "_SETTLED_S", 0.2)
    async with asking(connections_max=2) as ask:
        assert [await ask("8.8.4.4") for _ in range(3)] == [True, True, False]
        await asyncio.sleep(0.25)  # nothing was accepted, so nothing is open
        assert await ask("8.8.4.4")
