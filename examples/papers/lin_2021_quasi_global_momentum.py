"""Quasi-global momentum: momentum that follows the network, not a peer's own data.

T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi: "Quasi-Global Momentum: Accelerating Decentralized
Deep Learning on Heterogeneous Data", ICML 2021, section 5.

Claim: on data that differ from peer to peer, QG-DSGDm gains 1 to 20 points over DSGD with local
momentum (DSGDm), the more the less alike the data are.

    python examples/papers/lin_2021_quasi_global_momentum.py [--quick]

About five minutes on 2 CPU cores. The paper trains ResNet-EvoNorm-20 on CIFAR-10; here it is a
perceptron on Fashion-MNIST, 16 peers on a ring, momentum 0.9, 600 rounds of batch 32, constant
learning rate, the best of three for each method. Mean local accuracy. Expected:
- Dirichlet(0.01): QG-DSGDm above DSGDm by 1 to 20 points;
- Dirichlet(0.1): by 1 to 20 points.
"""

import sys
from dataclasses import dataclass

from reproduction import Outcome, Result, best, curves, image_task, main, percent

from gossipjax import algorithms, gossip, topology
from gossipjax.mixing import weighted_mean


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    peers: int = 16
    alphas: tuple[float, ...] = (0.01, 0.1)
    momentum: float = 0.9
    rounds: int = 600
    learning_rates: tuple[float, ...] = (0.005, 0.01, 0.02)
    seeds: tuple[int, ...] = (0, 1)
    data: str = "fashion_mnist_12k"
    gain: tuple[float, float] = (1.0, 20.0)


def reproduce(config: Config) -> Outcome:
    """Accuracy of both, for unlike data."""
    methods = {
        "DSGDm": (gossip(weighted_mean()), config.momentum),
        "QG-DSGDm": (algorithms.quasi_global_momentum(config.momentum), None),
    }
    results, rows = [], []
    for alpha in config.alphas:
        tasks = [image_task(config.data, config.peers, alpha, seed=seed) for seed in config.seeds]
        accuracy = {}
        for name, (algorithm, local_momentum) in methods.items():
            rate, runs = best(
                tasks,
                algorithm,
                config.learning_rates,
                momentum=local_momentum,
                rounds=config.rounds,
                topology=topology.ring(config.peers),
            )
            accuracy[name] = percent(runs)
            rows += curves(runs, method=name, alpha=alpha, learning_rate=rate)
            print(f"alpha {alpha}, {name}: {accuracy[name]:.1f} % at {rate}")
        gain = accuracy["QG-DSGDm"] - accuracy["DSGDm"]
        claim = f"Dirichlet({alpha}): QG-DSGDm minus DSGDm, points"
        results.append(Result(claim, config.gain[0], gain, config.gain[1]))
    return Outcome(results, rows)


QUICK = {
    "alphas": (0.01,),
    "rounds": 120,
    "learning_rates": (0.01,),
    "seeds": (0,),
    "data": "digits",
    "gain": (1.0, 40.0),
}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
