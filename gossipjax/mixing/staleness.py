"""How much less an update counts for being behind.

The four functions of the literature, each `staleness [K] → discount [K]` in (0, 1] with
discount(0) = 1. Staleness is counted in local steps (see `gossipjax.mixing.Neighbors`); `unit`
rescales it, for instance to rounds of H steps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gossipjax.mixing.base import Neighbors, Transform
from gossipjax.types import Params

Decay = Callable[[jax.Array], jax.Array]


def constant_decay() -> Decay:
    """`s(u) = 1`: staleness does not matter."""
    return jnp.ones_like


def polynomial_decay(exponent: float = 0.5, *, unit: float = 1.0) -> Decay:
    """`s(u) = (1 + u / unit)^-exponent`.

    References:
        Xie, Koyejo, Gupta 2020, "Asynchronous Federated Optimization", section 5.2.
    """
    _require_positive(exponent=exponent, unit=unit)
    return lambda staleness: (1 + staleness / unit) ** -exponent


def exponential_decay(rate: float = 0.1, *, unit: float = 1.0) -> Decay:
    """`s(u) = exp(-rate · u / unit)`."""
    _require_positive(rate=rate, unit=unit)
    return lambda staleness: jnp.exp(-rate * staleness / unit)


def hinge_decay(slope: float = 10.0, grace: float = 4.0, *, unit: float = 1.0) -> Decay:
    """`s(u) = 1` for `u / unit ≤ grace`, else `1 / (slope · (u / unit - grace) + 1)`.

    References:
        Xie, Koyejo, Gupta 2020, "Asynchronous Federated Optimization", section 5.2.
    """
    _require_positive(slope=slope, unit=unit)
    if grace < 0:
        raise ValueError(f"grace must be at least 0, got {grace}")
    return lambda staleness: 1 / (slope * jnp.maximum(staleness / unit - grace, 0) + 1)


def discount_staleness(decay: Decay) -> Transform:
    """Multiply each slot's weight by `decay(staleness)`.

    Example:
        >>> transform = discount_staleness(polynomial_decay(0.5))
    """

    def apply(state: tuple[()], params: Params, neighbors: Neighbors):
        weight = neighbors.weight * decay(neighbors.staleness)
        return neighbors._replace(weight=jnp.where(neighbors.weight > 0, weight, 0)), state

    return Transform(lambda params: (), apply)


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
