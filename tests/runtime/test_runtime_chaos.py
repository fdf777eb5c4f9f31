"""Peers over ZeroMQ go on, whatever befalls their processes and connections."""

import pytest
from runtime_chaos import HEAL_S, Report, run_chaos


def check(report: Report) -> None:
    print(report)
    assert report.reachable_s <= HEAL_S
    assert report.errors == ""
    assert report.divergences == []
    assert report.journals[1] > 0
    assert report.quiet_s < 15  # these processes share few cores with others
    assert report.rss_max < report.rss_start + 100
    assert all(report.mixed_per_window)


def test_three_peers_for_ten_seconds(tmp_path):
    check(run_chaos(seed=3, peers=3, seconds=10, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_peers_for_three_minutes(tmp_path):
    report = run_chaos(seed=1, peers=8, seconds=180, folder=tmp_path)
    check(report)
    assert sum(report.faults.values()) >= 30
    assert len(report.faults) == 5
