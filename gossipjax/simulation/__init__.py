"""The protocol under virtual time: thousands of `PeerMachine`s on one seeded network.

The machines are the ones that run over ZeroMQ; the clock, the wires and the faults are made here. A
run is a function of its seed: `python -m gossipjax.simulation --peers 2000 --seconds 120 --seed 7`
prints the same digest every time. Nothing here imports JAX.
"""

from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.network import LinkModel

__all__ = ["Cluster", "ClusterConfig", "LinkModel"]
