"""Quasi-global momentum: momentum along the way that the mixed parameters went."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import rounded, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Neighbors, State
from gossipjax.mixing.checks import require_at_least, require_below
from gossipjax.types import Params


class QuasiGlobalState(NamedTuple):
    """Parameters as the last mix left them, η m̂, and the mixer's state."""

    anchor: Params
    momentum: Params
    mixer: State


def quasi_global_momentum(
    momentum: float = 0.9, decay: float | None = None, mixer: Mixer | None = None
) -> GossipAlgorithm:
    """QG-DSGDm: heavy-ball momentum whose buffer follows the network, not the own gradients.

        m_i = β m̂_i + g_i,   x_i ← Σ_j W_ij (x_j - η m_j)
        m̂_i ← μ m̂_i + (1 - μ) (x_i^old - x_i) / η

    On non-IID data the own gradients point to the own optimum, and so does their momentum; the way
    that the mixed parameters went is nearer to that of the whole network.

    With a the parameters at the start of the round, p those after the local steps and u = η m̂:

        share: payload = p - β u
        mix:   x ← mixer(p - β u, payloads),   u ← μ u + (1 - μ) (a - x)

    The same for one local step of plain SGD, since then `p = a - η g`, and as long as η is constant
    (the momentum keeps the η that it was gained with). With several local steps, g is the
    pseudo-gradient of the round. The local optimizer should have no momentum of its own.

    Args:
        momentum: β in [0, 1).
        decay: μ in [0, 1); by default β, as in the paper.
        mixer: by default the weighted mean.

    References:
        Lin et al. 2021, "Quasi-Global Momentum: Accelerating Decentralized Deep Learning on
        Heterogeneous Data", algorithm 1.
    """
    beta, mu = momentum, momentum if decay is None else decay
    require_at_least(0, momentum=beta, decay=mu)
    require_below(1, momentum=beta, decay=mu)
    chosen = mixer or weighted_mean()

    def init(params: Params) -> QuasiGlobalState:
        return QuasiGlobalState(params, optax.tree.zeros_like(params), chosen.init(params))

    def stepped(state: QuasiGlobalState, params: Params) -> Params:
        return jax.tree.map(lambda x, u: x - rounded(beta * u), params, state.momentum)

    def share(state: QuasiGlobalState, params: Params, key: jax.Array):
        return stepped(state, params), state

    def mix(state: QuasiGlobalState, params: Params, neighbors: Neighbors):
        own = stepped(state, params)
        mixed, mixer_state, info = chosen.mix(state.mixer, own, neighbors)

        def follow(u: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
            moved = rounded(mu * u) + rounded((1 - mu) * (old - new))
            # A joiner's way from nowhere to the adopted parameters says nothing.
            return jnp.where(neighbors.self_weight > 0, moved, 0)

        followed = jax.tree.map(follow, state.momentum, state.anchor, mixed)
        return mixed, QuasiGlobalState(mixed, followed, mixer_state), info

    return GossipAlgorithm(init, share, mix)
