import pytest
from committee_swarm import (
    AUTHOR,
    BEACON,
    CASE,
    EPOCH,
    RULES,
    RUN,
    UPDATE,
    Swarm,
    ledger_of,
    truth,
)
from msgspec import structs
from protocol_pump import SUITE, id_of, identity_of, record_of, update_of

from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.protocol.committee import CommitteeMachine
from gossipjax.protocol.credentials import (
    case_of,
    committee_of,
    is_sampled,
    role_input,
    seats_of,
)
from gossipjax.protocol.effects import Audit
from gossipjax.protocol.rules import Rules
from gossipjax.wire.envelope import seal_vote
from gossipjax.wire.messages import Role, Sealed, Verdict, Vote

# ---- rules and credentials ---------------------------------------------------------------------


class Lone:
    """Whoever is asked first finds one thing, everybody else that the update is sound."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict
        self.number = -1

    def __call__(self, number: int, audit: Audit) -> Verdict:
        if self.number < 0:
            self.number = number
        return self.verdict if number == self.number else Verdict.SOUND


def test_rules_that_cannot_work_are_refused():
    with pytest.raises(LocalProtocolError, match="audit_votes ≤ audit_seats, got 5 > 4"):
        Rules(audit_votes=5)
    assert Rules().reach == 729


def test_the_share_that_is_sampled_is_the_rules():
    drawn = sum(is_sampled(BEACON, n.to_bytes(32, "big"), 25) for n in range(4000))
    assert abs(drawn - 1000) < 3 * (4000 * 0.25 * 0.75) ** 0.5
    assert is_sampled(BEACON, bytes(32), 100)


def test_committees_have_the_size_of_the_table():
    many, few = ledger_of(40).electorate(EPOCH), ledger_of(10).electorate(EPOCH)
    assert committee_of(RULES, Role.JUDGE, many) == (63, 35)
    assert committee_of(RULES, Role.JUDGE, few) == (10, 3)
    assert committee_of(RULES, Role.AUDIT, few) == (4, 2)
    nobody = ledger_of(0).electorate(EPOCH)
    assert committee_of(RULES, Role.JUDGE, nobody) == (63, 35)


def test_seats_grow_when_rumors_do_not_reach_everybody():
    electorate = ledger_of(60).electorate(EPOCH)
    narrow = Rules(rumor_fanout=2, rumor_hops=2)
    betas = [n.to_bytes(64, "big") for n in range(600)]

    def mean(rules: Rules) -> float:
        drawn = [seats_of(rules, Role.AUDIT, id_of(3), beta, electorate) for beta in betas]
        return sum(drawn) / len(drawn)

    assert mean(RULES) == pytest.approx(4 / 60, abs=0.035)
    assert mean(narrow) == pytest.approx(4 / 4, abs=0.13)
    assert seats_of(RULES, Role.AUDIT, id_of(70), betas[0], electorate) == 0
    assert seats_of(RULES, Role.JUDGE, id_of(3), betas[0], ledger_of(5).electorate(EPOCH)) == 1


# ---- what a committee does ---------------------------------------------------------------------


def test_a_sound_update_is_credited_once_and_nobody_is_banned():
    swarm = Swarm()
    swarm.open(truth(Verdict.SOUND))
    assert len(swarm.votes) >= 2
    assert not swarm.bans
    for ledger in swarm.ledgers:
        standing = ledger.standing(id_of(AUTHOR))
        other = ledger.standing(id_of(2))
        assert standing is not None
        assert other is not None
        gained = (standing.work - other.work) >> 64
        assert gained in (UPDATE.header.body.samples, UPDATE.header.body.samples - 1)


def test_a_fault_is_found_by_everybody_before_anybody_is_banned():
    swarm = Swarm()
    audited: set[int] = set()

    def finds(number: int, audit: Audit) -> Verdict:
        audited.add(number)
        return Verdict.FAULT

    swarm.open(finds)
    assert swarm.banned() == {id_of(AUTHOR): 7}  # all but the author itself
    assert audited >= set(range(8)) - {AUTHOR}
    assert {ban.reason for _, ban in swarm.bans} == {"fault"}
    assert {ban.sequence for _, ban in swarm.bans} == {5}
    assert all(len(c.votes) >= 1 for c in swarm.certificates)
    assert swarm.ledgers[0].electorate(EPOCH + 1).of(id_of(AUTHOR)) == 0


def test_who_cannot_tell_bans_nobody():
    swarm = Swarm()
    voters: list[int] = []

    def finds(number: int, audit: Audit) -> Verdict | None:
        if not voters:
            voters.append(number)
        return Verdict.FAULT if number == voters[0] else None

    swarm.open(finds)
    assert swarm.banned() == {id_of(AUTHOR): 1}
    rechecking = Swarm()
    rechecking.open(
        lambda number, audit: Verdict.FAULT if not rechecking.votes else Verdict.HARMFUL
    )
    assert set(rechecking.banned()) <= {id_of(AUTHOR)}


def test_false_accusers_lose_as_if_they_had_cheated():
    swarm = Swarm()
    liar = Lone(Verdict.FAULT)
    swarm.open(liar)
    banned = swarm.banned()
    assert banned.pop(id_of(liar.number)) == 7  # all but itself, which believes itself
    assert banned == {id_of(AUTHOR): 1}
    assert [n for n, ban in swarm.bans if ban.peer == id_of(AUTHOR)] == [liar.number]


@pytest.mark.parametrize("verdict", [Verdict.HARMFUL, Verdict.WITHHELD])
def test_what_cannot_be_shown_is_voted_on(verdict: Verdict):
    swarm = Swarm()
    swarm.open(truth(verdict))
    assert swarm.banned() == {id_of(AUTHOR): 7}
    assert {ban.reason for _, ban in swarm.bans} == {verdict.name.lower()}
    judges = [vote for vote in swarm.votes.values() if vote.role is Role.JUDGE]
    assert len(judges) == 7  # everybody but the author
    threshold = committee_of(RULES, Role.JUDGE, ledger_of(8).electorate(EPOCH)).threshold
    assert all(len(c.votes) >= threshold for c in swarm.certificates)


def test_fewer_votes_than_the_threshold_ban_nobody():
    swarm = Swarm()
    accuser = Lone(Verdict.HARMFUL)
    swarm.open(accuser)
    banned = swarm.banned()
    assert id_of(AUTHOR) not in banned
    assert banned == {id_of(accuser.number): 7}, "it was the judges who found the update sound"


def test_judges_whom_the_author_may_have_chosen_punish_nobody():
    swarm = Swarm()
    accuser = Lone(Verdict.HARMFUL)
    swarm.open(accuser, is_committed=False)
    assert not swarm.bans


def test_judges_cannot_vote_a_fault():
    swarm = Swarm()
    swarm.open(lambda number, audit: Verdict.HARMFUL if audit.role is Role.AUDIT else Verdict.FAULT)
    reasons = {(ban.peer, ban.reason) for _, ban in swarm.bans}
    assert reasons <= {(id_of(AUTHOR), "fault")}  # by those who say that they found it


def test_whoever_missed_an_update_is_not_punished():
    swarm = Swarm()
    first: list[int] = []

    def finds(number: int, audit: Audit) -> Verdict:
        if not first:
            first.append(number)
        missed = number == first[0] and audit.role is Role.AUDIT
        return Verdict.WITHHELD if missed else Verdict.SOUND

    swarm.open(finds)
    assert not swarm.bans


# ---- appeals -----------------------------------------------------------------------------------


def test_an_appeal_lifts_a_ban_that_was_wrong_and_no_other():
    swarm = Swarm()
    swarm.open(truth(Verdict.FAULT))
    for verdict, pardoned in ((Verdict.FAULT, []), (None, []), (Verdict.SOUND, [id_of(AUTHOR)])):
        swarm.happen(0, swarm.machines[0].appeal(id_of(AUTHOR)))
        swarm.settle(lambda number, audit, verdict=verdict: verdict)
        assert [peer for _, peer in swarm.pardons] == pardoned
    assert swarm.ledgers[0].electorate(EPOCH + 2).of(id_of(AUTHOR)) > 0
    assert swarm.machines[0].appeal(id_of(AUTHOR)) == []


def test_an_accuser_is_pardoned_when_the_fault_is_there_after_all():
    swarm = Swarm()
    liar = Lone(Verdict.FAULT)
    swarm.open(liar)
    judge = next(n for n, ban in swarm.bans if ban.peer == id_of(liar.number))
    swarm.happen(judge, swarm.machines[judge].appeal(id_of(liar.number)))
    swarm.settle(truth(Verdict.FAULT))
    assert (judge, id_of(liar.number)) in swarm.pardons


# ---- votes that do not count -------------------------------------------------------------------


def member(number: int, count: int = 8) -> CommitteeMachine:
    return CommitteeMachine(RUN, id_of(number), identity_of(number), SUITE, ledger_of(count), RULES)


def vote_of(
    number: int, role: Role = Role.JUDGE, beacon: bytes = BEACON, **changes: object
) -> Vote:
    alpha = role_input(RUN, role, EPOCH, beacon, CASE)
    proof, _ = SUITE.prove(identity_of(number).vrf_seed, alpha)
    fields = {
        "run": RUN,
        "voter": id_of(number),
        "epoch": EPOCH,
        "beacon": SUITE.digest(beacon),
        "role": role,
        "case": CASE,
        "verdict": Verdict.SOUND,
        "proof": proof,
    }
    return Vote(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


def opened(count: int = 8) -> CommitteeMachine:
    machine = member(0, count)
    machine.open(record_of(AUTHOR), UPDATE.header, EPOCH, BEACON, is_committed=True)
    return machine


def heard(machine: CommitteeMachine, vote: Vote, signer: int) -> bool:
    return bool(machine.on_vote(seal_vote(vote, identity_of(signer), SUITE).sealed))


def test_a_vote_counts_once():
    machine = opened()
    assert heard(machine, vote_of(3), 3)
    assert not heard(machine, vote_of(3), 3)
    assert not heard(machine, vote_of(3, verdict=Verdict.HARMFUL), 3)


def test_votes_that_cannot_be_counted_are_dropped_without_a_charge():
    machine = opened()
    assert not heard(machine, vote_of(3, case=bytes(32)), 3)
    assert not heard(machine, vote_of(3, epoch=EPOCH + 1), 3)
    assert not heard(machine, vote_of(3, beacon=bytes(64)), 3)
    assert not heard(machine, vote_of(0), 0), "the own one"
    assert not heard(machine, vote_of(AUTHOR), AUTHOR), "the author's"
    assert not heard(machine, vote_of(20), 20), "a stranger's"
    unseated = next(
        n
        for n in range(2, 8)
        if not seats_of(
            RULES,
            Role.AUDIT,
            id_of(n),
            SUITE.prove(identity_of(n).vrf_seed, role_input(RUN, Role.AUDIT, EPOCH, BEACON, CASE))[
                1
            ],
            ledger_of(8).electorate(EPOCH),
        )
    )
    assert not heard(machine, vote_of(unseated, Role.AUDIT), unseated)


def test_false_votes_are_the_fault_of_whoever_passes_them_on():
    machine = opened()
    good = vote_of(3)
    cases = {
        "malformed": Sealed(b"", bytes(64)),
        "protocol": seal_vote(structs.replace(good, run=bytes(32)), identity_of(3), SUITE).sealed,
        "signature": seal_vote(good, identity_of(4), SUITE).sealed,
        "proof": seal_vote(
            structs.replace(good, proof=vote_of(4).proof), identity_of(3), SUITE
        ).sealed,
    }
    for reason, sealed in cases.items():
        with pytest.raises(RemoteProtocolError, match=reason):
            machine.on_vote(sealed)
    assert heard(machine, good, 3)


def test_an_author_cannot_flood_others_with_its_own_cases():
    machine = member(0)
    for sequence in range(20):
        header = update_of(AUTHOR, sequence).header
        machine.open(record_of(AUTHOR), header, EPOCH, BEACON, is_committed=True)
        assert machine.knows(case_of(header.sealed.body), BEACON) == (sequence < 8)


def test_a_case_belongs_to_one_epoch_and_may_have_several_values():
    machine = opened()
    other = bytes(64)
    for epoch, beacon in ((EPOCH + 1, other), (EPOCH, BEACON)):
        assert not machine.open(record_of(AUTHOR), UPDATE.header, epoch, beacon, is_committed=True)
    assert not machine.knows(CASE, other)
    machine.open(record_of(AUTHOR), UPDATE.header, EPOCH, other, is_committed=True)
    assert machine.knows(CASE, other)
    assert heard(machine, vote_of(3, beacon=other), 3)
    assert heard(machine, vote_of(3), 3), "a seat under each value"


def test_who_has_no_weight_and_who_is_the_author_takes_no_seats():
    for machine in (member(9), member(AUTHOR)):
        for n in range(30):
            beacon = n.to_bytes(64, "big")
            assert (
                machine.open(record_of(AUTHOR), UPDATE.header, EPOCH, beacon, is_committed=True)
                == []
            )


def test_results_that_nobody_waits_for_change_nothing():
    machine = opened()
    assert machine.on_audited(bytes(32), bytes(64), Verdict.FAULT) == []
    assert machine.on_audited(CASE, bytes(64), Verdict.FAULT) == []
