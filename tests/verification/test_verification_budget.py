"""Costs and chances, by hand and by sampling."""

import numpy as np
import pytest

from gossipjax.verification.budget import (
    affordable_percent,
    affordable_probe_share,
    affordable_share,
    byte_overhead,
    caught,
    compute_overhead,
)


def test_costs_by_hand():
    assert compute_overhead(0.25, 4, 16) == 0.0625
    assert byte_overhead(0.05, 4, 3, 3) == pytest.approx(0.2)


def test_chances_equal_sampling():
    random = np.random.default_rng(0)
    honest, auditors, segments, false_segments = 0.8, 4, 16, 3
    counts = random.poisson(honest * auditors, size=40_000)
    draws = random.integers(segments, size=(40_000, counts.max()))
    hits = (draws < false_segments) & (np.arange(counts.max()) < counts[:, None])
    share = hits.any(1).mean()
    assert caught(honest, auditors, segments, false_segments) == pytest.approx(share, abs=0.01)
    assert caught(0.8, 4, 16, 1) == pytest.approx(0.18, abs=0.005)
    assert caught(0.8, 4, 16, 16) == pytest.approx(0.96, abs=0.005)


@pytest.mark.parametrize("segments", [1, 4, 16, 400])
@pytest.mark.parametrize("state_payloads", [1.0, 2.0, 3.0])
def test_the_affordable_share_keeps_to_both_budgets_and_uses_one(segments, state_payloads):
    share = affordable_share(auditors=4, segments=segments, state_payloads=state_payloads, fanout=3)
    costs = (
        compute_overhead(share, 4, segments) / 0.05,
        byte_overhead(share, 4, state_payloads, 3) / 0.08,
        share / 0.25,
    )
    assert max(costs) == pytest.approx(1)


def test_percent_are_whole_and_never_none():
    plan = {"auditors": 4, "state_payloads": 2.0, "fanout": 3, "percent_max": 25}
    assert [affordable_percent(segments=m, **plan) for m in (1, 2, 3, 10, 1000)] == [1, 2, 3, 3, 3]
    assert affordable_percent(segments=1000, **{**plan, "fanout": 100}) == 25
    assert affordable_percent(segments=1, **{**plan, "auditors": 400}) == 1


def test_probes_keep_to_their_budget():
    assert affordable_probe_share(probe=0.1, arrivals=3) == pytest.approx(0.05)
    assert affordable_probe_share(probe=0.001, arrivals=3) == 0.125
