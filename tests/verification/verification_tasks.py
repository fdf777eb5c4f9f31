"""A small public task, for the tests of verification."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gossipjax.training import LocalTrainer, TrainState, Workload, public_samples
from gossipjax.verification.assignment import assignment
from gossipjax.verification.rounds import Task

FEATURES = 6
AUTHOR = b"a" * 32
BEACON = b"e" * 64


def loss(params, batch, key):
    keep = jax.random.bernoulli(key, 0.8, batch["inputs"].shape)  # dropout: the key matters
    predicted = jax.nn.softplus((batch["inputs"] * keep) @ params["w"]) @ params["v"]
    return jnp.mean((predicted - batch["labels"]) ** 2), {}


@functools.cache
def make_public(seed=0):
    inputs = np.random.default_rng(seed).normal(size=(200, FEATURES)).astype(np.float32)
    return public_samples({"inputs": inputs, "labels": np.abs(inputs.sum(1))}, batch_size=8)


@functools.cache
def make_workload(optimizer=None):
    def init(key):
        return {"w": jax.random.normal(key, (FEATURES, 5)) / 3, "v": jnp.ones(5) / 3}

    def batches(shard, seed, start):
        return iter(())

    schedule = optax.cosine_decay_schedule(0.05, 400)
    optimizer = optimizer or optax.sgd(schedule, momentum=0.9, nesterov=True)
    return Workload(init, loss, batches, lambda params: {}, optimizer, make_public())


@functools.cache  # so that tests share what is compiled
def make_trainer(workload=None, **options):
    workload = workload or make_workload()
    return LocalTrainer(workload.loss, workload.optimizer, **options)


def make_state(trainer, workload=None) -> TrainState:
    workload = workload or make_workload()
    return trainer.init(workload.init(jax.random.key(0)), key=jax.random.key(1))


def make_task(sequence=1, version=0, author=AUTHOR, beacon=BEACON) -> Task:
    return Task(make_public(), assignment(author, sequence, beacon), version)
