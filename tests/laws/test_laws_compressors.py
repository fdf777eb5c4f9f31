"""Laws that hold for every compressor in the table."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws_inputs import (
    PEERS,
    TEMPLATE,
    assert_close,
    assert_same,
    assert_same_form,
    overwrite,
    pick,
    random_tree,
)
from laws_table import COMPRESSORS, CompressorCase

KEYS = jax.random.split(jax.random.key(1), PEERS)
every = pytest.mark.parametrize("case", COMPRESSORS, ids=[case.name for case in COMPRESSORS])


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


@every
def test_forms_are_kept_in_one_compilation(case: CompressorCase):
    it = compiled(case)
    for seed in range(3):
        tree = random_tree(seed)
        assert_same_form(it.there_and_back(tree, KEYS[seed])[1], tree)
    assert it.traces == 1


@pytest.mark.slow  # each operation by itself is a compilation
@every
def test_jit_equals_eager(case: CompressorCase):
    it = compiled(case)
    tree = jax.tree.map(jnp.asarray, random_tree(2))
    eager, _ = it.compressor.compress(it.compressor.init(tree), tree, KEYS[2])
    assert_close(eager, it.there_and_back(tree, KEYS[2])[0])


@every
def test_vmap_equals_loop(case: CompressorCase):
    trees = random_tree(3, PEERS)
    together = jax.vmap(compiled(case).there_and_back)(trees, KEYS)
    for peer in (0, PEERS - 1):
        alone = compiled(case).there_and_back(pick(trees, peer), KEYS[peer])
        assert_close(pick(together, peer), alone)
        if case.exact:
            assert_same(pick(together, peer), alone)


@every
def test_zeros_are_told_as_zeros(case: CompressorCase):
    payload, decoded = compiled(case).there_and_back(TEMPLATE, KEYS[0])
    assert_same(decoded, TEMPLATE)
    nothing = jax.tree.map(jnp.zeros_like, payload)
    assert_same(compiled(case).decompress(nothing, TEMPLATE), TEMPLATE)


@every
def test_is_a_contraction(case: CompressorCase):
    compressor = case.make()
    vector = jnp.asarray(random_tree(4, 1000)["kernel"][:, 0, 0])
    state = compressor.init(vector)

    def error(key: jax.Array) -> jax.Array:
        payload, _ = compressor.compress(state, vector, key)
        return jnp.square(vector - compressor.decompress(payload, vector)).sum()

    errors = jax.jit(jax.vmap(error))(jax.random.split(jax.random.key(2), 100))
    assert float(errors.mean()) <= (1 - case.kept + 0.01) * jnp.square(vector).sum()


@every
def test_any_payload_can_be_decompressed(case: CompressorCase):
    payload, decoded = compiled(case).there_and_back(random_tree(5), KEYS[0])
    garbage = jax.tree.map(lambda leaf: overwrite(leaf, True, np.nan), payload)
    assert_same_form(compiled(case).decompress(garbage, random_tree(5)), decoded)
