"""A convolutional network that one CPU thread trains quickly."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gossipjax.models.initializers import scaled_normal


class CNN(nn.Module):
    """3×3 convolutions of stride 2, then one dense layer: images → float32 logits.

    Args of a call: `[batch, height, width, channels]`; result: `[batch, outputs]`. Each convolution
    halves height and width and is followed by ReLU.

    20,490 parameters as it stands on 28×28 gray images.

    Strides in place of pooling, few channels and no hidden dense layer are choices for XLA's CPU
    backend. Mapped over per-peer parameters with `vmap`, convolutions are very slow there: simulate
    many peers with `MLP`.

    Attributes:
        outputs: number of classes.
        channels: of each convolution's result.
        dtype: of the computation; parameters are float32.
    """

    outputs: int = 10
    channels: Sequence[int] = (16, 32)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        hidden = inputs
        for channels in self.channels:
            convolution = nn.Conv(
                channels, (3, 3), strides=2, dtype=self.dtype, kernel_init=scaled_normal
            )
            hidden = nn.relu(convolution(hidden))
        output = nn.Dense(self.outputs, dtype=self.dtype, kernel_init=scaled_normal)
        return output(hidden.reshape(len(hidden), -1)).astype(jnp.float32)
