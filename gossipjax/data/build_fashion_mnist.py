"""Makes `files/fashion-mnist-12k/` from the files of the Debian package `dataset-fashion-mnist`.

    python -m gossipjax.data.build_fashion_mnist SOURCE_FOLDER

`SOURCE_FOLDER` holds the four `.gz` files, `/usr/share/datasets/fashion-mnist` once the package is
installed. `files/SOURCES.md` says what is kept of them.
"""

import hashlib
import lzma
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gossipjax.data.idx import format_idx, read_idx

SOURCE_SHA256 = {
    "train-images-idx3": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
"""Of each compressed file `<key>-ubyte.gz`."""
PER_CLASS = {"train": 1_200, "t10k": 200}
SEED = 0
OUTPUT = Path(__file__).parent / "files" / "fashion-mnist-12k"

# Measured on the 14,000 images: prediction from the left, upper or both neighbors (PNG's and
# JPEG-LS's filters) and pixel-by-pixel planes all come out larger than the plain bytes.
_FILTERS = [
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "dict_size": 2**24}
]


def choose_balanced(
    labels: npt.NDArray[np.uint8], per_class: int, seed: int
) -> npt.NDArray[np.int64]:
    """Sorted indices of `per_class` random samples of each class in `labels`.

    Raises:
        ValueError: a class has fewer.
    """
    # The legacy generator: the stream of the new one may change between versions of NumPy.
    random = np.random.RandomState(seed)
    chosen: list[npt.NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise ValueError(f"expected {per_class} samples of class {label}, got {len(members)}")
        chosen.append(random.permutation(members)[:per_class])
    return np.sort(np.concatenate(chosen))


def pack_subset(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], per_class: int, seed: int = SEED
) -> tuple[bytes, bytes]:
    """The two shipped files, xz of idx, with a balanced choice of `images` and their `labels`.

    The same arguments give the same bytes, as long as liblzma compresses the same way.
    """
    chosen = choose_balanced(labels, per_class, seed)
    images_file, labels_file = (
        lzma.compress(format_idx(array[chosen]), filters=_FILTERS) for array in (images, labels)
    )
    return images_file, labels_file


def read_pinned(path: Path, sha256: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in the idx file `path`. Raises ValueError if its hash is not `sha256`."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path}: expected sha256 {sha256}, got {digest}")
    return read_idx(path, dimensions)


def main() -> None:
    """Reads the folder given on the command line and writes the files in `OUTPUT`."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for part, per_class in PER_CLASS.items():
        names = [f"{part}-images-idx3", f"{part}-labels-idx1"]
        images, labels = (
            read_pinned(Path(sys.argv[1]) / f"{name}-ubyte.gz", SOURCE_SHA256[name], dimensions)
            for name, dimensions in zip(names, (3, 1), strict=True)
        )
        for name, packed in zip(names, pack_subset(images, labels, per_class), strict=True):
            path = OUTPUT / f"{name}-ubyte.xz"
            path.write_bytes(packed)
            print(f"{path}: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    main()
