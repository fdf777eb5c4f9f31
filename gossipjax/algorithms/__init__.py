"""Decentralized training methods, each built as a `GossipAlgorithm`. Pure JAX."""

from gossipjax.algorithms.averaging import gossip

__all__ = [
    "gossip",
]
