"""A relay passes on what it may, within its budget, and nothing else."""

from typing import Any

import pytest
from protocol_pump import SECOND, Solo, id_of, record_of, refusals

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Disconnect, OpenTunnel, Send
from gossipjax.protocol.events import PeerConnected
from gossipjax.wire.messages import Leave, Peers, Ping, Relay, Undelivered

MIB = 1 << 20


def between(one: int, other: int, *, bulk: bool = True) -> Relay:
    return Relay(id_of(one), id_of(other), bulk)


@pytest.fixture
def solo() -> Solo:
    """A relay with the neighbors 1, 2 and 3."""
    solo = Solo(ProtocolConfig(relay_bytes_per_s=4 * MIB))
    for number in (1, 2, 3):
        solo.meet(number)
    return solo


def passed_on(effects: list[Any]) -> list[tuple[bytes, int]]:
    return [(e.peer, len(e.data)) for e in effects if isinstance(getattr(e, "message", 0), Relay)]


def test_a_packet_is_passed_on_as_it_came(solo):
    for bulk in (True, False):
        message = between(1, 2, bulk=bulk)
        assert solo.hear(1, message, b"packet") == [Send(id_of(2), message, b"packet")]


def test_somebody_elses_packet_is_refused(solo):
    assert refusals(solo.hear(1, between(2, 3), b"packet")) == ["author"]
    assert refusals(solo.hear(1, between(1, 2))) == ["malformed"]


def test_nothing_is_passed_on_to_strangers_or_back(solo):
    for target in (1, 7):
        assert solo.hear(1, between(1, target), b"x") == [
            Send(id_of(1), Undelivered(id_of(target)))
        ]


def test_nothing_is_passed_on_to_those_who_are_reached_through_a_relay_themselves(solo):
    solo.feed(PeerConnected(record_of(4, port=0), relay=id_of(3)))
    assert solo.hear(1, between(1, 4), b"x") == [Send(id_of(1), Undelivered(id_of(4)))]
    solo.feed(PeerConnected(record_of(4, port=0, sequence=2)))  # directly now
    assert passed_on(solo.hear(1, between(1, 4), b"x"))


def test_a_pair_gets_a_quarter_of_the_budget_and_bulk_waits(solo):
    sent = 0
    for _ in range(16):
        sent += len(passed_on(solo.hear(1, between(1, 2), bytes(MIB - 256))))
    assert sent == 1
    # Keep-alives do not wait for it, and another pair waits for the packet under way only.
    assert passed_on(solo.hear(1, between(1, 2, bulk=False), b"x"))
    assert passed_on(solo.hear(2, between(2, 1), bytes(MIB))) == []
    assert passed_on(solo.wait(0.25)) == [(id_of(1), MIB)]
    for _ in range(5):
        solo.now_ns = solo.machine.next_deadline_ns
        sent += len([p for p in passed_on(solo.wait(0)) if p[0] == id_of(2)])
    seconds = solo.now_ns / SECOND
    assert sent <= 1 + seconds
    while solo.now_ns < 20 * SECOND:
        solo.now_ns = solo.machine.next_deadline_ns
        sent += len([p for p in passed_on(solo.wait(0)) if p[0] == id_of(2)])
        for number in (1, 2, 3):
            solo.hear(number, Ping(1, 1, 1))
    assert sent == 16


def test_what_does_not_fit_the_backlog_is_reported(solo):
    refused = 0
    for _ in range(20):
        answers = solo.hear(1, between(1, 2), bytes(MIB))
        refused += answers == [Send(id_of(1), Undelivered(id_of(2)))]
    assert 3 <= refused <= 5


def test_all_pairs_together_are_bounded():
    solo = Solo(ProtocolConfig(relay_bytes_per_s=4 * MIB))
    numbers = range(1, 8)
    for number in numbers:
        solo.meet(number)
    for number in numbers:
        for _ in range(12):
            solo.hear(number, between(number, 1 + number % 7), bytes(MIB))
    relay = solo.machine._relay
    assert relay._queued_bytes <= 32 * MIB
    while solo.now_ns < 60 * SECOND:
        solo.now_ns = solo.machine.next_deadline_ns
        solo.wait(0)
        for number in numbers:
            solo.hear(number, Ping(1, 1, 1))
    assert relay._queued_bytes == 0
    assert relay.next_deadline_ns is None


def test_packets_for_somebody_who_has_left_are_dropped(solo):
    for _ in range(3):
        solo.hear(1, between(1, 2), bytes(MIB))
    solo.hear(2, Leave("stopping"))
    solo.now_ns += 5 * SECOND
    assert passed_on(solo.wait(0)) == []


def test_with_a_budget_of_zero_nothing_is_relayed():
    solo = Solo(ProtocolConfig(relay_bytes_per_s=0))
    for number in (1, 2):
        solo.meet(number)
    assert solo.hear(1, between(1, 2), b"x") == [Send(id_of(1), Undelivered(id_of(2)))]


# ---- finding a relay ---------------------------------------------------------------------------


def opened(solo: Solo, seconds: float) -> list[OpenTunnel]:
    """The tunnels that are asked for while time passes and the neighbors live."""
    found: list[OpenTunnel] = []
    end_ns = solo.now_ns + int(seconds * SECOND)
    while solo.now_ns < end_ns:
        found += [e for e in solo.wait(0.5) if isinstance(e, OpenTunnel)]
        for number in (1, 2, 3):
            if id_of(number) in solo.machine.neighbors:
                solo.hear(number, Ping(1, 1, 1))
    return found


def tell(solo: Solo, teller: int, number: int, **record: Any) -> None:
    solo.hear(teller, Peers((record_of(number, **record).sealed,)))


def test_who_cannot_be_dialled_is_asked_for_by_whoever_told_of_it(solo):
    tell(solo, 1, 5, port=0)
    (first,) = opened(solo, 4)
    assert first == OpenTunnel(id_of(1), record_of(5, port=0))
    assert 2 <= len(opened(solo, 60)) <= 6  # again, with growing waits
    solo.feed(PeerConnected(record_of(5, port=0), relay=id_of(1)))
    assert opened(solo, 12) == []


def test_who_can_be_dialled_is_not_asked_for(solo):
    tell(solo, 1, 5)
    assert opened(solo, 20) == []


def test_a_full_view_asks_for_nobody():
    solo = Solo(ProtocolConfig(view_size=4))
    for number in (1, 2):
        solo.meet(number)
    tell(solo, 1, 5, port=0)
    assert opened(solo, 20) == []


def test_who_is_reached_through_a_relay_is_no_relay_and_no_teller(solo):
    tell(solo, 1, 5, port=0)
    solo.feed(PeerConnected(record_of(6, port=0), relay=id_of(2)))
    tell(solo, 6, 5, port=0)
    assert {effect.relay for effect in opened(solo, 20)} == {id_of(1)}
    tell(solo, 2, 5, port=0, sequence=2)
    assert opened(solo, 40)[-1] == OpenTunnel(id_of(2), record_of(5, port=0, sequence=2))


def test_a_relay_that_ends_its_service_cuts_the_two_off(solo):
    solo.feed(PeerConnected(record_of(5, port=0), relay=id_of(1)))
    assert solo.hear(2, Undelivered(id_of(5))) == []  # that one does not carry it
    assert id_of(5) in solo.machine.neighbors
    assert solo.hear(1, Undelivered(id_of(5))) == [Disconnect(id_of(5), "its relay is gone")]
    assert id_of(5) not in solo.machine.neighbors
    assert solo.hear(1, Undelivered(id_of(5))) == []
