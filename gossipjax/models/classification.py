"""Loss, metrics and evaluation of models that choose one of several classes, or the next token."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from gossipjax.types import Params


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of −log softmax(logits)[label], in float32.

    Args:
        logits: `[..., classes]`.
        labels: int `[...]`.

    Returns:
        float32 scalar, in nats.
    """
    return _cross_entropies(logits, labels).mean()


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Part of the samples whose greatest logit, `[..., classes]`, is that of the label, `[...]`."""
    return _hits(logits, labels).mean()


def classification_loss(
    model: nn.Module,
) -> Callable[[Params, Mapping[str, jax.Array], jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
    """The loss function of a `Workload`.

    Args:
        model: gives logits `[..., classes]` for a batch's "inputs"; its "labels" are int `[...]`.

    Returns:
        `(params, batch, key) → (loss, {"loss": …, "accuracy": …})`, means over the batch; `params`
        are what `model.init` returns, `key` is not used.
    """

    def loss(
        params: Params, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del key
        logits: Any = model.apply(params, batch["inputs"])
        value = cross_entropy(logits, batch["labels"])
        return value, {"loss": value, "accuracy": accuracy(logits, batch["labels"])}

    return loss


def classification_evaluator(
    model: nn.Module,
    inputs: npt.NDArray[np.generic],
    labels: npt.NDArray[np.integer],
    *,
    batch_size: int = 500,
) -> Callable[[Params], dict[str, float]]:
    """The evaluate function of a `Workload`: over a whole test set, with one compilation.

    The set is cut into batches of one size; where it does not go up, the last batch is filled with
    samples that do not count.

    Args:
        model: as for `classification_loss`.
        inputs: `[n, ...]`.
        labels: int `[n, ...]`.
        batch_size: most samples that are computed at once.

    Returns:
        `(params) → {"loss": …, "accuracy": …}`, means over the set.

    Raises:
        ValueError: no samples, not as many labels as inputs, or a batch size below 1.
    """
    count = len(inputs)
    if not 0 < count == len(labels):
        raise ValueError(
            f"expected as many inputs as labels and some, got {count} and {len(labels)}"
        )
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    batch_count = -(-count // batch_size)
    positions = np.arange(batch_count * -(-count // batch_count)).reshape(batch_count, -1)
    chosen = np.minimum(positions, count - 1)
    weights = (positions < count).astype(np.float32) / count

    @jax.jit
    def means(
        params: Params, inputs: jax.Array, labels: jax.Array, weight: jax.Array
    ) -> dict[str, jax.Array]:
        logits: Any = model.apply(params, inputs)
        values = {"loss": _cross_entropies(logits, labels), "accuracy": _hits(logits, labels)}
        return {
            name: weight @ value.reshape(len(value), -1).mean(1) for name, value in values.items()
        }

    def evaluate(params: Params) -> dict[str, float]:
        # Data goes in as arguments: XLA would fold a captured constant for minutes.
        parts = [
            means(params, inputs[indices], labels[indices], weight)
            for indices, weight in zip(chosen, weights, strict=True)
        ]
        return {name: float(sum(part[name] for part in parts)) for name in parts[0]}

    return evaluate


def _cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


def _hits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == labels).astype(jnp.float32)
