"""Laws that hold for every mixer in the table."""

import functools
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from laws_inputs import (
    PEERS,
    SLOTS,
    TEMPLATE,
    assert_close,
    assert_same,
    assert_same_form,
    circle,
    fill_slots,
    hear,
    make_neighbors,
    mean_over_peers,
    pick,
    random_tree,
    stack,
)
from laws_table import MIXERS, MixerCase

from gossipjax.mixing import Neighbors

quick = settings(max_examples=10)
seeds = st.integers(0, 2**31)
masks = st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS)


def every(*, where: Any = lambda case: True):
    """Parametrize over the mixers of the table that promise something."""
    cases = [case for case in MIXERS if where(case)]
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


class Compiled:
    """A mixer, compiled once for single peers and once for a circle of them."""

    def __init__(self, case: MixerCase):
        self.mixer = case.make()
        self.traces = 0
        self.mix = jax.jit(self._mix)
        self.mix_all = jax.jit(jax.vmap(self.mixer.mix))
        self.state = self.mixer.init(TEMPLATE)
        self.states = jax.vmap(self.mixer.init)(random_tree(0, PEERS))

    def _mix(self, state: Any, params: Any, neighbors: Neighbors):
        self.traces += 1
        return self.mixer.mix(state, params, neighbors)


@functools.cache
def compiled(case: MixerCase) -> Compiled:
    return Compiled(case)


@pytest.mark.slow  # each operation by itself is a compilation; all other laws run under jit
@every()
def test_jit_equals_eager(case: MixerCase):
    it = compiled(case)
    params, neighbors = jax.tree.map(
        jnp.asarray, (random_tree(1), make_neighbors(random_tree(2, SLOTS)))
    )
    assert_close(it.mix(it.state, params, neighbors), it.mixer.mix(it.state, params, neighbors))


@every()
def test_parameters_may_be_one_scalar(case: MixerCase):
    mixer = compiled(case).mixer
    others = np.linspace(0, 1, SLOTS, dtype=np.float32)
    own, neighbors = jax.tree.map(jnp.asarray, (np.float32(0.45), make_neighbors(others)))
    mixed, _, _ = jax.eval_shape(mixer.mix, mixer.init(own), own, neighbors)
    assert (mixed.shape, mixed.dtype) == ((), jnp.float32)


@every()
def test_vmap_equals_loop(case: MixerCase):
    it = compiled(case)
    params = random_tree(4, PEERS)
    neighbors = hear(params, circle(2))
    together = it.mix_all(it.states, params, neighbors)
    for peer in (0, PEERS - 1):
        alone = it.mix(*pick((it.states, params, neighbors), peer))
        assert_close(pick(together, peer), alone)
        if case.exact:
            assert_same(pick(together[0], peer), alone[0])


@every()
@quick
@given(seed=seeds, filled=masks, order=st.permutations(range(SLOTS)))
def test_order_of_slots_does_not_matter(case, seed, filled, order):
    it = compiled(case)
    params, neighbors = (
        random_tree(seed),
        make_neighbors(random_tree(seed + 1, SLOTS), seed, filled),
    )
    order = np.asarray(order)
    per_slot = pick(neighbors._replace(self_weight=()), order)
    permuted = per_slot._replace(self_weight=neighbors.self_weight)
    mixed, _, info = it.mix(it.state, params, neighbors)
    mixed_permuted, _, info_permuted = it.mix(it.state, params, permuted)
    assert_close(mixed_permuted, mixed)
    assert_close(info_permuted.weight, info.weight[order])


@every()
@quick
@given(seed=seeds, filled=masks)
def test_consensus_is_a_fixed_point(case, seed, filled):
    it = compiled(case)
    params = random_tree(seed)
    copies = stack([params] * SLOTS)
    mixed, _, _ = it.mix(it.state, params, make_neighbors(copies, seed, filled))
    assert_same(mixed, params)


@every()
@quick
@given(seed=seeds, filled=masks, garbage=st.sampled_from([np.nan, np.inf, -np.inf, 3e38]))
def test_empty_slots_never_matter(case, seed, filled, garbage):
    it = compiled(case)
    params, clean = random_tree(seed), make_neighbors(random_tree(seed + 1, SLOTS), seed, filled)
    empty = ~np.asarray(filled)
    dirty = fill_slots(clean, empty, garbage)
    dirty = dirty._replace(staleness=np.where(empty, np.float32(garbage), clean.staleness))
    assert_same(it.mix(it.state, params, dirty), it.mix(it.state, params, clean))


@every()
def test_nothing_arrived_changes_nothing(case: MixerCase):
    it = compiled(case)
    params = random_tree(5)
    silence = make_neighbors(random_tree(6, SLOTS), filled=[False] * SLOTS)
    for self_weight in (1.0, 0.0):
        alone = silence._replace(self_weight=np.float32(self_weight))
        mixed, _, info = it.mix(it.state, params, alone)
        assert_same(mixed, params)
        assert float(info.self_weight) == 1


@every()
def test_joiner_adopts_what_it_is_given(case: MixerCase):
    it = compiled(case)
    payloads = random_tree(7, SLOTS)
    gift = make_neighbors(payloads, filled=np.arange(SLOTS) == 2)
    gift = gift._replace(self_weight=np.float32(0))
    untrained = jax.tree.map(lambda leaf: leaf * leaf.dtype.type(np.nan), random_tree(8))
    mixed, _, info = it.mix(it.state, untrained, gift)
    assert_close(mixed, pick(payloads, 2))
    assert float(info.self_weight) == 0


