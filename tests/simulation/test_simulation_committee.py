"""Committees against adversaries of every shape, with the library's own sortition."""

import hashlib
import math
import random

import pytest

from gossipjax.crypto.committee_size import verdict_failure
from gossipjax.crypto.sortition import seats, uniform
from gossipjax.crypto.suite import insecure_suite
from gossipjax.protocol.credentials import committee_of, role_input, seats_of
from gossipjax.protocol.ledger import Electorate, Ledger
from gossipjax.protocol.rules import Rules
from gossipjax.types import PeerId, RunId
from gossipjax.wire.envelope import record_author
from gossipjax.wire.messages import PeerRecord, Role

SUITE = insecure_suite()
RULES = Rules()
RUN = RunId(bytes(32))
HONEST, SHARE = 100, 0.2


def record_of(number: int) -> PeerRecord:
    key = number.to_bytes(32, "big")
    return PeerRecord(RUN, key, key, key, (), 1, 1 << 40)


def ids_of(*numbers: int) -> list[PeerId]:
    return [record_author(record_of(number)) for number in numbers]


def electorate_of(identities: int, work: int = 10**6) -> tuple[Electorate, list[PeerId]]:
    """Honest peers with the same work, and identities of an adversary with a fifth of it all."""
    ledger = Ledger(0, half_life=5000, founder_work=1, ban_epochs=1)
    adversarial = list(range(HONEST, HONEST + identities))
    for number in (*range(HONEST), *adversarial):
        ledger.meet(record_of(number), 1)
    for peer in ids_of(*range(HONEST)):
        ledger.credit(peer, work, 1)
    total = round(work * HONEST * SHARE / (1 - SHARE))
    for peer in ids_of(*adversarial):
        ledger.credit(peer, total // identities, 1)
    return ledger.electorate(4), ids_of(*adversarial)


def beta_of(peer: PeerId, draw: int) -> bytes:
    return hashlib.sha512(peer + draw.to_bytes(8, "big")).digest()


@pytest.mark.parametrize("identities", [1, 1000])
def test_one_identity_or_a_thousand_have_the_share_of_their_work(identities: int):
    electorate, adversarial = electorate_of(identities)
    draws = 400 if identities == 1 else 12
    won = all_won = 0
    for draw in range(draws):
        seats_won = {
            peer: seats_of(RULES, Role.JUDGE, peer, beta_of(peer, draw), electorate)
            for peer in electorate.weights
        }
        all_won += sum(seats_won.values())
        won += sum(seats_won.get(peer, 0) for peer in adversarial)
    assert all_won > 1000
    sigma = math.sqrt(SHARE * (1 - SHARE) / all_won)
    expected = sum(map(electorate.of, adversarial)) / electorate.total
    assert abs(won / all_won - expected) <= 3 * sigma
    # Weights are whole units, about 32 per peer: that much can be lost by rounding, never won.
    assert expected <= SHARE * (1 + 1 / 32)
    assert won / all_won <= SHARE * (1 + 1 / 32) + 3 * sigma


def forged(rules: Rules, threshold: int, draws: int, seed: int) -> int:
    """How often an adversary has the votes, when its weight falls on seats at random."""
    electorate, adversarial = electorate_of(20)
    rng = random.Random(seed)
    won = 0
    for _ in range(draws):
        total = sum(
            seats_of(rules, Role.JUDGE, peer, rng.randbytes(64), electorate) for peer in adversarial
        )
        won += total >= threshold
    return won


def test_forged_verdicts_are_as_rare_as_computed():
    """At a threshold that is low enough to be reached at all, and at the one that is used."""
    electorate, _ = electorate_of(20)
    committee = committee_of(RULES, Role.JUDGE, electorate)
    low = committee._replace(threshold=18)
    draws = 1500
    chance = verdict_failure(1 - SHARE, low).safety
    assert chance > 0.05
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / draws)
    assert 0 < forged(RULES, low.threshold, draws, seed=1) / draws <= bound
    epsilon = verdict_failure(1 - SHARE, committee).safety
    assert epsilon <= 2e-7
    assert forged(RULES, committee.threshold, draws, seed=2) == 0


KEYS = 10**5
WEIGHT, TOTAL = 16, 16 * 200  # one peer of two hundred


def seats_of_key(key: bytes, alpha: bytes) -> int:
    drawn = uniform(SUITE.prove(key, alpha)[1], b"2")
    return seats(drawn, WEIGHT, 63, TOTAL)


def alpha_of(epoch: int, beacon: bytes) -> bytes:
    return role_input(RUN, Role.JUDGE, epoch, beacon, bytes(32))


def test_grinding_keys_wins_seats_only_under_a_value_that_can_be_foreseen():
    """The key that is best under one value is as good as any other under the next."""
    foreseen = alpha_of(7, bytes(64))
    best = max(
        (b"ground%026d" % number for number in range(KEYS)),
        key=lambda key: seats_of_key(key, foreseen),
    )
    expected = WEIGHT * 63 / TOTAL
    assert seats_of_key(best, foreseen) >= 4 > 10 * expected
    draws = 4000
    won = sum(
        seats_of_key(best, alpha_of(7, hashlib.sha512(b"%d" % draw).digest()))
        for draw in range(draws)
    )
    sigma = math.sqrt(draws * expected * (1 - 63 / TOTAL))
    assert abs(won - draws * expected) <= 3 * sigma
