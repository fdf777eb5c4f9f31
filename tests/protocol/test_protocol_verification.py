from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs
from protocol_pump import (
    EPOCH_S,
    SECOND,
    SUITE,
    Pump,
    Solo,
    id_of,
    identity_of,
    machine_of,
    record_of,
    refusals,
    update_of,
)

from gossipjax.errors import LocalProtocolError
from gossipjax.protocol.credentials import case_of, draw_of, is_sampled, role_input, segment_of
from gossipjax.protocol.effects import Audit, Ban, Disconnect, Effect, Effects, Pardon, Send
from gossipjax.protocol.events import Appealed, Audited, Inspected, Published, Received
from gossipjax.protocol.rules import Rules
from gossipjax.protocol.verification import VerificationMachine
from gossipjax.types import RunId
from gossipjax.wire.envelope import seal_vote
from gossipjax.wire.messages import (
    Ballot,
    Case,
    Certificate,
    Chunk,
    Evidence,
    Get,
    Offer,
    Role,
    RoundClaim,
    Sealed,
    Ticket,
    Tickets,
    Verdict,
    Vote,
)
from gossipjax.wire.tensors import manifest_of

RULES = Rules(epoch_s=20, audit_percent=100, founding_epochs=1)
RUN = RunId(record_of(0).body.run)
OTHER_FORM = manifest_of({"y": ((4,), "float32")})
EQUIVOCATION = Evidence(
    6,
    record_of(1).sealed,
    (update_of(1, 5).header.sealed, update_of(1, 5, value=2.0).header.sealed),
)


def solo(*neighbors: int) -> Solo:
    """A peer that has met some others in its first epoch, so that all have weight."""
    made = Solo(rules=RULES)
    for number in neighbors:
        made.meet(number)
    return made


def verification(of: Solo) -> VerificationMachine:
    machine = of.machine.verification
    assert machine is not None
    return machine


def rumors(effects: Sequence[Effect]) -> list[Any]:
    kinds = (Case, Ballot, Evidence, Certificate)
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kinds)]


def bans(effects: Sequence[Effect]) -> list[tuple[bytes, str]]:
    return [(e.peer, e.reason) for e in effects if isinstance(e, Ban)]


# ---- a whole swarm -----------------------------------------------------------------------------


