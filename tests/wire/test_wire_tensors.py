import hashlib
import math

import ml_dtypes
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gossipjax.errors import RemoteProtocolError
from gossipjax.wire import limits
from gossipjax.wire.tensors import (
    FLOATING,
    INTEGERS,
    Manifest,
    TensorSpec,
    check_values,
    manifest_of,
    numpy_dtype,
    pack,
    unpack,
)

DTYPES = sorted(FLOATING | INTEGERS)
shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
layouts = st.lists(st.tuples(shapes, st.sampled_from(DTYPES)), min_size=1, max_size=6)


def manifest_with(layout: list[tuple[tuple[int, ...], str]]) -> Manifest:
    return manifest_of({f"leaf{i}": spec for i, spec in enumerate(layout)})


# ---- round trips -------------------------------------------------------------------------------


@given(layouts.filter(lambda layout: any(math.prod(shape) for shape, _ in layout)), st.randoms())
def test_every_tree_comes_back_byte_for_byte(layout: list, random):
    manifest = manifest_with(layout)
    arrays = []
    for shape, dtype in layout:
        raw = random.randbytes(math.prod(shape) * numpy_dtype(dtype).itemsize)
        arrays.append(np.frombuffer(raw, numpy_dtype(dtype)).reshape(shape))
    packed = pack(manifest, arrays)
    assert bytes(packed) == b"".join(array.tobytes() for array in arrays)
    for array, back in zip(arrays, unpack(manifest, packed), strict=True):
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.tobytes() == array.tobytes()
        assert not back.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_of_every_dtype_come_back(dtype: str):
    manifest = manifest_of({"x": ((2, 2), dtype)})
    array = np.array([[0, 1], [1, 0]]).astype(numpy_dtype(dtype))
    (back,) = unpack(manifest, pack(manifest, [array]))
    np.testing.assert_array_equal(back, array)


def test_scalars_and_tensors_without_elements():
    manifest = manifest_of(
        {"none": ((0, 5), "float32"), "one": ((), "bfloat16"), "last": ((3, 0), "int64")}
    )
    arrays = [
        np.zeros((0, 5), np.float32),
        np.array(1.5, ml_dtypes.bfloat16),
        np.zeros((3, 0), int),
    ]
    packed = pack(manifest, arrays)
    assert packed == b"\xc0\x3f"
    assert [array.shape for array in unpack(manifest, packed)] == [(0, 5), (), (3, 0)]


def test_a_tensor_that_is_not_aligned_is_read_right():
    manifest = manifest_of({"odd": ((1,), "int8"), "x": ((2,), "float64")})
    arrays = [np.array([7], np.int8), np.array([1.5, -2.5])]
    _, x = unpack(manifest, pack(manifest, arrays))
    np.testing.assert_array_equal(x, arrays[1])


def test_big_endian_and_strided_arrays_are_packed_as_the_same_values():
    manifest = manifest_of({"x": ((2, 3), "float32")})
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    for array in (
        plain.astype(">f4"),
        np.asfortranarray(plain),
        np.repeat(plain, 2, axis=1)[:, ::2],
    ):
        assert pack(manifest, [array]) == plain.tobytes()


# ---- manifests ---------------------------------------------------------------------------------


def test_the_digest_is_of_names_shapes_and_dtypes_in_order():
    manifest = manifest_of({"w": ((2, 3), "float32"), "b": ((), "bfloat16")})
    encoded = msgspec.msgpack.encode([[["w", [2, 3], "float32"], ["b", [], "bfloat16"]]])
    assert manifest.digest == hashlib.sha256(b"gossipjax/v1/manifest\0" + encoded).digest()


@given(layouts, layouts)
def test_two_layouts_share_a_digest_only_when_equal(one: list, other: list):
    specs = [
        Manifest(
            tuple(TensorSpec(f"leaf{i}", shape, dtype) for i, (shape, dtype) in enumerate(layout))
        )
        for layout in (one, other)
    ]
    assert (specs[0].digest == specs[1].digest) == (one == other)


@pytest.mark.parametrize(
    "dtype", [">f4", "<f4", "complex64", "object", "O", "str", "float8_e4m3fn"]
)
def test_no_other_dtype_travels(dtype: str):
    with pytest.raises(ValueError, match="cannot travel"):
        manifest_of({"x": ((1,), dtype)})


def test_an_empty_payload_is_no_payload():
    for arrays in ({}, {"x": ((0, 3), "float32")}):
        with pytest.raises(ValueError, match="this one 0"):
            manifest_of(arrays)


