"""Fewer bytes per payload: sparsification, quantization. Pure JAX."""

from gossipjax.compression.base import Compressor, identity
from gossipjax.compression.quantization import qsgd
from gossipjax.compression.sparsification import random_k, top_k

__all__ = ["Compressor", "identity", "qsgd", "random_k", "top_k"]
