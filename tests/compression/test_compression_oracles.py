"""Every compressor against its formula in NumPy with float64, on arrays of odd shapes."""

import functools
import math
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings

from gossipjax import compression
from gossipjax.compression import Compressor
from gossipjax.compression.load import load_compressor
from gossipjax.compression.packing import bits_for, pack_bits, packed_bytes, unpack_bits
from gossipjax.errors import RemoteProtocolError
from gossipjax.wire.tensors import check_values, manifest_of

SHAPES = {"one": (1,), "matrix": (5, 13), "long": (4099,), "tensor": (3, 4, 21)}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
KEY = jax.random.key(0)

quick = settings(max_examples=15)
seeds = st.integers(0, 2**31)
scales = st.sampled_from([1e-20, 1e-3, 1.0, 7.3e4, 1e18])

EVERY = [name for name in compression.NAMES if name not in ("fp16",)]


@functools.cache
def compiled(name: str) -> tuple[Compressor, Any]:
    compressor = getattr(compression, name)()

    def there_and_back(tree: Any, key: jax.Array):
        payload, _ = compressor.compress(compressor.init(tree), tree, key)
        return payload, compressor.decompress(payload, tree)

    return compressor, jax.jit(there_and_back)


def random_tree(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (scale * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def told(name: str, tree: Any, seed: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Payload by leaf, where there is one per leaf, and the decoded tree in float64."""
    payload, decoded = compiled(name)[1](tree, jax.random.key(seed))
    payload = jax.tree.map(np.asarray, payload)
    per_leaf = payload if isinstance(payload, tuple) and len(payload) == len(SHAPES) else ()
    by_leaf = dict(zip(sorted(SHAPES), per_leaf, strict=False))
    return by_leaf, {k: np.asarray(v, np.float64) for k, v in decoded.items()}


def nbytes(payload: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(payload))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 7, 8, 10, 12, 17, 32])
@pytest.mark.parametrize("count", [1, 8, 61])
def test_numbers_are_packed_without_gaps_and_come_back(bits: int, count: int):
    numbers = np.random.default_rng(bits).integers(0, 2**bits, count, dtype=np.uint32)
    packed = pack_bits(jnp.asarray(numbers), bits)
    assert packed.nbytes == packed_bytes(count, bits)
    assert packed.nbytes * 8 - count * bits < 32
    assert count % 8 or packed.nbytes == count * bits // 8
    np.testing.assert_array_equal(unpack_bits(packed, bits, count), numbers)


def test_the_order_of_packed_bits():
    numbers = jnp.array([1, 2, 3, 0, 1, 3])  # of two bits: m = 2, so rows 1 2 | 3 0 | 1 3 | - -
    expected = [1 | 3 << 2 | 1 << 4, 2 | 0 << 2 | 3 << 4]
    np.testing.assert_array_equal(pack_bits(numbers, 2), expected)
    assert [bits_for(count) for count in (1, 2, 3, 4096, 4097)] == [1, 1, 2, 12, 13]


def grid_bytes(size: int, bits: int, block: int) -> int:
    rows = 8 // bits
    row = -(-size // rows)
    return row + 2 * rows * -(-row // block) + 4


BYTES = {
    "bf16": lambda shape, size: 2 * size,
    "fp16": lambda shape, size: 2 * size,
    "int8": lambda shape, size: grid_bytes(size, 8, 64),
    "int4": lambda shape, size: grid_bytes(size, 4, 64),
    "int2": lambda shape, size: grid_bytes(size, 2, 32),
    "qsgd": lambda shape, size: packed_bytes(size, 8) + 4,  # 129 numbers
    "sign": lambda shape, size: grid_bytes(size, 1, 256) - 4,
    "random_k": lambda shape, size: 4 * math.ceil(0.01 * size) + 4,
    "dct": lambda shape, size: -(-size // 64) * 8 + packed_bytes(4 * -(-size // 64), 6),
    "low_rank": lambda shape, size: (
        min(4 * size, 4 * 2 * (size // shape[-1] + shape[-1])) if len(shape) > 1 else 4 * size
    ),
}


def sparse_bytes(size: int, share: float, value_bits: int) -> int:
    chunks = -(-size // 4096)
    length = -(-size // chunks)
    count = chunks * math.ceil(share * length)
    places = packed_bytes(count, bits_for(length))
    return places + (4 * count if value_bits == 32 else packed_bytes(count, 2) + 16)


BYTES["top_k"] = lambda shape, size: sparse_bytes(size, 0.01, 32)
BYTES["top_k_2bit"] = lambda shape, size: sparse_bytes(size, 1 / 64, 2)


@pytest.mark.parametrize("name", compression.NAMES)
def test_bytes_on_the_wire_are_those_of_the_formula(name: str):
    compressor, _ = compiled(name)
    tree = {k: jax.ShapeDtypeStruct(shape, jnp.float32) for k, shape in SHAPES.items()}
    payload, _ = jax.eval_shape(
        lambda tree, key: compressor.compress(compressor.init(tree), tree, key), tree, KEY
    )
    got = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(payload))
    if name == "fragments":
        assert got == 4 * sum(-(-size // 8) for size in SIZES.values()) + 4
    else:
        assert got == sum(BYTES[name](SHAPES[k], SIZES[k]) for k in SHAPES)


@pytest.mark.parametrize(("name", "bits", "block"), [("int8", 8, 64), ("int4", 4, 64)])
@quick
@given(seed=seeds, scale=scales)
def test_a_grid_is_off_by_half_a_step_at_most(name: str, bits: int, block: int, seed, scale):
    tree = random_tree(seed, scale)
    payload, decoded = told(name, tree, seed)
    for leaf, array in tree.items():
        rows, size = 8 // bits, array.size
        length = -(-size // rows)
        padded = np.zeros((rows, -(-length // block) * block))
        flat = np.concatenate([array.reshape(-1), np.zeros(rows * length - size)])
        padded[:, :length] = flat.reshape(rows, length)
        largest = np.abs(padded.reshape(rows, -1, block)).max(axis=2)
        scale_of_block = payload[leaf].scales.astype(np.float64).reshape(largest.shape)
        assert (scale_of_block >= largest).all()
        assert (scale_of_block <= largest * (1 + 2**-7)).all()
        step = np.repeat(2 * scale_of_block / (2**bits - 1), block, axis=1)[:, :length]
        error = np.abs(decoded[leaf] - array).reshape(-1)
        assert (error <= step.reshape(-1)[:size] * (0.5 + 2**-6)).all()


def test_a_grid_is_the_formula():
    """`code = ⌊(x + A) / s + u⌋` and `D = (code + ½ - u) s - A`, u from seed and place."""
    tree = random_tree(1)
    payload, decoded = told("int4", tree, 1)
    codes, scales_, seed = payload["long"]
    rows, length = 2, 2050
    blocks = -(-length // 64)
    flat = np.zeros((rows, blocks * 64))
    flat[:, :length] = np.append(tree["long"], 0).reshape(rows, length)
    extreme = np.repeat(scales_.astype(np.float64).reshape(rows, blocks), 64, axis=1)
    place = np.arange(flat.size, dtype=np.uint64).reshape(flat.shape)
    u = (((place * 0x9E3779B9 + int(seed)) % 2**32) >> 8).astype(np.float64) / 2**24
    step = 2 * extreme / 15
    code = np.floor((flat + extreme) / np.where(step > 0, step, 1) + u)
    code = np.clip(code, 0, 15).astype(int)
    np.testing.assert_array_equal(codes, (code[0] | code[1] << 4)[:length])
    expected = ((code + 0.5 - u) * step - extreme)[:, :length].reshape(-1)[:4099]
    np.testing.assert_allclose(decoded["long"], expected, atol=2e-6)


@pytest.mark.parametrize("name", ["int8", "int4", "int2"])
def test_grids_are_unbiased(name: str):
    """The mean over many seeds is x, to five standard errors of an error uniform on ± s / 2."""
    array = random_tree(2)["matrix"]
    compressor = compiled(name)[0]
    runs = 2000

    def once(key: jax.Array) -> jax.Array:
        payload, _ = compressor.compress((), array, key)
        return compressor.decompress(payload, array)

    mean = np.asarray(jax.jit(jax.vmap(once))(jax.random.split(KEY, runs)), np.float64).mean(axis=0)
    step = 2 * np.abs(array).max() * (1 + 2**-7) / (2 ** int(name[3:]) - 1)
    assert np.abs(mean - array).max() <= 5 * step / math.sqrt(12 * runs)


@quick
@given(seed=seeds, scale=scales)
def test_signs_are_told_with_the_mean_modulus(seed: int, scale: float):
    tree = random_tree(seed, scale)
    _, decoded = told("sign", tree)
    array = tree["tensor"].astype(np.float64).reshape(-1)
    length = -(-array.size // 8)  # one block per row of bits
    for row in range(8):
        part = array[row * length : (row + 1) * length]
        expected = np.where(part > 0, 1, -1) * np.abs(part).mean()
        got = decoded["tensor"].reshape(-1)[row * length : (row + 1) * length]
        np.testing.assert_allclose(got, expected, rtol=2**-8)


@pytest.mark.parametrize(("name", "share"), [("top_k", 0.01), ("top_k_2bit", 1 / 64)])
@quick
@given(seed=seeds)
def test_the_largest_of_each_chunk_are_told(name: str, share: float, seed: int):
    tree = random_tree(seed)
    _, decoded = told(name, tree)
    for leaf, array in tree.items():
        chunks = -(-array.size // 4096)
        length = -(-array.size // chunks)
        flat = np.append(array.reshape(-1), np.zeros(chunks * length - array.size))
        expected = np.zeros_like(flat)
        for start in range(0, flat.size, length):
            part = flat[start : start + length]
            places = start + np.argsort(-np.abs(part), kind="stable")[: math.ceil(share * length)]
            expected[places] = flat[places]
        if name == "top_k_2bit":
            kept = expected[expected != 0]
            large = np.abs(expected) > np.abs(kept).mean()
            for positive in (False, True):
                for is_large in (False, True):
                    of_bin = (expected != 0) & ((expected > 0) == positive) & (large == is_large)
                    if of_bin.any():
                        expected[of_bin] = expected[of_bin].mean()
        got = decoded[leaf].reshape(-1)
        np.testing.assert_allclose(got, expected[: array.size], rtol=1e-5)
        lost = np.square(array.reshape(-1) - got).sum()
        assert lost <= (1 - share) * np.square(array).sum() or array.size == 1


def test_each_coordinate_is_as_likely_to_be_drawn():
    array = np.ones(37, np.float32)
    compressor = compression.random_k(0.13)  # five of them
    runs = 4000

    def once(key: jax.Array) -> jax.Array:
        payload, _ = compressor.compress((), array, key)
        return compressor.decompress(payload, array)

    drawn = np.asarray(jax.jit(jax.vmap(once))(jax.random.split(KEY, runs)))
    assert set(np.unique(drawn)) == {0, 1}
    assert (drawn.sum(axis=1) == 5).all()
    expected = runs * 5 / 37
    assert np.abs(drawn.sum(axis=0) - expected).max() <= 4.5 * math.sqrt(expected * (1 - 5 / 37))


def test_the_strongest_frequencies_are_told():
    tree = random_tree(3)
    _, decoded = told("dct", tree)
    for leaf, array in tree.items():
        flat = np.append(array.reshape(-1), np.zeros(-array.size % 64)).reshape(-1, 64)
        spectrum = np.asarray(scipy.fft.dct(flat, norm="ortho", axis=1))
        threshold = np.sort(np.abs(spectrum), axis=1)[:, -4:-3]
        kept = np.where(np.abs(spectrum) >= threshold, spectrum, 0)
        expected = np.asarray(scipy.fft.idct(kept, norm="ortho", axis=1)).reshape(-1)[: array.size]
        np.testing.assert_allclose(decoded[leaf].reshape(-1), expected, atol=0.03)


def test_power_iteration_finds_the_strongest_directions():
    rng = np.random.default_rng(4)
    matrix = (3 * rng.standard_normal((30, 2)) @ rng.standard_normal((2, 20))).astype(np.float32)
    noisy = matrix + 0.1 * rng.standard_normal((30, 20)).astype(np.float32)
    compressor = compression.low_rank(2)
    state = compressor.init(noisy)
    start = np.asarray(state[0], np.float64)
    payload, basis = (), start
    for _ in range(4):
        payload, state = compressor.compress(state, jnp.asarray(noisy), KEY)
        basis, _ = np.linalg.qr(noisy.astype(np.float64) @ start)
        start = noisy.T @ basis
    decoded = np.asarray(compressor.decompress(payload, noisy))
    np.testing.assert_allclose(decoded, basis @ start.T, atol=1e-4)
    singular = np.linalg.svd(noisy, compute_uv=False)
    assert np.square(noisy - decoded).sum() <= 1.01 * np.square(singular[2:]).sum()


def test_fragments_tell_everything_in_turn():
    tree = random_tree(5)
    compressor = compression.fragments(8)
    state, total = compressor.init(tree), jax.tree.map(np.zeros_like, tree)
    for number in range(8):
        payload, state = compressor.compress(state, tree, KEY)
        assert int(payload.number) == number
        total = jax.tree.map(np.add, total, compressor.decompress(payload, tree))
    jax.tree.map(np.testing.assert_array_equal, total, tree)
    assert int(compressor.compress(state, tree, KEY)[0].number) == 0


@quick
@given(seed=seeds)
def test_what_is_told_with_feedback_adds_up(seed: int):
    """Σ D(q_t) + e_T = Σ x_t, exactly what error feedback is for; and nothing is 0."""
    compressor = compression.error_feedback(compression.top_k(0.2))
    rng = np.random.default_rng(seed)
    sent = rng.standard_normal((6, 20)).astype(np.float32)
    state, total = compressor.init(sent[0]), np.zeros(20)
    for row in sent:
        payload, state = compressor.compress(state, jnp.asarray(row), KEY)
        total += np.asarray(compressor.decompress(payload, row))
    np.testing.assert_allclose(total + state[0], sent.sum(axis=0), atol=1e-4)
    assert np.abs(total).max() > 0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_told_as_if_it_were(name: str, bad: float):
    """Unless it is left out, it makes a payload that no peer sends or takes."""
    tree = random_tree(6)
    tree["matrix"][2, 3] = bad
    payload, decoded = compiled(name)[1](tree, KEY)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(payload)]
    manifest = manifest_of({str(i): (x.shape, x.dtype.name) for i, x in enumerate(leaves)})
    is_told = not np.isfinite(np.asarray(decoded["matrix"])).all()
    assert is_told or name in ("random_k", "fragments")
    if is_told:
        with pytest.raises(RemoteProtocolError, match="NaN or infinity"):
            check_values(manifest, leaves, np.inf)
    np.testing.assert_array_equal(np.isfinite(np.asarray(decoded["long"])), True)


def test_a_grid_tells_what_is_next_to_nothing_as_nothing():
    tiny = np.full(64, 1e-35, np.float32)
    payload, _ = compression.int4().compress((), tiny, KEY)
    assert not np.asarray(compression.int4().decompress(payload, tiny)).any()


@pytest.mark.parametrize("name", ["int8", "int4", "int2"])
@pytest.mark.parametrize("size", [20_000, 19_997])
def test_large_arrays_take_blocks_that_fit_them(name: str, size: int):
    compressor = load_compressor(name)
    array = jax.random.normal(KEY, (size,))
    (payload,), _ = compressor.compress(compressor.init(array), array, KEY)
    rows = {"int8": 1, "int4": 2, "int2": 4}[name]
    length = -(-size // rows)
    limit = 32 if name == "int2" else 64
    fits = [b for b in range(limit, limit // 2, -1) if length % b == 0]
    block = fits[0] if fits else limit
    assert payload.scales.size == rows * -(-length // block)
    error = jnp.abs(compressor.decompress((payload,), array) - array)
    assert error.max() <= jnp.abs(array).max() * 1.01 / (2 ** (8 // rows) - 1)