@every()
@quick
@given(seed=seeds, filled=masks)
def test_weights_are_convex(case, seed, filled):
    it = compiled(case)
    neighbors = make_neighbors(random_tree(seed, SLOTS), seed, filled)
    _, _, info = it.mix(it.state, random_tree(seed + 1), neighbors)
    weights = np.append(info.weight, info.self_weight)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-5)
    assert not info.weight[~np.asarray(filled)].any()


@every()
def test_one_compilation_for_any_number_of_arrivals(case: MixerCase):
    it = compiled(case)
    state, params = it.state, random_tree(9)
    for arrivals in range(SLOTS + 1):
        neighbors = make_neighbors(random_tree(arrivals, SLOTS), filled=np.arange(SLOTS) < arrivals)
        params, state, _ = it.mix(state, params, neighbors)
    assert it.traces == 1


@every()
def test_forms_are_kept(case: MixerCase):
    mixer = compiled(case).mixer
    with jax.enable_x64(True):
        wide = {**TEMPLATE, "wide": np.zeros(2, np.float64)}
        params = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, wide))
        payload = stack([wide] * SLOTS)
        state = jax.eval_shape(mixer.init, params)
        mixed, new_state, info = jax.eval_shape(mixer.mix, state, params, make_neighbors(payload))
    assert_same_form(mixed, params)
    assert_same_form(new_state, state)
    assert (info.weight.shape, info.self_weight.shape) == ((SLOTS,), ())
    assert info.weight.dtype == info.self_weight.dtype == jnp.float32


@every()
def test_mixing_brings_peers_together(case: MixerCase):
    it = compiled(case)
    params = random_tree(10, PEERS)
    mixed, _, _ = it.mix_all(it.states, params, hear(params, circle(2)))
    assert _spread(mixed) < 0.9 * _spread(params)


@every(where=lambda case: case.mean)
def test_mean_over_the_network_is_preserved(case: MixerCase):
    it = compiled(case)
    params = random_tree(11, PEERS)
    mixed, _, _ = it.mix_all(it.states, params, hear(params, circle(1)))
    assert_close(mean_over_peers(mixed), mean_over_peers(params))


@every(where=lambda case: case.faults)
@quick
@given(
    seed=seeds,
    faulty=st.permutations(range(SLOTS)),
    garbage=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -1e30, 1e18, 1e6]),
)
def test_far_faults_do_no_harm(case, seed, faulty, garbage):
    mixed, honest = _attacked(case, seed, faulty[: case.faults], garbage)
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(mixed))
    if case.hull:
        _assert_in_hull(mixed, honest)
    elif case.moves_at_most is None:
        inputs, center = _rows(honest), _rows(jax.tree.map(lambda leaf: leaf[None], mixed))
        diameter = max(np.linalg.norm(inputs - row, axis=1).max() for row in inputs)
        assert np.linalg.norm(inputs - center, axis=1).max() <= 2 * diameter


@every(where=lambda case: case.hull == "always")
@quick
@given(seed=seeds, faulty=st.permutations(range(SLOTS)), garbage=st.floats(-3, 3))
def test_result_stays_in_the_hull_of_the_honest(case, seed, faulty, garbage):
    mixed, honest = _attacked(case, seed, faulty[: case.faults], garbage)
    _assert_in_hull(mixed, honest)


@every(where=lambda case: case.moves_at_most is not None)
@quick
@given(seed=seeds, scale=st.sampled_from([1e-3, 1.0, 1e3, 1e18]))
def test_parameters_move_at_most_so_far(case, seed, scale):
    it = compiled(case)
    params = random_tree(seed)
    neighbors = make_neighbors(random_tree(seed + 1, SLOTS, scale=scale), seed)
    mixed, _, _ = it.mix(it.state, params, neighbors)
    old, new = (_rows(jax.tree.map(lambda leaf: leaf[None], tree)) for tree in (params, mixed))
    moved = np.linalg.norm(new - old)
    assert moved <= case.moves_at_most + 0.02  # the parameters are rounded to bfloat16


def _attacked(case: MixerCase, seed: int, faulty: list[int], garbage: float):
    it = compiled(case)
    params, payload = random_tree(seed), random_tree(seed + 1, SLOTS)
    is_faulty = np.isin(np.arange(SLOTS), faulty)
    neighbors = fill_slots(make_neighbors(payload, seed), is_faulty, garbage)
    mixed, _, _ = it.mix(it.state, params, neighbors)
    honest = jax.tree.map(
        lambda own, stacked: np.concatenate([own[None], stacked[~is_faulty]]), params, payload
    )
    return mixed, honest


def _assert_in_hull(mixed: Any, honest: Any) -> None:
    for value, inputs in zip(jax.tree.leaves(mixed), jax.tree.leaves(honest), strict=True):
        value, inputs = np.asarray(value, np.float64), np.asarray(inputs, np.float64)
        rounding = 0.01 * np.abs(inputs).max()  # of bfloat16
        assert (value >= inputs.min(axis=0) - rounding).all()
        assert (value <= inputs.max(axis=0) + rounding).all()


def _rows(stacked: Any) -> np.ndarray:
    """The entries of the leading axis as flat float64 vectors."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(stacked)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def _spread(params: Any) -> float:
    rows = _rows(params)
    return np.square(rows - rows.mean(axis=0)).sum()
