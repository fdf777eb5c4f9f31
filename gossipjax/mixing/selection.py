"""Rules that choose among the inputs by their distances from each other.

The inputs are the own parameters and the payloads of the full slots: n of at most 1 + K. They
count heads: the size of a weight does not enter.
"""

import jax
import jax.numpy as jnp

from gossipjax.mixing.averaging import (
    convex_mixer,
    convex_sum,
    convex_weights,
    info_of,
    input_weights,
    own_or_mean,
)
from gossipjax.mixing.base import Mixer, Neighbors, State
from gossipjax.mixing.checks import require_at_least, require_inputs
from gossipjax.mixing.distances import pairwise_squared_distances
from gossipjax.mixing.sorting import rank
from gossipjax.types import Params


def krum(byzantine: int) -> Mixer:
    """The one input that lies closest to its n - f - 2 nearest: `multi_krum` that selects one.

    References:
        Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
        Descent", section 4.
    """
    return _krum(byzantine, 1, f"krum(byzantine={byzantine})")


def multi_krum(byzantine: int, selected: int) -> Mixer:
    """Mean of the m inputs that lie closest to their nearest neighbors.

        score(i) = Σ ‖x_i - x_j‖² over the n - f - 2 inputs j ≠ i nearest to x_i

    and the mean of the m inputs with the least scores. While n < 2f + 3, the own parameters stay (a
    joiner takes the weighted mean); while n - f - 2 < m, fewer are selected.

    Tolerates: f faulty inputs of n ≥ 2f + 3. It selects whole models, so a payload that hides among
    the honest ones within their spread may be chosen.
    Cost: a copy of the inputs and K passes over it for all distances.

    Args:
        byzantine: f ≥ 0.
        selected: m ≥ 1, at most (1 + K) - f - 2.

    Raises:
        ValueError: when traced with too few slots.

    References:
        Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
        Descent", section 4; El Mhamdi, Guerraoui, Rouault 2018, "The Hidden Vulnerability of
        Distributed Learning in Byzantium", for m ≤ n - f - 2.
    """
    return _krum(byzantine, selected, f"multi_krum(byzantine={byzantine}, selected={selected})")


def nearest_neighbors(mixer: Mixer, *, byzantine: int) -> Mixer:
    """Nearest-neighbor mixing (NNM) of the inputs, before any mixer.

        x_i ← mean of the n - f inputs nearest to x_i, itself included;   then the mixer

    It changes the own input as well as the payloads, so it goes around a mixer and not, as a
    transform, before it. While n ≤ 2f, nothing is mixed (a joiner takes the payloads as they are).

    Tolerates: as the mixer, and with the best possible dependence on the honest inputs' spread,
    which matters for non-IID data.
    Cost: a copy of the inputs, K passes over it for all distances, and one pass with n² terms per
    coordinate.

    Args:
        mixer: applied to the mixed inputs.
        byzantine: f ≥ 0.

    Example:
        >>> mixer = nearest_neighbors(trimmed_mean(trim=2), byzantine=2)

    Raises:
        ValueError: when traced with too few slots.

    References:
        Allouah et al. 2023, "Fixing by Mixing: A Recipe for Optimal Byzantine ML under
        Heterogeneity", algorithm 2.
    """
    require_at_least(0, byzantine=byzantine)
    rule = f"nearest_neighbors(byzantine={byzantine})"

    def mix(state: State, params: Params, neighbors: Neighbors):
        require_inputs(2 * byzantine + 1, neighbors, rule, "smaller byzantine")
        is_input = input_weights(neighbors) > 0
        is_joiner = neighbors.self_weight <= 0
        is_enough = is_joiner | (is_input.sum() > 2 * byzantine)
        means = _means_of_nearest(_between_inputs(params, neighbors), is_input.sum() - byzantine)
        matrix = jnp.where(is_enough & ~is_joiner, means, jnp.eye(is_input.size, dtype=means.dtype))
        inputs = jax.vmap(convex_sum, (None, None, 0))(params, neighbors.payload, matrix)
        own = jax.tree.map(lambda leaf: leaf[0], inputs)
        mixed_neighbors = neighbors._replace(
            payload=jax.tree.map(lambda leaf: leaf[1:], inputs),
            weight=jnp.where(is_enough, neighbors.weight, 0),
        )
        mixed, state, info = mixer.mix(state, own, mixed_neighbors)
        outer = jnp.append(info.self_weight, info.weight)
        return mixed, state, info_of((outer[:, None] * matrix).sum(axis=0))

    return Mixer(mixer.init, mix)


def _krum(byzantine: int, selected: int, rule: str) -> Mixer:
    require_at_least(0, byzantine=byzantine)
    require_at_least(1, selected=selected)
    needed = max(2 * byzantine + 3, byzantine + 2 + selected)

    def shares(params: Params, neighbors: Neighbors) -> jax.Array:
        require_inputs(needed, neighbors, rule, "smaller byzantine or selected")
        count = (input_weights(neighbors) > 0).sum()
        nearest = count - byzantine - 2
        ascending = jnp.sort(_between_inputs(params, neighbors), axis=1)
        position = jnp.arange(ascending.shape[1])  # 0 is the distance to itself
        is_near = (position >= 1) & (position <= nearest)
        scores = jnp.where(is_near, ascending, 0).sum(axis=1)
        is_chosen = (rank(scores) < jnp.minimum(selected, nearest)) & jnp.isfinite(scores)
        is_enough = count >= 2 * byzantine + 3
        return jnp.where(is_enough, convex_weights(is_chosen), own_or_mean(neighbors))

    return convex_mixer(shares)


def _between_inputs(params: Params, neighbors: Neighbors) -> jax.Array:
    """Squared distances between inputs `[1 + K, 1 + K]`; infinite to and from what is no input."""
    is_input = input_weights(neighbors) > 0
    squared = pairwise_squared_distances(params, neighbors.payload)
    return jnp.where(is_input[:, None] & is_input[None, :], squared, jnp.inf)


def _means_of_nearest(squared: jax.Array, count: jax.Array) -> jax.Array:
    """Row i: equal convex weights of the `count` inputs nearest to i, if not infinitely far."""
    is_near = (jax.vmap(rank)(squared) < count) & jnp.isfinite(squared)
    return jax.vmap(convex_weights)(is_near)