@pytest.mark.parametrize("shape", [(2**32, 2**32), (2**63, 2), (2**16, 2**16, 2**16, 2**16)])
def test_shapes_that_overflow_64_bits_are_too_large(shape: tuple[int, ...]):
    assert math.prod(shape) >= 2**64
    with pytest.raises(ValueError, match="a payload has 1 to 68719476736 bytes"):
        manifest_of({"x": (shape, "int8")})


def test_the_largest_payload_is_64_gib():
    chunks = (limits.CHUNKS_MAX, limits.CHUNK_BYTES)
    assert manifest_of({"x": (chunks, "uint8")}).nbytes == 1 << 36
    with pytest.raises(ValueError, match="a payload has"):
        manifest_of({"x": (chunks, "uint8"), "y": ((1,), "uint8")})


def test_packing_other_arrays_than_the_manifests_is_an_error_of_the_caller():
    manifest = manifest_of({"x": ((2,), "float32")})
    with pytest.raises(ValueError, match="has 1 tensors, got 2"):
        pack(manifest, [np.zeros(2, np.float32)] * 2)
    for array in (np.zeros(3, np.float32), np.zeros((2, 1), np.float32), np.zeros(2)):
        with pytest.raises(ValueError, match=r"x: manifest says float32\[2\], got"):
            pack(manifest, [array])


# ---- what strangers send -----------------------------------------------------------------------

SMALL = manifest_of({"f": ((2,), "float32"), "i": ((3,), "int8"), "b": ((2,), "bool")})


@given(st.binary(max_size=30) | st.binary(min_size=SMALL.nbytes, max_size=SMALL.nbytes))
def test_any_bytes_are_values_or_refused(data: bytes):
    try:
        arrays = unpack(SMALL, data)
        norm = check_values(SMALL, arrays, norm_max=10.0)
    except RemoteProtocolError as error:
        refused_as = error.reason
    else:
        assert norm == pytest.approx(float(np.linalg.norm(arrays[0].astype(np.float64))))
        return
    expected = {"malformed", "nonfinite", "norm"} if len(data) == SMALL.nbytes else {"size"}
    assert refused_as in expected


@pytest.mark.parametrize("dtype", sorted(FLOATING))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 70_000, 99_999])
def test_a_value_that_is_not_finite_is_refused_wherever_it_is(dtype: str, value: float, place: int):
    manifest = manifest_of({"x": ((100_000,), dtype)})
    array = np.zeros(100_000, numpy_dtype(dtype))
    array[place] = value
    with pytest.raises(RemoteProtocolError, match="nonfinite: x has a NaN or infinity"):
        check_values(manifest, [array], norm_max=np.inf)


def test_the_norm_is_over_all_floating_tensors_and_no_others():
    manifest = manifest_of(
        {
            "a": ((2,), "float32"),
            "n": ((1,), "int64"),
            "b": ((), "bfloat16"),
            "e": ((0,), "float16"),
        }
    )
    arrays = [
        np.array([2, 4], np.float32),
        np.array([10**6]),
        np.array(4, ml_dtypes.bfloat16),
        np.zeros(0, np.float16),
    ]
    assert check_values(manifest, arrays, norm_max=6.0) == 6.0
    with pytest.raises(RemoteProtocolError, match=r"norm 6 is above the limit 5\.99"):
        check_values(manifest, arrays, norm_max=5.99)


def test_the_norm_does_not_overflow_in_float32():
    manifest = manifest_of({"x": ((3,), "float32")})
    array = np.full(3, np.finfo(np.float32).max)
    assert check_values(manifest, [array], norm_max=1e39) == pytest.approx(5.894e38, rel=1e-3)


def test_a_float64_too_large_to_square_is_refused():
    manifest = manifest_of({"x": ((1,), "float64")})
    with pytest.raises(RemoteProtocolError, match="nonfinite"):
        check_values(manifest, [np.array([1e200])], norm_max=np.inf)


def test_a_bool_is_0_or_1():
    manifest = manifest_of({"mask": ((), "bool"), "x": ((1,), "uint8")})
    assert check_values(manifest, unpack(manifest, b"\1\2"), norm_max=1.0) == 0.0
    with pytest.raises(RemoteProtocolError, match="malformed: mask has a bool"):
        check_values(manifest, unpack(manifest, b"\2\2"), norm_max=1.0)
