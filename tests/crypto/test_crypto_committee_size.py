"""Tables of committee sizes, computed earlier by other code, as an oracle.

That code searched by bisection over chances that move in steps: every entry keeps its bounds, but
some are not the smallest. `SMALLER` holds what is, for those.
"""

import bisect
import math
import random

import numpy as np
import pytest
from scipy import stats

from gossipjax.crypto.committee_size import (
    Committee,
    Failure,
    agreement_failure,
    audit_size,
    census_alarm,
    committee_size,
    verdict_failure,
    whole_swarm,
)

EPSILONS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-9)
EQUAL_BOUNDS = {
    0.60: "277/137 480/237 689/340 1122/554 1785/881",
    0.67: "95/46 164/79 235/113 381/183 605/291",
    0.75: "43/20 74/34 105/48 170/78 269/123",
    0.80: "29/13 50/22 71/31 114/50 179/78",
    0.90: "15/6 26/10 35/13 56/21 89/33",
    0.95: "11/4 18/6 25/8 40/13 61/19",
}
REPEATED_VOTES = {
    0.67: "203/110 279/156",
    0.75: "89/49 120/69",
    0.80: "59/32 80/46",
    0.90: "29/15 37/21",
    0.95: "19/9 25/13",
}
SMALL_NETWORKS = {
    (16, 0.80): "11/4 14/4 15/4",
    (32, 0.80): "18/7 23/7 26/7",
    (64, 0.80): "26/11 37/13 42/13",
    (128, 0.80): "35/15 57/23 69/26",
    (256, 0.80): "41/18 78/33 103/42",
    (1024, 0.80): "46/20 102/44 151/65",
    (64, 0.67): "45/21 53/22 56/22",
    (256, 0.67): "98/47 152/71 177/81",
    (1024, 0.67): "139/67 274/131 377/179",
}
AGREEMENT = [
    (0.75, 1e-6, 3367, 0.680),
    (0.75, 1e-9, 5398, 0.680),
    (0.80, 1e-6, 1317, 0.685),
    (0.80, 1e-9, 2098, 0.685),
    (0.90, 1e-6, 426, 0.690),
    (0.90, 1e-9, 673, 0.687),
]


def committee(text: str) -> Committee:
    size, threshold = text.split("/")
    return Committee(int(size), int(threshold))


CASES = [
    (share, epsilon, epsilon, None, committee(entry))
    for share, row in EQUAL_BOUNDS.items()
    for epsilon, entry in zip(EPSILONS, row.split(), strict=True)
]
CASES += [
    (share, epsilon, 1e-2, None, committee(entry))
    for share, row in REPEATED_VOTES.items()
    for epsilon, entry in zip((1e-6, 1e-9), row.split(), strict=True)
]
CASES += [
    (share, epsilon, epsilon, peers, committee(entry))
    for (peers, share), row in SMALL_NETWORKS.items()
    for epsilon, entry in zip((1e-3, 1e-6, 1e-9), row.split(), strict=True)
]
SMALLER = {
    (0.60, 1e-2, 1e-2): committee("269/133"),
    (0.60, 1e-3, 1e-3): committee("476/235"),
    (0.60, 1e-9, 1e-9): committee("1783/880"),
    (0.67, 1e-2, 1e-2): committee("91/44"),
    (0.67, 1e-3, 1e-3): committee("162/78"),
    (0.67, 1e-9, 1e-2): committee("277/155"),
    (0.75, 1e-2, 1e-2): committee("41/19"),
    (0.75, 1e-3, 1e-3): committee("72/33"),
    (0.80, 1e-2, 1e-2): committee("27/12"),
    (0.80, 1e-3, 1e-3): committee("48/21"),
    (0.90, 1e-3, 1e-3): committee("24/9"),
    (0.90, 1e-9, 1e-9): committee("87/32"),
}


def kept(failure: Failure, safety: float, liveness: float) -> bool:
    return failure.safety <= safety and failure.liveness <= liveness


@pytest.mark.parametrize(("share", "safety", "liveness", "peers", "entry"), CASES)
def test_tables_of_committees_for_verdicts(share, safety, liveness, peers, entry):
    assert kept(verdict_failure(share, entry, peers=peers), safety, liveness)
    expected = entry if peers else SMALLER.get((share, safety, liveness), entry)
    computed = committee_size(share, safety, liveness, peers=peers)
    assert computed == expected
    assert kept(verdict_failure(share, computed, peers=peers), safety, liveness)


def test_smaller_entries_are_confirmed_by_another_search():
    sizes = np.arange(1, 2000)
    for (share, safety, liveness), expected in SMALLER.items():
        thresholds = stats.poisson.isf(safety, (1 - share) * sizes) + 1
        reached = stats.poisson.cdf(thresholds - 1, share * sizes) <= liveness
        first = int(np.argmax(reached))
        assert Committee(int(sizes[first]), int(thresholds[first])) == expected


