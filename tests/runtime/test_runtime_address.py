"""What a peer tells others to dial."""

import asyncio

import pytest

from gossipjax.runtime.address import advertised_endpoint, describe_reachability, numeric_endpoint
from gossipjax.runtime.config import PeerConfig
from gossipjax.wire.address import parse_endpoint


def test_the_address_that_is_listened_on():
    assert advertised_endpoint(PeerConfig(), "tcp://192.0.2.7:4000") == "tcp://192.0.2.7:4000"
    assert advertised_endpoint(PeerConfig(), "tcp://[2001:db8::7]:40") == "tcp://[2001:db8::7]:40"


def test_an_own_address_when_listening_on_all():
    for bound in ("tcp://0.0.0.0:4000", "tcp://[::]:4000"):
        host, port = parse_endpoint(advertised_endpoint(PeerConfig(), bound) or "")
        assert host not in ("0.0.0.0", "[::]")
        assert port == 4000


def test_a_public_address_wins():
    config = PeerConfig(public_address="tcp://peer.example.org:5000")
    assert advertised_endpoint(config, "tcp://0.0.0.0:4000") == "tcp://peer.example.org:5000"
    assert advertised_endpoint(PeerConfig(public_address="none"), "tcp://0.0.0.0:4000") is None


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("tcp://192.0.2.7:4000", "tcp://192.0.2.7:4000"),
        ("tcp://[::1]:4000", "tcp://[::1]:4000"),
        ("tcp://localhost:4000", "tcp://127.0.0.1:4000"),
    ],
)
def test_names_become_addresses(endpoint, expected):
    assert asyncio.run(numeric_endpoint(endpoint)) == expected


def test_a_name_that_is_none_is_an_os_error():
    with pytest.raises(OSError, match=r"a\.\.b"):
        asyncio.run(numeric_endpoint("tcp://a..b:4000"))


def test_reachability_is_said_in_plain_words():
    assert describe_reachability(True, "tcp://192.0.2.7:4000") == (
        "others can reach this peer at tcp://192.0.2.7:4000"
    )
    blocked = describe_reachability(False, "tcp://192.0.2.7:4000")
    assert blocked.startswith("others cannot reach this peer at tcp://192.0.2.7:4000: open port 40")
    for text in (blocked, describe_reachability(False, "")):
        assert text.endswith("through the connections that you open, and through relays")
