"""Random scenarios with faults and attackers: what must hold, holds in all of them."""

import pytest
from typer.testing import CliRunner

from gossipjax.protocol.dissemination import DisseminationMachine
from gossipjax.simulation.__main__ import app
from gossipjax.simulation.scenario import Scenario, draw_scenario, run_scenario

FAST = range(25)
SLOW = range(25, 225)


@pytest.mark.parametrize("seed", FAST)
def test_a_scenario_holds(seed: int):
    assert run_scenario(draw_scenario(seed)).delivered > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_another_scenario_holds(seed: int):
    assert run_scenario(draw_scenario(seed)).delivered > 0


def test_a_scenario_is_a_function_of_its_seed():
    assert draw_scenario(5) == draw_scenario(5)
    assert run_scenario(draw_scenario(5)) == run_scenario(draw_scenario(5))
    assert draw_scenario(5) != draw_scenario(6)


def test_scenarios_differ_in_everything():
    scenarios = [draw_scenario(seed) for seed in FAST]

    def values(name: str) -> set[object]:
        return {getattr(scenario.config.model, name) > 0 for scenario in scenarios}

    for name in ("loss_ppm", "duplicate_ppm", "reorder_ppm", "reset_ppm"):
        assert values(name) == {False, True}
    assert {bool(scenario.roles) for scenario in scenarios} == {False, True}
    assert len(_kinds(scenarios)) == 3
    assert len({scenario.config.peers for scenario in scenarios}) > 8


def _kinds(scenarios: list[Scenario]) -> set[type]:
    return {type(fault) for scenario in scenarios for fault in scenario.faults}


def test_a_failure_prints_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DisseminationMachine, "_check_sequence", lambda *_: None)
    result = CliRunner().invoke(app, ["scenario", "--seed", "5", "--describe"])
    assert result.exit_code == 1
    assert "reproduce: python -m gossipjax.simulation scenario --seed 5" in result.output
    assert "delivers update" in result.output


def test_the_command_reports_what_held():
    result = CliRunner().invoke(app, ["scenario", "--seed", "2", "--count", "2"])
    assert result.exit_code == 0
    assert "seed 3: held" in result.output
    assert "seed 2: held" in result.output
