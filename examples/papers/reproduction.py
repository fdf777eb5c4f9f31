"""What the examples of papers have in common: claims with bounds, CSV files, a learning task."""

import argparse
import csv
import functools
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

import gossipjax as gj
from gossipjax.mixing import GossipAlgorithm
from gossipjax.simulation.results import SimulationResult
from gossipjax.training.workload import Batch, Loss

FOLDER = Path("runs/papers")
"""CSV files go here, in the folder that an example is started in."""

Row = Mapping[str, Any]
C = TypeVar("C")


class Result(NamedTuple):
    """One claim, the bounds between which its figure should lie, and the figure.

    `note` is for a claim that is known not to hold at this size: it says so, and is no failure.
    """

    claim: str
    low: float
    obtained: float
    high: float
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.low <= self.obtained <= self.high


class Outcome(NamedTuple):
    """The claims of a paper, and the rows that its figure is drawn from."""

    results: list[Result]
    rows: Sequence[Row] = ()


def within(claim: str, expected: float, obtained: float, error: float) -> Result:
    """A claim with bounds of three standard errors around the expected figure."""
    return Result(claim, expected - 3 * error, obtained, expected + 3 * error)


def at_least(claim: str, least: float, obtained: float, note: str = "") -> Result:
    """A claim with a lower bound only."""
    return Result(claim, least, obtained, float("inf"), note)


def at_most(claim: str, most: float, obtained: float, note: str = "") -> Result:
    """A claim with an upper bound only."""
    return Result(claim, float("-inf"), obtained, most, note)


def main(file: str, config: C, quick: Mapping[str, Any], reproduce: Callable[[C], Outcome]) -> int:
    """Run, print, write; 1 when a claim does not hold.

    Args:
        file: of the example; its stem names the CSV files.
        config: a frozen dataclass.
        quick: the fields that `--quick` changes.
        reproduce: the example.
    """
    parser = argparse.ArgumentParser(description=Path(file).stem)
    parser.add_argument("--quick", action="store_true", help="smaller, the same kind of claims")
    if parser.parse_args().quick:
        config = replace(config, **quick)  # pyright: ignore[reportArgumentType]
    start_s = time.monotonic()
    outcome = reproduce(config)
    seconds = time.monotonic() - start_s
    for result in outcome.results:
        verdict = "holds" if result.holds else f"DOES NOT HOLD {result.note}"
        print("{:<72} {:10.4g} <= {:10.4g} <= {:10.4g}  {}".format(*result[:4], verdict))
    print(f"{seconds / 60:.1f} minutes")
    settings = asdict(config) | {"commit": _commit()}  # pyright: ignore[reportArgumentType]
    claims = [
        {**result._asdict(), "holds": result.holds, "minutes": round(seconds / 60, 2), **settings}
        for result in outcome.results
    ]
    write(FOLDER / f"{Path(file).stem}.csv", claims)
    if outcome.rows:
        write(FOLDER / f"{Path(file).stem}_rows.csv", outcome.rows)
    return 0 if all(result.holds or result.note for result in outcome.results) else 1


def write(path: Path, rows: Sequence[Row]) -> None:
    """Rows as CSV; a row may lack columns that others have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)


class _ReachedError(Exception):
    """Nothing more to simulate."""


class Task(NamedTuple):
    """A learning task, dealt out to peers; the fields are arguments of `gossipjax.simulate`."""

    loss_fn: Loss
    init_params: Any
    shards: list[Batch]
    test_data: Batch

    def run(
        self,
        algorithm: GossipAlgorithm,
        learning_rate: float,
        *,
        momentum: float | None = None,
        **options: Any,
    ) -> SimulationResult:
        """Train with SGD and a constant learning rate.

        A decaying one would hide what data that differ from peer to peer do: all methods tie.
        """
        optimizer = _sgd(learning_rate, momentum=momentum)
        every = max(1, options["rounds"] // EVALUATIONS)
        return gj.simulate(algorithm, optimizer, **self._asdict(), evaluate_every=every, **options)

    def run_until(
        self, target: float, algorithm: GossipAlgorithm, learning_rate: float, **options: Any
    ) -> list[Row]:
        """The table until the peers' mean accuracy is the target, or until the rounds are over."""
        rows: list[Row] = []

        def watch(row: Row) -> None:
            rows.append(row)
            if row["accuracy_mean"] >= target:
                raise _ReachedError

        optimizer = _sgd(learning_rate, momentum=None)
        with suppress(_ReachedError):
            gj.simulate(algorithm, optimizer, **self._asdict(), on_evaluation=watch, **options)
        return rows


def image_task(
    name: str, peers: int, alpha: float, *, seed: int, widths: Sequence[int] = (64,)
) -> Task:
    """A data set of the package, dealt out by Dirichlet(alpha), and a perceptron."""
    images = gj.data.load(name)
    dealt = gj.data.partition_dirichlet(images.train_labels, peers, alpha, seed=seed)
    model, loss = _perceptron(images.classes, tuple(widths))
    shards: list[Batch] = [
        {"inputs": images.train_inputs[chosen], "labels": images.train_labels[chosen]}
        for chosen in dealt
    ]
    return Task(
        loss,
        model.init(jax.random.key(seed), images.train_inputs[:1]),
        shards,
        {"inputs": images.test_inputs, "labels": images.test_labels},
    )


