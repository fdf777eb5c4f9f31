"""Indirect probes: a dead peer, or only a broken link to it."""

from typing import Any

from protocol_pump import Member, Pump, Solo, id_of, record_of

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect, Disconnect
from gossipjax.wire.messages import Alive, Ping, Pong, Suspect

FIRST = record_of(0).body.sequence


def test_witnesses_are_asked_about_a_suspected_neighbor():
    solo = Solo()
    for number in range(1, 7):
        solo.meet(number)
    solo.hear(1, Ping(1, 1, 9))
    for _ in range(2):
        solo.wait(2)
        for other in range(2, 7):
            solo.hear(other, Pong(1, 1, 1))
    effects = solo.wait(2)
    asked = [n for n in range(2, 7) if Suspect(id_of(1), 9) in solo.sent(n, effects)]
    assert len(asked) == ProtocolConfig().witnesses
    assert solo.machine.neighbors[id_of(1)].suspected


def test_nobody_is_asked_about_more_than_one_at_a_time():
    solo = Solo()
    for number in range(1, 13):
        solo.meet(number)
    for _ in range(2):
        solo.wait(2)
        for other in (1, 2):
            solo.hear(other, Pong(1, 1, 1))
    effects = solo.wait(2)
    for other in (1, 2):
        assert sum(isinstance(m, Suspect) for m in solo.sent(other, effects)) == 1


def suspected(solo: Solo, number: int, **fields: Any) -> None:
    for other in (1, 2):
        solo.meet(other, **fields)
    solo.hear(number, Ping(1, 1, 5))
    for _ in range(4):
        solo.wait(2)
        solo.hear(3 - number, Pong(1, 1, 1))
    assert solo.machine.neighbors[id_of(number)].suspected


def test_a_neighbor_that_others_hear_is_dialled_anew_at_once():
    solo = Solo()
    suspected(solo, 1)
    effects = solo.hear(2, Alive(id_of(1), 6))
    assert effects == [Disconnect(id_of(1), "silent, but others hear it")]
    assert record_of(1).body.addresses[0] in [
        effect.address.endpoint for effect in solo.wait(1) if isinstance(effect, Connect)
    ]


def test_what_was_heard_before_the_silence_refutes_nothing():
    solo = Solo()
    suspected(solo, 1)
    assert solo.hear(2, Alive(id_of(1), 5)) == []
    solo.hear(1, Pong(1, 1, 5))
    assert solo.hear(2, Alive(id_of(1), 6)) == []  # it is not suspected any more
    assert solo.hear(2, Alive(id_of(9), 6)) == []  # no neighbor


def test_a_neighbor_that_cannot_be_dialled_is_waited_for():
    solo = Solo()
    suspected(solo, 1, port=0)
    assert solo.hear(2, Alive(id_of(1), 99)) == []


def test_a_suspected_peer_refutes_with_a_higher_incarnation_and_no_higher_than_needed():
    solo = Solo()
    solo.meet(1)
    assert solo.sent(1, solo.hear(1, Suspect(id_of(0), FIRST))) == [Alive(id_of(0), FIRST + 1)]
    assert solo.sent(1, solo.hear(1, Suspect(id_of(0), FIRST))) == [Alive(id_of(0), FIRST + 1)]
    assert solo.sent(1, solo.hear(1, Suspect(id_of(0), 2**53))) == [Alive(id_of(0), FIRST + 1)]
    assert solo.sent(1, solo.hear(1, Ping(3, 0, 1))) == [Pong(3, 0, FIRST + 1)]


def test_a_witness_answers_for_what_it_knows_and_passes_on_what_it_does_not():
    solo = Solo()
    for number in (1, 2, 3):
        solo.meet(number)
    solo.hear(2, Pong(1, 1, 7))
    assert solo.sent(1, solo.hear(1, Suspect(id_of(2), 6))) == [Alive(id_of(2), 7)]
    asked = solo.hear(1, Suspect(id_of(2), 7))
    assert solo.sent(2, asked) == [Suspect(id_of(2), 7)]
    assert solo.hear(3, Suspect(id_of(2), 8)) == []  # it has been asked just now
    solo.lose(3)
    answer = solo.hear(2, Alive(id_of(2), 8))
    assert solo.sent(1, answer) == [Alive(id_of(2), 8)]
    assert len(answer) == 1  # the other asker is gone
    assert solo.hear(2, Alive(id_of(2), 9)) == []  # nobody asks any more


def test_questions_about_strangers_and_about_oneself_cost_nobody_anything():
    solo = Solo(book=[record_of(9)])
    solo.meet(1)
    assert solo.hear(1, Suspect(id_of(9), 1)) == []
    assert solo.hear(1, Suspect(id_of(1), 1)) == []


def test_many_questions_make_one_message_per_interval():
    solo = Solo()
    for number in range(1, 12):
        solo.meet(number)
    sent = 0
    for _ in range(3):
        for number in range(2, 12):
            sent += len(solo.hear(number, Suspect(id_of(1), 1)))
        solo.wait(2)
    assert sent == 3


class BrokenLink(Pump):
    """Two members hear nothing of each other; everybody else hears everybody."""

    broken: frozenset[int] = frozenset()

    def reaches(self, one: Member, other: Member) -> bool:
        return {one.number, other.number} != self.broken and super().reaches(one, other)


def test_a_network_tells_a_broken_link_from_a_dead_peer():
    pump = BrokenLink()
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in range(1, 6))]
    pump.run(30)
    assert all(len(member.neighbors) == 5 for member in members)
    one, other = members[1], members[2]
    pump.broken = frozenset({1, 2})
    assert pump.run_until(lambda: 2 not in one.neighbors, 9)  # a dead one is kept for 15 s
    reasons = {effect.reason for effect in one.disconnected if effect.peer == other.id}
    assert reasons == {"silent, but others hear it"}
    pump.broken = frozenset()
    assert pump.run_until(lambda: 2 in one.neighbors, 12)
    members[5].kill()
    pump.run(11)
    assert all(5 in member.neighbors for member in members[:5])
    pump.run(8)
    assert not any(5 in member.neighbors for member in members[:5])
