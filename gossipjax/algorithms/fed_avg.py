"""FedAvg, with no server: everybody averages the same models of a few peers."""

from gossipjax.algorithms.averaging import gossip
from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import GossipAlgorithm, Needs


def fed_avg() -> GossipAlgorithm:
    """Federated averaging, as the reference for what needs no server.

        x ← Σ_{j ∈ S_t} n_j x_j / Σ_{j ∈ S_t} n_j

    where S_t are the peers that take part in round t, and n_j their weights (samples). All peers
    hear the same payloads, so all have the same model after the round, as if a server had averaged
    and told everybody. `topology.federated` draws S_t at random and gives a weight of 0 to the own
    model of those who sit out: they adopt the average.

    References:
        McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
        Data", algorithm 1.
    """
    return gossip(weighted_mean())._replace(needs=Needs(lossless=True))
