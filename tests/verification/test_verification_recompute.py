"""Rung 6: honest rounds are repeated to rounding or to the bit, dishonest ones are far off."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from verification_tasks import make_state, make_task, make_trainer, make_workload

from gossipjax.errors import RemoteProtocolError
from gossipjax.verification.recompute import TOLERANCE, deviation, is_within, recompute
from gossipjax.verification.rounds import Task, run_committed_round, segment_lengths
from gossipjax.verification.states import StateForm, check_state
from gossipjax.wire.commitment import RoundCommitment, check_opening

TOLERANCE_F32 = TOLERANCE["float32"]


def committed(steps=12, segment_steps=4, task=None, version=0, trainer=None):
    trainer = trainer or make_trainer()
    task = task or make_task(version=version)
    return run_committed_round(trainer, make_state(trainer), task, steps, segment_steps)


def test_a_round_is_cut_into_few_and_equal_segments():
    assert segment_lengths(5, 50) == [5]
    assert segment_lengths(50, 50) == [50]
    assert segment_lengths(51, 50) == [26, 25]
    assert segment_lengths(500, 50) == [50] * 10
    with pytest.raises(ValueError, match="at least one step"):
        segment_lengths(0, 50)


def test_each_segment_of_an_honest_round_repeats_bit_by_bit():
    trainer, task = make_trainer(), make_task(version=30)
    round_ = committed(trainer=trainer, task=task)
    form = StateForm(round_.state)
    assert len(round_.boundaries) == 4
    for segment in range(3):
        start, claimed = round_.boundaries[segment : segment + 2]
        again = recompute(trainer, start, task, 4 * segment, 4)
        assert form.pack(again).digest == form.pack(claimed).digest
        assert deviation(start, claimed, again) == (0.0, 0.0)


def test_a_round_in_segments_trains_and_reports_like_one_round():
    round_ = committed(steps=12, segment_steps=5)
    assert (round_.report.steps, round_.report.samples) == (12, 96)
    assert set(round_.report.metrics) == {"loss"}
    last = round_.boundaries[-1]
    jax.tree.map(np.testing.assert_array_equal, last.params, round_.state.params)


def test_what_the_author_puts_into_key_and_schedule_does_not_matter():
    """The task decides both, so an author cannot choose its dropout or stop its learning rate."""
    trainer, task = make_trainer(), make_task(version=30)
    other = trainer.at_version(make_state(trainer)._replace(key=jax.random.key(99)), 399)
    ends = [
        run_committed_round(trainer, state, task, 4, 4).state
        for state in (make_state(trainer), other)
    ]
    jax.tree.map(np.testing.assert_array_equal, ends[0].params, ends[1].params)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_another_order_of_additions_is_within_the_tolerance(accumulate):
    def plain(params, batch, key):  # without dropout, whose key is split among micro-batches
        return jnp.mean((jnp.tanh(batch["inputs"] @ params["w"]).sum(1) - batch["labels"]) ** 2), {}

    optimizer = make_workload().optimizer
    workload = make_workload()._replace(loss=plain, optimizer=optimizer)
    author, task = make_trainer(workload), make_task()
    round_ = run_committed_round(author, make_state(author), task, 40, 40)
    auditor = make_trainer(workload, accumulate=accumulate)
    again = recompute(auditor, round_.boundaries[0], task, 0, 40)
    start, end = round_.boundaries
    found = deviation(start, end, again)
    assert 0 < found.params < TOLERANCE_F32
    assert is_within(found, TOLERANCE_F32)


def false_claims(round_, trainer, task):
    """Claimed ends of the first segment, as a cheat would have them."""
    start, end = round_.boundaries[:2]

    def shift(leaf):
        return leaf + 1e-3 * jnp.linalg.norm(leaf)

    flipped = jax.tree.map(lambda a, b: a - (b - a), start.params, end.params)
    momentum = jax.tree.map(
        lambda leaf: shift(leaf) if leaf.dtype == jnp.float32 else leaf, end.opt_state
    )
    counter = jax.tree.map(
        lambda leaf: leaf + 1 if leaf.dtype == jnp.int32 else leaf, end.opt_state
    )
    other = Task(task.data, make_task(sequence=7).assigned, task.version)
    return {
        "other data": recompute(trainer, start, other, 0, 4),
        "fewer steps": recompute(trainer, start, task, 0, 3),
        "no steps": start,
        "sign flip": end._replace(params=flipped),
        "noise": end._replace(params=jax.tree.map(shift, end.params)),
        "not a number": end._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, end.params)),
        "momentum": end._replace(opt_state=momentum),
        "counter": end._replace(opt_state=counter),
    }


def test_every_cheat_is_far_outside_of_the_tolerance():
    trainer, task = make_trainer(), make_task()
    round_ = committed(trainer=trainer, task=task)
    start = round_.boundaries[0]
    again = recompute(trainer, start, task, 0, 4)
    for name, claimed in false_claims(round_, trainer, task).items():
        found = deviation(start, claimed, again)
        assert not is_within(found, TOLERANCE_F32), (name, found)
        assert not max(found) < 20 * TOLERANCE_F32, (name, found)


def test_steps_that_change_nothing_leave_no_room():
    trainer = make_trainer(make_workload(optax.sgd(0.0)))
    task = make_task()
    round_ = committed(trainer=trainer, task=task)
    start, end = round_.boundaries[:2]
    again = recompute(trainer, start, task, 0, 4)
    assert deviation(start, end, again).params == 0
    moved = end._replace(params=jax.tree.map(lambda leaf: leaf + 1e-6, end.params))
    assert deviation(start, moved, again).params == float("inf")


def test_an_audit_from_bytes_alone():
    """What crosses the wire: openings and two buffers. The auditor knows the task and the form."""
    author, task = make_trainer(), make_task()
    round_ = committed(trainer=author, task=task)
    form = StateForm(round_.state)
    packed = [form.pack(state) for state in round_.boundaries]
    commitment = RoundCommitment([state.digest for state in packed])
    segment = 1
    digests = [
        check_opening(commitment.root, 3, commitment.open(index))
        for index in (segment, segment + 1)
    ]

    auditor = make_trainer(devices=1)  # compiled for itself
    own_form = StateForm(make_state(auditor))
    params, rest = bytes(packed[segment].params), bytes(packed[segment].rest)
    check_state(digests[0], params, rest)
    again = recompute(auditor, own_form.unpack(params, rest), task, 4, 4)
    assert own_form.pack(again).digest == digests[1]
    with pytest.raises(RemoteProtocolError, match="root: the parameters"):
        check_state(digests[0], params[:-1] + b"x", rest)
    with pytest.raises(RemoteProtocolError, match="root: the optimizer state"):
        check_state(digests[0], params, b"")
    with pytest.raises(RemoteProtocolError, match="size"):
        own_form.unpack(params + b"1234", rest)


def test_the_rest_of_a_state_is_never_empty():
    trainer = make_trainer(make_workload(optax.sgd(0.1)))
    state = make_state(trainer)
    form = StateForm(state)
    packed = form.pack(state)
    restored = form.unpack(packed.params, packed.rest)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert packed.digest == form.pack(restored).digest
    assert np.array_equal(jax.random.key_data(restored.key), jax.random.key_data(state.key))
