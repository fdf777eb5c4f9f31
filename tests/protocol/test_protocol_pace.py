"""Deadlines learnt from what was seen, and rests of those that let transfers die."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_pump import SECOND, id_of

from gossipjax.protocol.pace import (
    DEADLINE_FIRST_NS,
    DEADLINE_MAX_NS,
    DEADLINE_MIN_NS,
    Pace,
    deadline_of,
)

ONE, TWO = id_of(1), id_of(2)


def pace_of(*waits_s: float) -> Pace:
    pace = Pace(4)
    for wait_s in waits_s:
        pace.answered(ONE, int(wait_s * SECOND))
    return pace


@given(st.lists(st.integers(0, 30 * SECOND), max_size=40))
def test_a_deadline_is_the_median_and_six_deviations_within_bounds(waits: list[int]):
    deadline_ns = deadline_of(waits)
    if len(waits) < 4:
        assert deadline_ns == DEADLINE_FIRST_NS
        return
    assert DEADLINE_MIN_NS <= deadline_ns <= DEADLINE_MAX_NS
    median = statistics.median_high(waits)
    deviation = statistics.median_high(abs(wait - median) for wait in waits)
    wanted = median + 6 * max(deviation, median // 4)
    assert deadline_ns == min(max(wanted, DEADLINE_MIN_NS), DEADLINE_MAX_NS)


def test_a_few_outliers_move_nothing():
    steady = [SECOND] * 9
    assert deadline_of(steady) == deadline_of([*steady, 900 * SECOND, 0, 900 * SECOND])


@pytest.mark.parametrize(
    ("waits", "seconds"),
    [
        ((), 4),
        ((1.0,) * 3, 4),
        ((0.01,) * 4, 2),
        ((1.0,) * 4, 2.5),
        ((2.0,) * 16, 5),
        ((9,) * 4, 10),
    ],
)
def test_who_is_slow_is_waited_for_longer(waits: tuple[float, ...], seconds: float):
    assert pace_of(*waits).deadline_ns(ONE) == seconds * SECOND


def test_of_a_stranger_is_expected_what_the_others_do():
    pace = pace_of(*[2.0] * 8)
    assert pace.deadline_ns(TWO) == 5 * SECOND
    for _ in range(4):
        pace.answered(TWO, 3 * SECOND)
    assert pace.deadline_ns(TWO) == int(7.5 * SECOND)
    assert pace.deadline_ns(ONE) == 5 * SECOND


def test_what_a_peer_did_long_ago_is_forgotten():
    pace = pace_of(*[3.0] * 50, *[1.0] * 16)
    assert pace.deadline_ns(ONE) == int(2.5 * SECOND)


def test_a_peer_rests_longer_each_time_and_a_success_halves_it():
    pace = Pace(4)
    assert pace.is_relied_on(ONE, 0)
    rests = []
    now_ns = 0
    for _ in range(7):
        pace.failed(ONE, now_ns)
        began_ns = now_ns
        while not pace.is_relied_on(ONE, now_ns):
            now_ns += SECOND
        rests.append((now_ns - began_ns) // SECOND)
    assert rests == [15, 30, 60, 120, 240, 240, 240]
    assert pace.failures(ONE) == 5
    for left in (4, 3, 2, 1, 0, 0):
        pace.succeeded(ONE)
        assert pace.failures(ONE) == left
    pace.failed(ONE, 0)
    assert not pace.is_relied_on(ONE, 15 * SECOND - 1)
    assert pace.is_relied_on(ONE, 15 * SECOND)
    assert pace.is_relied_on(TWO, 0)


def test_strangers_cannot_fill_the_memory():
    pace = Pace(4)
    for number in range(20):
        pace.answered(id_of(number), SECOND)
        pace.deadline_ns(id_of(number))
        pace.failed(id_of(number), 0)
    sizes = {name: len(value) for name, value in vars(pace).items() if isinstance(value, dict)}
    assert set(sizes.values()) == {4}
