"""How a late joiner gets the network's parameters, and that its own do not count before."""

import pytest
from protocol_pump import SECOND, Member, Pump, Solo, id_of, refusals, update_of

from gossipjax.protocol.catch_up import CatchUpMachine
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Deliver, Effects, Send
from gossipjax.protocol.events import Published
from gossipjax.protocol.rng import SplitMix64
from gossipjax.wire.address import Address
from gossipjax.wire.messages import Chunk, GetOffer, Offer, Ping

NOWHERE = Address("tcp://127.0.0.1:1", bytes(32))
ONE, TWO = id_of(1), id_of(2)


def network(size: int, version: int) -> tuple[Pump, list[Member]]:
    """A network whose members have published updates of about this version."""
    pump = Pump()
    first = pump.join(0, version=version)
    members = [first, *(pump.join(number, [first], version=version) for number in range(1, size))]
    pump.run(12)
    for member in members:
        member.publish(version + member.number)
    pump.run(1)
    return pump, members


# ---- whole networks ----------------------------------------------------------------------------


def test_a_late_joiner_adopts_once_and_offers_nothing_before():
    pump, members = network(4, version=5000)
    joiner = pump.join(9, [members[0]])
    assert not joiner.machine.has_caught_up
    joiner.publish(version=1)
    assert pump.run_until(lambda: bool(joiner.delivered), 5)
    assert joiner.machine.has_caught_up
    (adopted,) = joiner.delivered
    assert adopted.adopt
    assert adopted.header.body.version >= 5000
    assert joiner.sent[Offer] == 0
    for member in members:
        member.publish(5100 + member.number)
    pump.run(1)
    assert sum(delivery.adopt for delivery in joiner.delivered) == 1
    joiner.publish(version=5200)
    pump.run(1)
    assert any(d.header.body.author == joiner.id for m in members for d in m.delivered)


def test_fellow_joiners_wait_for_nobody():
    pump = Pump()
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in (1, 2))]
    pump.run(3)
    assert all(member.machine.has_caught_up for member in members)
    assert not any(member.delivered for member in members)


def test_a_peer_that_was_away_for_a_short_while_averages_instead():
    pump, members = network(3, version=5000)
    returned = pump.join(9, [members[0]], version=4950)
    pump.run(3)
    assert returned.machine.has_caught_up
    members[0].publish(5010)
    pump.run(1)
    assert [delivery.adopt for delivery in returned.delivered] == [False]


def test_many_joiners_use_many_donors():
    pump, members = network(6, version=5000)
    joiners = [pump.join(number, [members[0]]) for number in range(10, 30)]
    pump.run(10)
    assert all(joiner.machine.has_caught_up for joiner in joiners)
    served = [member.sent[Chunk] for member in members]
    assert sum(bool(count) for count in served) >= 3


def test_a_donor_that_dies_is_replaced_by_another():
    pump, members = network(3, version=5000)
    joiner = pump.join(9, [members[0]])

    assert pump.run_until(lambda: joiner.sent[GetOffer] == 1, 5)
    donor = joiner.last_sent_to[GetOffer]
    next(member for member in members if member.id == donor).kill()
    assert pump.run_until(lambda: joiner.machine.has_caught_up, 40)
    assert [delivery.adopt for delivery in joiner.delivered] == [True]


# ---- one machine -------------------------------------------------------------------------------


def joiner() -> Solo:
    solo = Solo(bootstrap=[NOWHERE])
    assert not solo.machine.has_caught_up
    return solo


def transfer(solo: Solo, sequence: int, version: int) -> Effects:
    """Offer, pull and inspect an update of peer 1."""
    update = update_of(1, sequence, version=version)
    root = update.header.body.root
    solo.hear(1, Offer(update.header.sealed))
    solo.hear(1, Chunk(root, 0, ()), update.chunk(0))
    return solo.inspected(update)


def test_the_first_update_that_is_far_ahead_is_adopted_asked_for_or_not():
    solo = joiner()
    solo.meet(1)
    assert transfer(solo, 1, version=100) == [Deliver(update_of(1, 1, version=100).header, False)]
    assert transfer(solo, 2, version=101) == [Deliver(update_of(1, 2, version=101).header, True)]
    assert transfer(solo, 3, version=900) == [Deliver(update_of(1, 3, version=900).header, False)]


