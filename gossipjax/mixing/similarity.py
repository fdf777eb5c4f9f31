"""Filters: which neighbors to listen to, judged by how far they are and what they do on own data.

They change weights, never payloads, and so can stand before any mixer. A joiner
(`self_weight = 0`) has nothing to compare with and listens to everybody.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gossipjax.mixing.base import Neighbors, Transform
from gossipjax.mixing.checks import require_at_least, require_positive, require_share
from gossipjax.mixing.distances import distances_to_slots, norm
from gossipjax.mixing.sorting import rank
from gossipjax.types import Params

Loss = Callable[[Params, Any], jax.Array]


def drop_farthest(count: int) -> Transform:
    """Empty the `count` full slots that are farthest from the own parameters.

    Before `weighted_mean` this is nearest-neighbor averaging, the rule of MoNNA: the mean of the
    n - f inputs nearest to the own one. When at most `count` payloads arrive, none is left.

    Tolerates: f = count faulty neighbors, while honest ones are the closer the longer they mix.
    Cost: one pass over the K payloads.

    References:
        Farhadkhani et al. 2023, "Robust Collaborative Learning with Linear Gradient Overhead",
        section 3.
    """
    require_at_least(0, count=count)

    def keep(state: tuple[()], params: Params, neighbors: Neighbors, distances: jax.Array):
        return rank(distances) < (neighbors.weight > 0).sum() - count, state

    return _filter(lambda params: (), keep)


def balance(
    *, tolerance: float = 0.3, decay: float = 1.0, horizon: int = 1000, own_share: float = 0.5
) -> Transform:
    """Listen to payloads that are similar to the own parameters, ever more strictly (BALANCE).

        accept slot k iff ‖y_k - x‖ ≤ γ exp(-κ t / T) ‖x‖

    with t this peer's count of mixes. Before `weighted_mean`, with a the own share:

        x ← a x + (1 - a) · mean of the accepted

    Tolerates: faulty neighbors, in the sense that each pulls by at most γ ‖x‖; needs honest peers
    to be that close, so a common start.
    Cost: one pass over the K payloads.

    Args:
        tolerance: γ, relative to the norm of the own parameters.
        decay: κ ≥ 0; 0 keeps the threshold constant.
        horizon: T, in mixes; after it the threshold stays at γ exp(-κ).
        own_share: a in (0, 1]: weight of the own parameters when anything is accepted.

    References:
        Fang et al. 2024, "Byzantine-Robust Decentralized Federated Learning" (CCS), section 4.
        The defaults are those given for its experiments by later work, not checked against it.
    """
    require_positive(tolerance=tolerance, horizon=horizon)
    require_at_least(0, decay=decay)
    require_share(own_share=own_share)

    def keep(mixes: jax.Array, params: Params, neighbors: Neighbors, distances: jax.Array):
        progress = jnp.minimum(mixes / horizon, 1)
        bound = tolerance * jnp.exp(-decay * progress) * norm(params)
        return distances <= bound, mixes + 1

    return _filter(lambda params: jnp.int32(0), keep, own_share)


def ubar(
    loss: Loss, probe: Any, *, nearest_share: float = 0.4, own_share: float = 0.5
) -> Transform:
    """Listen to those of the nearest that are no worse on own data (UBAR, also called Mozi).

    Candidates are the ⌈ρ n⌉ of n arrivals that are nearest to the own parameters. Accepted are the
    candidates with `loss(y_k, probe) ≤ loss(x, probe)` or, if there is none, the nearest one.
    Before `weighted_mean`, with a the own share:

        x ← a x + (1 - a) · mean of the accepted

    The probe is the transform's state: it may be another one for each peer of a simulation, and
    whoever holds the state may replace it by a fresh batch between mixes.

    Tolerates: a share of 1 - ρ of faulty neighbors, even a majority, as long as the probe tells
    good from bad.
    Cost: one pass over the K payloads and K evaluations of the loss.

    Args:
        loss: `(params, probe) → scalar`.
        probe: some of the own data, a pytree of arrays.
        nearest_share: ρ in (0, 1], the share of neighbors that is expected to be honest.
        own_share: a in (0, 1]: weight of the own parameters when anything is accepted.

    References:
        Guo et al. 2021, "Byzantine-Resilient Decentralized Stochastic Gradient Descent", section 4;
        the nearest as last resort follows the code of He, Karimireddy, Jaggi 2022.
    """
    require_share(nearest_share=nearest_share, own_share=own_share)

    def keep(probe: Any, params: Params, neighbors: Neighbors, distances: jax.Array):
        order, arrivals = rank(distances), (neighbors.weight > 0).sum()
        # The small deduction: 0.3 · 10, rounded up in float32, is still 3.
        is_candidate = order < jnp.ceil(nearest_share * arrivals - 1e-4)
        losses = jax.vmap(loss, (0, None))(neighbors.payload, probe)
        is_good = is_candidate & (losses <= loss(params, probe))
        return jnp.where(is_good.any(), is_good, order == 0), probe

    return _filter(lambda params: jax.tree.map(jnp.asarray, probe), keep, own_share)


def _filter(
    init: Callable[[Params], Any],
    keep: Callable[[Any, Params, Neighbors, jax.Array], tuple[jax.Array, Any]],
    own_share: float | None = None,
) -> Transform:
    """Empties the slots that are not to be kept, and gives the own parameters their share."""

    def apply(state: Any, params: Params, neighbors: Neighbors):
        distances = distances_to_slots(params, neighbors)
        is_kept, state = keep(state, params, neighbors, distances)
        is_kept = (is_kept & jnp.isfinite(distances)) | (neighbors.self_weight <= 0)
        weight = jnp.where(is_kept, neighbors.weight, 0)
        self_weight = neighbors.self_weight
        if own_share is not None:
            is_split = (self_weight > 0) & (weight.sum() > 0)
            others = weight / jnp.where(is_split, weight.sum(), 1) * (1 - own_share)
            weight = jnp.where(is_split, others, weight)
            self_weight = jnp.where(is_split, own_share, self_weight)
        return neighbors._replace(weight=weight, self_weight=self_weight), state

    return Transform(init, apply)