def swarm(rules: Rules, verdicts: dict[int, Verdict], seconds: int) -> Pump:
    pump = Pump()
    pump.verdicts = {id_of(number): verdict for number, verdict in verdicts.items()}
    first = pump.join(0, rules=rules)
    for number in range(1, 5):
        pump.join(number, [first], rules=rules)
    for _ in range(seconds // 5):
        pump.run(5)
        for member in pump.members:
            member.publish(claim=RoundClaim(0, 15, 3, bytes(32)))
    return pump


def banned_by(pump: Pump) -> list[dict[bytes, str]]:
    return [dict(bans(member.trace)) for member in pump.members]


def test_a_cheat_is_banned_by_everybody():
    pump = swarm(RULES, {4: Verdict.FAULT}, 75)
    cheat = id_of(4)
    assert banned_by(pump)[:4] == [{cheat: "fault"}] * 4
    for member in pump.members[:4]:
        assert not member.refused
        assert cheat not in member.machine.neighbors
        machine = member.machine.verification
        assert machine is not None
        assert machine.ledger.electorate(machine.beacon.epoch).of(cheat) == 0


def test_without_a_cheat_nobody_is_banned_and_all_have_the_same_value():
    pump = swarm(RULES, {}, 75)
    assert banned_by(pump) == [{}] * 5
    machines = [m.machine.verification for m in pump.members]
    values = {m.beacon.value_of(m.beacon.epoch - 1) for m in machines if m is not None}
    assert len(values) == 1
    audits = sum(isinstance(e, Audit) for m in pump.members for e in m.trace)
    assert audits > 10


def test_a_run_that_does_not_verify_says_nothing_of_it():
    pump = swarm(Rules(policy="off"), {4: Verdict.FAULT}, 60)
    assert banned_by(pump) == [{}] * 5
    assert all(member.sent[kind] == 0 for member in pump.members for kind in (Tickets, Case))
    quiet = Solo()
    quiet.meet(2)
    assert quiet.machine.verification is None
    assert quiet.hear(2, EQUIVOCATION) == []
    assert quiet.feed(Audited(bytes(32), bytes(64), Verdict.FAULT)) == []
    assert quiet.feed(Appealed(id_of(1))) == []


def test_a_peer_that_verifies_needs_its_keys():
    with pytest.raises(LocalProtocolError, match="pass its identity"):
        machine_of(0, rules=RULES, identity=None)


# ---- evidence ----------------------------------------------------------------------------------


def test_two_headers_with_one_number_convict_their_author_and_everybody_else_is_told():
    peer = solo(1, 2, 3)
    one, other = update_of(1, 5), update_of(1, 5, value=2.0)
    peer.hear(1, Offer(one.header.sealed))
    assert not bans(peer.hear(1, Offer(one.header.sealed))), "the same again is no lie"
    effects = peer.hear(1, Offer(other.header.sealed))
    assert bans(effects) == [(id_of(1), "equivocation")]
    assert any(isinstance(e, Disconnect) and e.peer == id_of(1) for e in effects)
    sent = rumors(effects)
    assert {rumor.headers for rumor in sent} == {(one.header.sealed, other.header.sealed)}
    assert bans(solo(2).hear(2, sent[0])) == [(id_of(1), "equivocation")]
    assert any(isinstance(e, Disconnect) for e in peer.meet(1)), "it cannot come back"


def test_evidence_convinces_a_peer_that_has_seen_nothing_else():
    effects = solo(2, 3, 4, 5).hear(2, EQUIVOCATION)
    assert bans(effects) == [(id_of(1), "equivocation")]
    assert [rumor.hops for rumor in rumors(effects)] == [5, 5, 5]
    assert id_of(2) not in [e.peer for e in effects if isinstance(e, Send)]


def test_a_header_of_another_form_convicts():
    header = update_of(1, 5, manifest=OTHER_FORM, run=RUN).header.sealed
    evidence = Evidence(6, record_of(1).sealed, (header,))
    assert bans(solo(2).hear(2, evidence)) == [(id_of(1), "form")]


def test_evidence_is_passed_on_once_and_not_forever():
    peer = solo(2, 3)
    assert rumors(peer.hear(2, structs.replace(EQUIVOCATION, hops=1))) == []
    assert peer.hear(2, EQUIVOCATION) == []
    far = solo(2, 3).hear(2, structs.replace(EQUIVOCATION, hops=16))
    assert [rumor.hops for rumor in rumors(far)] == [6]


@pytest.mark.parametrize(
    "headers",
    [
        (update_of(1, 5).header.sealed,),
        (update_of(1, 5).header.sealed, update_of(1, 5).header.sealed),
        (update_of(1, 5).header.sealed, update_of(1, 6).header.sealed),
    ],
)
def test_evidence_that_proves_nothing_is_the_senders_fault(headers: tuple[Sealed, ...]):
    effects = solo(2).hear(2, Evidence(6, record_of(1).sealed, headers))
    assert refusals(effects) == ["evidence"]
    assert not bans(effects)


def test_evidence_with_an_old_record_is_dropped_and_with_a_forged_one_refused():
    peer = solo(2)
    old = record_of(1, expires_s=EPOCH_S).sealed
    assert peer.hear(2, structs.replace(EQUIVOCATION, author=old)) == []
    forged = Sealed(record_of(1).sealed.body, bytes(64))
    assert refusals(peer.hear(2, structs.replace(EQUIVOCATION, author=forged))) == ["signature"]


def test_nobody_convicts_itself():
    twins = (update_of(0, 5).header.sealed, update_of(0, 5, value=2.0).header.sealed)
    assert solo(2).hear(2, Evidence(6, record_of(0).sealed, twins)) == []


CLAIMED = update_of(1, 5, claim=RoundClaim(0, 15, 3, bytes(32)))
FAULT = Evidence(6, record_of(1).sealed, (CLAIMED.header.sealed,), draw_of(2))


def redone(peer: Solo, effects: Sequence[Effect], verdict: Verdict | None) -> Sequence[Effect]:
    """What follows when the one audit among the effects has ended."""
    (audit,) = [e for e in effects if isinstance(e, Audit)]
    return peer.feed(Audited(case_of(audit.header.sealed.body), audit.draw, verdict))


def test_a_fault_convinces_a_peer_that_has_seen_nothing_else_once_it_has_found_it():
    peer = solo(2, 3, 4, 5)
    effects = peer.hear(2, FAULT)
    (audit,) = effects
    assert isinstance(audit, Audit)
    assert segment_of(audit.draw, 3) == 2
    assert peer.hear(3, FAULT) == [], "one audit is enough"
    found = redone(peer, effects, Verdict.FAULT)
    assert bans(found) == [(id_of(1), "fault")]
    assert rumors(found) == [FAULT] * 3, "it goes as far as a new one: this peer answers for it"
    assert peer.hear(3, FAULT) == []


def test_a_fault_that_is_none_is_the_senders_and_what_nobody_shows_is_nobodys():
    peer = solo(2)
    assert refusals(redone(peer, peer.hear(2, FAULT), Verdict.SOUND)) == ["evidence"]
    assert redone(peer, peer.hear(2, FAULT), None) == []


def test_evidence_of_a_fault_needs_one_header_that_claims_a_round():
    bare = (update_of(1, 5).header.sealed,)
    for headers in (bare, (CLAIMED.header.sealed,) * 2):
        assert refusals(solo(2).hear(2, structs.replace(FAULT, headers=headers))) == ["evidence"]
    own = structs.replace(
        FAULT,
        author=record_of(0).sealed,
        headers=(update_of(0, 5, claim=CLAIMED.header.body.claim).header.sealed,),
    )
    assert solo(2).hear(2, own) == []


def test_a_sender_cannot_make_others_redo_more_than_a_few_at_a_time():
    peer = solo(2, 3)
    sent = [structs.replace(FAULT, draw=bytes((n,)) * 64) for n in range(9)]
    assert sum(len(peer.hear(2, evidence)) for evidence in sent) == 4
    assert len(peer.hear(3, sent[-1])) == 1


def test_a_false_ballot_is_punished_even_when_somebody_told_of_the_fault_before():
    peer, epoch, value = in_second_epoch()
    claim = CLAIMED.header.body.claim
    effects: Effects = []
    for sequence in range(7, 40):
        header = update_of(1, sequence, claim=claim).header.sealed
        case = Case(6, record_of(1).sealed, header, epoch, value)
        peer.hear(2, case)
        ballot = seated(case, Role.AUDIT, 3, Verdict.FAULT)
        beta = SUITE.prove(
            identity_of(3).vrf_seed,
            role_input(RUN, Role.AUDIT, epoch, value, case_of(header.body)),
        )[1]
        effects = peer.hear(4, structs.replace(FAULT, headers=(header,), draw=beta))
        if peer.hear(2, Ballot(6, ballot)):  # it had a seat
            break
        redone(peer, effects, None)
    found = redone(peer, effects, Verdict.SOUND)
    assert bans(found) == [(id_of(3), "false accusation")]
    assert refusals(found) == ["evidence"]


def test_whoever_publishes_what_is_not_finite_is_audited_at_once():
    peer = solo(1, 2)
    peer.hear(1, Offer(CLAIMED.header.sealed))
    peer.hear(1, Chunk(CLAIMED.header.body.root, 0, ()), CLAIMED.chunk(0))
    effects = peer.feed(Inspected(id_of(1), CLAIMED.header.body.root, "nonfinite"))
    assert refusals(effects) == ["nonfinite"]
    (audit,) = [e for e in effects if isinstance(e, Audit)]
    assert segment_of(audit.draw, 3) == 2, "the last one"
    assert bans(redone(peer, effects, Verdict.FAULT)) == [(id_of(1), "fault")]
    bare = update_of(2, 5)
    peer.hear(2, Offer(bare.header.sealed))
    peer.hear(2, Chunk(bare.header.body.root, 0, ()), bare.chunk(0))
    effects = peer.feed(Inspected(id_of(2), bare.header.body.root, "nonfinite"))
    assert not [e for e in effects if isinstance(e, Audit)]


def told(peer: Solo, seconds: int) -> list[Evidence | Certificate]:
    """What proves, and is sent while nothing happens."""
    sent: list[Evidence | Certificate] = []
    for _ in range(seconds):
        sent += [r for r in rumors(peer.wait(1)) if isinstance(r, Evidence | Certificate)]
        for neighbor in list(peer.machine.neighbors):
            peer.feed(Received(neighbor, Tickets(())))
    return sent


def test_some_are_told_again_in_every_epoch_until_the_ban_is_over_or_lifted():
    peer = Solo(rules=Rules(epoch_s=20, founding_epochs=1, ban_epochs=3))
    for number in (2, 3):
        peer.meet(number)
    assert told(peer, 20) == []
    redone(peer, peer.hear(2, FAULT), Verdict.FAULT)
    assert told(peer, 40) == [FAULT] * 4, "two neighbors, two epochs"
    assert told(peer, 60) == []
    redone(peer, peer.hear(2, FAULT), Verdict.FAULT)
    pardoned = redone(peer, peer.feed(Appealed(id_of(1))), Verdict.SOUND)
    assert pardoned == [Pardon(id_of(1))]
    assert told(peer, 40) == []


def test_a_ban_survives_a_restart():
    peer = solo(2, 3)
    assert bans(peer.hear(2, EQUIVOCATION))
    memory = verification(peer).ledger.memory()
    again = Solo(rules=RULES, memory=memory)
    again.meet(2)
    assert any(isinstance(e, Disconnect) for e in again.meet(1))
    again.now_ns += RULES.ban_epochs * RULES.epoch_s * SECOND
    again.meet(1)
    assert id_of(1) in again.machine.neighbors


# ---- cases and votes ---------------------------------------------------------------------------


def in_second_epoch() -> tuple[Solo, int, bytes]:
    """A peer in its second epoch, the one before, and its value."""
    peer = solo(*range(1, 6))
    for _ in range(11):
        peer.wait(2)
        for number in range(1, 6):
            peer.hear(number, Offer(update_of(number, 1).header.sealed))
    beacon = verification(peer).beacon
    return peer, beacon.epoch - 1, beacon.value_of(beacon.epoch - 1)


def case_for(number: int, epoch: int, beacon: bytes, sequence: int = 7) -> Case:
    header = update_of(number, sequence).header.sealed
    return Case(6, record_of(number).sealed, header, epoch, beacon)


def test_a_case_is_taken_once_and_passed_on():
    peer, epoch, value = in_second_epoch()
    case = case_for(1, epoch, value)
    assert [r.hops for r in rumors(peer.hear(2, case)) if isinstance(r, Case)] == [5, 5, 5]
    assert peer.hear(3, case) == []


def test_cases_that_this_peer_cannot_judge_are_dropped():
    peer, epoch, value = in_second_epoch()
    stranger = case_for(1, epoch, bytes(64))
    old, early = case_for(1, epoch - 1, value), case_for(1, epoch + 2, value)
    expired = structs.replace(
        case_for(1, epoch, value), author=record_of(1, expires_s=EPOCH_S).sealed
    )
    for case in (stranger, old, early, expired):
        assert peer.hear(2, case) == []
    picky = Solo(rules=Rules(epoch_s=20, audit_percent=1, founding_epochs=1))
    picky.meet(2)
    beacon = verification(picky).beacon
    value = beacon.value_of(beacon.epoch)
    undrawn = next(
        case
        for case in (case_for(1, beacon.epoch, value, n) for n in range(9))
        if not is_sampled(value, case_of(case.header.body), 1)
    )
    assert picky.hear(2, undrawn) == []


def test_a_case_of_another_form_is_the_senders_fault():
    peer, epoch, value = in_second_epoch()
    header = update_of(1, 5, manifest=OTHER_FORM, run=RUN).header.sealed
    assert refusals(peer.hear(2, Case(6, record_of(1).sealed, header, epoch, value))) == ["shape"]


def seated(
    case: Case, role: Role, number: int, verdict: Verdict, prover: int | None = None
) -> Sealed:
    identifier = case_of(case.header.body)
    alpha = role_input(RUN, role, case.epoch, case.beacon, identifier)
    proof, _ = SUITE.prove(identity_of(prover or number).vrf_seed, alpha)
    vote = Vote(
        run=RUN,
        voter=id_of(number),
        epoch=case.epoch,
        beacon=SUITE.digest(case.beacon),
        role=role,
        case=identifier,
        verdict=verdict,
        proof=proof,
    )
    return seal_vote(vote, identity_of(number), SUITE).sealed


def certificate_of(case: Case, verdict: Verdict, *voters: int) -> Certificate:
    votes = tuple(seated(case, Role.JUDGE, number, verdict) for number in voters)
    return Certificate(6, case.author, case.header, case.epoch, case.beacon, votes)


def test_a_certificate_convicts_as_far_as_its_votes_do():
    peer, epoch, value = in_second_epoch()
    case = case_for(1, epoch, value)
    # Six peers, of which one may be adversarial: two votes are needed.
    assert not bans(peer.hear(2, certificate_of(case, Verdict.HARMFUL, 2)))
    effects = peer.hear(2, certificate_of(case, Verdict.HARMFUL, 2, 3))
    assert bans(effects) == [(id_of(1), "harmful")]
    assert any(isinstance(r, Certificate) and r.hops == 5 for r in rumors(effects))
    assert peer.hear(3, certificate_of(case, Verdict.HARMFUL, 2, 3)) == []


def test_a_certificate_means_nothing_to_who_has_no_memory():
    _, epoch, value = in_second_epoch()
    newcomer = Solo(rules=RULES)
    newcomer.meet(2)
    certificate = certificate_of(case_for(1, epoch - 1, value), Verdict.HARMFUL, 2, 3)
    assert newcomer.hear(2, certificate) == []


def test_ballots_are_passed_on_and_false_ones_refused():
    peer, epoch, value = in_second_epoch()
    case = case_for(1, epoch, value)
    peer.hear(2, case)
    ballot = Ballot(6, seated(case, Role.JUDGE, 3, Verdict.SOUND))
    assert [r.hops for r in rumors(peer.hear(2, ballot))] == [5, 5, 5]
    assert peer.hear(4, ballot) == []
    forged = Ballot(6, Sealed(seated(case, Role.JUDGE, 4, Verdict.SOUND).body, bytes(64)))
    assert refusals(peer.hear(2, forged)) == ["signature"]


def test_a_false_ticket_is_refused():
    peer, epoch, value = in_second_epoch()
    ticket = Ticket(epoch + 1, id_of(3), value, bytes(80))
    assert refusals(peer.hear(2, Tickets((ticket,)))) == ["proof"]


def test_a_ban_can_be_appealed():
    peer, epoch, value = in_second_epoch()
    effects: list[Effect] = []
    for sequence in range(2, 20):  # until this peer is drawn as an auditor
        effects = peer.hear(2, case_for(1, epoch, value, sequence))
        if any(isinstance(e, Audit) for e in effects):
            break
    (audit,) = [e for e in effects if isinstance(e, Audit)]
    case = case_of(audit.header.sealed.body)
    found = peer.feed(Audited(case, audit.draw, Verdict.FAULT))
    assert bans(found) == [(id_of(1), "fault")]
    assert any(isinstance(r, Ballot) for r in rumors(found))
    (again,) = peer.feed(Appealed(id_of(1)))
    assert isinstance(again, Audit)
    assert peer.feed(Audited(case, again.draw, Verdict.SOUND)) == [Pardon(id_of(1))]
    peer.meet(1)
    assert id_of(1) in peer.machine.neighbors


# ---- gate --------------------------------------------------------------------------------------

GATE = structs.replace(RULES, policy="gate")


def roots(effects: Sequence[Effect]) -> list[bytes]:
    """Of what is pulled."""
    return [e.message.root for e in effects if isinstance(e, Send) and isinstance(e.message, Get)]


def test_an_update_is_pulled_when_its_certificate_has_come_with_it():
    peer = Solo(rules=GATE)
    for number in range(1, 6):
        peer.meet(number)
    peer.now_ns += 21 * SECOND  # in the first epoch nobody knows a value
    peer.wait(0)
    header = update_of(1, 5).header
    effects = peer.hear(1, Offer(header.sealed))
    assert roots(effects) == []
    (case,) = {r for r in rumors(effects) if isinstance(r, Case)}
    (audit,) = [e for e in effects if isinstance(e, Audit)]
    found = peer.feed(Audited(case_of(header.sealed.body), audit.draw, Verdict.SOUND))
    assert [type(r) for r in set(rumors(found))] == [Ballot]
    assert roots(peer.hear(1, Offer(header.sealed))) == [], "one vote of the two that are needed"
    vote = seated(case, Role.AUDIT, 2, Verdict.SOUND)
    certificate = Certificate(1, case.author, case.header, case.epoch, case.beacon, (vote,))
    peer.hear(1, certificate)
    assert roots(peer.hear(1, Offer(header.sealed))) == [header.body.root]


def test_an_author_offers_again_with_the_certificate_and_one_update_at_a_time():
    peer = Solo(rules=GATE)
    for number in range(1, 6):
        peer.meet(number)
    peer.wait(21)
    first, second = update_of(0, 1), update_of(0, 2)
    effects = peer.feed(Published(first))
    offers = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    assert len(offers) == 3
    (case,) = {r for r in rumors(effects) if isinstance(r, Case)}
    assert peer.feed(Published(second)) == [], "another one waits"
    votes = [seated(case, Role.AUDIT, number, Verdict.SOUND) for number in (2, 3)]
    assert not [e for e in peer.hear(4, Ballot(6, votes[0])) if is_offer(e)]
    told = [e for e in peer.hear(4, Ballot(6, votes[1])) if isinstance(e, Send)]
    shown = [e for e in told if isinstance(e.message, Certificate | Offer)]
    assert [type(e.message) for e in shown] == [Certificate, Offer] * 3
    assert all(len(e.message.votes) == 2 for e in shown if isinstance(e.message, Certificate))
    assert [e for e in peer.feed(Published(second)) if is_offer(e)]
    for _ in range(3):
        assert peer.feed(Published(update_of(0, 3))) == []
        peer.now_ns += 21 * SECOND
        peer.wait(0)
    peer.now_ns += 21 * SECOND
    peer.wait(0)
    for number in range(1, 6):
        peer.meet(number)
    assert [e for e in peer.feed(Published(update_of(0, 3))) if is_offer(e)], "that one got none"


def is_offer(effect: Effect) -> bool:
    return isinstance(effect, Send) and isinstance(effect.message, Offer)


def test_a_run_that_asks_for_claims_refuses_updates_without():
    peer = Solo(rules=structs.replace(RULES, claims=True))
    for number in (1, 2):
        peer.meet(number)
    assert refusals(peer.hear(2, Offer(update_of(2, 1).header.sealed))) == ["claim"]
    assert roots(peer.hear(1, Offer(CLAIMED.header.sealed))) == [CLAIMED.header.body.root]


def test_what_has_not_come_of_the_last_values_is_not_pulled_and_not_charged():
    peer, epoch, value = in_second_epoch()
    machine = verification(peer)
    assert machine.last_value() == (epoch, value)

    def accepts(at: int, beacon: bytes) -> bool:
        return machine.accepts_draw(RoundClaim(0, 15, 3, bytes(32), at, beacon))

    assert accepts(epoch, value)
    assert accepts(epoch - 2, bytes(64)), "of that time it knows nothing"
    assert not accepts(epoch, bytes(64))
    assert not accepts(epoch + 2, value)
    assert not accepts(epoch - 3, value)
    assert not accepts(0, b"")
    newcomer = solo(1)
    now = verification(newcomer).beacon.epoch
    assert verification(newcomer).last_value() == (0, b"")
    ahead = update_of(1, 4, claim=RoundClaim(0, 15, 3, bytes(32), now + 1, bytes(64)))
    assert newcomer.hear(1, Offer(ahead.header.sealed)) == []
    assert roots(newcomer.hear(1, Offer(CLAIMED.header.sealed))) == [CLAIMED.header.body.root]


def accusation(verdict: Verdict = Verdict.FAULT, role: Role = Role.AUDIT) -> Certificate:
    """What peer 3 has signed of an update of peer 1, long ago and under a value of its own."""
    case = Case(1, record_of(1).sealed, CLAIMED.header.sealed, 5, bytes(range(64)))
    vote = seated(case, role, 3, verdict)
    return Certificate(6, case.author, case.header, case.epoch, case.beacon, (vote,))


def test_a_false_accusation_convicts_before_a_peer_that_has_seen_nothing_else():
    peer = solo(2, 3, 4, 5)
    effects = peer.hear(2, accusation())
    assert [type(e) for e in effects] == [Audit]
    assert peer.hear(4, accusation()) == [], "one audit is enough"
    found = redone(peer, effects, Verdict.SOUND)
    assert bans(found) == [(id_of(3), "false accusation")]
    assert rumors(found) == [accusation()] * 3
    assert accusation() in told(peer, 40), "in every epoch"
    assert peer.hear(4, accusation()) == []


def test_an_accusation_that_is_true_convicts_the_author():
    peer = solo(2, 3, 4, 5)
    found = redone(peer, peer.hear(2, accusation()), Verdict.FAULT)
    assert bans(found) == [(id_of(1), "fault")]
    assert redone(solo(2, 3), solo(2, 3).hear(2, accusation()), None) == []


def test_what_accuses_nobody_falsely_is_dropped_and_what_is_forged_refused():
    peer = solo(2, 3, 4, 5)
    for harmless in (accusation(Verdict.SOUND), accusation(role=Role.JUDGE)):
        assert peer.hear(2, harmless) == []
    other = structs.replace(accusation(), epoch=6)
    assert peer.hear(2, other) == []
    assert solo(2).hear(2, accusation()) == [], "of a stranger"
    forged = Sealed(accusation().votes[0].body, bytes(64))
    assert refusals(peer.hear(2, structs.replace(accusation(), votes=(forged,)))) == ["signature"]
    false = seated(
        Case(1, record_of(1).sealed, CLAIMED.header.sealed, 5, bytes(range(64))),
        Role.AUDIT,
        3,
        Verdict.FAULT,
        prover=4,
    )
    assert refusals(peer.hear(2, structs.replace(accusation(), votes=(false,)))) == ["proof"]


def test_a_case_that_is_not_taken_is_not_passed_on_either():
    peer, epoch, value = in_second_epoch()
    told = [peer.hear(2, case_for(1, epoch, value, sequence)) for sequence in range(7, 20)]
    assert [any(isinstance(r, Case) for r in rumors(e)) for e in told] == [True] * 8 + [False] * 5


def take(peer: Solo, number: int, sequence: int) -> bytes:
    """Pull an update; its case."""
    update = update_of(number, sequence)
    peer.hear(number, Offer(update.header.sealed))
    peer.hear(number, Chunk(update.header.body.root, 0, ()), update.chunk(0))
    peer.inspected(update)
    return case_of(update.header.sealed.body)


def cases_opened(peer: Solo, seconds: int) -> list[bytes]:
    opened: list[Case] = []
    for _ in range(seconds):
        effects = peer.wait(1)
        opened += [r for r in rumors(effects) if isinstance(r, Case)]
        for neighbor in list(peer.machine.neighbors):
            peer.feed(Received(neighbor, Tickets(())))
    return [case_of(case.header.body) for case in opened]


def test_what_was_taken_is_audited_two_epochs_later_and_then_forgotten():
    peer = solo(1, 2)
    case = take(peer, 1, 3)
    peer.lose(1)
    late = update_of(2, 3)
    peer.hear(2, Offer(late.header.sealed))
    peer.hear(2, Chunk(late.header.body.root, 0, ()), late.chunk(0))
    peer.lose(2)
    peer.inspected(late)  # its author is gone: nobody could show the update
    peer.meet(2)
    assert cases_opened(peer, 39) == []
    assert cases_opened(peer, 50) == [case]


def test_what_was_not_drawn_is_not_audited():
    peer = Solo(rules=Rules(epoch_s=20, audit_percent=50, founding_epochs=1))
    peer.meet(2)
    taken = [take(peer, 2, sequence) for sequence in range(8)]
    committed = verification(peer).beacon.epoch
    opened = cases_opened(peer, 60)
    value = verification(peer).beacon.value_of(committed + 1)
    drawn = [case for case in taken if is_sampled(value, case, 50)]
    assert 0 < len(drawn) < 8
    assert opened == drawn


def test_nothing_is_audited_while_peers_still_hear_of_each_other():
    peer = Solo(rules=Rules(epoch_s=20, audit_percent=100, founding_epochs=5))
    peer.meet(2)
    take(peer, 2, 1)
    assert cases_opened(peer, 79) == []


def test_a_case_that_another_peer_was_faster_with_is_not_opened_again():
    peer = solo(1, 2, 3)
    case = take(peer, 1, 3)
    cases_opened(peer, 39)
    beacon = verification(peer).beacon
    value = beacon.value_of(beacon.epoch)
    assert rumors(peer.hear(2, case_for(1, beacon.epoch, value, 3)))
    assert case not in cases_opened(peer, 20)
