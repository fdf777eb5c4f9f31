"""Whom updates are offered to, by the parameter `offer_to`."""

from collections import Counter

from protocol_pump import MILLISECOND, SECOND, Pump, Solo, id_of, update_of

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Send
from gossipjax.protocol.events import Published
from gossipjax.wire.messages import Offer, Ping, Pong


def audiences(solo: Solo, rounds: int) -> list[list[int]]:
    """Who is offered each of so many updates."""
    numbers = {id_of(number): number for number in range(30)}
    found: list[list[int]] = []
    for sequence in range(1, rounds + 1):
        effects = solo.feed(Published(update_of(0, sequence)))
        found.append([numbers[effect.peer] for effect in effects if isinstance(effect, Send)])
    return found


def meet_at_distances(solo: Solo, distances_ms: dict[int, int]) -> None:
    """Meet peers that answer after so many milliseconds."""
    nonces: dict[int, int] = {}
    for number in distances_ms:
        (ping,) = (m for m in solo.sent(number, solo.meet(number)) if isinstance(m, Ping))
        nonces[number] = ping.nonce
    began_ns = solo.now_ns
    for number, distance in sorted(distances_ms.items(), key=lambda item: item[1]):
        solo.now_ns = began_ns + distance * MILLISECOND
        solo.hear(number, Pong(nonces[number], 0, 1))


def test_the_near_half_is_preferred_and_everybody_has_a_turn():
    solo = Solo(ProtocolConfig(offer_to="near", fanout=3))
    meet_at_distances(solo, {number: 10 * number for number in range(1, 9)})
    rounds = audiences(solo, 300)
    assert all(len(set(told)) == 3 for told in rounds)
    counts = Counter(number for told in rounds for number in told)
    near = [counts[number] for number in range(1, 5)]
    far = [counts[number] for number in range(5, 9)]
    assert min(near) > 1.5 * max(far)
    assert min(far) > 10  # one in eight rounds, or so


def test_who_never_answered_counts_as_far_and_few_neighbors_are_all_told():
    solo = Solo(ProtocolConfig(offer_to="near", fanout=2))
    solo.meet(1)
    meet_at_distances(solo, {2: 5})
    assert {frozenset(told) for told in audiences(solo, 5)} == {frozenset({1, 2})}
    alone = Solo(ProtocolConfig(offer_to="near", fanout=2))
    assert audiences(alone, 2) == [[], []]


def test_round_trips_are_smoothed_and_a_second_answer_says_nothing():
    solo = Solo()
    meet_at_distances(solo, {1: 80})
    neighbor = solo.machine.neighbors[id_of(1)]
    assert neighbor.round_trip_ns == 80 * MILLISECOND
    solo.now_ns += SECOND
    solo.hear(1, Pong(1, 0, 1))
    assert neighbor.round_trip_ns == 80 * MILLISECOND
    solo.wait(2)
    solo.now_ns += 160 * MILLISECOND
    solo.hear(1, Pong(1, 0, 1))
    assert neighbor.round_trip_ns == 90 * MILLISECOND


def test_a_fixed_topology_offers_to_those_of_the_list_that_are_connected():
    listed = tuple(id_of(number).hex() for number in (3, 1, 7))
    solo = Solo(ProtocolConfig(offer_to=listed, fanout=1))
    for number in range(1, 6):
        solo.meet(number)
    assert audiences(solo, 2) == [[3, 1], [3, 1]]


def test_peers_of_a_ring_find_their_neighbors():
    size = 12
    pump = Pump()
    members = []
    for number in range(size):
        around = [id_of((number + step) % size).hex() for step in (-1, 1)]
        config = ProtocolConfig(offer_to=tuple(around), view_size=4, renew_interval_ns=4 * SECOND)
        members.append(pump.join(number, members[:1], config=config))
    pump.run(120)
    for number, member in enumerate(members):
        assert {(number - 1) % size, (number + 1) % size} <= member.neighbors
        before = member.sent[Offer]
        member.publish(version=1)
        assert member.sent[Offer] == before + 2
