"""Exponential graphs: a large spectral gap, and exact averages with one message per round.

B. Ying, K. Yuan, Y. Chen, H. Hu, P. Pan, W. Yin: "Exponential Graph is Provably Efficient for
Decentralized Deep Training", NeurIPS 2021, proposition 1, lemma 1, section 6.

Claims: the static exponential graph has spectral gap 2 / (1 + ⌈log₂ n⌉) for even n; ⌈log₂ n⌉ rounds
of the one-peer exponential graph give the exact average when n is a power of two, and never do
otherwise; with momentum that is averaged as well (DmSGD), training on the one-peer graph is as good
as on the static one, with ⌈log₂ n⌉ times fewer bytes.

    python examples/papers/ying_2021_exponential_graph.py [--quick]

About two minutes on 2 CPU cores. The paper trains ResNet-50 on ImageNet; here it is a perceptron on
Fashion-MNIST, Dirichlet(1), 16 peers, 600 rounds of batch 32, learning rate 0.01, momentum 0.9.
Expected:
- gaps equal to the formula to 4 digits for n = 8 to 256;
- one-peer graph: largest error after log₂ n rounds 1e-12 at most; at n = 100 above 1e-6 after
  one, two or three of them;
- rounds to a squared error of 1e-3 at n = 128: ring above 60, static 6, one-peer 7;
- mean local accuracy on the one-peer graph within 2 points of the static one.
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
    image_task,
    main,
    on_graphs,
)

from gossipjax import algorithms, gossip, topology
from gossipjax.mixing import weighted_mean


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    consensus_peers: int = 128
    peers: int = 16
    alpha: float = 1.0
    rounds: int = 600
    learning_rate: float = 0.01
    momentum: float = 0.9
    seeds: tuple[int, ...] = (0, 1)
    data: str = "fashion_mnist_12k"
    points: float = 2.0


GRAPHS = {"static": topology.exponential, "one-peer": topology.one_peer_exponential}


def product(graph: topology.Topology, periods: int = 1) -> np.ndarray:
    """What so many periods do to the peers' values, as a matrix."""
    matrix = np.eye(graph.peers)
    for step in range(periods * graph.period):
        matrix = graph.matrix(step) @ matrix
    return matrix


def exactness(config: Config) -> list[Result]:
    """Gaps against their formula, and errors of one-peer averages."""
    gap_errors = [
        topology.spectral_gap(topology.exponential(n).matrix()) - 2 / (1 + np.ceil(np.log2(n)))
        for n in config.sizes
    ]
    errors = [np.abs(product(topology.one_peer_exponential(n)) - 1 / n).max() for n in config.sizes]
    never = topology.one_peer_exponential(100)
    left = min(np.abs(product(never, periods) - 0.01).max() for periods in (1, 2, 3))
    return [
        at_most("spectral gap against the formula", 5e-5, float(np.abs(gap_errors).max())),
        at_most("one-peer, error after log2 n rounds", 1e-12, float(np.max(errors))),
        at_least("one-peer, n = 100, least error after 1 to 3 periods", 1e-6, float(left)),
    ]


def consensus(config: Config) -> tuple[list[Result], list[Row]]:
    """Rounds until the squared error is 1e-3."""
    peers, results, rows = config.consensus_peers, [], []
    start = np.random.RandomState(0).standard_normal((peers, 64))
    log = int(np.ceil(np.log2(peers)))
    bounds = {"ring": (61, np.inf), "static": (log - 1, log - 1), "one-peer": (log, log)}
    for name, make in {"ring": topology.ring, **GRAPHS}.items():
        result = average(gossip(weighted_mean()), start, make(peers), rounds=60)
        errors = np.array([1.0, *result.column("error_mean")])
        needed = int(np.argmax(errors <= 1e-3)) if (errors <= 1e-3).any() else 61
        low, high = bounds[name]
        results.append(Result(f"{name}, rounds to 1e-3, n = {peers}", low, needed, high))
        rows += [{"part": "consensus", "graph": name} | row for row in result.rows]
    return results, rows


def training(config: Config) -> tuple[list[Result], list[Row]]:
    """DmSGD on both graphs."""
    tasks = {
        seed: image_task(config.data, config.peers, config.alpha, seed=seed)
        for seed in config.seeds
    }
    accuracy, sent, rows = on_graphs(
        GRAPHS,
        tasks,
        algorithms.decentralized_momentum(config.momentum),
        config.learning_rate,
        config.rounds,
        part="training",
    )
    lead = accuracy["one-peer"] - accuracy["static"]
    saving = sent["static"] / sent["one-peer"]
    log = np.ceil(np.log2(config.peers))
    return [
        at_least("DmSGD: accuracy, one-peer minus static, points", -config.points, lead),
        Result("DmSGD: bytes, static over one-peer", log, saving, log),
    ], rows


def reproduce(config: Config) -> Outcome:
    """All claims."""
    agreed, consensus_rows = consensus(config)
    trained, training_rows = training(config)
    return Outcome(exactness(config) + agreed + trained, consensus_rows + training_rows)


QUICK = {"sizes": (8, 16, 32), "rounds": 60, "seeds": (0,), "data": "digits", "points": 10.0}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
