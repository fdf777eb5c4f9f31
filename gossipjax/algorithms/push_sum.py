"""Stochastic gradient push: exact averages on directed graphs, by averaging a weight as well."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.mixing.averaging import rounded
from gossipjax.mixing.base import GossipAlgorithm, MixInfo, Needs, Neighbors
from gossipjax.mixing.checks import require_at_least
from gossipjax.types import Params


class Mass(NamedTuple):
    """Push-sum numerator x and weight w (float32 scalar); the parameters are z = x / w."""

    numerator: Params
    weight: jax.Array


def push_sum(out_degree: int = 1) -> GossipAlgorithm:
    """Stochastic gradient push (SGP).

        x_i ← x_i - η g_i(z_i)
        x_i ← Σ_j P_ij x_j,   w_i ← Σ_j P_ij w_j,   z_i = x_i / w_i

    Each sender divides what it has among itself and its receivers, evenly: P is column stochastic,
    the sums over all peers are preserved, and all z_i tend to the exact mean, though no peer knows
    who hears it from whom. With p the parameters after the local steps:

        share: payload = (x + (p - z), w) / (1 + d)
        mix:   (x, w) ← own part + Σ_k payload_k,   z = x / w

    The weights of the neighbors are not used, except that 0 marks an empty slot.

    Needs a lossless transport: what is told and not heard is gone from the sum.

    Args:
        out_degree: d ≥ 1, the number of receivers of each peer in each round: 1 on
            `topology.one_peer_exponential`, s on `topology.epidemic_local`.

    References:
        Assran et al. 2019, "Stochastic Gradient Push for Distributed Deep Learning", algorithm 1;
        Kempe, Dobra, Gehrke 2003, "Gossip-based computation of aggregate information".
    """
    require_at_least(1, out_degree=out_degree)
    part = 1 / (1 + out_degree)

    def init(params: Params) -> Mass:
        return Mass(params, jnp.float32(1))

    def portion(mass: Mass, params: Params) -> Mass:
        def of_leaf(x: jax.Array, p: jax.Array) -> jax.Array:
            return rounded(part * (x + (p - _ratio(x, mass.weight))))

        return Mass(jax.tree.map(of_leaf, mass.numerator, params), rounded(part * mass.weight))

    def share(state: Mass, params: Params, key: jax.Array):
        return portion(state, params), state

    def mix(state: Mass, params: Params, neighbors: Neighbors):
        is_full = neighbors.weight > 0
        own = portion(state, params)
        mass = jax.tree.map(lambda x, y: _sum(x, y, is_full), own, neighbors.payload)
        mixed = jax.tree.map(lambda x: _ratio(x, mass.weight), mass.numerator)
        heard = jnp.where(is_full, neighbors.payload.weight, 0)
        return mixed, mass, MixInfo(heard / mass.weight, own.weight / mass.weight)

    return GossipAlgorithm(init, share, mix, Needs(lossless=True))


def _ratio(numerator: jax.Array, weight: jax.Array) -> jax.Array:
    return (numerator / weight).astype(numerator.dtype)


def _sum(own: jax.Array, stacked: jax.Array, is_full: jax.Array) -> jax.Array:
    for slot in range(stacked.shape[0]):
        own += jnp.where(is_full[slot], stacked[slot], 0)
    return own
