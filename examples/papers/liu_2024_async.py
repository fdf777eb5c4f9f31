"""Asynchronous local SGD: momentum has to wait until everybody has been heard.

B. Liu, R. Chhaparia, A. Douillard, S. Kale, A. A. Rusu, J. Shen, A. Szlam, M. Ranzato:
"Asynchronous Local-SGD Training for Language Modeling", 2024, arXiv:2401.09135, sections 4 to 6.

Claims: with workers of unequal speed, Nesterov momentum at each arriving pseudo-gradient converges
slower than synchronous local SGD; delayed Nesterov (DN) with steps in proportion to speed (DyLU)
does as well per update, in a fraction of the time.

    python examples/papers/liu_2024_async.py [--quick]

About two minutes on 2 CPU cores. The setting of the authors' toy: a perceptron on a mixture of
Gaussians with 4 classes of 8 clusters each, 4 workers that take 0.58, 0.75, 1.51 and 3.33 seconds
per step, H = 20, AdamW in the workers; time is simulated, and all methods take as many local steps.
The server of the paper is a peer that hears nobody: its own local steps are those of the worker
that has ended. Expected, with the outer rates of the authors' toy (0.7; naive asynchronous 0.07):
- loss of DN + DyLU minus that of synchronous training: at most 0.01;
- simulated time, synchronous over DN + DyLU: at least 3;
- loss of naive asynchronous Nesterov minus that of DN + DyLU: at least 0.01.
"""

import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from reproduction import Outcome, Row, at_least, at_most, main

from gossipjax import algorithms
from gossipjax.mixing import GossipAlgorithm, Neighbors
from gossipjax.models import MLP, classification_loss

SECONDS_PER_STEP, WORKERS = (0.58, 0.75, 1.51, 3.33), 4


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    rounds: int = 100
    steps: int = 20
    size: int = 128
    samples: int = 32_000
    noise: float = 1.6
    learning_rate: float = 2e-4
    batch: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    gap: float = 0.01
    naive_gap: float = 0.01


class Method(NamedTuple):
    """How the server takes what arrives; `dynamic`: steps in proportion to speed (DyLU)."""

    algorithm: GossipAlgorithm
    is_dynamic: bool = False


METHODS = {
    "asynchronous Nesterov": Method(algorithms.diloco(0.07, 0.9)),
    "DN": Method(algorithms.delayed_nesterov(WORKERS)),
    "DN + DyLU": Method(algorithms.delayed_nesterov(WORKERS), is_dynamic=True),
}


class Problem:
    """The mixture of Gaussians, the perceptron, and a worker's local steps."""

    def __init__(self, config: Config, seed: int):
        rng = np.random.default_rng(seed)
        centers = rng.standard_normal((32, config.size))
        which = rng.integers(0, 32, config.samples + 4000)
        noise = config.noise * rng.standard_normal((len(which), config.size))
        inputs, labels = (centers[which] + noise).astype(np.float32), (which % 4).astype(np.int32)
        self.data = {"inputs": jnp.asarray(inputs), "labels": jnp.asarray(labels)}
        self.test = {name: array[config.samples :] for name, array in self.data.items()}
        self.config, model = config, MLP(4, (64,))
        self.loss = classification_loss(model)
        self.start = model.init(jax.random.key(seed), self.data["inputs"][:1])
        self.optimizer = optax.adamw(config.learning_rate)
        self.optimizer_state = self.optimizer.init(self.start)
        self.train = jax.jit(self._train)
        self.test_loss = jax.jit(lambda params: self.loss(params, self.test, self.key)[0])
        self.key = jax.random.key(seed + 1)

    def _train(self, params: Any, state: Any, key: jax.Array, steps: jax.Array, data: Any) -> Any:
        def step(index: jax.Array, carry: Any) -> Any:
            params, state = carry
            step_key = jax.random.fold_in(key, index)
            chosen = jax.random.randint(step_key, (self.config.batch,), 0, self.config.samples)
            batch = jax.tree.map(lambda leaf: leaf[chosen], data)
            gradients, _ = jax.grad(self.loss, has_aux=True)(params, batch, key)
            updates, state = self.optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, steps, step, (params, state))


def heard(payloads: list[Any], like: Any) -> Neighbors:
    """What a server hears: these payloads with equal weights, or nothing in one empty slot."""
    weight = jnp.ones(len(payloads)) if payloads else jnp.zeros(1)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(payloads or [like]))
    return Neighbors(stacked, weight, 0 * weight, weight > 0, jnp.float32(1))


