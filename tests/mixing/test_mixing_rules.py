"""What single rules do in the cases that the laws and the oracles leave out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gossipjax.mixing import (
    Mixer,
    Neighbors,
    balance,
    centered_clip,
    chain,
    clip_distance,
    constant_decay,
    discount_staleness,
    drop_farthest,
    exponential_decay,
    geometric_median,
    hinge_decay,
    krum,
    metropolis_weights,
    multi_krum,
    nearest_neighbors,
    polynomial_decay,
    trimmed_mean,
    ubar,
    weigh_by_age,
    weighted_mean,
)


def hear(*values: Any, weight: Any = None, self_weight: float = 1.0) -> Neighbors:
    """Slots with the given payloads; None marks an empty one."""
    payload = jnp.asarray([np.nan if value is None else value for value in values], jnp.float32)
    full = np.array([value is not None for value in values], np.float32)
    weight = jnp.asarray(full if weight is None else weight, jnp.float32)
    return Neighbors(payload, weight, jnp.zeros(len(values)), weight > 0, jnp.float32(self_weight))


def mix(mixer: Mixer, own: float, neighbors: Neighbors) -> float:
    params = jnp.float32(own)
    return float(compiled(mixer)(mixer.init(params), params, neighbors)[0])


@functools.cache
def compiled(mixer: Mixer) -> Callable[..., Any]:
    return jax.jit(mixer.mix)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (constant_decay(), [1, 1, 1]),
        (polynomial_decay(0.5), [1, 0.5, 0.25]),
        (polynomial_decay(1, unit=3), [1, 0.5, 1 / 6]),
        (exponential_decay(0.1), [1, np.exp(-0.3), np.exp(-1.5)]),
        (hinge_decay(10, 4), [1, 1, 1 / 111]),
    ],
)
def test_decays_follow_their_formulas(decay, expected):
    np.testing.assert_allclose(decay(jnp.array([0.0, 3.0, 15.0])), expected, rtol=1e-6)


def test_a_joiner_gets_the_mean_of_what_arrived():
    neighbors = hear(2.0, None, 6.0, weight=[1, 0, 3], self_weight=0)
    for mixer in (weighted_mean(), chain(clip_distance(0.1), weighted_mean()), trimmed_mean(1)):
        assert mix(mixer, np.nan, neighbors) == 5


@pytest.mark.parametrize(
    ("mixer", "arrivals"),
    [
        (trimmed_mean(1), 1),
        (krum(0), 1),
        (krum(1), 3),
        (nearest_neighbors(weighted_mean(), byzantine=2), 3),
        (chain(drop_farthest(2), weighted_mean()), 2),
        (chain(clip_distance(byzantine=2), weighted_mean()), 2),
    ],
)
def test_own_parameters_stay_while_too_little_arrives(mixer, arrivals):
    """And one more payload is enough."""
    payloads = [1.5, 1.45, 1.55, 1.475]
    few = payloads[:arrivals] + [None] * (6 - arrivals)
    assert mix(mixer, 1.0, hear(*few)) == 1.0
    few[arrivals] = payloads[arrivals]
    assert mix(mixer, 1.0, hear(*few)) != 1.0


def test_geometric_median_of_two_to_one_is_where_the_majority_is():
    assert mix(geometric_median(), 1.0, hear(1.0, 100.0)) == pytest.approx(1, abs=1e-3)
    assert mix(geometric_median(), 1.0, hear(9.0, 9.0, weight=[3, 3])) == pytest.approx(9, abs=1e-3)


def test_one_iteration_of_centered_clip_is_clipped_gossip():
    neighbors = hear(1.5, -8.0, None, 20.0, weight=[1, 2, 0, 0.5])
    clipped = mix(chain(clip_distance(2.0), weighted_mean()), 1.0, neighbors)
    assert mix(centered_clip(2.0, iterations=1), 1.0, neighbors) == pytest.approx(clipped)


def test_adaptive_clipping_ignores_a_payload_that_is_not_finite():
    mixer = chain(clip_distance(byzantine=1), weighted_mean())
    assert mix(mixer, 0.0, hear(np.inf, 1.0, 3.0)) == pytest.approx((0 + 0 + 1 + 1) / 4)


def test_metropolis_weights_follow_the_formula():
    neighbors = hear(1.0, None, 2.0)
    weighed = metropolis_weights(neighbors, jnp.float32(2), jnp.array([1.0, 9.0, 5.0]))
    np.testing.assert_allclose(weighed.weight, [1 / 3, 0, 1 / 6])
    np.testing.assert_allclose(weighed.self_weight, 0.5)
    joiner = metropolis_weights(
        neighbors._replace(self_weight=jnp.float32(0)), jnp.float32(2), jnp.array([1.0, 9.0, 5.0])
    )
    assert joiner.self_weight == 0


@pytest.mark.parametrize(
    ("age", "other", "limit", "expected"),
    [
        (10, 30, np.inf, 7.0),
        (10, 30, 20, 7.0),
        (10, 30, 19, 9.0),
        (30, 10, 19, 1.0),
        (0, 0, 5, 1.0),
    ],
)
def test_merging_by_age(age, other, limit, expected):
    """Own model 1, the other 9: averaged by age unless one is ahead by more than the limit."""
    ages = jnp.array([other, 99.0])
    weighed = weigh_by_age(hear(9.0, None), jnp.float32(age), ages, limit=limit)
    assert mix(weighted_mean(), 1.0, weighed) == pytest.approx(expected)


def test_balance_grows_stricter_until_the_horizon():
    mixer = chain(balance(tolerance=1.0, decay=2.0, horizon=10), weighted_mean())
    state, far, accepted = mixer.init(jnp.float32(1)), hear(1.5), []
    for _ in range(20):
        mixed, state, _ = compiled(mixer)(state, jnp.float32(1), far)
        accepted.append(float(mixed) > 1)
    assert accepted == [True] * 4 + [False] * 16  # exp(-2 · 0.3) > 0.5 > exp(-2 · 0.4)
    lenient = chain(balance(tolerance=4.0, decay=2.0, horizon=10), weighted_mean())
    assert mix(lenient, 1.0, far) == 1.25


def test_ubar_takes_the_nearest_when_all_are_worse_and_each_peer_has_its_probe():
    transform = ubar(lambda params, probe: jnp.abs(params - probe), 0.0, nearest_share=1.0)
    mixer = chain(transform, weighted_mean())
    assert mix(mixer, 1.0, hear(3.0, 2.0)) == 1.5
    params, neighbors = jnp.float32(1), hear(3.0, 2.0)
    probes = jnp.array([0.0, 3.0, 2.1])
    states = jax.vmap(lambda probe: (probe, ()))(probes)
    mixed = jax.jit(jax.vmap(mixer.mix, (0, None, None)))(states, params, neighbors)[0]
    np.testing.assert_allclose(mixed, [1.5, 1.75, 1.75])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: trimmed_mean(-1), "trim must be at least 0, got -1"),
        (lambda: krum(-1), "byzantine must be at least 0"),
        (lambda: multi_krum(1, 0), "selected must be at least 1"),
        (lambda: clip_distance(), "either radius= .* or byzantine="),
        (lambda: clip_distance(1.0, byzantine=1), "either radius= .* or byzantine="),
        (lambda: clip_distance(0), "radius must be above 0"),
        (lambda: clip_distance(byzantine=-1), "byzantine must be at least 0"),
        (lambda: centered_clip(float("nan")), "radius must be above 0, got nan"),
        (lambda: centered_clip(1, iterations=0), "iterations must be at least 1"),
        (lambda: geometric_median(smoothing=0), "smoothing must be above 0"),
        (lambda: nearest_neighbors(weighted_mean(), byzantine=-1), "byzantine must be at least 0"),
        (lambda: drop_farthest(-1), "count must be at least 0"),
        (lambda: balance(own_share=0), "own_share must be above 0 and at most 1, got 0"),
        (lambda: balance(tolerance=0), "tolerance must be above 0"),
        (lambda: ubar(lambda p, b: p, 0, nearest_share=1.5), "nearest_share must be above 0"),
        (lambda: polynomial_decay(0), "exponent must be above 0"),
        (lambda: exponential_decay(unit=0), "unit must be above 0"),
        (lambda: hinge_decay(grace=-1), "grace must be at least 0"),
        (lambda: weigh_by_age(hear(1.0), jnp.ones(()), jnp.ones(1), limit=-1), "limit must be"),
    ],
)
def test_wrong_settings_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("mixer", "slots"),
    [
        (trimmed_mean(2), 4),
        (krum(1), 4),
        (multi_krum(1, 3), 5),
        (nearest_neighbors(weighted_mean(), byzantine=2), 4),
    ],
)
def test_too_few_slots_are_refused_while_tracing(mixer, slots):
    mix(mixer, 0.0, hear(*[1.0] * slots))
    with pytest.raises(
        ValueError, match=f"needs at least {slots + 1} inputs, that is {slots} slots"
    ):
        mix(mixer, 0.0, hear(*[1.0] * (slots - 1)))


@pytest.mark.parametrize(
    "links",
    [(), (discount_staleness(constant_decay()),), (weighted_mean(), weighted_mean())],
)
def test_chain_wants_transforms_and_one_mixer(links):
    with pytest.raises(TypeError, match="chain takes transforms and, last, one mixer"):
        chain(*links)
