"""Epidemic Learning: random receivers in each round beat a fixed graph at equal bytes.

M. de Vos, S. Farhadkhani, R. Guerraoui, A.-M. Kermarrec, R. Pires, R. Sharma: "Epidemic Learning:
Boosting Decentralized Learning with Randomized Communication", NeurIPS 2023, section 5.

Claims: with s messages per peer and round, peers that draw new receivers in each round (EL-Oracle:
a random regular graph; EL-Local: each peer by itself) reach a higher local accuracy than on a
static s-regular graph, at equal rounds and bytes. EL-Local's mixing matrix is not doubly
stochastic, so the mean of the network drifts; push-sum over the same messages keeps it.

    python examples/papers/devos_2023_epidemic_learning.py [--quick]

About five minutes on 2 CPU cores. The paper has 96 peers, LeNet on CIFAR-10, Dirichlet(0.1), s = 7;
here it is a perceptron on Fashion-MNIST, 64 peers, Dirichlet(0.1), s = 4, 400 rounds of batch 32,
learning rate 0.1 without decay. Expected:
- mean local accuracy of EL-Oracle and of EL-Local above the static graph by 0.5 points or more
  (paper: 2.2), at equal rounds and bytes (± 2 %: EL-Local's bytes are random);
- mixing alone, 30 rounds: EL-Local ends off the mean by 0.1 / n of the spread at the start or more
  (both squared), EL-Oracle and push-sum by 1e-6 at most.
"""

import sys
from dataclasses import dataclass

import numpy as np
from reproduction import (
    Outcome,
    Result,
    Row,
    at_least,
    at_most,
    average,
    curves,
    image_task,
    main,
    percent,
)

from gossipjax import algorithms, topology


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    peers: int = 64
    degree: int = 4
    alpha: float = 0.1
    width: int = 32
    rounds: int = 400
    learning_rate: float = 0.1
    seeds: tuple[int, ...] = (0, 1)
    data: str = "fashion_mnist_12k"
    points: float = 0.5
    mixing_rounds: int = 30


def graphs(config: Config, seed: int) -> dict[str, topology.Topology]:
    """Who hears whom, with about s messages per peer and round in each."""
    peers, degree = config.peers, config.degree
    return {
        "static": topology.random_regular(peers, degree, seed=seed),
        "EL-Oracle": topology.epidemic_oracle(peers, degree, rounds=config.rounds, seed=seed),
        "EL-Local": topology.epidemic_local(peers, degree, rounds=config.rounds, seed=seed),
    }


def training(config: Config) -> tuple[list[Result], list[Row]]:
    """Accuracy at equal rounds and bytes."""
    algorithm = algorithms.epidemic_learning()
    runs = {name: [] for name in ("static", "EL-Oracle", "EL-Local")}
    for seed in config.seeds:
        task = image_task(
            config.data, config.peers, config.alpha, seed=seed, widths=(config.width,)
        )
        for name, graph in graphs(config, seed).items():
            runs[name].append(
                task.run(
                    algorithm, config.learning_rate, rounds=config.rounds, topology=graph, seed=seed
                )
            )
    accuracy = {name: percent(each) for name, each in runs.items()}
    sent = {name: each[0].column("bytes_per_peer")[-1] for name, each in runs.items()}
    results = []
    for name in ("EL-Oracle", "EL-Local"):
        lead = accuracy[name] - accuracy["static"]
        results += [
            at_least(f"local accuracy, {name} minus static, points", config.points, lead),
            Result(f"bytes, {name} over static", 0.98, sent[name] / sent["static"], 1.02),
        ]
    return results, [row for name, each in runs.items() for row in curves(each, graph=name)]


def drift(config: Config) -> list[Result]:
    """Squared distance from the mean of the start values after mixing, relative to the start."""
    start = np.random.RandomState(0).standard_normal((config.peers, 64))
    every = graphs(config, seed=1)
    left = {
        name: average(
            algorithm, start, every[graph], rounds=config.mixing_rounds, every=config.mixing_rounds
        ).column("error_mean")[-1]
        for name, graph, algorithm in (
            ("EL-Oracle", "EL-Oracle", algorithms.epidemic_learning()),
            ("EL-Local", "EL-Local", algorithms.epidemic_learning()),
            ("push-sum", "EL-Local", algorithms.push_sum(config.degree)),
        )
    }
    note = "(off the mean, by less than expected)"
    return [
        at_least("mixing: EL-Local ends off the mean", 0.1 / config.peers, left["EL-Local"], note),
        at_most("mixing: EL-Oracle keeps the mean", 1e-6, left["EL-Oracle"]),
        at_most("mixing: push-sum on EL-Local's messages keeps it", 1e-6, left["push-sum"]),
    ]


def reproduce(config: Config) -> Outcome:
    """All claims."""
    results, rows = training(config)
    return Outcome(results + drift(config), rows)


QUICK = {"peers": 16, "rounds": 60, "seeds": (0,), "data": "digits", "points": -6.0}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