def with_flipped_labels(task: Task, is_byzantine: npt.NDArray[np.bool_], classes: int = 10) -> Task:
    """The task where attackers train on flipped labels, and honestly otherwise."""
    shards: list[Batch] = [
        {**shard, "labels": classes - 1 - np.asarray(shard["labels"])} if is_liar else shard
        for shard, is_liar in zip(task.shards, is_byzantine, strict=True)
    ]
    return task._replace(shards=shards)


# What is compiled for a function is found again for the same object only.
_sgd = functools.cache(optax.sgd)


@functools.cache
def _perceptron(classes: int, widths: tuple[int, ...]) -> tuple[gj.models.MLP, Loss]:
    model = gj.models.MLP(classes, widths)
    return model, gj.models.classification_loss(model)


EVALUATIONS = 6
"""In each run; the last half of them counts, since one round's accuracy is noisy."""


def percent(results: Sequence[SimulationResult], column: str = "accuracy_mean") -> float:
    """Mean over runs with different seeds, and over their last evaluations, in percent."""
    settled = [result.column(column)[-EVALUATIONS // 2 :] for result in results]
    return 100 * float(np.mean(settled))


def best(
    tasks: Sequence[Task],
    algorithm: GossipAlgorithm,
    learning_rates: Sequence[float],
    **options: Any,
) -> tuple[float, list[SimulationResult]]:
    """The learning rate with the best accuracy, and its runs: one for each task and seed."""
    runs = {
        rate: [task.run(algorithm, rate, seed=seed, **options) for seed, task in enumerate(tasks)]
        for rate in learning_rates
    }
    rate = max(runs, key=lambda rate: percent(runs[rate]))
    return rate, runs[rate]


def on_graphs(
    graphs: Mapping[str, Callable[[int], gj.topology.Topology]],
    tasks: Mapping[int, Task],
    algorithm: GossipAlgorithm,
    learning_rate: float,
    rounds: int,
    **labels: Any,
) -> tuple[dict[str, float], dict[str, float], list[Row]]:
    """Train on each graph, once for each seed and its task.

    Returns accuracy in percent and bytes per peer by graph, and the rows of all runs.
    """
    accuracy, sent, rows = {}, {}, []
    for name, make in graphs.items():
        runs = [
            task.run(
                algorithm,
                learning_rate,
                rounds=rounds,
                topology=make(len(task.shards)),
                seed=seed,
            )
            for seed, task in tasks.items()
        ]
        accuracy[name] = percent(runs)
        sent[name] = runs[0].column("bytes_per_peer")[-1]
        rows += curves(runs, **labels, graph=name)
    return accuracy, sent, rows


def curves(results: Sequence[SimulationResult], **labels: Any) -> list[Row]:
    """The tables of runs with different seeds as rows, with labels in front."""
    return [
        labels | {"run": number} | row
        for number, result in enumerate(results)
        for row in result.rows
    ]


def churn(
    peers: int, ticks: int, *, online: int, period: int, seed: int
) -> gj.simulation.DeliveryTrace:
    """Half of the peers are there for `online` ticks of every `period`; all tell one random peer.

    The peers that come and go do so at different times.
    """
    links = gj.topology.epidemic_local(peers, 1, rounds=ticks, seed=seed)
    offsets = np.random.RandomState(seed).randint(0, period, peers)
    is_online = (np.arange(ticks)[:, None] + offsets) % period < online
    is_online[:, ::2] = True
    even = links._replace(weight=np.sign(links.weight), self_weight=np.ones_like(links.self_weight))
    return gj.simulation.asynchronous(even, is_online, is_online=is_online)


_SGD_ONCE = optax.sgd(lambda count: jnp.where(count == 0, 1.0, 0.0))


def _distance(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    return jnp.sum((params - batch["start"][0]) ** 2) / 2, {}


def _error(params: Any, batch: Any) -> dict[str, jax.Array]:
    return {"error": jnp.sum((params - batch["mean"][0]) ** 2) / batch["spread"][0]}


def average(
    algorithm: GossipAlgorithm,
    start: npt.NDArray[np.floating],
    topology: gj.topology.Topology,
    *,
    rounds: int,
    every: int = 1,
) -> SimulationResult:
    """Mixing alone: a first step takes peer i to `start[i]`, and there is nothing more to learn.

    The column `error_mean` is the mean squared distance from the mean of the start values, relative
    to what it was at the start.
    """
    mean = start.mean(axis=0)
    spread = ((start - mean) ** 2).sum(axis=1).mean()
    return gj.simulate(
        algorithm,
        _SGD_ONCE,
        _distance,
        jnp.zeros(start.shape[1]),
        [{"start": row[None].astype(np.float32)} for row in start],
        rounds=rounds,
        topology=topology,
        batch_size=1,
        test_data={"mean": mean[None].astype(np.float32), "spread": np.full(1, spread, np.float32)},
        evaluate_fn=_error,
        evaluate_every=every,
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
