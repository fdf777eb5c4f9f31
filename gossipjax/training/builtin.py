"""The workloads that come with the package: `python -m gossipjax.peer run NAME`."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import numpy.typing as npt
import optax

from gossipjax import data, models
from gossipjax.training.workload import Batch, Shard, Workload, public_samples


def fashion_mnist(
    *,
    alpha: float = 0.1,
    partition_seed: int = 0,
    batch_size: int = 32,
    learning_rate: float = 0.05,
    decay_steps: int = 3000,
    full: bool = False,
    dtype: str = "float32",
) -> Workload:
    """A small CNN on Fashion-MNIST that is dealt out by label.

    Args:
        alpha: Dirichlet concentration of the partition; 0.1 is skewed, 0 deals out evenly.
        partition_seed: of the partition, the same on every peer of a run.
        batch_size: samples per step.
        learning_rate: of SGD with Nesterov momentum 0.9, at the start; see `_optimizer`.
        decay_steps: version at which the learning rate has fallen to 0, by half a cosine.
        full: all 60,000 images, found on disk, instead of the 12,000 in the package.
        dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
    """
    images = data.fashion_mnist() if full else data.fashion_mnist_12k()
    model = models.CNN(images.classes, (16, 32, 64), dtype=_compute_dtype(dtype))
    return _classification(
        model,
        images,
        alpha,
        partition_seed,
        batch_size,
        _optimizer(learning_rate, decay_steps),
        dtype,
    )


def digits(
    *,
    alpha: float = 0.1,
    partition_seed: int = 0,
    batch_size: int = 32,
    learning_rate: float = 0.05,
    decay_steps: int = 500,
) -> Workload:
    """A perceptron on scikit-learn's 8×8 digits: seconds, for trying things out.

    The options are those of `fashion_mnist`.
    """
    return _classification(
        models.MLP(10, (64,)),
        data.digits(),
        alpha,
        partition_seed,
        batch_size,
        _optimizer(learning_rate, decay_steps),
    )


def shakespeare(
    *,
    window: int = 64,
    partition_seed: int = 0,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    layers: int = 2,
    width: int = 64,
    dtype: str = "float32",
) -> Workload:
    """A transformer that predicts the next character; each peer has speaking roles of its own.

    Args:
        window: characters that the model sees.
        partition_seed: which peer gets which roles, the same on every peer of a run.
        batch_size: windows per step.
        learning_rate: of AdamW, constant after 100 steps of warm-up.
        layers: of the transformer.
        width: of the transformer's residual stream.
        dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
    """
    corpus = data.shakespeare()
    model = models.Transformer(
        len(corpus.vocabulary), layers=layers, width=width, dtype=_compute_dtype(dtype)
    )
    test = [role.test_tokens for role in corpus.roles[:64]]
    test_windows = np.concatenate([data.cut_windows(tokens, window)[:4] for tokens in test])

    def batches(shard: Shard, seed: int, start: int) -> Iterator[Batch]:
        roles = data.partition_roles(corpus, shard.count, seed=partition_seed)[shard.index]
        tokens = np.concatenate([corpus.roles[role].train_tokens for role in roles])
        return data.text_batches(tokens, batch_size, window, seed=seed, start=start)

    windows = np.concatenate(
        [
            data.cut_windows(r.train_tokens, window)
            for r in corpus.roles
            if len(r.train_tokens) > window
        ]
    )
    schedule = optax.linear_schedule(0.0, learning_rate, 100)
    return Workload(
        init=lambda key: model.init(key, test_windows[:1, :-1]),
        loss=models.classification_loss(model),
        batches=batches,
        evaluate=models.classification_evaluator(
            model, test_windows[:, :-1], test_windows[:, 1:], batch_size=128
        ),
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule)),
        public=public_samples({"inputs": windows[:, :-1], "labels": windows[:, 1:]}, batch_size),
        compute_dtype=dtype,
    )


BUILTIN: dict[str, Callable[..., Workload]] = {
    "fashion_mnist": fashion_mnist,
    "digits": digits,
    "shakespeare": shakespeare,
}
"""What a command line may name without a file."""


def _optimizer(learning_rate: float, decay_steps: int) -> optax.GradientTransformation:
    """SGD, since momentum that is rescaled per peer (Adam) drifts apart on unlike shards."""
    schedule = optax.cosine_decay_schedule(learning_rate, decay_steps)
    return optax.sgd(schedule, momentum=0.9, nesterov=True)


def _compute_dtype(name: str) -> np.dtype[Any]:
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is float32 or bfloat16, got {name!r}")
    return jax.numpy.dtype(name)


def _classification(
    model: nn.Module,
    images: data.Dataset,
    alpha: float,
    partition_seed: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
    dtype: str = "float32",
) -> Workload:
    @functools.cache
    def shards(count: int) -> list[npt.NDArray[np.int64]]:
        if alpha == 0:
            return data.partition_iid(len(images.train_labels), count, seed=partition_seed)
        return data.partition_dirichlet(images.train_labels, count, alpha, seed=partition_seed)

    def batches(shard: Shard, seed: int, start: int) -> Iterator[Batch]:
        mine = shards(shard.count)[shard.index]
        inputs, labels = images.train_inputs[mine], images.train_labels[mine]
        return data.batches(inputs, labels, batch_size, seed=seed, start=start)

    return Workload(
        init=lambda key: model.init(key, images.train_inputs[:1]),
        loss=models.classification_loss(model),
        batches=batches,
        evaluate=models.classification_evaluator(model, images.test_inputs, images.test_labels),
        optimizer=optimizer,
        public=public_samples(
            {"inputs": images.train_inputs, "labels": images.train_labels}, batch_size
        ),
        compute_dtype=dtype,
    )