def synchronous(problem: Problem) -> tuple[list[Row], float]:
    """DiLoCo: all wait for the slowest."""
    config, algorithm = problem.config, algorithms.diloco()
    mix = jax.jit(algorithm.mix)
    params, state = problem.start, algorithm.init(problem.start)
    optimizer_states = [problem.optimizer_state] * WORKERS
    rows: list[Row] = []
    seconds = max(SECONDS_PER_STEP) * config.steps
    for number in range(config.rounds):
        ends = []
        for worker in range(WORKERS):
            key = jax.random.fold_in(problem.key, number * WORKERS + worker)
            end, optimizer_states[worker] = problem.train(
                params, optimizer_states[worker], key, config.steps, problem.data
            )
            ends.append(end)
        params, state, _ = mix(state, ends[0], heard(ends[1:], ends[0]))
        rows.append({"seconds": (number + 1) * seconds, "loss": float(problem.test_loss(params))})
    return rows, config.rounds * seconds


def asynchronous(problem: Problem, method: Method) -> tuple[list[Row], float]:
    """Each worker goes on with the newest parameters as soon as it has ended."""
    config = problem.config
    mix = jax.jit(method.algorithm.mix)
    params, state = problem.start, method.algorithm.init(problem.start)
    optimizer_states = [problem.optimizer_state] * WORKERS
    left, now, number = config.rounds * WORKERS * config.steps, 0.0, 0
    speeds = [SECONDS_PER_STEP[0] / each if method.is_dynamic else 1 for each in SECONDS_PER_STEP]
    steps = [int(config.steps * speed) for speed in speeds]
    ends = [(steps[w] * SECONDS_PER_STEP[w], w, problem.start) for w in range(WORKERS)]
    rows: list[Row] = []
    heapq.heapify(ends)
    while left > 0:
        now, worker, start = heapq.heappop(ends)
        key = jax.random.fold_in(problem.key, number)
        end, optimizer_states[worker] = problem.train(
            start, optimizer_states[worker], key, steps[worker], problem.data
        )
        # The server's own step is the worker's: g = start - end, wherever the server is by now.
        arrived = jax.tree.map(lambda p, s, e: p - (s - e), params, start, end)
        params, state, _ = mix(state, arrived, heard([], arrived))
        left, number = left - steps[worker], number + 1
        heapq.heappush(ends, (now + steps[worker] * SECONDS_PER_STEP[worker], worker, params))
        if number % WORKERS == 0 or left <= 0:
            rows.append({"seconds": now, "loss": float(problem.test_loss(params))})
    return rows, now


def reproduce(config: Config) -> Outcome:
    """Loss over simulated time, of all methods and seeds."""
    runs: dict[str, Callable[[Problem], tuple[list[Row], float]]] = {"synchronous": synchronous}
    runs |= {name: partial(asynchronous, method=method) for name, method in METHODS.items()}
    losses: dict[str, list[float]] = {name: [] for name in runs}
    seconds: dict[str, float] = {}
    rows: list[Row] = []
    for seed in config.seeds:
        problem = Problem(config, seed)
        for name, run in runs.items():
            table, seconds[name] = run(problem)
            losses[name].append(float(table[-1]["loss"]))
            rows += [{"method": name, "run": seed, **row} for row in table]
    mean = {name: float(np.mean(values)) for name, values in losses.items()}
    for name, value in mean.items():
        print(f"{name}: loss {value:.4f} after {seconds[name]:.0f} simulated seconds")
    final = mean["DN + DyLU"]
    return Outcome(
        [
            at_most("loss, DN + DyLU minus synchronous", config.gap, final - mean["synchronous"]),
            at_least(
                "simulated time, synchronous over DN + DyLU",
                3.0,
                seconds["synchronous"] / seconds["DN + DyLU"],
            ),
            at_least(
                "loss, asynchronous Nesterov minus DN + DyLU",
                config.naive_gap,
                mean["asynchronous Nesterov"] - final,
            ),
        ],
        rows,
    )


SMALL = {"size": 32, "samples": 4000, "noise": 3.5}
QUICK = {"rounds": 8, "seeds": (0,), "gap": 0.1, "naive_gap": 0.0} | SMALL

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
