"""A training task as pure functions, and how a command line names one."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
import optax

from gossipjax.named import load_named
from gossipjax.types import Params

Batch = Mapping[str, npt.NDArray[Any]]
"""Arrays `[samples, …]` of equally many samples, by name."""

Metrics = Mapping[str, jax.Array]

Loss = Callable[[Params, Any, jax.Array], tuple[jax.Array, Metrics]]
"""`(params, batch, key) → (scalar, metrics)`: means over the batch's samples; the metrics are
scalars by name. `key` is for dropout and the like."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count` parts of a data set: what one peer has."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `INDEX/COUNT`, for instance `0/4`.

        Raises:
            ValueError: anything else, or an index that is not below the count.
        """
        index, separator, count = text.partition("/")
        if not (separator and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(
                f"a shard is INDEX/COUNT with INDEX from 0 to COUNT - 1, for instance 0/4; "
                f"got {text!r}"
            )
        return cls(int(index), int(count))


class PublicData(NamedTuple):
    """Training data that every peer has, so that anybody can redo anybody's steps.

    Attributes:
        size: samples.
        batch_size: samples per step.
        digest: SHA-256 over the samples; peers whose digests differ must not meet.
        take: `(indices [batch_size]) → batch` of these samples; the same on every machine.
    """

    size: int
    batch_size: int
    digest: bytes
    take: Callable[[npt.NDArray[np.int64]], Batch]


class Workload(NamedTuple):
    """What to train, on what. A peer and a simulator use it as it is.

    Attributes:
        init: `(key) → params`, a pytree of floating-point arrays; the same key gives the same
            parameters on every peer.
        loss: see `Loss`.
        batches: `(shard, seed, start) → iterator` of batches without end, all of one size;
            `start` is the number of batches to leave out, so that a resumed run goes on.
        evaluate: `(params) → {name: value}` on data that no peer trains on.
        optimizer: of the local steps; its state stays with the peer.
        public: all the training data, where they are public; None where peers have their own.
        compute_dtype: of the loss and its gradient; how exactly a step can be repeated.
    """

    init: Callable[[jax.Array], Params]
    loss: Loss
    batches: Callable[[Shard, int, int], Iterator[Batch]]
    evaluate: Callable[[Params], Mapping[str, float]]
    optimizer: optax.GradientTransformation
    public: PublicData | None = None
    compute_dtype: str = "float32"


def public_samples(arrays: Mapping[str, npt.NDArray[Any]], batch_size: int) -> PublicData:
    """Public data whose samples are the rows of these arrays.

    Raises:
        ValueError: arrays of different lengths, or empty ones.
    """
    sizes = {len(array) for array in arrays.values()}
    if len(sizes) != 1 or not all(sizes):
        raise ValueError(f"expected arrays of one length above 0, got lengths {sorted(sizes)}")
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)

    def take(indices: npt.NDArray[np.int64]) -> Batch:
        return {name: array[indices] for name, array in arrays.items()}

    return PublicData(sizes.pop(), batch_size, digest.digest(), take)


def load_workload(name: str, **options: Any) -> Workload:
    """The workload that a command line names.

    Args:
        name: one that comes with the package (`gossipjax.training.builtin.BUILTIN`), or
            `FILE.py:NAME` or `MODULE:NAME` of a `Workload` or of a function that returns one.
        **options: arguments of the function.

    Raises:
        ValueError: no such workload, or options that it does not take; the text says which.
    """
    from gossipjax.training.builtin import BUILTIN

    return load_named(Workload, name, BUILTIN, options)
