"""D-PSGD: average what all had at the start of the round, while gradients are computed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Neighbors, State
from gossipjax.types import Params


class DPSGDState(NamedTuple):
    """Parameters as the last mix left them, and the mixer's state."""

    anchor: Params
    mixer: State


def d_psgd(mixer: Mixer | None = None) -> GossipAlgorithm:
    """Decentralized parallel SGD.

        x_i ← Σ_j W_ij x_j - η ∇F_i(x_i)

    The paper's order: the average is over what all had before the step, so that a round's payload
    can travel while its gradient is computed. With a the parameters at the start of the round and p
    those after the local steps:

        share: payload = a
        mix:   x ← mixer(a, payloads) + (p - a)

    With one local step of SGD `p - a = -η ∇F_i(a)`. The other order, `x ← W (x - η ∇F(x))`, is
    `gossip(weighted_mean())`.

    Args:
        mixer: by default the weighted mean.

    References:
        Lian et al. 2017, "Can Decentralized Algorithms Outperform Centralized Algorithms?",
        algorithm 1.
    """
    chosen = mixer or weighted_mean()

    def init(params: Params) -> DPSGDState:
        return DPSGDState(params, chosen.init(params))

    def share(state: DPSGDState, params: Params, key: jax.Array):
        return state.anchor, state

    def mix(state: DPSGDState, params: Params, neighbors: Neighbors):
        mixed, mixer_state, info = chosen.mix(state.mixer, state.anchor, neighbors)
        step = optax.tree.sub(params, state.anchor)
        # A joiner's own steps are worth nothing, like what it made them from.
        is_joiner = neighbors.self_weight <= 0
        mixed = jax.tree.map(lambda x, s: jnp.where(is_joiner, x, x + s), mixed, step)
        return mixed, DPSGDState(mixed, mixer_state), info

    return GossipAlgorithm(init, share, mix)
