"""Rung 7: a dispute ends at one step, after few questions, also where a segment cannot decide."""

import math

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verification_tasks import make_state, make_task, make_trainer

from gossipjax.errors import LocalProtocolError
from gossipjax.verification.bisection import Bisection
from gossipjax.verification.recompute import TOLERANCE, deviation, is_within, recompute
from gossipjax.verification.rounds import run_committed_round


@given(st.integers(1, 1000), st.data())
def test_the_step_found_is_a_disputed_one_whatever_was_agreed_in_between(steps, data):
    agree = data.draw(st.lists(st.booleans(), min_size=steps + 1, max_size=steps + 1))
    agree[0], agree[steps] = True, False
    bisection = Bisection(steps)
    questions = 0
    while (question := bisection.question) is not None:
        bisection.answer(agree[question])
        questions += 1
    assert agree[bisection.step]
    assert not agree[bisection.step + 1]
    assert questions <= math.ceil(math.log2(steps))


def test_misuse_is_refused():
    bisection = Bisection(2)
    with pytest.raises(LocalProtocolError, match="not found yet: compare the states after 1"):
        _ = bisection.step
    bisection.answer(True)
    with pytest.raises(LocalProtocolError, match="the disputed step is found: 1"):
        bisection.answer(True)
    with pytest.raises(ValueError, match="at least one step"):
        Bisection(0)


def find_step(trainer, task, claimed):
    """A dispute about a segment, `claimed` being the author's states after 0, 1, … steps."""
    steps = len(claimed) - 1
    mine = [claimed[0]]
    for step in range(steps):
        mine.append(recompute(trainer, mine[-1], task, step, 1))
    bisection = Bisection(steps)
    while (question := bisection.question) is not None:
        found = deviation(claimed[0], claimed[question], mine[question])
        bisection.answer(is_within(found, TOLERANCE["float32"]))
    return bisection.step


def is_step_right(trainer, task, claimed, step):
    """What a judge does who trusts neither: redo one step from the author's own state."""
    again = recompute(trainer, claimed[step], task, step, 1)
    return is_within(deviation(claimed[step], claimed[step + 1], again), TOLERANCE["float32"])


def test_the_false_step_of_a_cheat_is_found_and_judged():
    trainer, task = make_trainer(), make_task()
    honest = run_committed_round(trainer, make_state(trainer), task, 8, 1).boundaries
    for false_step in (0, 5, 7):
        claimed = list(honest[: false_step + 1])
        poisoned = jax.tree.map(lambda leaf: leaf + 0.01, honest[false_step + 1].params)
        claimed.append(honest[false_step + 1]._replace(params=poisoned))
        for step in range(false_step + 1, 8):
            claimed.append(recompute(trainer, claimed[-1], task, step, 1))
        assert find_step(trainer, task, claimed) == false_step
        assert not is_step_right(trainer, task, claimed, false_step)


def test_an_author_whose_rounding_grows_is_acquitted():
    """Off by more than the tolerance after 8 steps, but in each single step by less."""
    trainer, task = make_trainer(), make_task()
    claimed = [make_state(trainer)]
    for step in range(8):
        exact = recompute(trainer, claimed[-1], task, step, 1)
        params = jax.tree.map(
            lambda after, before: before + (after - before) * jnp.float32(1 + 8e-5),
            exact.params,
            claimed[-1].params,
        )
        claimed.append(exact._replace(params=params))
    end = claimed[0]
    for step in range(8):
        end = recompute(trainer, end, task, step, 1)
    tight = deviation(claimed[0], claimed[-1], end).params / 2
    assert not is_within(deviation(claimed[0], claimed[-1], end), tight)
    assert all(is_step_right(trainer, task, claimed, step) for step in range(8))
