"""FedAsync: updates count the less the staler they are; what matters is how stale they get.

C. Xie, S. Koyejo, I. Gupta: "Asynchronous Federated Optimization", 2019 (OPT 2020), section 5:
weights constant, polynomial s(u) = (u + 1)^-a, hinge s(u) = 1 up to b, then 1 / (a (u - b) + 1).

Claim: discounting by staleness makes asynchronous training more robust. In gossip that is so under
churn, when peers come back with models of long ago, and not under mild staleness.

    python examples/papers/xie_2019_fedasync.py [--quick]

About six minutes on 2 CPU cores. The paper has a server and CIFAR-10; here 32 peers gossip, each
telling one random peer per tick; Fashion-MNIST, Dirichlet(0.3), a perceptron with 16 hidden units,
learning rate 0.03. Mean local accuracy over the second half of the ticks. Expected:
- churn (half of the peers are there for 30 of every 330 ticks): polynomial a = 1 above constant
  weights by 0.5 to 4 points;
- mild staleness (a quarter of the peers is 10 times slower, delay of 5 ticks): no more than 1 point
  between them.
"""

import sys
from dataclasses import dataclass

import numpy as np
from reproduction import Outcome, Result, Row, churn, curves, image_task, main, percent

from gossipjax import gossip, topology
from gossipjax.mixing import (
    chain,
    constant_decay,
    discount_staleness,
    hinge_decay,
    polynomial_decay,
    weighted_mean,
)
from gossipjax.simulation import DeliveryTrace, asynchronous, clock


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    peers: int = 32
    data: str = "fashion_mnist_12k"
    alpha: float = 0.3
    width: int = 16
    ticks: int = 1000
    online: int = 30
    period: int = 330
    learning_rate: float = 0.03
    seeds: tuple[int, ...] = (0, 1)
    decays: tuple[str, ...] = ("constant", "polynomial 0.5", "polynomial 1", "hinge")
    gain: tuple[float, float] = (0.5, 4.0)
    tie: float = 1.0


ALGORITHMS = {
    name: gossip(chain(discount_staleness(decay), weighted_mean()))
    for name, decay in {
        "constant": constant_decay(),
        "polynomial 0.5": polynomial_decay(0.5),
        "polynomial 1": polynomial_decay(1.0),
        "hinge": hinge_decay(10.0, 4.0),
    }.items()
}


def mild(config: Config, seed: int) -> DeliveryTrace:
    """A quarter of the peers is 10 times slower, and all payloads take 5 ticks."""
    links = topology.epidemic_local(config.peers, 1, rounds=config.ticks, seed=seed)
    even = links._replace(weight=np.sign(links.weight), self_weight=np.ones_like(links.self_weight))
    speeds = np.where(np.arange(config.peers) % 4 == 0, 0.1, 1.0)
    return asynchronous(even, clock(speeds, config.ticks, seed=seed), delay=5)


def reproduce(config: Config) -> Outcome:
    """Each discount under churn and under mild staleness."""
    peers, ticks = config.peers, config.ticks
    accuracy: dict[tuple[str, str], float] = {}
    rows: list[Row] = []
    traces = {
        "churn": [
            churn(peers, ticks, online=config.online, period=config.period, seed=seed)
            for seed in config.seeds
        ],
        "mild": [mild(config, seed) for seed in config.seeds],
    }
    for case, each in traces.items():
        for name in config.decays:
            runs = [
                image_task(config.data, peers, config.alpha, seed=seed, widths=(config.width,)).run(
                    ALGORITHMS[name], config.learning_rate, rounds=ticks, topology=trace, seed=seed
                )
                for seed, trace in zip(config.seeds, each, strict=True)
            ]
            accuracy[case, name] = percent(runs)
            rows += curves(runs, case=case, decay=name)
            print(f"{case}, {name}: {accuracy[case, name]:.2f} %", flush=True)
    gain = accuracy["churn", "polynomial 1"] - accuracy["churn", "constant"]
    values = [value for (case, _), value in accuracy.items() if case == "mild"]
    spread = max(values) - min(values)
    return Outcome(
        [
            Result(
                "churn: polynomial 1 minus constant, points", config.gain[0], gain, config.gain[1]
            ),
            Result(
                "mild staleness: best minus worst, points",
                0.0,
                spread,
                config.tie,
                "(discounts matter there, too)",
            ),
        ],
        rows,
    )


QUICK = {
    "peers": 16,
    "data": "digits",
    "ticks": 200,
    "online": 10,
    "period": 80,
    "seeds": (0,),
    "decays": ("constant", "polynomial 1"),
    "gain": (0.0, 30.0),  # the start of training, where more is at stake
    "tie": 30.0,
}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
