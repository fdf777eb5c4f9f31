"""The idx format of the MNIST files: big-endian header, then the elements in C order.

    two zero bytes · type (8 = uint8) · number of dimensions d · d sizes of 4 bytes · elements

Only uint8 is read and written; a file may be plain, gzip (`.gz`) or xz (`.xz`).
"""

import gzip
import lzma
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

MAX_ELEMENTS = 2**28
"""A header that states more is refused before anything is read; MNIST has 47 million pixels."""

_TYPE_UINT8 = 8
_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def parse_idx(stream: BinaryIO, dimensions: int, source: str = "idx data") -> npt.NDArray[np.uint8]:
    """The array in `stream`, read-only.

    At most one byte more is read than the header states, so a small file that decompresses to a
    huge one takes no more memory than `MAX_ELEMENTS`.

    Args:
        stream: the whole file, decompressed.
        dimensions: how many the array must have: 1 for labels, 3 for images.
        source: how to name the data in an error.

    Returns:
        uint8 array of the shape that the header states.

    Raises:
        ValueError: not idx, not uint8, another number of dimensions, too short, too long or more
            than `MAX_ELEMENTS`.
    """
    expected = bytes((0, 0, _TYPE_UINT8, dimensions))
    magic = stream.read(4)
    if magic != expected:
        raise ValueError(
            f"{source}: expected the magic {expected.hex()} of uint8 idx data with {dimensions} "
            f"dimension(s), got {magic.hex() or 'nothing'}; is it another file?"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(
            f"{source}: expected a header of {4 + 4 * dimensions} bytes, got {4 + len(sizes)}; "
            f"the file is cut off, get it again"
        )
    shape = struct.unpack(f">{dimensions}I", sizes)
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise ValueError(
            f"{source}: expected at most {MAX_ELEMENTS:,} elements, but the header states shape "
            f"{shape}; the file is damaged, get it again"
        )
    elements = stream.read(count + 1)
    if len(elements) != count:
        got = f"{len(elements):,}" if len(elements) < count else "more"
        raise ValueError(
            f"{source}: the header states shape {shape}, {count:,} elements, but there are {got}; "
            f"the file is cut off or damaged, get it again"
        )
    return np.frombuffer(elements, np.uint8).reshape(shape)


def format_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """The idx file that `parse_idx` reads back. Raises ValueError for a dtype other than uint8."""
    if array.dtype != np.uint8:
        raise ValueError(f"expected uint8 elements, got {array.dtype}")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, _TYPE_UINT8, array.ndim, *array.shape)
    return header + array.tobytes()


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in the file `path`, decompressed by its suffix. Raises as `parse_idx` does."""
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            return parse_idx(file, dimensions, str(path))
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"{path}: cannot be decompressed ({error}); the file is cut off or damaged, "
            f"get it again"
        ) from error
