"""DiLoCo: hundreds of local steps between two exchanges, and an outer Nesterov step.

A. Douillard, Q. Feng, A. A. Rusu, R. Chhaparia, Y. Donchev, A. Kuncoro, M. Ranzato, A. Szlam,
J. Shen: "DiLoCo: Distributed Low-Communication Training of Language Models", 2023,
arXiv:2311.08105, section 3.

Claim: from a pretrained model, 8 workers that exchange every H steps do as well as synchronous
training that exchanges in every step, with H times less communication; local SGD, which averages
without an outer optimizer, does worse.

    python examples/papers/douillard_2023_diloco.py [--quick]

About two minutes on 2 CPU cores. The paper trains transformers of 60 to 400 million parameters on
C4 with H = 500; here it is a perceptron on Fashion-MNIST, dealt out at random to 8 peers, H = 20,
with SGD in the peers: then averaging parameters in every step is averaging gradients, so the
synchronous reference is exact. All go on from the same model, after 100 synchronous steps, with the
best of three learning rates for each; test loss and accuracy of the peers' own models. Bytes to a
loss on text: `benchmarks/bench_bytes_to_loss.py`. Expected:
- accuracy of DiLoCo minus that of synchronous training: at least -0.5 points;
- bytes, synchronous over DiLoCo: H;
- loss of local SGD over that of DiLoCo: above 1;
- accuracy of DiLoCo minus that of one peer alone: at least 0.5 points.
"""

import sys
from dataclasses import dataclass

import jax
import numpy as np
from reproduction import Outcome, Result, Row, Task, at_least, curves, image_task, main, percent

from gossipjax import algorithms, topology
from gossipjax.mixing import GossipAlgorithm
from gossipjax.simulation.results import SimulationResult


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    peers: int = 8
    local_steps: int = 20
    rounds: int = 60
    warm_steps: int = 100
    warm_rate: float = 0.05
    learning_rates: tuple[float, ...] = (0.02, 0.05, 0.1)
    outer_rate: float = 0.7
    outer_momentum: float = 0.9
    batch: int = 32
    seeds: tuple[int, ...] = (0, 1)
    data: str = "fashion_mnist_12k"
    lag: float = -0.5
    lead: float = 0.5


def warm_started(task: Task, config: Config) -> Task:
    """The task, from where some synchronous steps have led."""
    begun = task.run(
        algorithms.local_sgd(),
        config.warm_rate,
        rounds=config.warm_steps,
        topology=topology.complete(config.peers),
        batch_size=config.batch,
    )
    return task._replace(init_params=jax.tree.map(lambda leaf: leaf[0], begun.params))


def final_loss(runs: list[SimulationResult]) -> float:
    return float(np.mean([result.column("loss_mean")[-1] for result in runs]))


def reproduce(config: Config) -> Outcome:
    """Loss, accuracy and bytes of each method."""
    everybody, steps = topology.complete(config.peers), config.local_steps
    nobody = everybody._replace(weight=0 * everybody.weight)
    outer = algorithms.diloco(config.outer_rate, config.outer_momentum)
    methods: dict[str, tuple[GossipAlgorithm, int, topology.Topology]] = {
        "synchronous": (algorithms.local_sgd(), 1, everybody),
        "DiLoCo": (outer, steps, everybody),
        "local SGD": (algorithms.local_sgd(), steps, everybody),
        "alone": (algorithms.local_sgd(), steps, nobody),
    }
    tasks = [
        warm_started(image_task(config.data, config.peers, 1000.0, seed=seed), config)
        for seed in config.seeds
    ]
    chosen: dict[str, list[SimulationResult]] = {}
    rows: list[Row] = []
    for name, (algorithm, local_steps, graph) in methods.items():
        tried = [
            [
                task.run(
                    algorithm,
                    rate,
                    rounds=config.rounds * steps // local_steps,
                    local_steps=local_steps,
                    batch_size=config.batch,
                    topology=graph,
                    seed=seed,
                )
                for seed, task in enumerate(tasks)
            ]
            for rate in config.learning_rates
        ]
        chosen[name] = min(tried, key=final_loss)
        rows += curves(chosen[name], method=name)
        print(f"{name}: loss {final_loss(chosen[name]):.4f}, {percent(chosen[name]):.2f} %")
    sent = {name: runs[0].column("bytes_per_peer")[-1] for name, runs in chosen.items()}
    accuracy = {name: percent(runs) for name, runs in chosen.items()}
    return Outcome(
        [
            at_least(
                "accuracy, DiLoCo minus synchronous, points",
                config.lag,
                accuracy["DiLoCo"] - accuracy["synchronous"],
            ),
            Result(
                "bytes, synchronous over DiLoCo", steps, sent["synchronous"] / sent["DiLoCo"], steps
            ),
            at_least(
                "loss, local SGD over DiLoCo",
                1.0,
                final_loss(chosen["local SGD"]) / final_loss(chosen["DiLoCo"]),
            ),
            at_least(
                "accuracy, DiLoCo minus one peer alone, points",
                config.lead,
                accuracy["DiLoCo"] - accuracy["alone"],
            ),
        ],
        rows,
    )


QUICK = {
    "rounds": 12,
    "learning_rates": (0.05,),
    "seeds": (0,),
    "data": "digits",
    "lag": -3.0,
    "lead": 0.0,
}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
