"""Who hears whom: graphs, sequences of graphs, mixing weights and how well they mix. NumPy only."""

from gossipjax.topology.base import (
    Topology,
    consensus_rate,
    from_edges,
    is_connected,
    metropolis_weights,
    spectral_gap,
    uniform_weights,
)
from gossipjax.topology.static import (
    binary_tree,
    complete,
    dumbbell,
    erdos_renyi,
    exponential,
    line,
    random_regular,
    ring,
    small_world,
    star,
    torus,
)
from gossipjax.topology.varying import (
    base_graph,
    epidemic_local,
    epidemic_oracle,
    federated,
    one_peer_exponential,
    random_matching,
)

__all__ = [
    "Topology",
    "base_graph",
    "binary_tree",
    "complete",
    "consensus_rate",
    "dumbbell",
    "epidemic_local",
    "epidemic_oracle",
    "erdos_renyi",
    "exponential",
    "federated",
    "from_edges",
    "is_connected",
    "line",
    "metropolis_weights",
    "one_peer_exponential",
    "random_matching",
    "random_regular",
    "ring",
    "small_world",
    "spectral_gap",
    "star",
    "torus",
    "uniform_weights",
]
