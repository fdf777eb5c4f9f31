"""A training task as pure functions, and how a command line names one."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
import optax

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

    if name in BUILTIN:
        return _call(name, BUILTIN[name], options)
    place, separator, attribute = name.rpartition(":")
    if not separator or not attribute.isidentifier():
        raise ValueError(
            f"there is no workload {name!r}: expected one of {', '.join(BUILTIN)}, or FILE.py:NAME "
            "or MODULE:NAME of a Workload or of a function that returns one"
        )
    module = _import_place(place)
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{place} has no {attribute!r}") from None
    if isinstance(found, Workload):
        if options:
            raise ValueError(f"{name} is no function, so it takes no options: {', '.join(options)}")
        return found
    return _call(name, found, options)


def _call(name: str, function: Any, options: Mapping[str, Any]) -> Workload:
    if not callable(function):
        raise ValueError(f"{name} is {type(function).__name__}; expected a Workload or a function")
    parameters = inspect.signature(function).parameters
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"{name}: {error}. Its options: {', '.join(parameters) or 'none'}"
        ) from None
    workload = function(**options)
    if not isinstance(workload, Workload):
        raise ValueError(f"{name} returned {type(workload).__name__}; expected a Workload")
    return workload


def _import_place(place: str) -> ModuleType:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not place.startswith(error.name):
                raise  # something that the module itself imports
            raise ValueError(
                f"there is no module {place!r}; a file is named with its .py"
            ) from None
    path = Path(place)
    if not path.is_file():
        raise ValueError(f"there is no file {place!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickling look a class's module up here
    spec.loader.exec_module(module)
    return module
