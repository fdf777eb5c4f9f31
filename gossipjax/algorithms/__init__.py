"""Decentralized training methods, each built as a `GossipAlgorithm`. Pure JAX."""

from gossipjax.algorithms.ad_psgd import ad_psgd
from gossipjax.algorithms.averaging import gossip
from gossipjax.algorithms.choco import choco
from gossipjax.algorithms.d_psgd import d_psgd
from gossipjax.algorithms.d_squared import d_squared
from gossipjax.algorithms.decentralized_momentum import decentralized_momentum
from gossipjax.algorithms.epidemic_learning import epidemic_learning
from gossipjax.algorithms.fed_avg import fed_avg
from gossipjax.algorithms.gossip_learning import gossip_learning
from gossipjax.algorithms.gradient_tracking import gradient_tracking
from gossipjax.algorithms.push_sum import push_sum
from gossipjax.algorithms.quasi_global_momentum import quasi_global_momentum
from gossipjax.algorithms.relay_sum import relay_sum

__all__ = [
    "ad_psgd",
    "choco",
    "d_psgd",
    "d_squared",
    "decentralized_momentum",
    "epidemic_learning",
    "fed_avg",
    "gossip",
    "gossip_learning",
    "gradient_tracking",
    "push_sum",
    "quasi_global_momentum",
    "relay_sum",
]
