"""Endless mini-batches of a shard, the same again from any step on."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gossipjax.data.rng import stable_random


def batches(
    inputs: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Batches without end: one reshuffled epoch after the other, cut into equal pieces.

    A batch may begin in one epoch and end in the next, and holds samples repeatedly where the shard
    is smaller than the batch; so after any number of batches each sample was used equally often, up
    to one. The order of epoch e depends on (`seed`, e) alone: starting late costs no more than
    starting at 0.

    Args:
        inputs: `[n, ...]`.
        labels: `[n, ...]`.
        batch_size: samples in every batch.
        seed: at least 0; decides the order.
        start: number of batches to leave out, for a resumed run: the steps that it has done.

    Returns:
        Iterator of {"inputs": `[batch_size, ...]`, "labels": `[batch_size, ...]`}, copies.

    Raises:
        ValueError: no samples, not as many labels as inputs, batch size below 1, start or seed
            below 0.
    """
    if not 0 < len(inputs) == len(labels):
        raise ValueError(
            f"expected as many inputs as labels and some, got {len(inputs)} and {len(labels)}"
        )
    if batch_size < 1 or start < 0 or seed < 0:
        raise ValueError(
            f"expected batch_size of at least 1, start and seed of at least 0, "
            f"got {batch_size}, {start} and {seed}"
        )
    return (
        {"inputs": inputs[chosen], "labels": labels[chosen]}
        for chosen in _batch_indices(len(inputs), batch_size, seed, start)
    )


def _batch_indices(
    size: int, batch_size: int, seed: int, start: int
) -> Iterator[npt.NDArray[np.int64]]:
    first_epoch, offset = divmod(start * batch_size, size)
    epochs = (
        stable_random(seed, epoch).permutation(size) for epoch in itertools.count(first_epoch)
    )
    pending = next(epochs)[offset:]
    while True:
        while len(pending) < batch_size:
            pending = np.concatenate([pending, next(epochs)])
        yield pending[:batch_size]
        pending = pending[batch_size:]
