import itertools

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.dialing import Dialer, Place
from gossipjax.protocol.rng import SplitMix64

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

CONFIG = ProtocolConfig()
HERE, THERE = bytes([1]) * 32, bytes([2]) * 32
ENDPOINTS = ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.1:3")
ADDRESSES = Place(ENDPOINTS, HERE)
OTHER = Place(("tcp://127.0.0.1:9",), THERE)


def waits_of(dialer: Dialer, seconds: int) -> list[tuple[float, str]]:
    """Dial one dead peer for a while, as the machine would: times in seconds, and endpoints."""
    now_ns, dialled = 0, []
    while now_ns < seconds * SECOND:
        dialled += [
            (now_ns / SECOND, connect.address.endpoint)
            for connect in dialer.dial({HERE: ADDRESSES}, 5, now_ns)
        ]
        now_ns = dialer.next_ns([HERE], now_ns)
    return dialled


def test_waits_double_up_to_the_longest():
    dialled = waits_of(Dialer(CONFIG, SplitMix64(3)), 300)
    times = [time for time, _ in dialled]
    waits = [later - time - 5 for time, later in itertools.pairwise(times)]
    longest = [min(0.5 * 2**i, 20) for i in range(len(waits))]
    # The planning step of half a second comes on top.
    assert all(most / 2 <= wait <= most + 0.5 for wait, most in zip(waits, longest, strict=True))
    assert len(times) < 25


def test_a_peer_with_several_addresses_is_dialled_at_one_at_a_time():
    endpoints = [endpoint for _, endpoint in waits_of(Dialer(CONFIG, SplitMix64(3)), 60)]
    assert endpoints[:4] == [ENDPOINTS[i % 3] for i in range(4)]


def test_no_more_attempts_than_places():
    candidates = {bytes([i]) * 32: OTHER for i in range(10)}
    dialer = Dialer(CONFIG, SplitMix64(0))
    assert len(dialer.dial(candidates, 3, 0)) == 3
    assert len(dialer.dial(candidates, 3, 0)) == 0
    assert len(dialer.dial(candidates, 4, 1)) == 1
    assert dialer.dial(candidates, -5, 2) == []
    # All of them fail; they wait, and others get their chance.
    assert len(dialer.dial(candidates, 3, 6 * SECOND)) == 3


def test_a_connection_ends_the_waiting():
    dialer = Dialer(CONFIG, SplitMix64(0))
    assert dialer.dial({HERE: ADDRESSES}, 1, 0)
    dialer.connected(HERE)
    assert dialer.next_ns([HERE], 0) == CONFIG.retry_max_ns
    assert dialer.dial({HERE: ADDRESSES}, 1, 1)


def test_a_postponed_peer_is_left_alone_for_so_long():
    dialer = Dialer(CONFIG, SplitMix64(0))
    dialer.postpone(HERE, 7 * SECOND, SECOND)
    assert dialer.dial({HERE: ADDRESSES}, 1, 8 * SECOND - 1) == []
    assert dialer.next_ns([HERE], 2 * SECOND) == 8 * SECOND
    assert dialer.dial({HERE: ADDRESSES}, 1, 8 * SECOND)


def test_a_thousand_waiting_peers_wake_the_machine_twice_a_second_at_most():
    dialer = Dialer(CONFIG, SplitMix64(0))
    keys = [i.to_bytes(32, "big") for i in range(1000)]
    for number, key in enumerate(keys):
        dialer.postpone(key, number * 20 * MILLISECOND, 0)
    now_ns, wakes = 0, 0
    while now_ns < 20 * SECOND:
        now_ns, wakes = dialer.next_ns(keys, now_ns), wakes + 1
    assert wakes <= 41
