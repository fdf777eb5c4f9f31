"""A multilayer perceptron."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gossipjax.models.initializers import scaled_normal


class MLP(nn.Module):
    """Dense layers with ReLU between them: `[batch, ...]` → float32 logits `[batch, outputs]`.

    199,210 parameters as it stands on 28×28 images.

    Attributes:
        outputs: number of classes.
        widths: of the hidden layers; none makes it softmax regression.
        dtype: of the computation; parameters are float32.

    References:
        McMahan et al., Communication-efficient learning of deep networks from decentralized data,
        AISTATS 2017, section 3 (the "2NN").
    """

    outputs: int = 10
    widths: Sequence[int] = (200, 200)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        hidden = inputs.reshape(len(inputs), -1)
        for width in self.widths:
            hidden = nn.relu(self._dense(width)(hidden))
        return self._dense(self.outputs)(hidden).astype(jnp.float32)

    def _dense(self, width: int) -> nn.Dense:
        return nn.Dense(width, dtype=self.dtype, kernel_init=scaled_normal)
