"""How a peer folds its neighbors' payloads into its own parameters. Pure JAX."""

from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import (
    GossipAlgorithm,
    Mixer,
    MixInfo,
    Neighbors,
    Transform,
    chain,
)
from gossipjax.mixing.staleness import (
    constant_decay,
    discount_staleness,
    exponential_decay,
    hinge_decay,
    polynomial_decay,
)

__all__ = [
    "GossipAlgorithm",
    "MixInfo",
    "Mixer",
    "Neighbors",
    "Transform",
    "chain",
    "constant_decay",
    "discount_staleness",
    "exponential_decay",
    "hinge_decay",
    "polynomial_decay",
    "weighted_mean",
]
