"""Laws that hold for every algorithm in the table."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
    line,
    make_neighbors,
    mean_over_peers,
    pick,
    random_tree,
    stack,
)
from laws_table import ALGORITHMS, AlgorithmCase

from gossipjax.mixing import Neighbors

KEYS = jax.random.split(jax.random.key(0), PEERS)


def every(*, where: Any = lambda case: True):
    """Parametrize over the algorithms of the table that promise something."""
    cases = [case for case in ALGORITHMS if where(case)]
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


class Compiled:
    """An algorithm, compiled once for single peers and once for rounds of a circle of them."""

    def __init__(self, case: AlgorithmCase):
        self.algorithm = case.make()
        self.traces = 0
        self.share = jax.jit(self.algorithm.share)
        self.mix = jax.jit(self._mix)
        self.round = jax.jit(self._round)
        self.links = line() if self.algorithm.needs.tree else circle(2)

    def start(self, params: Any) -> Any:
        return jax.vmap(self.algorithm.init)(params)

    def _mix(self, state: Any, params: Any, neighbors: Neighbors):
        self.traces += 1
        return self.algorithm.mix(state, params, neighbors)

    def _round(self, states: Any, params: Any, keys: jax.Array):
        payloads, states = jax.vmap(self.algorithm.share)(states, params, keys)
        return jax.vmap(self.algorithm.mix)(states, params, hear(payloads, self.links))


@functools.cache
def compiled(case: AlgorithmCase) -> Compiled:
    return Compiled(case)


def one_peer(case: AlgorithmCase, seed: int, filled: Any = None):
    """State, parameters and neighbors of a single peer."""
    it = compiled(case)
    params = random_tree(seed)
    payload, state = it.share(it.algorithm.init(params), params, KEYS[0])
    others = [random_tree(seed + 1 + slot) for slot in range(SLOTS)]
    shared = [it.share(it.algorithm.init(other), other, KEYS[0])[0] for other in others]
    payloads = stack(shared)
    assert_same_form(pick(payloads, 0), payload)
    return state, params, make_neighbors(payloads, seed, filled)


@pytest.mark.slow  # each operation by itself is a compilation; all other laws run under jit
@every()
def test_jit_equals_eager(case: AlgorithmCase):
    it = compiled(case)
    state, params, neighbors = jax.tree.map(jnp.asarray, one_peer(case, 1))
    assert_close(it.mix(state, params, neighbors), it.algorithm.mix(state, params, neighbors))
    assert_close(it.share(state, params, KEYS[1]), it.algorithm.share(state, params, KEYS[1]))


@every()
def test_vmap_equals_loop(case: AlgorithmCase):
    it = compiled(case)
    params = random_tree(2, PEERS)
    states = it.start(params)
    together = it.round(states, params, KEYS)

    shared = [it.share(pick(states, p), pick(params, p), KEYS[p]) for p in range(PEERS)]
    indices, weight = it.links
    for peer in (0, PEERS - 1):
        heard = [shared[other][0] for other in indices[peer]]
        payloads = stack(heard)
        neighbors = make_neighbors(payloads)._replace(
            weight=weight[peer].astype(np.float32), staleness=np.zeros(SLOTS, np.float32)
        )
        alone = it.mix(shared[peer][1], pick(params, peer), neighbors)
        assert_close(pick(together, peer), alone)
        if case.exact:
            assert_same(pick(together[0], peer), alone[0])


@every(where=lambda case: not case.ordered)
def test_order_of_slots_does_not_matter(case: AlgorithmCase):
    it = compiled(case)
    state, params, neighbors = one_peer(case, 3, filled=[True, False, True, True])
    order = np.array([3, 0, 2, 1])
    per_slot = pick(neighbors._replace(self_weight=()), order)
    permuted = per_slot._replace(self_weight=neighbors.self_weight)
    mixed, _, info = it.mix(state, params, neighbors)
    mixed_permuted, _, info_permuted = it.mix(state, params, permuted)
    assert_close(mixed_permuted, mixed)
    assert_close(info_permuted.weight, info.weight[order])


@every()
def test_consensus_is_a_fixed_point(case: AlgorithmCase):
    it = compiled(case)
    params = stack([random_tree(4)] * PEERS)
    mixed, states = params, it.start(params)
    for _ in range(3):
        mixed, states, _ = it.round(states, mixed, KEYS)
    assert_close(mixed, params)


@every()
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 3e38])
def test_empty_slots_never_matter(case: AlgorithmCase, garbage: float):
    it = compiled(case)
    filled = np.array([False, True, True, False])
    state, params, clean = one_peer(case, 5, filled)
    dirty = fill_slots(clean, ~filled, garbage)
    assert_same(it.mix(state, params, dirty), it.mix(state, params, clean))


@every()
def test_nothing_arrived_changes_nothing(case: AlgorithmCase):
    it = compiled(case)
    state, params, neighbors = one_peer(case, 6, filled=[False] * SLOTS)
    mixed, mixed_state, info = it.mix(state, params, neighbors)
    assert_close(mixed, params)
    if not it.algorithm.acts_alone:
        assert_same((mixed, mixed_state), (params, state))
    assert float(info.self_weight) == 1


@every(where=lambda case: case.exact_join and not any(case.make().needs))
def test_joiner_adopts_what_it_is_given(case: AlgorithmCase):
    it = compiled(case)
    donor, untrained = random_tree(7), random_tree(8, scale=1e3)
    gift, _ = it.share(it.algorithm.init(donor), donor, KEYS[0])
    neighbors = make_neighbors(stack([gift] * SLOTS), filled=np.arange(SLOTS) == 2)
    neighbors = neighbors._replace(self_weight=np.float32(0))
    mixed, state, info = it.mix(it.algorithm.init(untrained), untrained, neighbors)
    assert_close(mixed, donor)
    assert float(info.self_weight) == 0
    # What it was before is forgotten: from here on it does as the donor does.
    silence = make_neighbors(neighbors.payload, filled=[False] * SLOTS)
    _, donor_state, _ = it.mix(it.algorithm.init(donor), donor, silence)
    assert_close(it.share(state, mixed, KEYS[0])[0], it.share(donor_state, donor, KEYS[0])[0])


@every()
def test_weights_are_convex(case: AlgorithmCase):
    it = compiled(case)
    filled = np.array([False, True, True, True])
    _, _, info = it.mix(*one_peer(case, 7, filled))
    weights = np.append(info.weight, info.self_weight)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-5)
    assert not info.weight[~filled].any()


@every()
def test_one_compilation_for_any_number_of_arrivals(case: AlgorithmCase):
    it = compiled(case)
    for arrivals in range(SLOTS + 1):
        it.mix(*one_peer(case, arrivals, filled=np.arange(SLOTS) < arrivals))
    assert it.traces == 1


@every()
def test_forms_are_kept(case: AlgorithmCase):
    algorithm = compiled(case).algorithm
    with jax.enable_x64(True):
        params = jax.eval_shape(
            lambda: jax.tree.map(jnp.asarray, {**TEMPLATE, "wide": np.zeros(2, np.float64)})
        )
        state = jax.eval_shape(algorithm.init, params)
        payload, shared = jax.eval_shape(algorithm.share, state, params, KEYS[0])
        payloads = jax.tree.map(lambda leaf: np.zeros((SLOTS, *leaf.shape), leaf.dtype), payload)
        neighbors = make_neighbors(payloads)
        mixed, mixed_state, _ = jax.eval_shape(algorithm.mix, shared, params, neighbors)
    assert_same_form(mixed, params)
    assert_same_form(shared, state)
    assert_same_form(mixed_state, state)


@every(where=lambda case: case.mean)
def test_mean_over_the_network_is_preserved(case: AlgorithmCase):
    it = compiled(case)
    params = random_tree(8, PEERS)
    mixed, states = params, it.start(params)
    for _ in range(3):
        mixed, states, _ = it.round(states, mixed, KEYS)
    assert_close(mean_over_peers(mixed), mean_over_peers(params))


@every()
def test_converges_on_quadratics(case: AlgorithmCase):
    """Peer i minimizes |x - c_i|² / 2; all must end near the mean of the c_i."""
    it = compiled(case)
    targets = random_tree(9, PEERS)
    params = random_tree(10, PEERS)
    states = it.start(params)
    for step in range(150):
        rate = 0.5 * 0.97**step
        params = jax.tree.map(
            lambda x, c, rate=rate: (x - rate * (x - c)).astype(x.dtype), params, targets
        )
        params, states, _ = it.round(states, params, KEYS)
    goal = mean_over_peers(targets)["kernel"]
    np.testing.assert_allclose(params["kernel"], np.stack([goal] * PEERS), atol=0.1)
