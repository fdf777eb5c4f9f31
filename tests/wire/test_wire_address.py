import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import endpoints

from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.wire.address import Address, format_join, network_of, parse_endpoint, parse_join

KEY = bytes(range(32))
KEY_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


@given(endpoints, st.binary(min_size=32, max_size=32))
def test_a_join_string_comes_back(endpoint: str, key: bytes):
    address = Address(endpoint, key)
    assert parse_join(format_join(address)) == address
    assert parse_join(f"  {format_join(address)}\n") == address


def test_a_join_string_looks_like_this():
    address = Address("tcp://192.0.2.7:4300", KEY)
    assert format_join(address) == f"gossipjax://192.0.2.7:4300/{KEY_TEXT}"


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("tcp://127.0.0.1:1", ("127.0.0.1", 1)),
        ("tcp://host.example.org:65535", ("host.example.org", 65535)),
        ("tcp://[::1]:4300", ("[::1]", 4300)),
        (f"tcp://{'h' * 120}:80", ("h" * 120, 80)),
    ],
)
def test_endpoints(endpoint: str, place: tuple[str, int]):
    assert parse_endpoint(endpoint) == place


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://:80",
        "tcp://host:0",
        "tcp://host:080",
        "tcp://host:65536",
        "tcp://host:99999",
        "tcp://host:-1",
        "tcp://host:*",
        "tcp://*:80",
        "tcp://ho st:80",
        "tcp://host:80 ",
        "tcp://host:80\n",
        "tcp://host:80;tcp://other:80",
        "tcp://eth0;host:80",
        "tcp://host:٣",  # a digit, but not of ASCII
        f"tcp://{'h' * 121}:80",
        "TCP://host:80",
        "udp://host:80",
        "pgm://host:80",
        "epgm://host:80",
        "norm://host:80",
        "ws://host:80",
        "ipc:///tmp/socket",
        "inproc://zeromq.zap.01",
    ],
)
def test_no_other_endpoint_is_dialled(endpoint: str):
    with pytest.raises(RemoteProtocolError, match="malformed: expected tcp://host:port"):
        parse_endpoint(endpoint)


@given(st.text() | st.from_regex(r"tcp://.*:[0-9]*"))
def test_any_text_is_an_endpoint_or_refused(text: str):
    with contextlib.suppress(RemoteProtocolError):
        host, port = parse_endpoint(text)
        assert text == f"tcp://{host}:{port}"
        assert 1 <= port <= 65535


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gossipjax://",
        f"127.0.0.1:4300/{KEY_TEXT}",
        f"tcp://127.0.0.1:4300/{KEY_TEXT}",
        f"gossipjax://127.0.0.1/{KEY_TEXT}",
        f"gossipjax://127.0.0.1:65536/{KEY_TEXT}",
        "gossipjax://127.0.0.1:4300",
        "gossipjax://127.0.0.1:4300/",
        f"gossipjax://127.0.0.1:4300/{KEY_TEXT[:-1]}",
        f"gossipjax://127.0.0.1:4300/{KEY_TEXT}8",
        f"gossipjax://127.0.0.1:4300/{KEY_TEXT}=",
        f"gossipjax://127.0.0.1:4300/{KEY_TEXT}/",
        f"gossipjax://127.0.0.1:4300/+{KEY_TEXT[1:]}",
        f"gossipjax://127.0.0.1:4300/é{KEY_TEXT[1:]}",
    ],
)
def test_what_is_no_join_string_is_explained_to_the_person_who_pasted_it(text: str):
    with pytest.raises(LocalProtocolError, match="expected a join string like gossipjax://"):
        parse_join(text)


@given(st.text() | st.from_regex(r"gossipjax://[a-z.]*:[0-9]*/[A-Za-z0-9_-]{42,44}"))
def test_any_text_is_a_join_string_or_refused(text: str):
    with contextlib.suppress(LocalProtocolError):
        address = parse_join(text)
        assert len(address.transport_key) == 32
        assert format_join(address).startswith(text.strip()[:-1])
        parse_endpoint(address.endpoint)


@pytest.mark.parametrize(
    ("endpoint", "network"),
    [
        ("tcp://192.0.2.7:4300", bytes([192, 0])),
        ("tcp://[2001:db8::1]:4300", bytes([0x20, 0x01, 0x0D, 0xB8])),
        ("tcp://[::ffff:192.0.2.7]:4300", bytes([192, 0])),
        ("tcp://peer.example:4300", b"by name"),
        ("tcp://another.example:1", b"by name"),
    ],
)
def test_the_network_of_an_endpoint(endpoint: str, network: bytes):
    assert network_of(endpoint) == network
