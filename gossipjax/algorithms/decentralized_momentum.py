"""DmSGD: momentum is averaged along with parameters, as on the one-peer exponential graph."""

from typing import NamedTuple

import jax
import optax

from gossipjax.mixing.averaging import rounded, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Neighbors, State
from gossipjax.mixing.checks import require_at_least, require_below
from gossipjax.types import Params


class Moving(NamedTuple):
    """Parameters and η times their momentum."""

    params: Params
    momentum: Params


class MomentumState(NamedTuple):
    """Parameters and momentum as the last mix left them, and the mixer's state."""

    anchor: Moving
    mixer: State


def decentralized_momentum(momentum: float = 0.9, mixer: Mixer | None = None) -> GossipAlgorithm:
    """Decentralized momentum SGD that averages momentum along with parameters.

        m_i = β m_i + g_i,   x_i ← Σ_j W_ij (x_j - η m_j),   m_i ← Σ_j W_ij m_j

    On `topology.one_peer_exponential`, with one message per peer and round, it converges as on the
    static exponential graph with ⌈log₂ N⌉ of them.

    With a and u = η m at the start of the round and p the parameters after the local steps:

        v = β u + (a - p)
        share: payload = (a - v, v)
        mix:   (x, u) ← mixer((a - v, v), payloads)

    The same for one local step of plain SGD with a constant η. Payloads are twice as large as those
    of methods that tell parameters only.

    Args:
        momentum: β in [0, 1).
        mixer: by default the weighted mean.

    References:
        Yu, Jin, Yang 2019, "On the Linear Speedup Analysis of Communication Efficient Momentum SGD
        for Distributed Non-Convex Optimization" (the method); Ying et al. 2021, "Exponential Graph
        is Provably Efficient for Decentralized Deep Training" (the graph).
    """
    require_at_least(0, momentum=momentum)
    require_below(1, momentum=momentum)
    chosen = mixer or weighted_mean()

    def init(params: Params) -> MomentumState:
        anchor = Moving(params, optax.tree.zeros_like(params))
        return MomentumState(anchor, chosen.init(anchor))

    def stepped(state: MomentumState, params: Params) -> Moving:
        old, u = state.anchor
        v = jax.tree.map(lambda u, a, p: rounded(momentum * u) + (a - p), u, old, params)
        return Moving(optax.tree.sub(old, v), v)

    def share(state: MomentumState, params: Params, key: jax.Array):
        return stepped(state, params), state

    def mix(state: MomentumState, params: Params, neighbors: Neighbors):
        own = stepped(state, params)
        mixed, mixer_state, info = chosen.mix(state.mixer, own, neighbors)
        return mixed.params, MomentumState(mixed, mixer_state), info

    return GossipAlgorithm(init, share, mix)
