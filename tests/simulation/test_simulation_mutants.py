"""A check of the checkers: a protocol with a defect fails in some scenario."""

import itertools

import pytest
from simulation_mutants import MUTANTS, Mutant

from gossipjax.simulation.checkers import Violation
from gossipjax.simulation.scenario import draw_scenario, run_scenario

TESTED_ANYWAY = range(25)


def failure_of(seed: int) -> str | None:
    """What a scenario says against the protocol as it is."""
    try:
        run_scenario(draw_scenario(seed))
    except Violation as violation:
        return str(violation)
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_protocol_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch):
    mutant.apply(monkeypatch)
    failures = map(failure_of, itertools.chain(mutant.seeds, TESTED_ANYWAY))
    text = next((text for text in failures if text is not None), f"unnoticed: {mutant.name}")
    assert "reproduce: python -m gossipjax.simulation scenario --seed" in text


def test_the_scenarios_that_catch_them_hold_without_a_defect():
    for seed in {mutant.seeds[0] for mutant in MUTANTS} - set(TESTED_ANYWAY):
        assert failure_of(seed) is None
