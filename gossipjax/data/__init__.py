"""Data sets that need no download, and ways to deal them out to peers."""

from gossipjax.data.batching import batches
from gossipjax.data.images import Dataset, digits, fashion_mnist, fashion_mnist_12k, load, mnist
from gossipjax.data.partition import (
    partition_dirichlet,
    partition_feature,
    partition_iid,
    partition_quantity,
    partition_roles,
    partition_shards,
)
from gossipjax.data.text import (
    Corpus,
    Role,
    cut_windows,
    sample_windows,
    shakespeare,
    text_batches,
)

__all__ = [
    "Corpus",
    "Dataset",
    "Role",
    "batches",
    "cut_windows",
    "digits",
    "fashion_mnist",
    "fashion_mnist_12k",
    "load",
    "mnist",
    "partition_dirichlet",
    "partition_feature",
    "partition_iid",
    "partition_quantity",
    "partition_roles",
    "partition_shards",
    "sample_windows",
    "shakespeare",
    "text_batches",
]
