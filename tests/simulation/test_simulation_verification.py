"""Cheats in a network of whole peers; many seeds are under the marker `slow`."""

import statistics

import pytest
from verification_strategies import LARGE, attack_of, reproduce, run_seed

from gossipjax.protocol.rules import Policy, Rules
from gossipjax.simulation.convictions import Convictions, run_attack

CHEATS = ("cheat", "harmful", "abandoned commits", "colluding cheats")


def check(seed: int, run: Convictions) -> None:
    """What holds in every run."""
    assert run.wrong == 0, f"an honest peer was banned; reproduce: {reproduce(seed)}"
    if attack_of(seed) in CHEATS:
        assert run.convicted == run.gang, reproduce(seed)
        assert statistics.median(run.audited_before) <= 5, reproduce(seed)


def test_cheats_are_convicted_and_nobody_else():
    check(3, run_seed(3, peers=10, epochs=10))


@pytest.mark.slow
def test_no_honest_peer_is_banned_in_a_hundred_seeds():
    for seed in range(100):
        check(seed, run_seed(seed))


@pytest.mark.slow
@pytest.mark.parametrize("attack", CHEATS)
def test_cheats_of_two_hundred_peers_are_convicted(attack: str):
    run = run_attack(attack, peers=200, seed=1, epochs=10, rules=LARGE)
    assert run.wrong == 0
    assert run.convicted >= 0.9 * run.gang
    assert statistics.median(run.audited_before) <= 5


def gated(attack: str | None, *, peers: int, policy: Policy = "gate") -> Convictions:
    rules = Rules(policy=policy, epoch_s=20, founding_epochs=2)
    return run_attack(attack, peers=peers, seed=3, epochs=7, rules=rules)


def test_a_small_swarm_mixes_nothing_that_it_has_not_certified():
    mixed, false = gated("cheat", peers=8).mixed
    assert mixed > 100
    assert false == 0
    assert gated("cheat", peers=8, policy="audit").mixed[1] > 0, "without a gate they are mixed"


@pytest.mark.slow
@pytest.mark.parametrize("attack", [None, "cheat", "colluding cheats"])
def test_a_network_that_draws_committees_mixes_nothing_that_they_have_not_certified(
    attack: str | None,
):
    run = gated(attack, peers=40)
    mixed, false = run.mixed
    assert mixed > 200
    assert false == run.wrong == 0


def test_an_attack_without_verification_is_not_noticed():
    run = run_attack("cheat", peers=8, seed=1, epochs=6, rules=Rules(policy="off", epoch_s=20))
    assert (run.convicted, run.share, run.audits) == (0, 0, 0)
