"""Attacks on the beacon: `python tests/simulation/beacon_strategies.py` prints the whole table."""

import math

import pytest
from beacon_strategies import as_honest, late, nothing, play, three_parents, withhold

from gossipjax.crypto.suite import insecure_suite
from gossipjax.protocol.beacon import beacon_input, ticket_value
from gossipjax.simulation.beacon import RUN, BeaconSwarm

SUITE = insecure_suite()
EPOCHS = 12


def binomial_bound(share: float, draws: int) -> float:
    return share + 3 * math.sqrt(share * (1 - share) / draws)


@pytest.mark.parametrize("percent", [2, 10, 50])
def test_late_tickets_divide_opinions_but_draws_are_accepted(percent: int):
    row = play(late(percent), honest=30, adversarial=10, epochs=EPOCHS, seed=percent)
    assert row.acceptance >= 0.982
    assert row.agreement >= 0.5


def test_draws_are_accepted_with_clocks_a_quarter_of_an_epoch_apart():
    row = play(as_honest, honest=30, adversarial=10, epochs=EPOCHS, seed=3, skew_s=15)
    assert row.acceptance >= 0.98


@pytest.mark.parametrize("strategy", [as_honest, withhold])
def test_the_adversary_has_its_share_of_the_values(strategy):
    row = play(strategy, honest=32, adversarial=8, epochs=2 * EPOCHS, seed=5)
    assert 0 < row.adversarial <= binomial_bound(0.2, 2 * EPOCHS)
    assert row.agreement == 1


def test_drawing_under_every_parent_gains_little():
    row = play(three_parents, honest=32, adversarial=8, epochs=EPOCHS, seed=6)
    # With three draws per unit instead of one it would be 3·0.2 / (3·0.2 + 0.8) = 43 %.
    assert row.adversarial <= binomial_bound(0.25, EPOCHS)


def test_without_the_adversary_everything_goes_on():
    row = play(nothing, honest=32, adversarial=8, epochs=EPOCHS, seed=7)
    assert (row.agreement, row.acceptance, row.adversarial) == (1, 1, 0)


@pytest.mark.parametrize(("heard", "alarms"), [(10, True), (50, False)])
def test_the_census_alarms_a_peer_that_is_eclipsed(heard: int, alarms: bool):
    swarm = BeaconSwarm(
        50, 0, seed=8, ticks=6, reaches=lambda one, other: (one < heard) == (other < heard)
    )
    for _ in range(22):
        swarm.run_epoch()
    assert bool(swarm.peers[0].alarms) == alarms


def test_a_network_that_was_split_has_one_chain_again():
    """The smaller part notices that most weight is missing, and follows the other."""
    parts = [6, 24]
    swarm = BeaconSwarm(
        24, 0, seed=10, ticks=8, reaches=lambda one, other: (one < parts[0]) == (other < parts[0])
    )
    for _ in range(8):
        swarm.run_epoch()
    epoch = swarm.peers[0].epoch
    values = [peer.value_of(epoch - 1) for peer in swarm.peers]
    assert not set(values[: parts[0]]) & set(values[parts[0] :])
    parts[0] = 24
    for _ in range(16):
        swarm.run_epoch()
    assert swarm.measure(swarm.peers[0].epoch - 2).acceptance >= 0.98


def ground_key(parent: bytes, epoch: int, keys: int) -> bytes:
    """The one of many keys whose ticket is the lowest: what a foreseeable value allows."""
    alpha = beacon_input(RUN, epoch, parent)
    candidates = (b"%032d" % number for number in range(keys))
    return min(candidates, key=lambda key: ticket_value(SUITE.prove(key, alpha)[1], 1))


def test_grinding_keys_beats_a_foreseeable_value_and_not_this_one():
    """An identity has to be shown two epochs before it counts, when E(e-1) does not exist yet."""
    foreseen = bytes(64)
    key = ground_key(foreseen, 10, 10**5)
    # 10^5 keys against 100 units of honest weight: it wins with a chance of 99.9 %.
    rivals = [b"honest%026d" % number for number in range(100)]
    assert wins(key, rivals, foreseen, 10)
    swarm = BeaconSwarm(20, 0, seed=9, ticks=6)
    won = epochs = 0
    for _ in range(10):
        swarm.run_epoch()
        epoch = swarm.peers[0].epoch
        for number in range(100):  # the same key under many values that were not foreseen
            epochs += 1
            won += wins(key, rivals, swarm.peers[0].value_of(epoch - 1), epoch + number)
    assert won / epochs <= binomial_bound(1 / 101, epochs)


def wins(key: bytes, rivals: list[bytes], parent: bytes, epoch: int) -> bool:
    alpha = beacon_input(RUN, epoch, parent)
    values = [ticket_value(SUITE.prove(one, alpha)[1], 1) for one in (key, *rivals)]
    return min(values) == values[0]
