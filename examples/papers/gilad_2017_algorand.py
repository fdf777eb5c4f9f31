"""Committees by cryptographic sortition: how often they fail, and that Sybils gain nothing.

Y. Gilad, R. Hemo, S. Micali, G. Vlachos, N. Zeldovich: "Algorand: Scaling Byzantine Agreements for
Cryptocurrencies", SOSP 2017, sections 5 (sortition) and 7.5 (committee size, figure 3).

Claim: with 80 % of the weight honest, a committee of tau = 2000 expected seats and a threshold of
T = 0.685 fails with chance 5e-9 at most: honest seats `g <= T·tau` (no verdict) or, with `b` of the
adversary, `g/2 + b > T·tau` (two verdicts); and splitting a weight over identities changes nothing.

    python examples/papers/gilad_2017_algorand.py [--quick]

About one minute on 2 CPU cores, seconds with --quick. Expected:
- exact chance of failure 4.0e-9 (± 5 %) with votes counted in whole numbers; the smallest committee
  below 5e-9 has 2000 seats (± 3 %), as read off figure 3 at 80 %;
- simulated chances of both failures within 3 standard errors of the exact: at tau = 2000 by
  importance sampling, at tau = 200 with the seats that the library's sortition gives;
- 1,000 units of weight win seats with mean and variance of Bin(1000, p), within 3 standard errors,
  as one identity, as ten, and as a thousand.
"""

import hashlib
import math
import sys
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from reproduction import Outcome, Result, main, within

from gossipjax.crypto import ecvrf
from gossipjax.crypto.committee_size import Committee, agreement_failure
from gossipjax.crypto.sortition import seats, uniform


@dataclass(frozen=True)
class Config:
    """Settings of the paper, and the sizes of the simulations."""

    honest_share: float = 0.8
    size: int = 2000
    fraction: float = 0.685
    importance_draws: int = 1_000_000
    observable_size: int = 200
    peers: int = 100
    weight: int = 100
    rounds: int = 20_000
    proof_rounds: int = 20
    sybil_weight: int = 1000
    sybil_rounds: int = 4000
    seed: int = 2017


def committee(size: int, fraction: float) -> Committee:
    """Votes above `fraction·size` are `floor(fraction·size) + 1` or more."""
    return Committee(size, math.floor(round(fraction * size, 6)) + 1)


def exact(config: Config) -> list[Result]:
    """Chances of failure by summing the distributions, and the size that follows from them."""

    def chance(size: int, fraction: float) -> float:
        return sum(agreement_failure(config.honest_share, committee(size, fraction)))

    def keeps_the_chance(size: int) -> bool:
        fractions = (0.67 + step / 400 for step in range(12))
        return min(chance(size, fraction) for fraction in fractions) <= 5e-9

    smallest = 1000 + bisect_left(range(1000, 3000), True, key=keeps_the_chance)
    return [
        Result("exact chance of failure", 3.8e-9, chance(config.size, config.fraction), 4.2e-9),
        Result("smallest committee", 0.97 * config.size, smallest, 1.03 * config.size),
    ]


def importance_sampled(config: Config) -> list[Result]:
    """Failures of the full committee, drawn where they happen and weighted back.

    Poisson(m) tilted by theta is Poisson(m·e^theta), with weight `exp(m·(e^theta - 1) - theta·x)`.
    """
    target = committee(config.size, config.fraction)
    honest, adversary = config.honest_share * config.size, (1 - config.honest_share) * config.size
    expected = agreement_failure(config.honest_share, target)
    draws, source = config.importance_draws, np.random.default_rng(config.seed)
    # The tilts that put the mean at the edge: of g at T, of g + 2b at 2T.
    short = target.threshold / honest
    both = (-honest + math.sqrt(honest**2 + 16 * adversary * target.threshold)) / (4 * adversary)
    g = source.poisson(honest * short, draws)
    stalled = np.exp(honest * (short - 1) - math.log(short) * g) * (g < target.threshold)
    g, b = source.poisson(honest * both, draws), source.poisson(adversary * both**2, draws)
    scale = honest * (both - 1) + adversary * (both**2 - 1)
    conflicts = np.exp(scale - math.log(both) * (g + 2 * b)) * (g + 2 * b >= 2 * target.threshold)
    return [
        within(f"tilted, {name}", chance, weights.mean(), weights.std() / math.sqrt(draws))
        for name, chance, weights in (
            ("two verdicts", expected.safety, conflicts),
            ("no verdict", expected.liveness, stalled),
        )
    ]


def by_sortition(config: Config) -> list[Result]:
    """Failures of a small committee whose seats the library's sortition draws.

    Outputs come with verified proofs in the first rounds, then from a hash: faster and as random.
    """
    target = committee(config.observable_size, config.fraction)
    total = config.peers * config.weight
    keys = [ecvrf.keypair(hashlib.sha256(bytes([peer])).digest()) for peer in range(config.peers)]
    won = np.zeros((config.rounds, config.peers), int)
    for index, peer in np.ndindex(won.shape):
        beta = alpha = f"{config.seed} {index} {peer}".encode()
        if index < config.proof_rounds:
            secret_key, public_key = keys[peer]
            beta = ecvrf.verify(public_key, alpha, ecvrf.prove(secret_key, alpha))
        won[index, peer] = seats(uniform(beta, b"role"), config.weight, target.size, total)
    honest_peers = round(config.honest_share * config.peers)
    g, b = won[:, :honest_peers].sum(1), won[:, honest_peers:].sum(1)
    expected = agreement_failure(config.honest_share, target, peers=total)
    return [
        within(f"sortition, {name}", chance, rate, math.sqrt(chance * (1 - chance) / config.rounds))
        for name, chance, rate in (
            ("two verdicts", expected.safety, np.mean(g + 2 * b >= 2 * target.threshold)),
            ("no verdict", expected.liveness, np.mean(g < target.threshold)),
        )
    ]


def by_sybils(config: Config) -> list[Result]:
    """Seats of an adversary with a fifth of the weight, split over more and more identities."""
    weight, total = config.sybil_weight, 5 * config.sybil_weight
    chance = config.observable_size / total
    mean, variance = weight * chance, weight * chance * (1 - chance)
    fourth_moment = variance * (1 + (3 * weight - 6) * chance * (1 - chance))
    results: list[Result] = []
    for identities in (1, 10, 1000):
        won = np.zeros(config.sybil_rounds)
        for index, identity in np.ndindex(config.sybil_rounds, identities):
            u = uniform(f"{config.seed} {index} {identity}".encode(), f"{identities}".encode())
            won[index] += seats(u, weight // identities, config.observable_size, total)
        errors = np.sqrt(np.array([variance, fourth_moment - variance**2]) / config.sybil_rounds)
        results += [
            within(f"mean seats, {identities} identities", mean, won.mean(), errors[0]),
            within(f"variance, {identities} identities", variance, won.var(), errors[1]),
        ]
    return results


def reproduce(config: Config) -> Outcome:
    """All claims."""
    results = exact(config) + importance_sampled(config)
    return Outcome(results + by_sortition(config) + by_sybils(config))


QUICK = {"importance_draws": 100_000, "rounds": 1000, "sybil_rounds": 100}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
