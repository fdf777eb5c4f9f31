import itertools

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.dialing import Dialer, Place
from gossipjax.protocol.rng import SplitMix64

SECOND = 1_000_000_000
CONFIG = ProtocolConfig()
HERE, THERE = bytes([1]) * 32, bytes([2]) * 32
ENDPOINTS = ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.1:3")
ADDRESSES = Place(ENDPOINTS, HERE)


def waits_of(dialer: Dialer, seconds: int) -> list[tuple[float, str]]:
    """Dial one dead peer for a while, as the machine would: times in seconds, and endpoints."""
    now_ns, dialled = 0, []
    while now_ns < seconds * SECOND:
        due_ns = dialer.due_ns(HERE, now_ns)
        if due_ns > now_ns:
            now_ns = due_ns
        else:
            connect = dialer.dial(HERE, ADDRESSES, now_ns)
            dialled.append((now_ns / SECOND, connect.address.endpoint))
    return dialled


def test_waits_double_up_to_the_longest():
    dialled = waits_of(Dialer(CONFIG, SplitMix64(3)), 300)
    times = [time for time, _ in dialled]
    waits = [later - time - 5 for time, later in itertools.pairwise(times)]
    longest = [min(0.5 * 2**i, 12) for i in range(len(waits))]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len(times) < 35


def test_who_never_answered_waits_longer_than_who_did_unless_nobody_is_there():
    busy, lonely, known = (Dialer(CONFIG, SplitMix64(3)) for _ in range(3))
    busy.is_alone = known.is_alone = False
    known.connected(HERE)
    assert len(waits_of(busy, 3600)) < 20
    assert len(waits_of(known, 3600)) == len(waits_of(lonely, 3600)) > 200
    told = Dialer(CONFIG, SplitMix64(3), known=[HERE])
    told.is_alone = False
    assert len(waits_of(told, 3600)) > 200


def test_a_peer_with_several_addresses_is_dialled_at_one_at_a_time():
    endpoints = [endpoint for _, endpoint in waits_of(Dialer(CONFIG, SplitMix64(3)), 60)]
    assert endpoints[:4] == [ENDPOINTS[i % 3] for i in range(4)]


def test_an_attempt_is_under_way_until_it_fails_or_works():
    dialer = Dialer(CONFIG, SplitMix64(0))
    assert not dialer.is_dialling(HERE, 0)
    dialer.dial(HERE, ADDRESSES, 0)
    assert dialer.is_dialling(HERE, 1)
    assert dialer.due_ns(HERE, 1) == CONFIG.connect_timeout_ns
    assert not dialer.is_dialling(HERE, CONFIG.connect_timeout_ns)
    dialer.dial(HERE, ADDRESSES, 0)
    dialer.connected(HERE)
    assert not dialer.is_dialling(HERE, 1)
    assert dialer.due_ns(HERE, 1) == 1


def test_a_postponed_peer_is_left_alone_for_so_long():
    dialer = Dialer(CONFIG, SplitMix64(0))
    dialer.postpone(HERE, 7 * SECOND, SECOND)
    assert dialer.due_ns(HERE, 2 * SECOND) == 8 * SECOND
    assert dialer.due_ns(THERE, 2 * SECOND) == 2 * SECOND
