"""AD-PSGD: pairs average, each peer at its own pace, with gradients of what it had before."""

import jax.numpy as jnp

from gossipjax.algorithms.d_psgd import d_psgd
from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Needs, Neighbors, chain, reweigh


def ad_psgd() -> GossipAlgorithm:
    """Asynchronous decentralized parallel SGD.

        x_i, x_j ← (x_i + x_j) / 2,   then x_i ← x_i - η ∇F_i(x̂_i)

    where x̂_i is what peer i had before averaging: its gradient is late by one average. That is
    `d_psgd` with pairs: half the own parameters, half the partner's, whatever the weights say.
    Where several have arrived, half is for their mean.

    The average of two must be atomic (what i averages with is what j had when it averaged with i),
    or the mean over the network is not preserved; hence the needs. `topology.random_matching` gives
    such pairs. A peer on the network may take `d_psgd` or `gossip`, which do without.

    References:
        Lian et al. 2018, "Asynchronous Decentralized Parallel Stochastic Gradient Descent",
        algorithm 1.
    """
    pairwise = chain(reweigh(_half_for_others), weighted_mean())
    return d_psgd(pairwise)._replace(needs=Needs(lossless=True, reciprocal=True))


def _half_for_others(neighbors: Neighbors) -> Neighbors:
    is_full = neighbors.weight > 0
    weight = is_full / jnp.maximum(is_full.sum(dtype=jnp.float32), 1)
    return neighbors._replace(weight=weight, self_weight=jnp.sign(neighbors.self_weight))
