"""Limited merging: a well-trained model is not averaged with one that was away for long.

G. Danner, I. Hegedűs, M. Jelasity: "Improving Gossip Learning via Limited Model Merging", 2023; the
merge by age: "Decentralized learning works", JPDC 2021.

Claim: under churn, gossip learning that merges by age, and more so with a limit L on the difference
in age, reaches a higher accuracy than plain averaging.

    python examples/papers/danner_2023_limited_merge.py [--quick]

About five minutes on 2 CPU cores. Here 32 peers, half of them there for 30 of every 330 ticks, each
telling one random peer per tick; Fashion-MNIST, Dirichlet(0.3), a perceptron with 16 hidden units,
learning rate 0.03. Mean local accuracy over the second half of the ticks. Expected:
- limited merge (L = 50) above plain averaging by 0.8 to 5 points;
- merge by age, without a limit, not below plain averaging by more than 0.5 points.
"""

import sys
from dataclasses import dataclass

from reproduction import Outcome, Result, Row, at_least, churn, curves, image_task, main, percent

from gossipjax import algorithms


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
    limit: float = 50.0
    learning_rate: float = 0.03
    seeds: tuple[int, ...] = (0, 1)
    gain: tuple[float, float] = (0.8, 5.0)
    tie: float = 0.5


def reproduce(config: Config) -> Outcome:
    """Each merge under churn."""
    merges = {
        "mean": algorithms.gossip_learning("mean"),
        "by age": algorithms.gossip_learning("age"),
        "limited": algorithms.gossip_learning("age", limit=config.limit),
    }
    accuracy: dict[str, float] = {}
    rows: list[Row] = []
    for name, algorithm in merges.items():
        runs = [
            image_task(
                config.data, config.peers, config.alpha, seed=seed, widths=(config.width,)
            ).run(
                algorithm,
                config.learning_rate,
                rounds=config.ticks,
                topology=churn(
                    config.peers,
                    config.ticks,
                    online=config.online,
                    period=config.period,
                    seed=seed,
                ),
                seed=seed,
            )
            for seed in config.seeds
        ]
        accuracy[name] = percent(runs)
        rows += curves(runs, merge=name)
        print(f"{name}: {accuracy[name]:.2f} %", flush=True)
    gain = accuracy["limited"] - accuracy["mean"]
    by_age = accuracy["by age"] - accuracy["mean"]
    return Outcome(
        [
            Result("limited merge minus plain mean, points", config.gain[0], gain, config.gain[1]),
            at_least("merge by age minus plain mean, points", -config.tie, by_age),
        ],
        rows,
    )


QUICK = {
    "peers": 16,
    "data": "digits",
    "ticks": 200,
    "online": 10,
    "period": 80,
    "limit": 15.0,
    "seeds": (0,),
    "gain": (0.0, 30.0),  # the start of training, where more is at stake
}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
