"""A round of training that can be checked: the very function that author and auditor both run.

What a segment of a round does follows from the state that it starts from and from what is assigned:
samples, random key, and the place of the learning-rate schedule, which is the model's version. The
author's state decides none of these. Author and auditor call the same compiled step, so on equal
machines their results are equal bit for bit, and elsewhere to rounding (`recompute.TOLERANCE`).
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gossipjax.training.local import LocalTrainer, RoundReport, TrainState
from gossipjax.training.workload import Batch, PublicData
from gossipjax.verification.assignment import assigned_indices

SEGMENT_STEPS = {"float64": 5, "float32": 5, "bfloat16": 1}
"""By the dtype of the computation: greatest length of a segment. Over so many steps the rounding
errors of an honest recomputation stay small whatever the machine; over 50 they have been seen to
grow from 1e-6 to 0.2 on a small convolutional network."""


class Drawn(NamedTuple):
    """A value that nobody could foresee, and the epoch that it is of.

    Attributes:
        epoch: see `gossipjax.protocol.beacon`.
        beacon: 64 bytes; empty where there is no such value.
    """

    epoch: int
    beacon: bytes


NOT_DRAWN = Drawn(0, b"")


class Task(NamedTuple):
    """What an author has to do in one round.

    Attributes:
        data: the public data set.
        assigned: what `gossipjax.verification.assignment.assignment` gives for the round.
        version: of the model at the start of the round.
        drawn: the value that has decided what is assigned.
    """

    data: PublicData
    assigned: bytes
    version: int
    drawn: Drawn = NOT_DRAWN


class CommittedRound(NamedTuple):
    """What a round leaves with its author.

    Attributes:
        state: at the end; to be trained on, which consumes it.
        report: of the whole round.
        boundaries: copies of the states at the segments' boundaries, `segments + 1`.
        drawn: of its task.
    """

    state: TrainState
    report: RoundReport
    boundaries: list[TrainState]
    drawn: Drawn = NOT_DRAWN


def segment_lengths(steps: int, segment_steps: int) -> list[int]:
    """Steps of each segment of a round: as few segments as possible, as equal as possible.

    Example:
        >>> segment_lengths(120, 50)
        [40, 40, 40]

    Raises:
        ValueError: `steps` or `segment_steps` below 1.
    """
    if steps < 1 or segment_steps < 1:
        raise ValueError(f"expected at least one step, got {steps} and {segment_steps}")
    count = math.ceil(steps / segment_steps)
    short, longer = divmod(steps, count)
    return [short + 1] * longer + [short] * (count - longer)


def assigned_batches(task: Task, first_step: int = 0) -> Iterator[Batch]:
    """The batches of a round from step `first_step` on, without end."""
    data = task.data
    for step in itertools.count(first_step):
        yield data.take(assigned_indices(task.assigned, step, data.batch_size, data.size))


def run_segment(
    trainer: LocalTrainer, state: TrainState, task: Task, first_step: int, steps: int
) -> tuple[TrainState, RoundReport]:
    """Take steps `first_step` to `first_step + steps - 1` of a round. Consumes `state`."""
    state = trainer.at_version(state, task.version + first_step)
    state = state._replace(key=_segment_key(state.key, task.assigned, first_step))
    return trainer.run_round(state, assigned_batches(task, first_step), steps=steps)


def run_committed_round(
    trainer: LocalTrainer,
    state: TrainState,
    task: Task,
    steps: int,
    segment_steps: int,
) -> CommittedRound:
    """Train a round and keep what an auditor may ask for. Consumes `state`."""
    boundaries = [copy_state(state)]
    reports: list[RoundReport] = []
    first_step = 0
    for length in segment_lengths(steps, segment_steps):
        state, report = run_segment(trainer, state, task, first_step, length)
        boundaries.append(copy_state(state))
        reports.append(report)
        first_step += length
    return CommittedRound(state, _joined(reports), boundaries, task.drawn)


def _segment_key(example: jax.Array, assigned: bytes, first_step: int) -> jax.Array:
    seed = int.from_bytes(assigned[:4], "big")
    return jax.random.fold_in(
        jax.random.key(seed, impl=jax.random.key_impl(example)), np.uint32(first_step)
    )


@jax.jit
def copy_state(state: TrainState) -> TrainState:
    """A state with memory of its own: the next step consumes the original."""
    return jax.tree.map(jnp.copy, state)


def _joined(reports: list[RoundReport]) -> RoundReport:
    steps = sum(report.steps for report in reports)
    metrics = {
        name: sum(report.steps * report.metrics[name] for report in reports) / steps
        for name in reports[0].metrics
    }
    return RoundReport(steps, sum(report.samples for report in reports), metrics)
