"""What worker threads do with payloads."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_peers import RUN, SUITE, new_identity

from gossipjax.errors import RemoteProtocolError
from gossipjax.runtime.mailbox import Outgoing
from gossipjax.runtime.work import inspect, seal, unpack_chunks
from gossipjax.wire.tensors import Manifest, manifest_of, pack, unpack

DTYPES = ["float32", "bfloat16", "float16", "float64", "int8", "bool", "uint16"]

SHAPES = st.lists(
    st.tuples(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(DTYPES)),
    min_size=1,
    max_size=6,
)


def tensors_of(manifest: Manifest, seed: int = 0) -> list[np.ndarray]:
    payload = np.random.default_rng(seed).integers(0, 2, manifest.nbytes, np.uint8)
    return unpack(manifest, payload.data)


@given(SHAPES, st.lists(st.integers(0, 400), max_size=6))
def test_chunks_cut_anywhere_give_the_tensors(shapes, cuts):
    shapes = [*shapes, ([3], "float32")]  # not empty
    manifest = manifest_of({str(i): (shape, dtype) for i, (shape, dtype) in enumerate(shapes)})
    expected = tensors_of(manifest)
    packed = bytes(pack(manifest, expected))
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    chunks = [packed[a:b] for a, b in itertools.pairwise(edges)]
    arrays = unpack_chunks(chunks, manifest)
    for array, other in zip(arrays, expected, strict=True):
        assert (array.shape, array.dtype) == (other.shape, other.dtype)
        assert array.tobytes() == other.tobytes()
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0 or not array.size


def test_what_is_sealed_passes_inspection_and_what_would_not_is_not_sealed():
    manifest = manifest_of({"w": ((600_000,), "float32"), "b": ((3,), "bfloat16")})
    arrays = [np.linspace(0, 1, 600_000, dtype=np.float32), tensors_of(manifest)[1]]

    def sealed(norm_max: float):
        return seal(
            Outgoing(lambda: arrays, 7, 3),
            5,
            manifest=manifest,
            norm_max=norm_max,
            run=RUN,
            identity=new_identity(),
            suite=SUITE,
        )[0]

    update = sealed(1e3)
    header = update.header.body
    assert (header.version, header.samples, header.sequence) == (7, 3, 5)
    chunks = [update.chunk(index) for index in range(3)]
    for got, given_array in zip(inspect(chunks, manifest, 1e3), arrays, strict=True):
        assert got.tobytes() == given_array.tobytes()
    with pytest.raises(RemoteProtocolError, match="norm"):
        inspect(chunks, manifest, 1.0)
    with pytest.raises(RemoteProtocolError, match="norm"):
        sealed(1.0)
    arrays[0][5] = np.nan
    with pytest.raises(RemoteProtocolError, match="nonfinite"):
        sealed(1e3)
    unchecked = sealed(math.inf)  # what an attacker's settings may do; others still refuse it
    with pytest.raises(RemoteProtocolError, match="nonfinite"):
        inspect([unchecked.chunk(index) for index in range(3)], manifest, math.inf)
