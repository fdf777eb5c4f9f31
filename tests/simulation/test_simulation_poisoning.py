"""Attacks do what their formulas say, to attackers' payloads alone."""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gossipjax import topology
from gossipjax.mixing import Neighbors, weighted_mean
from gossipjax.simulation import poisoning
from gossipjax.simulation.poisoning import Attack

PEERS, LIARS = 9, np.array([0, 0, 1, 0, 0, 0, 1, 0, 1], bool)
RNG = np.random.default_rng(0)
PAYLOADS = {
    "kernel": RNG.normal(size=(PEERS, 3, 2)).astype(np.float32),
    "bias": RNG.normal(size=PEERS).astype(np.float32),
    "age": np.arange(PEERS, dtype=np.int32),
}
ATTACKS: dict[str, Callable[[], Attack]] = {
    "sign_flip": poisoning.sign_flip,
    "inner_product": poisoning.inner_product,
    "little_is_enough": lambda: poisoning.little_is_enough(1.5),
    "bit_flip": poisoning.bit_flip,
    "gaussian": poisoning.gaussian,
    "noise": poisoning.noise,
    "zeros": poisoning.zeros,
    "stale": lambda: poisoning.stale(3),
    "delayed": lambda: poisoning.delayed(2),
    "constant_direction": poisoning.constant_direction,
    "copycat": poisoning.copycat,
    "not_a_number": poisoning.not_a_number,
    "dissensus": poisoning.dissensus,
}


def tell(attack: Attack, payloads: Any = None, seed: int = 0) -> Any:
    given = jax.tree.map(jnp.asarray, PAYLOADS if payloads is None else payloads)
    return attack.tell(attack.init(given), given, jnp.asarray(LIARS), jax.random.key(seed))[0]


@pytest.mark.parametrize("name", ATTACKS)
def test_honest_payloads_and_integers_stay_as_they_are(name: str):
    told = tell(ATTACKS[name]())
    for leaf in PAYLOADS:
        assert told[leaf].dtype == PAYLOADS[leaf].dtype
        np.testing.assert_array_equal(told[leaf][~LIARS], PAYLOADS[leaf][~LIARS])
    np.testing.assert_array_equal(told["age"], PAYLOADS["age"])


@pytest.mark.parametrize("leaf", ["kernel", "bias"])
def test_formulas(leaf: str):
    honest, own = PAYLOADS[leaf][~LIARS], PAYLOADS[leaf][LIARS]
    mean, deviation = honest.mean(axis=0), honest.std(axis=0, ddof=1)
    expected = {
        "sign_flip": -mean + 0 * own,
        "inner_product": -0.1 * mean + 0 * own,
        "little_is_enough": mean - 1.5 * deviation + 0 * own,
        "bit_flip": -own,
        "zeros": 0 * own,
        "copycat": PAYLOADS[leaf][0] + 0 * own,
        "not_a_number": np.nan * own,
    }
    for name, lies in expected.items():
        told = tell(ATTACKS[name]())[leaf][LIARS]
        np.testing.assert_allclose(told, lies, atol=1e-5, err_msg=name)


def test_attackers_that_hold_nan_themselves_still_know_the_honest_mean():
    broken = jax.tree.map(np.copy, PAYLOADS)
    broken["bias"][LIARS] = np.nan
    told = tell(poisoning.sign_flip(), broken)
    np.testing.assert_allclose(told["bias"][LIARS], -PAYLOADS["bias"][~LIARS].mean(), atol=1e-6)


def test_noise_has_its_scale_and_follows_the_key():
    payloads = {"x": np.full((PEERS, 10_000), 5, np.float32)}
    for attack, center in ((poisoning.gaussian(2.0), 0), (poisoning.noise(2.0), 5)):
        told = np.asarray(tell(attack, payloads)["x"])[LIARS]
        assert abs(told.mean() - center) < 0.1
        assert abs(told.std() - 2) < 0.1
        assert np.abs(told[0] - told[1]).max() > 1
        assert np.abs(np.asarray(tell(attack, payloads, seed=1)["x"])[LIARS] - told).max() > 1


