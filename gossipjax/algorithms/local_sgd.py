"""Local SGD: many local steps, then a plain average of the parameters."""

from gossipjax.algorithms.averaging import gossip
from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm


def local_sgd() -> GossipAlgorithm:
    """Average of the parameters after every H local steps, and nothing else.

        x_i ← Σ_j W_ij (x_j after H steps of SGD)

    H is the length of a round: `local_steps` of `gossipjax.simulate`, `round_steps` or
    `round_seconds` of a peer. The reference for the methods with an outer optimizer: it is `diloco`
    with a rate of 1 and no momentum, and unlike `gossip` it does not discount what is stale.

    References:
        Stich 2019, "Local SGD Converges Fast and Communicates Little", algorithm 1.
    """
    return gossip(weighted_mean())
