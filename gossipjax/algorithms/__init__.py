"""Decentralized training methods, each built as a `GossipAlgorithm`. Pure JAX."""

from gossipjax.algorithms.ad_psgd import ad_psgd
from gossipjax.algorithms.averaging import gossip
from gossipjax.algorithms.choco import choco
from gossipjax.algorithms.compressed import compressed
from gossipjax.algorithms.d_psgd import d_psgd
from gossipjax.algorithms.d_squared import d_squared
from gossipjax.algorithms.decentralized_momentum import decentralized_momentum
from gossipjax.algorithms.delayed_nesterov import delayed_nesterov
from gossipjax.algorithms.diloco import diloco
from gossipjax.algorithms.epidemic_learning import epidemic_learning
from gossipjax.algorithms.fed_avg import fed_avg
from gossipjax.algorithms.gossip_learning import gossip_learning
from gossipjax.algorithms.gradient_tracking import gradient_tracking
from gossipjax.algorithms.local_sgd import local_sgd
from gossipjax.algorithms.noloco import noloco
from gossipjax.algorithms.push_sum import push_sum
from gossipjax.algorithms.quasi_global_momentum import quasi_global_momentum
from gossipjax.algorithms.relay_sum import relay_sum
from gossipjax.algorithms.sparse_loco import sparse_loco
from gossipjax.algorithms.streaming import streaming

__all__ = [
    "ad_psgd",
    "choco",
    "compressed",
    "d_psgd",
    "d_squared",
    "decentralized_momentum",
    "delayed_nesterov",
    "diloco",
    "epidemic_learning",
    "fed_avg",
    "gossip",
    "gossip_learning",
    "gradient_tracking",
    "local_sgd",
    "noloco",
    "push_sum",
    "quasi_global_momentum",
    "relay_sum",
    "sparse_loco",
    "streaming",
]
