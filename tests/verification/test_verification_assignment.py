"""Data are assigned, not chosen."""

import hashlib

import numpy as np
import pytest
from verification_tasks import AUTHOR, BEACON, make_task

from gossipjax.training import public_samples
from gossipjax.verification.assignment import assigned_indices, assignment
from gossipjax.verification.rounds import assigned_batches


def test_the_formula():
    assigned = hashlib.sha512(
        b"gossipjax/v1/assignment\0" + AUTHOR + (7).to_bytes(8, "big") + BEACON
    ).digest()
    assert assignment(AUTHOR, 7, BEACON) == assigned
    stream = hashlib.shake_256(assigned + (3).to_bytes(8, "big")).digest(40)
    expected = [int.from_bytes(stream[8 * j : 8 * j + 8], "big") % 1000 for j in range(5)]
    assert assigned_indices(assigned, 3, 5, 1000).tolist() == expected


def test_author_number_and_beacon_each_change_everything():
    samples = {
        tuple(assigned_indices(assigned, 0, 16, 10**6))
        for assigned in (
            assignment(AUTHOR, 1, BEACON),
            assignment(b"b" * 32, 1, BEACON),
            assignment(AUTHOR, 2, BEACON),
            assignment(AUTHOR, 1, b"f" * 64),
            assignment(AUTHOR, 1, b""),
        )
    }
    assert len(samples) == 5


def test_samples_are_uniform():
    assigned = assignment(AUTHOR, 1, BEACON)
    drawn = np.concatenate([assigned_indices(assigned, step, 100, 10) for step in range(200)])
    counts = np.bincount(drawn, minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # χ² with 9 degrees of freedom, 0.1 %


def test_parts_that_could_be_confused_are_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        assignment(b"short", 1, BEACON)
    with pytest.raises(ValueError, match="64 or none"):
        assignment(AUTHOR, 1, b"e")


def test_batches_may_begin_anywhere():
    task = make_task()
    from_start, from_third = assigned_batches(task), assigned_batches(task, 3)
    skipped = [next(from_start) for _ in range(4)][3]
    assert np.array_equal(skipped["inputs"], next(from_third)["inputs"])


def test_the_digest_tells_data_apart():
    inputs, labels = np.zeros((4, 2), np.float32), np.arange(4)

    def digest(**arrays):
        return public_samples(arrays, 2).digest

    same = digest(inputs=inputs, labels=labels)
    assert same == digest(labels=labels, inputs=inputs.copy())
    others = {
        digest(inputs=inputs + 1, labels=labels),
        digest(inputs=inputs, labels=labels[::-1]),
        digest(inputs=inputs.reshape(4, 1, 2), labels=labels),
        digest(inputs=inputs.astype(np.int32), labels=labels),
        digest(samples=inputs, labels=labels),
    }
    assert same not in others
    assert len(others) == 5
    with pytest.raises(ValueError, match="one length"):
        public_samples({"inputs": inputs, "labels": labels[:3]}, 2)
