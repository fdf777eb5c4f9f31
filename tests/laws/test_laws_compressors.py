"""Laws that hold for every compressor in the table."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws_inputs import PEERS, assert_close, assert_same, assert_same_form, overwrite, pick
from laws_table import COMPRESSORS, CompressorCase

KEYS = jax.random.split(jax.random.key(1), PEERS)
ZEROS = {
    "kernel": np.zeros((25, 40), np.float32),
    "nested": [np.zeros((), jnp.bfloat16), np.zeros((0, 3), np.float32)],
}


def tree(seed: int, *leading: int) -> Any:
    """Normal values in the form of ZEROS, with leading axes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: np.asarray(rng.standard_normal((*leading, *leaf.shape)), leaf.dtype), ZEROS
    )


def every(*, where: Any = lambda case: True):
    """Parametrize over the compressors of the table that promise something."""
    cases = [case for case in COMPRESSORS if where(case)]
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


class Compiled:
    """Compress and decompress again, compiled once."""

    def __init__(self, case: CompressorCase):
        self.compressor = case.make()
        self.traces = 0
        self.there_and_back = jax.jit(self._there_and_back)
        self.decompress = jax.jit(self.compressor.decompress)

    def _there_and_back(self, tree: Any, key: jax.Array):
        self.traces += 1
        state = self.compressor.init(tree)
        payload, state = self.compressor.compress(state, tree, key)
        return payload, self.compressor.decompress(payload, tree)


@functools.cache
def compiled(case: CompressorCase) -> Compiled:
    return Compiled(case)


@every()
def test_forms_are_kept_in_one_compilation(case: CompressorCase):
    it = Compiled(case)
    for seed in range(2):
        assert_same_form(it.there_and_back(tree(seed), KEYS[seed])[1], tree(seed))
    assert it.traces == 1


@pytest.mark.slow  # each operation by itself is a compilation
@every()
def test_jit_equals_eager(case: CompressorCase):
    it = compiled(case)
    whole = jax.tree.map(jnp.asarray, tree(2))
    eager, _ = it.compressor.compress(it.compressor.init(whole), whole, KEYS[2])
    assert_close(eager, it.there_and_back(whole, KEYS[2])[0])


@pytest.mark.slow  # one more compilation; the laws of algorithms hold the simulator to it, too
@every()
def test_vmap_equals_loop(case: CompressorCase):
    it = compiled(case)
    together = jax.jit(jax.vmap(it.there_and_back))(tree(3, PEERS), KEYS)
    for peer in (0, PEERS - 1):
        alone = it.there_and_back(pick(tree(3, PEERS), peer), KEYS[peer])
        assert_close(pick(together, peer), alone)
        if case.exact:
            assert_same(pick(together, peer), alone)


@every()
def test_zeros_are_told_as_zeros(case: CompressorCase):
    payload, decoded = compiled(case).there_and_back(ZEROS, KEYS[0])
    assert_same(decoded, ZEROS)
    nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), payload)
    assert_same(compiled(case).decompress(nothing, ZEROS), ZEROS)


@every()
def test_is_a_contraction(case: CompressorCase):
    trees, it = tree(3, PEERS), compiled(case)
    decoded = [it.there_and_back(pick(trees, p), KEYS[p])[1] for p in range(PEERS)]
    sent, told = trees["kernel"], np.stack([one["kernel"] for one in decoded])
    assert np.square(sent - told).sum() <= (1 - case.kept + 0.01) * np.square(sent).sum()
    assert np.abs(told).max() > 0


@every()
def test_any_payload_can_be_decompressed(case: CompressorCase):
    payload, decoded = compiled(case).there_and_back(tree(5), KEYS[0])
    garbage = jax.tree.map(lambda leaf: overwrite(leaf, True, np.nan), payload)
    assert_same_form(compiled(case).decompress(garbage, tree(5)), decoded)
    highest = jax.tree.map(lambda leaf: np.full(leaf.shape, 255, leaf.dtype), payload)
    assert_same_form(compiled(case).decompress(highest, tree(5)), decoded)


@every(where=lambda case: case.make().overlay is not None)
def test_what_is_told_alike_differs_by_nothing(case: CompressorCase):
    """An overlay leaves equal trees equal, and brings others nearer on the whole."""
    it = compiled(case)
    overlay = it.compressor.overlay
    assert overlay is not None
    theirs, near = tree(6), tree(7)["kernel"] / 16
    payload, _ = it.there_and_back(theirs, KEYS[1])
    laid = jax.jit(lambda base, payload: overlay(payload, base))
    assert_close(laid(theirs, payload), theirs)
    if case.exact:
        assert_same(laid(theirs, payload), theirs)
    base = {**theirs, "kernel": theirs["kernel"] + near}
    left = np.asarray(laid(base, payload)["kernel"]) - theirs["kernel"]
    if it.compressor.retell is None:
        nothing, _ = it.there_and_back(ZEROS, KEYS[2])
        assert np.abs(laid(theirs, nothing)["kernel"]).max() < 0.01
    if case.name not in ("int4", "int2"):  # there the noise of one payload is above the distance
        assert np.square(left).sum() < np.square(near).sum()
