"""Thousands of peers in one process: the protocol under virtual time, and their training.

The protocol: the `PeerMachine`s that run over ZeroMQ, on one seeded network; the clock, the wires
and the faults are made here. A run is a function of its seed: `python -m gossipjax.simulation
--peers 2000 --seconds 120 --seed 7` prints the same digest every time.

Training: `gossipjax.simulation.learner`, the only part that imports JAX; it is driven by a topology
or by what the protocol has delivered.
"""

from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.deliveries import DeliveryTrace, asynchronous, clock
from gossipjax.simulation.network import LinkModel
from gossipjax.simulation.recorder import DeliveryRecorder

__all__ = [
    "Cluster",
    "ClusterConfig",
    "DeliveryRecorder",
    "DeliveryTrace",
    "LinkModel",
    "asynchronous",
    "clock",
]
