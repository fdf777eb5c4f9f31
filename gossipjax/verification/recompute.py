"""Rung 6: audit by recomputation. Does the committed training give the committed result?

An auditor takes the state at the start of one segment, redoes the assigned steps, and compares:

    deviation = ‖claimed - recomputed‖ / ‖recomputed - start‖

over the parameters, and leaf by leaf over the optimizer state. On the same program and machine it
is 0; other machines add in another order, which stays far below the tolerance, while other data or
fewer steps are far above it (`benchmarks/bench_audit.py` prints both, side by side). An author can
hide an error of `tolerance · ‖recomputed - start‖` per segment: less than honest rounding allows.

What it does not say: whether the state that the round starts from was mixed honestly, since that
depends on what has arrived. Robust mixing and the cheaper checks bound what can be done with it.

References:
    Jia et al. 2021, "Proof-of-Learning: Definitions and Practice"; Fang et al. 2023,
    "Proof-of-Learning is Currently More Broken Than You Think": loose tolerances and data that the
    prover chooses make a proof forgeable.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from gossipjax.training.local import LocalTrainer, TrainState
from gossipjax.verification.rounds import Task, run_segment

TOLERANCE = {"float64": 1e-8, "float32": 1e-4, "bfloat16": 2e-2}
"""By the dtype of the computation: largest deviation that rounding explains."""


class Deviation(NamedTuple):
    """How far a claimed state is from the recomputed one, relative to what the steps changed.

    Attributes:
        params: of all parameters together; 0 when equal, infinite or NaN for what is not finite.
        rest: the largest of any leaf of the optimizer state; infinite when a counter differs.
    """

    params: float
    rest: float


def recompute(
    trainer: LocalTrainer, start: TrainState, task: Task, first_step: int, steps: int
) -> TrainState:
    """The state after the assigned steps, as the author should have got it.

    Args:
        trainer: with the loss and optimizer of the run.
        start: the committed state at the start of the segment; kept.
        task: what was assigned to the author for the round.
        first_step: of the segment.
        steps: of the segment.
    """
    begin = trainer.init(start.params, key=start.key, opt_state=start.opt_state)
    return run_segment(trainer, begin, task, first_step, steps)[0]


def deviation(start: TrainState, claimed: TrainState, recomputed: TrainState) -> Deviation:
    """Compare a claimed state with a recomputed one that began at `start`."""
    params = zip(*(_leaves(state.params) for state in (start, claimed, recomputed)), strict=True)
    error, change = 0.0, 0.0
    for before, said, right in params:
        error += _square(said - right)
        change += _square(right - before)
    rest = zip(*(_leaves(s.opt_state) for s in (start, claimed, recomputed)), strict=True)
    return Deviation(_ratio(error, change), max((_rest_ratio(*leaf) for leaf in rest), default=0.0))


def is_within(found: Deviation, tolerance: float) -> bool:
    """Whether rounding explains a deviation; NaN is not within anything."""
    return found.params <= tolerance and found.rest <= REST_FACTOR * tolerance


REST_FACTOR = 10.0
"""Single small leaves of an optimizer state round less evenly than all parameters together."""


def _rest_ratio(
    before: npt.NDArray[np.float64], said: npt.NDArray[np.float64], right: npt.NDArray[np.float64]
) -> float:
    return _ratio(_square(said - right), _square(right - before))


def _ratio(error: float, change: float) -> float:
    if error == 0:
        return 0.0
    return math.sqrt(error / change) if change else math.inf


def _leaves(tree: object) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def _square(values: npt.NDArray[np.float64]) -> float:
    flat = values.reshape(-1)
    return float(flat @ flat)
