"""Gossip learning: models walk from peer to peer, merge by age, and are trained where they are."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.mixing.averaging import count_heads, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Neighbors
from gossipjax.mixing.checks import require_at_least
from gossipjax.mixing.staleness import weigh_by_age
from gossipjax.types import Params

MERGES = ("age", "mean", "replace")


class AgedModel(NamedTuple):
    """A model and its age t, int32: the rounds of local steps that it has been through."""

    params: Params
    age: jax.Array


def gossip_learning(
    merge: Literal["age", "mean", "replace"] = "age", *, limit: float = float("inf")
) -> GossipAlgorithm:
    """Gossip learning, with the merge of three papers.

    A round of local steps adds 1 to the age; the payload is (x, t). For one arrival (y, t_k):

        "age":     x ← (t x + t_k y) / (t + t_k)
        "mean":    x ← (x + y) / 2
        "replace": x ← y                      (a pure random walk of models)

        t ← max(t, t_k), over what counted

    With a limit L, whatever is more than L rounds younger than the oldest counts nothing: the
    limited merge, which keeps well-trained models from being averaged with those of peers that were
    away. Several arrivals are merged at once, in the same proportions.

    Weights and staleness of the neighbors are not used: the ages say more.

    Args:
        merge: see above.
        limit: L ≥ 0, for the merge by age.

    References:
        Ormándi, Hegedűs, Jelasity 2013, "Gossip learning with linear models on fully distributed
        data", algorithms 1 and 3 ("replace" is RW, "mean" is MU); Hegedűs, Danner, Jelasity 2021,
        "Decentralized learning works" ("age"); Danner, Hegedűs, Jelasity 2023, "Improving gossip
        learning via limited model merging" (`limit`).
    """
    if merge not in MERGES:
        raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {merge!r}")
    require_at_least(0, limit=limit)
    mean = weighted_mean()

    def init(params: Params) -> jax.Array:
        return jnp.int32(0)

    def share(age: jax.Array, params: Params, key: jax.Array):
        return AgedModel(params, age + 1), age

    def mix(age: jax.Array, params: Params, neighbors: Neighbors):
        models: AgedModel = neighbors.payload
        ages = jnp.append(age + 1, models.age)
        heard = neighbors._replace(payload=models.params)
        if merge == "age":
            heard = weigh_by_age(heard, ages[0], ages[1:], limit=limit)
        else:
            heard = count_heads(heard)
        if merge == "replace":
            heard = heard._replace(self_weight=jnp.float32(0))
        mixed, _, info = mean.mix((), params, heard)
        counted = jnp.append(info.self_weight, info.weight) > 0
        return mixed, jnp.where(counted, ages, 0).max(), info

    return GossipAlgorithm(init, share, mix)
