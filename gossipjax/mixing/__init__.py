"""How a peer folds its neighbors' payloads into its own parameters. Pure JAX."""

from gossipjax.mixing.averaging import (
    convex_mixer,
    convex_sum,
    convex_weights,
    count_heads,
    input_weights,
    metropolis_weights,
    rounded,
    weighted_mean,
)
from gossipjax.mixing.base import (
    GossipAlgorithm,
    Mixer,
    MixInfo,
    Needs,
    Neighbors,
    Transform,
    chain,
    reweigh,
)
from gossipjax.mixing.clipping import centered_clip, clip_distance
from gossipjax.mixing.distances import distances_to_inputs
from gossipjax.mixing.robust import coordinate_median, geometric_median, trimmed_mean
from gossipjax.mixing.selection import krum, multi_krum, nearest_neighbors
from gossipjax.mixing.similarity import balance, drop_farthest, ubar
from gossipjax.mixing.staleness import (
    constant_decay,
    discount_staleness,
    exponential_decay,
    hinge_decay,
    polynomial_decay,
    weigh_by_age,
)

__all__ = [
    "GossipAlgorithm",
    "MixInfo",
    "Mixer",
    "Needs",
    "Neighbors",
    "Transform",
    "balance",
    "centered_clip",
    "chain",
    "clip_distance",
    "constant_decay",
    "convex_mixer",
    "convex_sum",
    "convex_weights",
    "coordinate_median",
    "count_heads",
    "discount_staleness",
    "distances_to_inputs",
    "drop_farthest",
    "exponential_decay",
    "geometric_median",
    "hinge_decay",
    "input_weights",
    "krum",
    "metropolis_weights",
    "multi_krum",
    "nearest_neighbors",
    "polynomial_decay",
    "reweigh",
    "rounded",
    "trimmed_mean",
    "ubar",
    "weigh_by_age",
    "weighted_mean",
]
