"""How large a committee must be for a chance of failure that one names.

Seats fall on units of weight at random, so with a share `h` of the weight honest and `tau` seats
expected, honest seats are `g ~ Poisson(h·tau)` and adversarial seats `b ~ Poisson((1 - h)·tau)`; in
a small network of equal weights they are binomial. Unlike `sortition`, this chooses parameters
beforehand and need not agree between platforms: floating point, terms from log space.
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import count
from typing import NamedTuple

MIN_HONEST_SHARE = 0.55
"""Sizes grow with 1 / (2h - 1)^2: below this they are in the thousands and of no use."""


class Committee(NamedTuple):
    """What a kind of verdict needs.

    Attributes:
        size: expected seats `tau`; the numerator of `sortition.seats`.
        threshold: a verdict stands when `votes >= threshold`.
    """

    size: int
    threshold: int


class Failure(NamedTuple):
    """Chances that the draw of one committee goes wrong.

    Attributes:
        safety: the adversary can do what it should not.
        liveness: the honest alone do not reach the threshold.
    """

    safety: float
    liveness: float


class _Seats(NamedTuple):
    """A number of seats with one mode, next to its mean; `log_mass(k) = ln P[X = k]`."""

    mean: float
    log_mass: Callable[[int], float]

    def mass(self, k: int) -> float:
        return math.exp(self.log_mass(k))

    def at_least(self, votes: int) -> float:
        if votes <= self.mean:
            return 1.0 - self.fewer_than(votes)
        return self._sum(count(votes))

    def fewer_than(self, votes: int) -> float:
        if votes > self.mean + 1:
            return 1.0 - self.at_least(votes)
        return self._sum(range(votes - 1, -1, -1))

    def _sum(self, away_from_the_mean: Iterable[int]) -> float:
        total = 0.0
        for k in away_from_the_mean:
            term = self.mass(k)
            total += term
            if term <= 1e-18 * total:
                break
        return total


def committee_size(
    honest_share: float, safety: float, liveness: float, *, peers: int | None = None
) -> Committee:
    """The smallest committee for verdicts by vote, with the threshold that goes with it.

    The least `tau` for which a `T` exists with `P[b >= T] <= safety` (no forged verdict) and
    `P[g < T] <= liveness` (the honest reach one), and the least such `T`. Chances move in steps,
    so a committee of a few seats more can miss by a little what this one keeps.

    Args:
        honest_share: share `h` of honest weight, at least `MIN_HONEST_SHARE`.
        safety: bound on a forged verdict, in (0, 1).
        liveness: bound on a vote without result, in (0, 1); votes can be repeated, so it may be
            far above `safety`.
        peers: number of peers (or units of weight), at most one seat each; none when they are
            many more than seats.

    Raises:
        ValueError: an argument out of its range.
    """
    for name, bound in (("safety", safety), ("liveness", liveness)):
        if not 0 < bound < 1:
            raise ValueError(f"{name} is a probability between 0 and 1, got {bound}")
    # More seats help liveness only, a higher threshold safety only: so the first threshold that
    # keeps both is the one with the fewest seats.
    size, threshold = 1, 1
    while True:
        honest, adversary = _seats(honest_share, size, peers)
        if honest.fewer_than(threshold) > liveness:
            size += 1
        elif adversary.at_least(threshold) > safety:
            threshold += 1
        else:
            return Committee(size, threshold)


def verdict_failure(
    honest_share: float, committee: Committee, *, peers: int | None = None
) -> Failure:
    """Chances of a forged verdict, `P[b >= T]`, and of none, `P[g < T]`."""
    honest, adversary = _seats(honest_share, committee.size, peers)
    return Failure(adversary.at_least(committee.threshold), honest.fewer_than(committee.threshold))


def agreement_failure(
    honest_share: float, committee: Committee, *, peers: int | None = None
) -> Failure:
    """Chances when a committee must *agree*: never two contradicting certificates.

    Two certificates need `2T` votes of `g + 2b`, since only the adversary votes twice: safety is
    `P[g + 2b >= 2T]`, liveness `P[g < T]` (Gilad et al. 2017, section 7.5). Committees of ours
    judge, they do not agree on a value, and need an order of magnitude fewer seats.
    """
    honest, adversary = _seats(honest_share, committee.size, peers)
    threshold = committee.threshold
    conflict = adversary.at_least(threshold)
    enough_honest = honest.at_least(2 * threshold)
    for b in range(threshold):
        conflict += adversary.mass(b) * enough_honest
        # With one adversarial seat more, two honest ones fewer are enough.
        needed = 2 * (threshold - b)
        enough_honest += honest.mass(needed - 1) + honest.mass(needed - 2)
    return Failure(conflict, honest.fewer_than(threshold))


def whole_swarm(honest_share: float, peers: int) -> Committee:
    """Everybody votes: `T = floor((1 - h)·N) + 1` heads, one more than the adversary has.

    Below some thirty peers a drawn committee would be nearly everybody, and less safe.
    """
    return Committee(peers, _adversaries(honest_share, peers) + 1)


def audit_size(honest_share: float, miss: float) -> float:
    """Expected auditors `tau = ln(1 / miss) / h` of which at least one is honest but for `miss`.

    For faults that anyone can check again: one honest auditor is enough, `P[none] = exp(-h·tau)`.
    """
    _check_share(honest_share)
    if not 0 < miss < 1:
        raise ValueError(f"miss is a probability between 0 and 1, got {miss}")
    return math.log(1 / miss) / honest_share


def census_alarm(epochs: int, false_alarm: float) -> float:
    """The sum of `epochs` exponential draws of mean 1 that chance exceeds with `false_alarm`.

    `P[Gamma(n, 1) > x] = P[Poisson(x) < n]`; the smallest such x, to nine digits.
    """
    low, high = 0.0, 1.0
    while _poisson(high).fewer_than(epochs) > false_alarm:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if _poisson(middle).fewer_than(epochs) > false_alarm:
            low = middle
        else:
            high = middle
    return high


def _check_share(honest_share: float) -> None:
    if not MIN_HONEST_SHARE <= honest_share <= 1:
        raise ValueError(
            f"the honest share is between {MIN_HONEST_SHARE} and 1, got {honest_share}; "
            "no committee is safe when half of the weight is adversarial"
        )


def _adversaries(honest_share: float, peers: int) -> int:
    _check_share(honest_share)
    if peers < 1:
        raise ValueError(f"a network has at least one peer, got {peers}")
    # 0.9 means nine tenths: in binary, (1 - 0.9)·10 is below one, and rounds to one cheat too few.
    return math.floor((1 - Fraction(honest_share).limit_denominator(10**6)) * peers)


def _seats(honest_share: float, size: int, peers: int | None) -> tuple[_Seats, _Seats]:
    """Honest and adversarial seats."""
    if peers is None:
        _check_share(honest_share)
        return _poisson(honest_share * size), _poisson((1 - honest_share) * size)
    adversaries = _adversaries(honest_share, peers)
    chance = min(1.0, size / peers)
    return _binomial(peers - adversaries, chance), _binomial(adversaries, chance)


def _certain(seats: int) -> _Seats:
    def log_mass(k: int) -> float:
        return 0.0 if k == seats else -math.inf

    return _Seats(seats, log_mass)


def _poisson(mean: float) -> _Seats:
    if mean == 0:
        return _certain(0)
    log_mean = math.log(mean)

    def log_mass(k: int) -> float:
        return k * log_mean - mean - math.lgamma(k + 1)

    return _Seats(mean, log_mass)


def _binomial(trials: int, chance: float) -> _Seats:
    if trials == 0 or chance == 1:
        return _certain(trials)
    log_odds = math.log(chance) - math.log1p(-chance)
    constant = math.lgamma(trials + 1) + trials * math.log1p(-chance)

    def log_mass(k: int) -> float:
        if k > trials:
            return -math.inf
        return constant + k * log_odds - math.lgamma(k + 1) - math.lgamma(trials - k + 1)

    return _Seats(trials * chance, log_mass)
