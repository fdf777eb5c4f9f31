import hashlib

import pytest
from protocol_pump import identity_of, record_of

from gossipjax.crypto.ecvrf import InvalidProof
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.protocol.beacon import (
    CENSUS_EPOCHS,
    BeaconMachine,
    Draw,
    beacon_input,
    ticket_value,
)
from gossipjax.protocol.ledger import Ledger
from gossipjax.types import PeerId, RunId
from gossipjax.wire.envelope import record_author
from gossipjax.wire.messages import Ticket

SUITE = ed25519_suite()
RUN = RunId(record_of(0).body.run)
EPOCH_S, E0 = 100, 7
START_S = E0 * EPOCH_S


def id_of(number: int) -> PeerId:
    return record_author(record_of(number).body)


def ledger_of(count: int) -> Ledger:
    ledger = Ledger(E0, half_life=1000, founder_work=100, ban_epochs=10)
    for number in range(count):
        ledger.meet(record_of(number).body, E0)
    return ledger


def machine(number: int = 0, count: int = 5, now_s: int = START_S) -> BeaconMachine:
    seed = identity_of(number).vrf_seed
    ledger = ledger_of(count)
    return BeaconMachine(RUN, id_of(number), seed, SUITE, ledger, epoch_s=EPOCH_S, now_s=now_s)


def draw(number: int, epoch: int, parent: bytes, weight: int = 32) -> Draw:
    proof, beta = SUITE.prove(identity_of(number).vrf_seed, beacon_input(RUN, epoch, parent))
    ticket = Ticket(epoch, id_of(number), parent, proof)
    return Draw(ticket_value(beta, weight), 0, beta, ticket)


def at(epoch: int, part: float = 0.5) -> int:
    return int((epoch + part) * EPOCH_S)


def test_the_value_of_a_ticket_is_the_lowest_of_its_weight():
    def single(m: int) -> int:
        return int.from_bytes(hashlib.sha512(b"beta" + m.to_bytes(4, "big")).digest(), "big")

    assert ticket_value(b"beta", 1) == single(1)
    assert ticket_value(b"beta", 50) == min(single(m) for m in range(1, 51))
    with pytest.raises(ValueError, match="empty"):
        ticket_value(b"beta", 0)


def test_the_lowest_tickets_are_kept_and_the_lowest_becomes_the_value():
    peer = machine()
    peer.advance(START_S)
    parent = peer.value_of(E0 - 1)
    draws = sorted((draw(n, E0, parent) for n in range(5)), key=lambda d: d.value)
    others = [d.ticket for d in draws if d.ticket.peer != id_of(0)]
    assert peer.on_tickets(others[:2], at(E0))
    peer.on_tickets(others[2:], at(E0))
    assert peer.draws_of(E0) == draws[:3]
    assert not peer.on_tickets(others, at(E0)), "the same again"
    offer = peer.offer(at(E0))
    assert offer is not None
    assert list(offer.tickets) == [d.ticket for d in draws[:3]]  # the lowest is also the best
    assert peer.advance(at(E0 + 1))
    assert not peer.advance(at(E0 + 1))
    assert peer.value_of(E0) == draws[0].beta
    assert peer.candidates(E0) == [d.beta for d in draws[:3]]


def test_all_peers_that_know_the_same_tickets_have_the_same_value():
    peers = [machine(number) for number in range(5)]
    for epoch in range(E0, E0 + 4):
        for peer in peers:
            peer.advance(at(epoch))
        for peer in peers:
            offer = peer.offer(at(epoch))
            assert offer is not None
            for other in peers:
                other.on_tickets(offer.tickets, at(epoch))
        values = {peer.value_of(epoch - 1) for peer in peers}
        assert len(values) == 1


