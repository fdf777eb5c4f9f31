import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.data import batches

SIZES = {
    "size": st.integers(1, 20),
    "batch_size": st.integers(1, 30),
    "seed": st.integers(0, 2**40),
}


def indices(size: int, batch_size: int, seed: int, start: int, count: int):
    numbers = np.arange(size)
    inputs, labels = np.stack([numbers] * 3, 1), numbers + 100
    for batch in itertools.islice(
        batches(inputs, labels, batch_size, seed=seed, start=start), count
    ):
        assert batch.keys() == {"inputs", "labels"}
        assert batch["inputs"].shape == (batch_size, 3)
        chosen = batch["inputs"][:, 0].tolist()
        assert batch["labels"].tolist() == [number + 100 for number in chosen]
        yield chosen


@given(**SIZES, start=st.integers(0, 50))
def test_starting_late_gives_the_tail(size: int, batch_size: int, seed: int, start: int):
    whole = list(indices(size, batch_size, seed, 0, start + 4))
    assert list(indices(size, batch_size, seed, start, 4)) == whole[start:]


@given(**SIZES, count=st.integers(1, 20))
def test_samples_are_used_equally_often(size: int, batch_size: int, seed: int, count: int):
    used = np.bincount(
        np.concatenate(list(indices(size, batch_size, seed, 0, count))), minlength=size
    )
    assert used.max() - used.min() <= 1


def test_each_epoch_has_another_order_and_so_has_each_seed():
    first, second = indices(100, 100, 0, 0, 2)
    (other,) = indices(100, 100, 1, 0, 1)
    assert sorted(first) == sorted(second) == sorted(other)
    assert first != second != other != first


def test_order_is_the_same_with_every_version_of_numpy():
    assert list(indices(5, 3, 7, 0, 3)) == [[2, 0, 4], [1, 3, 3], [0, 2, 1]]


def test_start_far_away_costs_nothing():
    (batch,) = indices(10, 7, 0, 10**8, 1)
    assert len(batch) == 7


def test_batches_are_copies():
    inputs, labels = np.zeros((4, 2)), np.zeros(4, np.int32)
    batch = next(batches(inputs, labels, 4, seed=0))
    batch["inputs"][:] = 1
    assert not inputs.any()


@pytest.mark.parametrize(
    ("inputs", "labels", "batch_size", "seed", "start"),
    [(0, 0, 1, 0, 0), (3, 2, 1, 0, 0), (3, 3, 0, 0, 0), (3, 3, 1, 0, -1), (3, 3, 1, -1, 0)],
)
def test_bad_arguments_are_refused_at_once(
    inputs: int, labels: int, batch_size: int, seed: int, start: int
):
    with pytest.raises(ValueError, match="expected"):
        batches(np.zeros(inputs), np.zeros(labels), batch_size, seed=seed, start=start)
