"""A small decoder-only transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gossipjax.models.initializers import scaled_normal

_BASE_PERIOD = 10_000.0
_MLP_FACTOR = 4


class Transformer(nn.Module):
    """Predicts the next token: int tokens `[batch, length]` → float32 logits `[batch, length, v]`.

    Logits at a position depend on the tokens up to it alone. Each layer is

        x ← x + attention(norm(x));  x ← x + mlp(norm(x))

    with RMS norms, causal attention over rotary positions (so any length will do) and a GELU MLP of
    four times the width. The embedding is also the output layer.

    103,360 parameters as it stands with a vocabulary of 74, that of `gossipjax.data.shakespeare`.

    Attributes:
        vocabulary_size: number of different tokens, v.
        layers: number of layers.
        heads: of attention.
        width: of the residual stream; a multiple of `2 · heads`.
        dtype: of the computation; parameters are float32, and so is the softmax.

    Raises:
        ValueError: `width` is no multiple of `2 · heads` (when called).

    References:
        Vaswani et al., Attention is all you need, NeurIPS 2017.
        Xiong et al., On layer normalization in the transformer architecture, ICML 2020.
        Su et al., RoFormer, 2021, arXiv:2104.09864 (rotary positions).
        Zhang and Sennrich, Root mean square layer normalization, NeurIPS 2019.
        Press and Wolf, Using the output embedding to improve language models, EACL 2017.
    """

    vocabulary_size: int
    layers: int = 2
    heads: int = 4
    width: int = 64
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"expected a width that is a multiple of 2 · heads = {2 * self.heads}, "
                f"got {self.width}"
            )
        embed = nn.Embed(self.vocabulary_size, self.width, dtype=self.dtype, name="embed")
        # The embedding's entries have variance 1 / width, as an output layer needs them.
        hidden = embed(tokens) * jnp.sqrt(self.width).astype(self.dtype)
        for layer in range(self.layers):
            hidden = _Layer(self.heads, self.dtype, name=f"layer_{layer}")(hidden)
        hidden = nn.RMSNorm(dtype=self.dtype, name="norm")(hidden)
        return embed.attend(hidden).astype(jnp.float32)


class _Layer(nn.Module):
    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, hidden: jax.Array) -> jax.Array:
        width = hidden.shape[-1]

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(
                features,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=scaled_normal,
                name=name,
            )

        normed = nn.RMSNorm(dtype=self.dtype, name="attention_norm")(hidden)
        projected = dense(3 * width, "query_key_value")(normed)
        query, key, value = jnp.split(
            projected.reshape(*hidden.shape[:-1], 3 * self.heads, -1), 3, axis=-2
        )
        attended = jax.nn.dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        hidden += dense(width, "attention_out")(attended.reshape(hidden.shape))

        normed = nn.RMSNorm(dtype=self.dtype, name="mlp_norm")(hidden)
        expanded = nn.gelu(dense(_MLP_FACTOR * width, "mlp_in")(normed))
        return hidden + dense(width, "mlp_out")(expanded)


def rotated(heads: jax.Array) -> jax.Array:
    """`heads`, `[batch, length, heads, d]`, with pairs of features turned by the position.

    The pair (i, i + d/2) at position p is turned by the angle p · 10000^(-2i/d), so the product of
    two rotated vectors depends on how far apart they are, not on where.
    """
    length, half = heads.shape[1], heads.shape[-1] // 2
    frequencies = _BASE_PERIOD ** (-jnp.arange(half) / half)
    angles = (jnp.arange(length)[:, None] * frequencies)[:, None]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    return jnp.concatenate(turned, axis=-1).astype(heads.dtype)