def test_a_late_ticket_does_not_change_the_own_value_but_counts_for_others():
    peer = machine()
    peer.advance(START_S)
    parent = peer.value_of(E0 - 1)
    draws = sorted((draw(n, E0, parent) for n in range(5)), key=lambda d: d.value)
    lowest, *rest = [d for d in draws if d.ticket.peer != id_of(0)]
    peer.on_tickets([d.ticket for d in rest], at(E0))
    peer.advance(at(E0 + 1))
    own = peer.value_of(E0)
    assert peer.on_tickets([lowest.ticket], at(E0 + 1))
    assert peer.value_of(E0) == own
    assert lowest.beta in peer.candidates(E0)
    assert peer.candidates(E0)[0] == own
    # A child of the late one ranks second: its value counts four times.
    child = draw(4, E0 + 1, lowest.beta)
    peer.on_tickets([child.ticket], at(E0 + 1))
    ranks = {d.ticket.peer: d.rank for d in peer.draws_of(E0 + 1)}
    assert ranks[id_of(4)] == peer.candidates(E0).index(lowest.beta) >= 1
    (found,) = [d for d in peer.draws_of(E0 + 1) if d.ticket.peer == id_of(4)]
    assert found.order == child.value * 4**found.rank


def test_tickets_that_cannot_be_judged_are_dropped_without_a_charge():
    peer = machine(count=4)
    peer.advance(at(E0 + 1))
    parent, old = peer.value_of(E0), peer.value_of(E0 - 1)
    strange = [
        draw(9, E0 + 1, parent),  # unknown
        draw(1, E0 + 1, bytes(64)),  # unknown parent
        draw(1, E0 - 1, old),  # too old
        draw(1, E0 + 2, parent),  # too early
        draw(0, E0 + 1, parent),  # the own one, come back
    ]
    for one in strange:
        assert not peer.on_tickets([one.ticket], at(E0 + 1))
    assert [d.ticket.peer for d in peer.draws_of(E0 + 1)] == [id_of(0)]


def test_a_clock_that_is_a_quarter_of_an_epoch_ahead_is_heard():
    peer = machine()
    peer.advance(at(E0, 0.8))
    early = draw(1, E0 + 1, peer.value_of(E0))
    assert not peer.on_tickets([early.ticket], at(E0, 0.7))
    assert peer.on_tickets([early.ticket], at(E0, 0.8))


def test_a_false_proof_is_the_senders_fault():
    peer = machine()
    peer.advance(START_S)
    parent = peer.value_of(E0 - 1)
    true = draw(1, E0, parent).ticket
    forged = Ticket(E0, id_of(2), parent, true.proof)
    with pytest.raises(InvalidProof):
        peer.on_tickets([forged], at(E0))
    assert peer.on_tickets([draw(2, E0, parent).ticket], at(E0)), "the true one still counts"


def test_previous_tickets_are_told_of_in_the_first_quarter_only():
    peer = machine()
    peer.advance(START_S)
    assert peer.offer(START_S) is not None
    peer.advance(at(E0 + 1, 0.1))
    for part, count in ((0.1, 2), (0.3, 1)):
        offer = peer.offer(at(E0 + 1, part))
        assert offer is not None
        assert len(offer.tickets) == count


def test_a_peer_without_weight_draws_nothing_and_says_nothing():
    peer = machine(number=9)
    peer.advance(START_S)
    assert peer.offer(START_S) is None
    peer.advance(at(E0 + 1))
    assert peer.candidates(E0) == [peer.value_of(E0)]
    assert len(peer.value_of(E0)) == 64
    assert peer.value_of(E0) != peer.value_of(E0 - 1)


def test_a_newcomer_judges_nothing_of_before_its_time_but_can_join_the_chain():
    peer = machine()
    peer.advance(START_S)
    assert peer.candidates(E0 - 1) == []
    assert peer.on_tickets([draw(1, E0, bytes(64)).ticket], at(E0))


@pytest.mark.parametrize(
    ("number", "count", "alarms"), [(0, 1, False), (0, 60, True), (9, 5, True), (9, 0, False)]
)
def test_the_census_alarms_who_does_not_hear_most_weight(number: int, count: int, alarms: bool):
    """Alone; one of sixty; one without weight who hears nobody, or knows nobody."""
    peer = machine(number, count)
    for epoch in range(E0, E0 + CENSUS_EPOCHS + 2):
        peer.advance(at(epoch))
    assert bool(peer.alarms) == alarms


def test_who_was_cut_off_follows_whatever_chain_it_hears_of():
    peer = machine(0, 60)
    epoch = E0
    while not peer.alarms:
        epoch += 1
        peer.advance(at(epoch))
    assert peer.candidates(epoch - 1) == []
    assert peer.on_tickets([draw(1, epoch, bytes(64)).ticket], at(epoch))