def test_a_stale_peer_tells_the_same_for_some_rounds():
    attack = poisoning.stale(3)
    state, seen = attack.init({"x": jnp.zeros(PEERS)}), []
    for step in range(7):
        payloads = {"x": jnp.full(PEERS, float(step))}
        told, state = attack.tell(state, payloads, jnp.asarray(LIARS), jax.random.key(0))
        seen.append((float(told["x"][2]), float(told["x"][0])))
    assert seen == [(0, 0), (0, 1), (0, 2), (3, 3), (3, 4), (3, 5), (6, 6)]


def test_delayed_peers_tell_what_they_held_before():
    attack = poisoning.delayed(2)
    state = attack.init({"x": jnp.zeros(PEERS)})
    told = []
    for value in range(1, 6):
        payloads = {"x": jnp.full(PEERS, float(value))}
        payloads, state = attack.tell(state, payloads, jnp.asarray(LIARS), jax.random.key(0))
        assert (payloads["x"][~LIARS] == value).all()
        told.append(float(payloads["x"][LIARS][0]))
    assert told == [1, 1, 1, 2, 3]


def test_the_constant_direction_is_long_and_constant():
    first, second = (
        tell(poisoning.constant_direction(10.0), payloads)["kernel"][LIARS]
        for payloads in (PAYLOADS, jax.tree.map(lambda leaf: leaf + leaf, PAYLOADS))
    )
    assert np.all(first == first[0])
    mean = PAYLOADS["kernel"][~LIARS].mean(axis=0)
    assert np.linalg.norm(first[0]) == pytest.approx(10 * np.linalg.norm(mean), rel=1e-4)
    np.testing.assert_allclose(second, 2 * first, rtol=1e-5)


def test_dissensus_undoes_the_mean_of_each_receiver():
    graph = topology.complete(PEERS)
    attack = poisoning.dissensus(1.0)
    assert attack.tell_each is not None
    told = {"x": jnp.asarray(PAYLOADS["kernel"]), "age": jnp.asarray(PAYLOADS["age"])}
    heard = Neighbors(
        payload=jax.tree.map(lambda leaf: leaf[graph.neighbors[0]], told),
        weight=jnp.asarray(graph.weight[0], jnp.float32),
        staleness=jnp.zeros((PEERS, PEERS - 1)),
        slot_is_new=jnp.ones((PEERS, PEERS - 1), bool),
        self_weight=jnp.asarray(graph.self_weight[0], jnp.float32),
    )
    is_liar = LIARS[graph.neighbors[0]]
    lies = jax.vmap(attack.tell_each)(told, heard, jnp.asarray(is_liar))
    np.testing.assert_array_equal(lies["age"], heard.payload["age"])
    np.testing.assert_array_equal(lies["x"][~is_liar], heard.payload["x"][~is_liar])
    mixer = weighted_mean()
    mixed, _, _ = jax.vmap(mixer.mix, in_axes=(None, 0, 0))(
        (), told["x"], heard._replace(payload=lies["x"])
    )
    np.testing.assert_allclose(mixed, told["x"], atol=1e-6)


def test_z_max_leaves_just_enough_honest_ones_beyond_it():
    for peers, byzantine in ((26, 5), (50, 24), (11, 1)):
        honest, supporters = peers - byzantine, peers // 2 + 1 - byzantine
        beyond = honest * (1 - NormalDist().cdf(poisoning.z_max(peers, byzantine)))
        assert beyond == pytest.approx(supporters)
    for byzantine in (0, 14, 26):
        with pytest.raises(ValueError, match="choose z yourself"):
            poisoning.z_max(26, byzantine)


def test_flipped_labels():
    np.testing.assert_array_equal(poisoning.label_flip(jnp.arange(10), 10), np.arange(10)[::-1])
