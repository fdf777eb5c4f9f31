"""Decentralized training methods, each built as a `GossipAlgorithm`. Pure JAX."""

from gossipjax.algorithms.averaging import gossip
from gossipjax.algorithms.d_psgd import d_psgd

__all__ = [
    "d_psgd",
    "gossip",
]
