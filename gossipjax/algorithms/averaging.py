"""Gossip averaging: tell the parameters, average with what arrives."""

import jax

from gossipjax.algorithms.named import named_mixer
from gossipjax.mixing.base import GossipAlgorithm, Mixer, State
from gossipjax.types import Params


def gossip(mixer: Mixer | str = "mean", *, byzantine: int = 1) -> GossipAlgorithm:
    """Local steps, and averaging of parameters with random neighbors.

        share: payload = x
        mix:   x ← mixer(x, payloads)

    Example:
        >>> algorithm = gossip(chain(discount_staleness(polynomial_decay(0.5)), weighted_mean()))

    Args:
        mixer: how arrivals are folded in; one of `gossipjax.algorithms.named.MIXERS` by name.
            By default the weighted mean under the discount `(1 + staleness / 100 steps)^-½`: what
            is in transit for a round or two counts nearly in full, what comes from a peer that was
            away for long counts little.
        byzantine: attackers that may be among the arrivals of one mix, for mixers of a name.

    Returns:
        An algorithm whose payload is the parameters themselves; its state is the mixer's.

    References:
        Lian et al. 2018, "Asynchronous Decentralized Parallel Stochastic Gradient Descent";
        de Vos et al. 2023, "Epidemic Learning", algorithm 1 (random neighbors in each round).
    """
    chosen = named_mixer(mixer, byzantine) if isinstance(mixer, str) else mixer

    def share(state: State, params: Params, key: jax.Array) -> tuple[Params, State]:
        return params, state

    return GossipAlgorithm(chosen.init, share, chosen.mix, acts_alone=False)
