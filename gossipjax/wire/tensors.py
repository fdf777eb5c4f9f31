"""Trees of arrays to raw little-endian buffers and back, against the manifest of the run.

Nothing about a tensor is believed from the wire: names, shapes and dtypes come from the manifest
that every peer of a run computes for itself. Never pickle, npy or npz.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from gossipjax.errors import RemoteProtocolError
from gossipjax.wire import limits

FLOATING = {"float16", "bfloat16", "float32", "float64"}
INTEGERS = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}


class TensorSpec(msgspec.Struct, array_like=True, frozen=True):
    """Name, shape and dtype of one leaf."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements; Python integers, so it cannot overflow as `np.prod` does."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes on the wire."""
        return self.size * numpy_dtype(self.dtype).itemsize


class Manifest(NamedTuple):
    """The tensors of a payload, in their order on the wire."""

    tensors: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a payload."""
        return sum(spec.nbytes for spec in self.tensors)

    @property
    def digest(self) -> bytes:
        """32 bytes that two peers share exactly when their payloads fit each other."""
        return hashlib.sha256(b"gossipjax/v1/manifest\0" + msgspec.msgpack.encode(self)).digest()


@lru_cache  # asked for with every payload that comes
def numpy_dtype(name: str) -> np.dtype:
    """The little-endian numpy dtype of a manifest's dtype name.

    Raises:
        ValueError: the dtype cannot travel.
    """
    if name not in FLOATING | INTEGERS:
        raise ValueError(f"dtype {name} cannot travel; use one of {sorted(FLOATING | INTEGERS)}")
    if name == "bfloat16":
        import ml_dtypes  # part of every JAX installation; numpy alone has no bfloat16

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<")


def manifest_of(arrays: Mapping[str, tuple[Sequence[int], str]]) -> Manifest:
    """Manifest of named leaves `{name: (shape, dtype name)}`, in the mapping's order.

    Raises:
        ValueError: a dtype that cannot travel, or a payload that is empty or too large.
    """
    specs = tuple(
        TensorSpec(name, tuple(int(n) for n in shape), dtype)
        for name, (shape, dtype) in arrays.items()
    )
    manifest = Manifest(specs)
    bytes_max = limits.CHUNKS_MAX * limits.CHUNK_BYTES
    if not 1 <= manifest.nbytes <= bytes_max:
        raise ValueError(f"a payload has 1 to {bytes_max} bytes, this one {manifest.nbytes}")
    return manifest


def pack(manifest: Manifest, arrays: Sequence[np.ndarray]) -> memoryview:
    """Concatenate the arrays' little-endian bytes in the manifest's order.

    Raises:
        ValueError: the arrays are not those of the manifest.
    """
    if len(arrays) != len(manifest.tensors):
        raise ValueError(f"manifest has {len(manifest.tensors)} tensors, got {len(arrays)}")
    packed = np.empty(manifest.nbytes, np.uint8)  # bytearray would write zeros first
    offset = 0
    for spec, array in zip(manifest.tensors, arrays, strict=True):
        if array.shape != spec.shape or array.dtype.name != spec.dtype:
            raise ValueError(
                f"{spec.name}: manifest says {spec.dtype}{list(spec.shape)}, "
                f"got {array.dtype.name}{list(array.shape)}"
            )
        target = np.frombuffer(packed, numpy_dtype(spec.dtype), spec.size, offset)
        target.reshape(spec.shape)[...] = array
        offset += spec.nbytes
    return packed.data


def unpack(manifest: Manifest, packed: bytes | bytearray | memoryview) -> list[np.ndarray]:
    """Read-only views of the tensors in `packed`; no copy.

    Raises:
        RemoteProtocolError: (`size`) the number of bytes is not the manifest's.
    """
    if len(packed) != manifest.nbytes:
        raise RemoteProtocolError("size", f"manifest has {manifest.nbytes} B, got {len(packed)}")
    view = memoryview(packed).toreadonly()
    arrays: list[np.ndarray] = []
    offset = 0
    for spec in manifest.tensors:
        flat = np.frombuffer(view, numpy_dtype(spec.dtype), spec.size, offset)
        arrays.append(flat.reshape(spec.shape))
        offset += spec.nbytes
    return arrays


def check_values(manifest: Manifest, arrays: Sequence[np.ndarray], norm_max: float) -> float:
    """Refuse what no honest peer sends; returns the Euclidean norm over all floating tensors.

    The norm has the precision of float32 and the range of float64.

    Raises:
        RemoteProtocolError: (`malformed`) a byte of a bool that is neither 0 nor 1; (`nonfinite`) a
            NaN or infinity; (`norm`) norm above `norm_max`.
    """
    squares = 0.0
    for spec, array in zip(manifest.tensors, arrays, strict=True):
        if spec.dtype == "bool" and (array.reshape(-1).view(np.uint8) > 1).any():
            raise RemoteProtocolError("malformed", f"{spec.name} has a bool that is not 0 or 1")
        if spec.dtype not in FLOATING:
            continue
        partial = _sum_of_squares(array.reshape(-1))
        if not math.isfinite(partial):
            raise RemoteProtocolError("nonfinite", f"{spec.name} has a NaN or infinity")
        squares += partial
    norm = math.sqrt(squares)
    if norm > norm_max:
        raise RemoteProtocolError("norm", f"norm {norm:.6g} is above the limit {norm_max:.6g}")
    return norm


def _sum_of_squares(flat: np.ndarray) -> float:
    # In blocks that stay in the cache, in float32 as far as that goes: 20 times faster. Where it
    # overflows, float64 tells large from infinite. A float64 overflow deserves refusal too.
    total = 0.0
    block = 1 << 16
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, block):
            values = flat[start : start + block]
            if values.itemsize < 4:
                values = values.astype(np.float32)
            squares = float(values @ values)
            if not math.isfinite(squares):
                values = values.astype(np.float64)
                squares = float(values @ values)
            total += squares
    return total
