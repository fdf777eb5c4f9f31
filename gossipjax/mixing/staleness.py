"""How much less an update counts for being behind.

The four functions of the literature, each `staleness [K] → discount [K]` in (0, 1] with
discount(0) = 1. Staleness is counted in local steps (see `gossipjax.mixing.Neighbors`); `unit`
rescales it, for instance to rounds of H steps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gossipjax.mixing.base import Neighbors, Transform, reweigh
from gossipjax.mixing.checks import require_at_least, require_positive

Decay = Callable[[jax.Array], jax.Array]


def constant_decay() -> Decay:
    """`s(u) = 1`: staleness does not matter."""
    return jnp.ones_like


def polynomial_decay(exponent: float = 0.5, *, unit: float = 1.0) -> Decay:
    """`s(u) = (1 + u / unit)^-exponent`.

    References:
        Xie, Koyejo, Gupta 2020, "Asynchronous Federated Optimization", section 5.2.
    """
    require_positive(exponent=exponent, unit=unit)
    return lambda staleness: (1 + staleness / unit) ** -exponent


def exponential_decay(rate: float = 0.1, *, unit: float = 1.0) -> Decay:
    """`s(u) = exp(-rate · u / unit)`."""
    require_positive(rate=rate, unit=unit)
    return lambda staleness: jnp.exp(-rate * staleness / unit)


def hinge_decay(slope: float = 10.0, grace: float = 4.0, *, unit: float = 1.0) -> Decay:
    """`s(u) = 1` for `u / unit ≤ grace`, else `1 / (slope · (u / unit - grace) + 1)`.

    References:
        Xie, Koyejo, Gupta 2020, "Asynchronous Federated Optimization", section 5.2.
    """
    require_positive(slope=slope, unit=unit)
    require_at_least(0, grace=grace)
    return lambda staleness: 1 / (slope * jnp.maximum(staleness / unit - grace, 0) + 1)


def discount_staleness(decay: Decay) -> Transform:
    """Multiply each slot's weight by `decay(staleness)`.

    Example:
        >>> transform = discount_staleness(polynomial_decay(0.5))
    """

    def rule(neighbors: Neighbors) -> Neighbors:
        weight = neighbors.weight * decay(neighbors.staleness)
        return neighbors._replace(weight=jnp.where(neighbors.weight > 0, weight, 0))

    return reweigh(rule)


def weigh_by_age(
    neighbors: Neighbors, age: jax.Array, ages: jax.Array, *, limit: float = jnp.inf
) -> Neighbors:
    """Weights in proportion to age, the number of updates that a model has been through.

        w₀ = t,   w_k = t_k

    where t is the own age and t_k that of slot k: the merge of gossip learning, for one arrival
    `x ← (t x + t_k y_k) / (t + t_k)`. With a limit L, whatever is more than L updates younger than
    the oldest of the inputs counts nothing: the limited merge. For one arrival: keep the own model
    when it is ahead by more than L, take the other's when that one is, average otherwise. The
    merged model has the greatest age of those that counted.

    Staleness says only how far a payload is behind, so this is a step for algorithms whose payload
    carries the age. A joiner's own parameters keep a weight of 0. When all ages are 0, nothing is
    mixed.

    Args:
        neighbors: whose weights are replaced; empty slots stay empty.
        age: t, scalar, ≥ 0.
        ages: t_k, `[K]`, ≥ 0.
        limit: L ≥ 0, in updates.

    References:
        Ormándi, Hegedűs, Jelasity 2013, "Gossip learning with linear models on fully distributed
        data" (merging); Danner, Hegedűs, Jelasity 2023, "Improving gossip learning via limited
        model merging".
    """
    require_at_least(0, limit=limit)
    is_full = neighbors.weight > 0
    counts = jnp.append(neighbors.self_weight > 0, is_full)
    inputs = jnp.where(counts, jnp.append(age, ages), 0).astype(jnp.float32)
    weights = jnp.where(inputs.max() - inputs <= limit, inputs, 0)
    return neighbors._replace(weight=weights[1:], self_weight=weights[0])
