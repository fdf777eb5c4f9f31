"""Robust centers: where the inputs lie, whatever a minority of them says.

The inputs are the own parameters and the payloads of the full slots: n of at most 1 + K. The own
parameters are one input like any other, as in the analyses of these rules; a joiner's
(`self_weight = 0`) are none. The rules by coordinate count heads: the size of a weight does not
enter, because a weight that a stranger claims must not buy votes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.mixing.averaging import (
    convex_sum,
    convex_weights,
    info_of,
    input_weights,
    iterate_shares,
    own_or_mean,
)
from gossipjax.mixing.base import Mixer, Neighbors
from gossipjax.mixing.checks import require_at_least, require_inputs, require_positive
from gossipjax.mixing.distances import distances_to_inputs
from gossipjax.mixing.sorting import sort_elementwise
from gossipjax.types import Params, Payload

INFO_SAMPLE = 1024
"""Coordinates of each leaf from which `MixInfo` of a rule by coordinate is estimated."""


def coordinate_median() -> Mixer:
    """Median of the n inputs in each coordinate; of an even number, the mean of the middle two.

    Tolerates: fewer than n/2 faulty inputs: each coordinate stays between honest values. It
    ignores minorities, so where honest peers disagree (non-IID data) it is biased by their spread.
    Cost: one pass over the K payloads, of about ½ K log²K comparisons per coordinate.

    References:
        Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
        Rates", definition 1.
    """
    return _trimming(lambda neighbors: (_is_input(neighbors).sum() - 1) // 2)


def trimmed_mean(trim: int) -> Mixer:
    """Mean in each coordinate of the n inputs without the `trim` least and the `trim` greatest.

    While n ≤ 2·trim nothing is left and the own parameters stay (a joiner takes the weighted mean),
    so the number of payloads that usually arrive should be above 2·trim.

    Tolerates: up to `trim` faulty inputs: each coordinate stays between honest values.
    Cost: as `coordinate_median`.

    Args:
        trim: number of inputs left out at each end: at least 0, less than half of 1 + K.

    Raises:
        ValueError: when traced with too few slots.

    References:
        Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
        Rates", definition 2.
    """
    require_at_least(0, trim=trim)

    def trim_of(neighbors: Neighbors) -> jax.Array:
        require_inputs(2 * trim + 1, neighbors, f"trimmed_mean(trim={trim})", "smaller trim")
        return jnp.int32(trim)

    return _trimming(trim_of)


def geometric_median(*, iterations: int = 8, smoothing: float = 1e-6) -> Mixer:
    """The point with the least weighted sum of distances to the inputs (RFA, smoothed Weiszfeld).

        z ← Σ_i β_i x_i / Σ_i β_i,   β_i = w_i / max(ν, ‖x_i - z‖),   iterated

    The weights w_i of the inputs enter. It starts at the coordinate median, not at the mean, so
    that a payload that is very far off costs no iterations.

    Tolerates: faulty inputs of less than half the weight; the error is within a constant factor of
    the honest inputs' spread.
    Cost: one pass as `coordinate_median` and two passes per iteration.

    Args:
        iterations: steps of Weiszfeld's algorithm.
        smoothing: ν, in the units of the parameters: inputs nearer than that count alike. It must
            be well below the distance between honest peers, or the rule becomes the mean.

    References:
        Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning", algorithm 2.
    """
    require_at_least(1, iterations=iterations)
    require_positive(smoothing=smoothing)

    def mix(state: tuple[()], params: Params, neighbors: Neighbors):
        weights = input_weights(neighbors)
        middle = (_is_input(neighbors).sum() - 1) // 2

        def step(center: Params, shares: jax.Array) -> jax.Array:
            distances = distances_to_inputs(center, params, neighbors)
            return convex_weights(weights / jnp.maximum(distances, smoothing))

        center = _trim_all(params, neighbors.payload, _is_input(neighbors), middle)
        center, info = iterate_shares(step, center, weights, params, neighbors, iterations)
        return center, state, info

    return Mixer(lambda params: (), mix)


class _Trimmed(NamedTuple):
    """Mean, least and greatest of the inputs that are left, in each coordinate."""

    mean: jax.Array
    least: jax.Array
    greatest: jax.Array


def _trimming(trim_of: Callable[[Neighbors], jax.Array]) -> Mixer:
    """A mixer that leaves out so many inputs at each end, in each coordinate."""

    def mix(state: tuple[()], params: Params, neighbors: Neighbors):
        is_input, trim = _is_input(neighbors), trim_of(neighbors)
        is_enough = is_input.sum() > 2 * trim
        instead = own_or_mean(neighbors)
        mixed = jax.tree.map(
            lambda trimmed, other: jnp.where(is_enough, trimmed, other),
            _trim_all(params, neighbors.payload, is_input, trim),
            convex_sum(params, neighbors.payload, instead),
        )
        shares = _estimate_shares(params, neighbors.payload, is_input, trim)
        return mixed, state, info_of(jnp.where(is_enough, shares, instead))

    return Mixer(lambda params: (), mix)


def _is_input(neighbors: Neighbors) -> jax.Array:
    return input_weights(neighbors) > 0


def _trim_all(params: Params, payload: Payload, is_input: jax.Array, trim: jax.Array) -> Params:
    return jax.tree.map(
        lambda own, stacked: _trim_leaf(own, stacked, is_input, trim).mean, params, payload
    )


def _trim_leaf(
    own: jax.Array, stacked: jax.Array, is_input: jax.Array, trim: jax.Array
) -> _Trimmed:
    dtype = jnp.promote_types(own.dtype, jnp.float32)
    inputs = [own, *(stacked[slot] for slot in range(stacked.shape[0]))]
    # What is no input comes last, and so does NaN: it is trimmed like any value that is far off.
    ascending = sort_elementwise(
        [
            jnp.where(is_input[index] & ~jnp.isnan(value), value, jnp.inf).astype(dtype)
            for index, value in enumerate(inputs)
        ]
    )
    first, last = trim, is_input.sum() - 1 - trim
    least, greatest = _at(first, ascending), _at(last, ascending)
    excess = jnp.zeros((), dtype)
    for position, value in enumerate(ascending):
        is_kept = (position >= first) & (position <= last)
        excess += jnp.where(is_kept, value - least, 0)
    # As excess over the least, so that equal values give just that value.
    mean = jnp.minimum(least + excess / (last - first + 1), greatest)
    return _Trimmed(mean.astype(own.dtype), least, greatest)


def _at(position: jax.Array, arrays: list[jax.Array]) -> jax.Array:
    chosen = arrays[0]
    for index, array in enumerate(arrays[1:], start=1):
        chosen = jnp.where(position == index, array, chosen)
    return chosen


def _estimate_shares(
    params: Params, payload: Payload, is_input: jax.Array, trim: jax.Array
) -> jax.Array:
    """How often each input is among those that are left, as convex weights `[1 + K]`.

    From a sample of the coordinates: counting them all would cost several times the mixing itself.
    """
    total = jnp.zeros(is_input.shape, jnp.float32)
    for own, stacked in zip(jax.tree.leaves(params), jax.tree.leaves(payload), strict=True):
        stride = max(1, own.size // INFO_SAMPLE)
        every = [own, *(stacked[slot] for slot in range(stacked.shape[0]))]
        inputs = jnp.stack([leaf.reshape(-1)[::stride] for leaf in every])
        trimmed = _trim_leaf(inputs[0], inputs[1:], is_input, trim)
        # XLA may compute an input twice, in the mixer and here, and round it differently.
        slack = 1e-6 * jnp.maximum(jnp.abs(trimmed.least), jnp.abs(trimmed.greatest))
        is_left = (trimmed.least - slack <= inputs) & (inputs <= trimmed.greatest + slack)
        is_left &= is_input[:, None]
        total += is_left.sum(axis=1) * stride
    return convex_weights(total)
