"""How well simulated peers do: each by itself, and how far they are apart."""

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossipjax.training.workload import Batch, Loss
from gossipjax.types import Params

Evaluate = Callable[[Params, Any], Mapping[str, jax.Array]]
"""`(params, batch) → {name: scalar}`: means over the batch."""

CHUNK = 250
"""Test samples that all peers look at at once; bounds the memory."""


def metrics_of(loss_fn: Loss) -> Evaluate:
    """The metrics of a loss function, and its value as "loss"."""
    return _LossMetrics(loss_fn)


class _LossMetrics:
    """Compares by the loss function, so that what is compiled for one is found again."""

    def __init__(self, loss_fn: Loss):
        self._loss_fn = loss_fn

    def __call__(self, params: Params, batch: Any) -> dict[str, jax.Array]:
        value, metrics = self._loss_fn(params, batch, jax.random.key(0))
        return {"loss": value, **metrics}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LossMetrics) and other._loss_fn is self._loss_fn

    def __hash__(self) -> int:
        return hash(self._loss_fn)


def test_metrics(
    evaluate: Evaluate, params: Params, data: Batch, is_honest: np.ndarray
) -> dict[str, float]:
    """Metrics of N peers on the same test data: mean, least and greatest, and of the mean model.

    Args:
        evaluate: see `Evaluate`.
        params: pytree of arrays `[N, …]`.
        data: pytree of arrays `[m, …]`.
        is_honest: bool `[N]`: who counts.
    """
    size = len(jax.tree.leaves(data)[0])
    totals: dict[str, np.ndarray] = {}
    models = _with_mean(params, is_honest)
    for first in range(0, size, CHUNK):
        part = slice(first, first + CHUNK)
        chunk = jax.tree.map(itemgetter(part), data)
        share = min(CHUNK, size - first) / size
        for name, values in _metrics(evaluate, models, chunk).items():
            totals[name] = totals.get(name, 0) + share * np.asarray(values, np.float64)
    row: dict[str, float] = {}
    for name, values in totals.items():
        honest = values[:-1][is_honest]
        row |= {
            f"{name}_mean": float(honest.mean()),
            f"{name}_min": float(honest.min()),
            f"{name}_max": float(honest.max()),
            f"{name}_of_mean": float(values[-1]),
        }
    return row


@jax.jit
def consensus_distance(params: Params, is_honest: jax.Array) -> jax.Array:
    """Root of the mean over honest peers of the squared distance from their mean parameters."""

    def squared(leaf: jax.Array) -> jax.Array:
        apart = (leaf - _mean(leaf, is_honest)).astype(jnp.float32)
        return (apart**2).reshape(len(leaf), -1).sum(axis=1)

    distances = sum(squared(leaf) for leaf in jax.tree.leaves(params))
    return jnp.sqrt(jnp.mean(distances, where=is_honest))


@jax.jit
def _with_mean(params: Params, is_honest: jax.Array) -> Params:
    """`[N + 1, …]`: the peers, then the mean of the honest ones."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, _mean(leaf, is_honest)[None]]), params)


def _mean(leaf: jax.Array, is_honest: jax.Array) -> jax.Array:
    return jnp.mean(leaf, axis=0, where=is_honest.reshape(-1, *[1] * (leaf.ndim - 1)))


@partial(jax.jit, static_argnums=0)
def _metrics(evaluate: Evaluate, params: Params, batch: Any) -> Mapping[str, jax.Array]:
    return jax.vmap(evaluate, in_axes=(0, None))(params, batch)