@pytest.mark.parametrize("share", [0.55, 0.67, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("size", [1, 7, 60, 400])
@pytest.mark.parametrize("peers", [None, 5, 64, 1000])
def test_chances_agree_with_scipy(share, size, peers):
    threshold = random.Random(size).randrange(1, size + 1)
    if peers is None:
        honest, adversary = stats.poisson(share * size), stats.poisson((1 - share) * size)
    else:
        cheats, chance = peers - math.ceil(round(share * peers, 9)), min(1.0, size / peers)
        honest, adversary = stats.binom(peers - cheats, chance), stats.binom(cheats, chance)
    safety, liveness = verdict_failure(share, Committee(size, threshold), peers=peers)
    expected = adversary.sf(threshold - 1), honest.cdf(threshold - 1)
    assert (safety, liveness) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("share", "epsilon", "size", "fraction"), AGREEMENT)
def test_table_of_committees_that_agree(share, epsilon, size, fraction):
    entry = Committee(size, math.floor(fraction * size) + 1)
    assert kept(agreement_failure(share, entry), epsilon, epsilon)
    # 2 % fewer seats would not do: the lowest threshold that is safe leaves the honest short.
    smaller = round(0.98 * size)
    threshold = bisect.bisect_left(
        range(smaller),
        x=-epsilon,
        key=lambda threshold: -agreement_failure(share, Committee(smaller, threshold)).safety,
    )
    assert agreement_failure(share, Committee(smaller, threshold)).liveness > epsilon


def test_the_committee_of_algorand_fails_with_the_chance_that_its_paper_states():
    safety, liveness = agreement_failure(0.8, Committee(2000, math.floor(0.685 * 2000) + 1))
    assert safety == pytest.approx(2.1e-9, rel=0.1)
    assert liveness == pytest.approx(2.1e-9, rel=0.1)
    assert safety + liveness <= 5e-9


@pytest.mark.parametrize("peers", [None, 100])
def test_agreement_chances_by_simulation(peers):
    entry, draws = Committee(60, 38), 200_000
    source = np.random.default_rng(7)
    if peers is None:
        honest, adversary = source.poisson(48.0, draws), source.poisson(12.0, draws)
    else:
        honest, adversary = source.binomial(80, 0.6, draws), source.binomial(20, 0.6, draws)
    failure = agreement_failure(0.8, entry, peers=peers)
    for seen, chance in (
        (honest + 2 * adversary >= 2 * entry.threshold, failure.safety),
        (honest < entry.threshold, failure.liveness),
    ):
        error = math.sqrt(draws * chance * (1 - chance))
        assert abs(np.count_nonzero(seen) - draws * chance) <= 3 * error


def test_small_swarms_vote_as_a_whole():
    assert whole_swarm(0.8, 16) == Committee(16, 4)
    # (1 - 0.9)·10 and (1 - 0.55)·20 in binary fall just short of 1 and 9.
    assert whole_swarm(0.9, 10) == Committee(10, 2)
    assert whole_swarm(0.55, 20) == Committee(20, 10)
    for peers in range(1, 33):
        for share in (0.55, 0.67, 2 / 3, 0.75, 0.8, 0.9, 1.0):
            everybody = whole_swarm(share, peers)
            assert verdict_failure(share, everybody, peers=peers) == Failure(0.0, 0.0)


@pytest.mark.parametrize(
    ("share", "sizes"),
    [(0.67, (10.3, 20.6, 30.9)), (0.8, (8.6, 17.3, 25.9)), (0.9, (7.7, 15.4, 23.0))],
)
def test_audit_sizes(share, sizes):
    for miss, expected in zip((1e-3, 1e-6, 1e-9), sizes, strict=True):
        size = audit_size(share, miss)
        assert round(size, 1) == expected
        assert math.exp(-share * size) == pytest.approx(miss)


def test_arguments_out_of_range_are_refused():
    for share in (0.5, 0.54, 1.01, math.nan):
        for call in (
            lambda share=share: committee_size(share, 1e-3, 1e-3),
            lambda share=share: whole_swarm(share, 10),
            lambda share=share: audit_size(share, 1e-3),
            lambda share=share: agreement_failure(share, Committee(10, 5)),
        ):
            with pytest.raises(ValueError, match="honest share"):
                call()
    for bound in (0.0, 1.0, -1e-3, math.nan):
        with pytest.raises(ValueError, match="safety"):
            committee_size(0.8, bound, 1e-3)
        with pytest.raises(ValueError, match="liveness"):
            committee_size(0.8, 1e-3, bound)
        with pytest.raises(ValueError, match="miss"):
            audit_size(0.8, bound)
    with pytest.raises(ValueError, match="at least one peer"):
        committee_size(0.8, 1e-3, 1e-3, peers=0)


@pytest.mark.parametrize("epochs", [1, 5, 20, 40])
@pytest.mark.parametrize("false_alarm", [1e-2, 1e-6])
def test_census_alarm_is_the_quantile_of_a_gamma_distribution(epochs: int, false_alarm: float):
    expected = stats.gamma.isf(false_alarm, epochs)
    assert census_alarm(epochs, false_alarm) == pytest.approx(expected, rel=1e-8)
