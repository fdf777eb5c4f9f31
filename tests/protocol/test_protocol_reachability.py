"""A peer finds out whether others can dial it, and nobody is made to dial anybody else."""

from collections.abc import Callable

import pytest
from protocol_pump import SECOND, Member, Pump, Solo, id_of, record_of

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect, Send
from gossipjax.protocol.events import PeerConnected
from gossipjax.wire.address import Address
from gossipjax.wire.messages import DialBack, Ping


def dial_out(solo: Solo, number: int) -> None:
    solo.feed(PeerConnected(record_of(number), dialled=True))


def asked(solo: Solo, seconds: float) -> list[Send]:
    """Who is asked to dial back while time passes and the neighbors live."""
    found: list[Send] = []
    end_ns = solo.now_ns + int(seconds * SECOND)
    while solo.now_ns < end_ns:
        effects = solo.wait(0.5)
        found += [e for e in effects if isinstance(e, Send) and isinstance(e.message, DialBack)]
        for peer in list(solo.machine.neighbors):
            number = next(n for n in range(9) if id_of(n) == peer)
            solo.hear(number, Ping(1, 1, 0))
    return found


def test_who_was_dialled_is_reachable_and_asks_nobody():
    solo = Solo()
    assert solo.machine.is_reachable is None
    dial_out(solo, 1)
    solo.feed(PeerConnected(record_of(2), dialled=False))
    assert solo.machine.is_reachable is True
    assert asked(solo, 60) == []


def test_three_are_asked_before_a_peer_counts_as_unreachable():
    solo = Solo()
    for number in (1, 2, 3, 4):
        dial_out(solo, number)
    assert asked(solo, 4) == []
    assert len(asked(solo, 25)) == 3
    assert solo.machine.is_reachable is None
    assert asked(solo, 15) == []
    assert solo.machine.is_reachable is False
    assert asked(solo, 560) == []
    assert len(asked(solo, 60)) == 3  # it may have become otherwise
    solo.feed(PeerConnected(record_of(1, sequence=2), dialled=False))
    assert solo.machine.is_reachable is True


def test_without_direct_neighbors_nothing_is_concluded():
    solo = Solo()
    dial_out(solo, 1)
    solo.feed(PeerConnected(record_of(2, port=0), dialled=False, relay=id_of(1)))
    assert solo.machine.is_reachable is None  # that connection led through a relay
    solo.lose(1)
    assert asked(solo, 60) == []
    assert solo.machine.is_reachable is None


def test_a_peer_without_addresses_knows():
    solo = Solo(record=record_of(0, port=0))
    assert solo.machine.is_reachable is False
    dial_out(solo, 1)
    assert asked(solo, 60) == []


def test_only_the_own_address_of_the_asker_is_dialled_and_seldom():
    solo = Solo()
    for number in (1, 2):
        solo.meet(number)
    solo.meet(3, port=0)
    body = record_of(1).body
    dialled = [Connect(Address(body.addresses[0], body.transport_key))]
    assert solo.hear(1, DialBack()) == dialled
    solo.now_ns += SECOND // 2
    assert solo.hear(2, DialBack()) == []  # one a second
    solo.now_ns += 2 * SECOND
    assert solo.hear(1, DialBack()) == []  # one a minute for each
    assert len(solo.hear(2, DialBack())) == 1
    solo.now_ns += 58 * SECOND
    assert solo.hear(1, DialBack()) == dialled
    solo.now_ns += 2 * SECOND
    assert solo.hear(3, DialBack()) == []  # it has no address


@pytest.mark.parametrize("open_port", [True, False])
def test_a_real_attempt_decides(open_port: bool, monkeypatch: pytest.MonkeyPatch):
    pump = Pump(ProtocolConfig(view_size=2, renew_interval_ns=1000 * SECOND))
    first = pump.join(0)
    second = pump.join(1, [first])
    establish: Callable[[Member, Address], None] = pump.establish

    def filtered(dialler: Member, address: Address) -> None:
        if open_port or address != second.address:
            establish(dialler, address)

    monkeypatch.setattr(pump, "establish", filtered)
    pump.run(60)
    assert first.machine.is_reachable is True
    assert second.machine.is_reachable is open_port
    assert second.neighbors == {0}
