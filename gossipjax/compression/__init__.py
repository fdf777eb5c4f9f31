"""Fewer bytes per payload: casts, quantization, signs, sparsification, DCT, low rank. Pure JAX."""

from gossipjax.compression.base import Compressor, error_feedback, identity
from gossipjax.compression.casting import bf16, fp16
from gossipjax.compression.dct import dct
from gossipjax.compression.fragments import fragments
from gossipjax.compression.low_rank import low_rank
from gossipjax.compression.quantization import int2, int4, int8, qsgd
from gossipjax.compression.signs import sign
from gossipjax.compression.sparsification import random_k, top_k, top_k_2bit

NAMES = (
    "bf16",
    "fp16",
    "int8",
    "int4",
    "int2",
    "qsgd",
    "sign",
    "top_k",
    "top_k_2bit",
    "random_k",
    "dct",
    "low_rank",
    "fragments",
)
"""Compressors that settings can name, as functions of this package."""

__all__ = [
    "NAMES",
    "Compressor",
    "bf16",
    "dct",
    "error_feedback",
    "fp16",
    "fragments",
    "identity",
    "int2",
    "int4",
    "int8",
    "low_rank",
    "qsgd",
    "random_k",
    "sign",
    "top_k",
    "top_k_2bit",
]
