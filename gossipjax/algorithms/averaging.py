"""Gossip averaging: tell the parameters, average with what arrives."""

import jax

from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, State, chain
from gossipjax.mixing.staleness import discount_staleness, polynomial_decay
from gossipjax.types import Params

STALENESS_UNIT_STEPS = 100.0


def gossip(mixer: Mixer | None = None) -> GossipAlgorithm:
    """Local steps, and averaging of parameters with random neighbors.

        share: payload = x
        mix:   x ← mixer(x, payloads)

    Example:
        >>> algorithm = gossip(chain(discount_staleness(polynomial_decay(0.5)), weighted_mean()))

    Args:
        mixer: how arrivals are folded in. By default the weighted mean under the discount
            `(1 + staleness / 100 steps)^-½`: what is in transit for a round or two counts nearly
            in full, what comes from a peer that was away for long counts little.

    Returns:
        An algorithm whose payload is the parameters themselves; its state is the mixer's.

    References:
        Lian et al. 2018, "Asynchronous Decentralized Parallel Stochastic Gradient Descent";
        de Vos et al. 2023, "Epidemic Learning", algorithm 1 (random neighbors in each round).
    """
    chosen = mixer or chain(
        discount_staleness(polynomial_decay(0.5, unit=STALENESS_UNIT_STEPS)), weighted_mean()
    )

    def share(state: State, params: Params, key: jax.Array) -> tuple[Params, State]:
        return params, state

    return GossipAlgorithm(chosen.init, share, chosen.mix, acts_alone=False)
