import gzip
import io
import lzma
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.data.idx import MAX_ELEMENTS, format_idx, parse_idx, read_idx

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    fill=st.integers(0, 255),
)
def test_what_is_formatted_is_parsed_again(shape: list[int], fill: int):
    array = np.full(shape, fill, np.uint8)
    parsed = parse_idx(io.BytesIO(format_idx(array)), array.ndim)
    np.testing.assert_array_equal(parsed, array)
    assert not parsed.flags.writeable


def test_header_is_big_endian_and_elements_are_in_c_order():
    expected = bytes.fromhex("00000803 00000002 00000003 00000004") + bytes(range(24))
    assert format_idx(IMAGES) == expected


def test_other_dtypes_are_not_formatted():
    with pytest.raises(ValueError, match="expected uint8 elements, got int64"):
        format_idx(np.zeros(3, np.int64))  # pyright: ignore[reportArgumentType]


@given(data=st.binary(max_size=60), dimensions=st.sampled_from([1, 3]))
def test_any_bytes_give_an_array_or_a_value_error(data: bytes, dimensions: int):
    try:
        array = parse_idx(io.BytesIO(data), dimensions)
    except ValueError:
        return
    assert format_idx(array) == data


@given(cut=st.integers(0, len(format_idx(IMAGES)) - 1))
def test_cut_data_is_refused(cut: int):
    with pytest.raises(ValueError, match="file"):
        parse_idx(io.BytesIO(format_idx(IMAGES)[:cut]), 3)


@pytest.mark.parametrize(
    ("data", "dimensions", "text"),
    [
        (b"", 1, "got nothing"),
        (b"\x89PNG\r\n", 3, "expected the magic 00000803 .* got 89504e47"),
        (format_idx(IMAGES), 1, "with 1 dimension"),
        (bytes((0, 0, 13, 3)) + bytes(12), 3, "got 00000d03"),  # 13: float32
        (format_idx(IMAGES) + b"x", 3, "24 elements, but there are more"),
        (format_idx(IMAGES)[:-1], 3, "24 elements, but there are 23"),
        (format_idx(IMAGES)[:9], 3, "header of 16 bytes, got 9"),
    ],
)
def test_error_says_what_is_wrong(data: bytes, dimensions: int, text: str):
    with pytest.raises(ValueError, match=f"my file: .*{text}"):
        parse_idx(io.BytesIO(data), dimensions, "my file")


def test_header_that_states_too_much_is_refused():
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", *[2**32 - 1] * 3)
    with pytest.raises(ValueError, match=f"at most {MAX_ELEMENTS:,} elements"):
        parse_idx(io.BytesIO(header), 3)


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".xz", lzma.open)])
def test_file_that_decompresses_to_too_much_is_not_read_whole(tmp_path: Path, suffix: str, opener):
    path = tmp_path / f"bomb{suffix}"
    with opener(path, "wb") as file:
        file.write(format_idx(IMAGES))
        for _ in range(64):
            file.write(bytes(2**20))
    # What remains is the decompressor's dictionary, 8 MiB for xz.
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="there are more"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("suffix", "compress"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_files_are_decompressed_by_suffix(tmp_path: Path, suffix: str, compress):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(compress(format_idx(IMAGES)))
    np.testing.assert_array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_compressed_files_are_named(tmp_path: Path, suffix: str, compress):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(9, 28, 28), dtype=np.uint8)
    whole = compress(format_idx(images))
    path = tmp_path / f"images{suffix}"
    positions = [int(position) for position in rng.integers(len(whole), size=40)]
    flipped = [
        whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
        for position in positions
    ]
    for damaged in [b"", b"plain", *[whole[:position] for position in positions], *flipped]:
        path.write_bytes(damaged)
        try:
            array = read_idx(path, 3)
        except ValueError as error:
            text = str(error)
        else:  # gzip's header has a time stamp and a system, which say nothing about the content
            np.testing.assert_array_equal(array, images)
            continue
        assert text.startswith(f"{path}: ")
