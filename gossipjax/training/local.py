"""Local steps under `jax.pmap`: one peer's accelerators work as one.

The step is written for one device: it sees that device's part of the batch, and `pmean` averages
gradients over the devices. Parameters and optimizer state are replicated, so they have no device
axis outside of the step, and whoever mixes or saves them need not know how many devices there are.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gossipjax.training.workload import Batch, Loss, Metrics, Shard, Workload
from gossipjax.types import Params

_AXIS = "devices"
# By name, since optax gives the one of `inject_hyperparams` no public name.
_SCHEDULE_STATES = ("ScaleByScheduleState", "WrappedScheduleState")


class TrainState(NamedTuple):
    """What local training carries from step to step, replicated over the local devices.

    Attributes:
        params: what is trained; the only part that peers exchange.
        opt_state: state of the optimizer.
        key: of the randomness of the loss (dropout).
    """

    params: Params
    opt_state: optax.OptState
    key: jax.Array


class RoundReport(NamedTuple):
    """What one round did.

    Attributes:
        steps: optimizer steps.
        samples: training samples.
        metrics: the loss function's metrics, averaged over the round, and its "loss".
    """

    steps: int
    samples: int
    metrics: dict[str, float]


class LocalTrainer:
    """Takes optimizer steps on all local devices.

    The result does not depend on the number of devices (to rounding), as long as the loss does not
    use its key: a batch is cut into `devices · accumulate` equal parts, the gradient of each is
    taken, and their mean is applied.

    Args:
        loss: see `gossipjax.training.workload.Loss`.
        optimizer: any optax optimizer.
        accumulate: parts of a device's share of the batch that are computed one after the other,
            for a batch that does not fit the memory.
        devices: how many of the local devices to use; by default all.

    Raises:
        ValueError: `accumulate` below 1, or more devices than there are.
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        *,
        accumulate: int = 1,
        devices: int | None = None,
    ):
        available = jax.local_devices()
        count = len(available) if devices is None else devices
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate}")
        if not 1 <= count <= len(available):
            raise ValueError(f"expected 1 to {len(available)} devices, got {count}")
        self._loss = loss
        self._optimizer = optimizer
        self._accumulate = accumulate
        self._devices = available[:count]
        mesh = jax.sharding.Mesh(np.array(self._devices), (_AXIS,))
        self._replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        # Two steps in flight keep a device busy while the host prepares the next. Devices that
        # share the host's threads can block each other in `pmean` with more than one.
        self._in_flight = 1 if count > 1 and available[0].platform == "cpu" else 2
        self._step = jax.pmap(
            self._device_step,
            axis_name=_AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=self._devices,
            donate_argnums=0,
        )

    def init(self, params: Params, *, key: jax.Array, opt_state: Any = None) -> TrainState:
        """A state to begin with; `opt_state` when training is resumed.

        The arrays are copied: the first step consumes the state.
        """
        if opt_state is None:
            opt_state = jax.jit(self._optimizer.init)(params)
        return jax.tree.map(jnp.copy, TrainState(params, opt_state, key))

    def at_version(self, state: TrainState, version: int) -> TrainState:
        """The state with every learning-rate schedule of the optimizer at step `version`.

        So a peer that joined late, or was away, decays its steps together with the others. Moments
        and their bias corrections keep counts of their own.
        """

        def is_schedule(node: Any) -> bool:
            return type(node).__name__ in _SCHEDULE_STATES

        def place(node: Any) -> Any:
            if not is_schedule(node):
                return node
            return node._replace(count=np.asarray(version, node.count.dtype))

        opt_state = jax.tree.map(place, state.opt_state, is_leaf=is_schedule)
        return state._replace(opt_state=opt_state)

    def run_round(
        self,
        state: TrainState,
        batches: Iterator[Batch],
        *,
        steps: int | None = None,
        seconds: float | None = None,
    ) -> tuple[TrainState, RoundReport]:
        """Take steps: so many, or for so long (at least one). Consumes `state`.

        Raises:
            ValueError: both or none of `steps` and `seconds`; a batch that cannot be cut into
                equal parts.
        """
        if (steps is None) == (seconds is None):
            raise ValueError("a round is a number of steps or of seconds: give one of the two")
        if steps is not None and steps < 1:
            raise ValueError(f"a round has at least one step, got {steps}")
        deadline_s = None if seconds is None else time.monotonic() + seconds
        # Moves nothing where a step left it so; otherwise the step would be compiled once more.
        state = jax.device_put(state, self._replicated)
        collected: list[Metrics] = []
        samples = 0
        while True:
            batch = next(batches)
            samples += _sample_count(batch)
            state, metrics = self._step(state, self._divided(batch))
            collected.append(metrics)
            taken = len(collected)
            if taken >= self._in_flight:
                jax.block_until_ready(collected[taken - self._in_flight])
            if taken == steps or (deadline_s is not None and time.monotonic() >= deadline_s):
                break
        return state, RoundReport(taken, samples, _mean_metrics(collected))

    def _divided(self, batch: Batch) -> Any:
        """Leading axes `[devices, accumulate, samples per part]`."""
        parts = len(self._devices) * self._accumulate
        count = _sample_count(batch)
        if count % parts:
            raise ValueError(
                f"a batch of {count} samples cannot be cut into {len(self._devices)} devices × "
                f"{self._accumulate} micro-batches equal parts; choose a batch size that is a "
                f"multiple of {parts}"
            )
        shape = (len(self._devices), self._accumulate, count // parts)
        return jax.tree.map(lambda leaf: np.reshape(leaf, shape + np.shape(leaf)[1:]), dict(batch))

    def _device_step(self, state: TrainState, parts: Any) -> tuple[TrainState, Metrics]:
        key, step_key = jax.random.split(state.key)
        step_key = jax.random.fold_in(step_key, jax.lax.axis_index(_AXIS))
        gradients, metrics = jax.lax.pmean(self._gradients(state.params, parts, step_key), _AXIS)
        updates, opt_state = self._optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, key), metrics

    def _gradients(self, params: Params, parts: Any, key: jax.Array) -> tuple[Params, Metrics]:
        """Means over the micro-batches of gradients and metrics."""

        def one_part(part: Any, key: jax.Array) -> tuple[Params, Metrics]:
            value_and_grad = jax.value_and_grad(self._loss, has_aux=True)
            (loss, metrics), gradients = value_and_grad(params, part, key)
            return gradients, {"loss": loss, **metrics}

        if self._accumulate == 1:  # no loop: XLA's CPU backend is slow inside of one
            return one_part(jax.tree.map(lambda leaf: leaf[0], parts), key)

        def add(total: Any, part_and_key: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, one_part(*part_and_key)), None

        keys = jax.random.split(key, self._accumulate)
        first = jax.tree.map(lambda leaf: leaf[0], parts)
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one_part, first, key)
        )
        total, _ = jax.lax.scan(add, zeros, (parts, keys))
        return jax.tree.map(lambda leaf: leaf / self._accumulate, total)


def train_alone(
    workload: Workload, shard: Shard, *, steps: int, seed: int, accumulate: int = 1
) -> Params:
    """Parameters after so many local steps on one shard, without any exchange.

    With shard 0 of 1 this is central training on everything.
    """
    key = jax.random.key(seed)
    trainer = LocalTrainer(workload.loss, workload.optimizer, accumulate=accumulate)
    params = jax.jit(workload.init)(key)
    state = trainer.init(params, key=jax.random.fold_in(key, 1 + shard.index))
    batches = workload.batches(shard, seed, 0)
    state, _ = trainer.run_round(state, batches, steps=steps)
    return state.params


def _sample_count(batch: Batch) -> int:
    counts = {len(leaf) for leaf in jax.tree.leaves(batch)}
    if len(counts) != 1:
        raise ValueError(f"all arrays of a batch have equally many samples, got {sorted(counts)}")
    return counts.pop()


def _mean_metrics(collected: list[Metrics]) -> dict[str, float]:
    values = jax.device_get(collected)
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}
