"""Small Flax Linen models, and what is common to training them. Pure JAX.

Every model computes in its `dtype`, keeps its parameters in float32 and returns float32 logits.
"""

from gossipjax.models.classification import (
    accuracy,
    classification_evaluator,
    classification_loss,
    cross_entropy,
)
from gossipjax.models.cnn import CNN
from gossipjax.models.mlp import MLP
from gossipjax.models.transformer import Transformer

__all__ = [
    "CNN",
    "MLP",
    "Transformer",
    "accuracy",
    "classification_evaluator",
    "classification_loss",
    "cross_entropy",
]
