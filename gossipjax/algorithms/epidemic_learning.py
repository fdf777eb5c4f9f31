"""Epidemic Learning: a new random set of receivers in each round, and a plain mean."""

from gossipjax.algorithms.averaging import gossip
from gossipjax.mixing.averaging import count_heads, weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Mixer, chain, reweigh


def epidemic_learning(mixer: Mixer | None = None) -> GossipAlgorithm:
    """Local steps, then the mean of the own parameters and of all that arrived.

        x_i ← (x_i + Σ_{j ∈ S_i} x_j) / (1 + |S_i|)

    where S_i is who told peer i this round. In EL-Oracle the S_i are a random regular graph
    (`topology.epidemic_oracle`): W is doubly stochastic. In EL-Local each peer picks s receivers by
    itself (`topology.epidemic_local`, and what a peer on the network does anyway): the rows of W
    add up to 1, its columns do not, and the mean over the network drifts; `push_sum` cures that.

    Args:
        mixer: what to do instead of the mean; it finds all weights equal.

    References:
        de Vos et al. 2023, "Epidemic Learning: Boosting Decentralized Learning with Randomized
        Communication", algorithm 1.
    """
    return gossip(chain(reweigh(count_heads), mixer or weighted_mean()))
