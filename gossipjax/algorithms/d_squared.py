"""D²: decentralized SGD that cancels how the peers' data differ."""

from typing import NamedTuple

import jax
import optax

from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Needs, Neighbors, State
from gossipjax.types import Params


class DSquaredState(NamedTuple):
    """What the last mix changed the local result by, and the mixer's state."""

    correction: Params
    mixer: State


def d_squared(mixer: Mixer | None = None) -> GossipAlgorithm:
    """D²: decentralized training over decentralized data.

        x^{t+1} = W (2 x^t - x^{t-1} - η g^t + η g^{t-1}),     x^1 = W (x^0 - η g^0)

    With p^t = x^t - η g^t, what the local steps make of x^t, this is `W (p^t + c^t)` with
    `c^t = x^t - p^{t-1}`, what the last mix changed:

        share: payload = p + c
        mix:   x ← mixer(p + c, payloads),   c ← x - p

    So it holds for any local optimizer and any number of steps. c is 0 at the start.

    Needs a symmetric W that does not change and whose eigenvalues are all above -1/3 (`(W + I) / 2`
    always is: give more weight to the own parameters). With a W that changes it diverges.

    Args:
        mixer: by default the weighted mean.

    References:
        Tang et al. 2018, "D²: Decentralized Training over Decentralized Data", algorithm 1 and
        assumption 1.
    """
    chosen = mixer or weighted_mean()

    def init(params: Params) -> DSquaredState:
        return DSquaredState(optax.tree.zeros_like(params), chosen.init(params))

    def share(state: DSquaredState, params: Params, key: jax.Array):
        return optax.tree.add(params, state.correction), state

    def mix(state: DSquaredState, params: Params, neighbors: Neighbors):
        own = optax.tree.add(params, state.correction)
        mixed, mixer_state, info = chosen.mix(state.mixer, own, neighbors)
        return mixed, DSquaredState(optax.tree.sub(mixed, params), mixer_state), info

    needs = Needs(lossless=True, reciprocal=True, sticky_slots=True)
    return GossipAlgorithm(init, share, mix, needs)