def test_a_joiner_listens_for_a_second_then_asks_whoever_is_ahead():
    solo = joiner()
    solo.wait(20)
    solo.meet(1)
    solo.meet(2)
    solo.hear(1, Ping(1, 100, 1))
    solo.hear(2, Ping(1, 101, 1))
    assert solo.sent(2, solo.wait(0.9)) == []
    assert solo.sent(2, solo.wait(0.1)) == [GetOffer()]
    assert not solo.machine.has_caught_up


def test_a_joiner_waits_for_versions_before_it_decides():
    solo = joiner()
    solo.meet(1)
    for _ in range(5):
        solo.wait(1)
    assert not solo.machine.has_caught_up
    solo.hear(1, Ping(1, 7, 1))
    solo.wait(1)
    assert solo.machine.has_caught_up


def test_a_neighbor_that_has_fallen_silent_is_not_asked():
    solo = joiner()
    solo.meet(1)
    solo.hear(1, Ping(1, 500, 1))
    asked = []
    for _ in range(9):
        asked.append(GetOffer() in solo.sent(1, solo.wait(1)))
    assert asked == [True] * 5 + [False] * 4
    assert not solo.machine.has_caught_up


def test_an_update_sealed_before_adoption_is_not_offered_after_it():
    solo = joiner()
    solo.meet(1)
    assert solo.feed(Published(update_of(0, 1, version=5))) == []
    transfer(solo, 1, version=500)
    assert solo.feed(Published(update_of(0, 2, version=6))) == []
    assert solo.hear(1, GetOffer()) == []
    fresh = update_of(0, 3, version=505)
    assert solo.sent(1, solo.feed(Published(fresh))) == [Offer(fresh.header.sealed)]
    # From then on versions may fall: mixing with others does that.
    later = update_of(0, 4, version=400)
    assert solo.sent(1, solo.feed(Published(later))) == [Offer(later.header.sealed)]


def test_an_answer_may_repeat_an_update_and_a_second_one_may_not():
    solo = joiner()
    solo.meet(1)
    update = update_of(1, 1, version=90)
    transfer(solo, 1, version=90)
    solo.hear(1, Ping(1, 200, 1))
    assert GetOffer() in solo.sent(1, solo.wait(1))
    assert GetOffer() in solo.sent(1, solo.wait(1))
    for reasons in ([], [], ["replay"]):
        assert refusals(solo.hear(1, Offer(update.header.sealed))) == reasons


def test_a_neighbor_that_lies_about_its_version_holds_a_joiner_up_for_a_minute():
    solo = joiner()
    solo.meet(1)
    asked = 0
    seconds = 0
    while not solo.machine.has_caught_up:
        solo.hear(1, Ping(1, 2**53, 1))
        asked += GetOffer() in solo.sent(1, solo.wait(1))
        seconds += 1
        assert seconds < 100
    assert asked == 60
    assert seconds == 61
    fresh = update_of(0, 1, version=5)
    assert solo.sent(1, solo.feed(Published(fresh))) == [Offer(fresh.header.sealed)]


def test_a_transfer_under_way_is_waited_for():
    machine = CatchUpMachine(ProtocolConfig(), SplitMix64(0), joins_others=True)
    assert machine.next_deadline_ns is None
    machine.connected(0)
    machine.connected(5 * SECOND)
    assert machine.next_deadline_ns == SECOND
    assert machine.tick({ONE: 500}, 0, False, SECOND) == [Send(ONE, GetOffer())]
    for second in range(2, 200):
        assert machine.tick({ONE: 500}, 0, True, second * SECOND) == []
    assert not machine.is_done
    assert machine.adopts(450, 0)
    assert machine.is_done
    assert machine.next_deadline_ns is None


@pytest.mark.parametrize("own_version", [0, 1000])
def test_only_neighbors_far_ahead_are_asked(own_version: int):
    gap = ProtocolConfig().catch_up_gap
    for lead, asked in ((gap, []), (gap + 1, [Send(TWO, GetOffer())])):
        machine = CatchUpMachine(ProtocolConfig(), SplitMix64(0), joins_others=True)
        machine.connected(0)
        versions = {ONE: 0, TWO: own_version + lead}
        assert machine.tick(versions, own_version, False, SECOND) == asked
        assert machine.is_done == (not asked)


def test_whoever_joins_nobody_has_caught_up():
    machine = CatchUpMachine(ProtocolConfig(), SplitMix64(0), joins_others=False)
    assert machine.is_done
    machine.connected(0)
    assert machine.tick({ONE: 500}, 0, False, 10 * SECOND) == []
    assert not machine.adopts(500, 0)
    assert machine.may_offer(0)
