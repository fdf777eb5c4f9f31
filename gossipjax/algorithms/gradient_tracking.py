"""Gradient tracking: each peer follows an estimate of the whole network's gradient."""

from typing import NamedTuple

import jax
import optax

from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, Needs, Neighbors, State
from gossipjax.types import Params


class Tracked(NamedTuple):
    """Parameters after the step, and η times the tracked gradient."""

    params: Params
    tracker: Params


class TrackingState(NamedTuple):
    """Parameters as the last mix left them, what corrects the next step, and the mixer's state."""

    anchor: Params
    correction: Params
    mixer: State


def gradient_tracking(mixer: Mixer | None = None) -> GossipAlgorithm:
    """Distributed stochastic gradient tracking.

        x_i ← Σ_j W_ij (x_j - η y_j)
        y_i ← Σ_j W_ij y_j + g_i^new - g_i^old,     y_i = g_i at the start

    The mean of the y_i is always the mean of the g_i, so that peers with different data move
    together: the error does not grow with heterogeneity.

    With a the parameters at the start of the round, p those after the local steps, c a correction
    that is 0 at the start, and z = η y:

        z = a - p + c
        share: payload = (a - z, z)
        mix:   (x, v) ← mixer((a - z, z), payloads),   c ← v - (a - p)

    The same for one local step of plain SGD with a constant η, since then `a - p = η g`. Payloads
    are twice as large as those of methods that tell parameters only.

    Needs a lossless transport and a doubly stochastic W: what is lost or counted twice stays wrong.

    Args:
        mixer: by default the weighted mean.

    References:
        Pu, Nedić 2021, "Distributed stochastic gradient tracking methods", equation 3; Di Lorenzo,
        Scutari 2016, "NEXT: In-Network Nonconvex Optimization".
    """
    chosen = mixer or weighted_mean()

    def init(params: Params) -> TrackingState:
        zeros = optax.tree.zeros_like(params)
        return TrackingState(params, zeros, chosen.init(Tracked(params, zeros)))

    def stepped(state: TrackingState, params: Params) -> Tracked:
        tracker = jax.tree.map(lambda a, p, c: a - p + c, state.anchor, params, state.correction)
        return Tracked(optax.tree.sub(state.anchor, tracker), tracker)

    def share(state: TrackingState, params: Params, key: jax.Array):
        return stepped(state, params), state

    def mix(state: TrackingState, params: Params, neighbors: Neighbors):
        mixed, mixer_state, info = chosen.mix(state.mixer, stepped(state, params), neighbors)
        correction = jax.tree.map(lambda v, a, p: v - (a - p), mixed.tracker, state.anchor, params)
        return mixed.params, TrackingState(mixed.params, correction, mixer_state), info

    return GossipAlgorithm(init, share, mix, Needs(lossless=True))
