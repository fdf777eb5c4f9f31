"""MoNNA: momentum and nearest-neighbor averaging hold where data differ and peers lie.

S. Farhadkhani, R. Guerraoui, N. Gupta, L.-N. Hoang, R. Pinot, J. Stephan: "Robust Collaborative
Learning with Linear Gradient Overhead", ICML 2023, section 5; nearest-neighbor mixing before any
rule: Y. Allouah et al., "Fixing by Mixing", AISTATS 2023.

Claim: all hear all, n = 26, f = 5 attackers, data that differ (Dirichlet(1)): with local momentum,
nearest-neighbor mixing before the trimmed mean stays near the accuracy without attack under ALIE,
inner-product manipulation (FOE), sign flips and label flips, where the mean breaks down.

    python examples/papers/farhadkhani_2023_monna.py [--quick]

About six minutes on 2 CPU cores. The paper trains on MNIST with batch 25; here it is Fashion-MNIST
and a perceptron with 16 hidden units, 150 steps, learning rate 0.02, momentum 0.9. Mean accuracy of
the honest peers. Expected:
- NNM + trimmed mean within 6 points of the mean without attackers, under every attack;
- the mean below NNM + trimmed mean by 10 points or more under the worst attack.
"""

import sys
from dataclasses import dataclass

import numpy as np
from reproduction import (
    Outcome,
    Row,
    at_least,
    at_most,
    image_task,
    main,
    with_flipped_labels,
)

from gossipjax import gossip, topology
from gossipjax.mixing import nearest_neighbors, trimmed_mean, weighted_mean
from gossipjax.simulation import poisoning


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction."""

    peers: int = 26
    byzantine: int = 5
    data: str = "fashion_mnist_12k"
    alpha: float = 1.0
    width: int = 16
    rounds: int = 150
    batch_size: int = 25
    learning_rate: float = 0.02
    momentum: float = 0.9
    attacks: tuple[str, ...] = ("ALIE", "FOE", "sign flip", "label flip")
    points: float = 6.0
    gap: float = 10.0


def reproduce(config: Config) -> Outcome:
    """The mean and NNM + trimmed mean under every attack."""
    peers, liars = config.peers, config.byzantine
    attacks = {
        "ALIE": poisoning.little_is_enough(poisoning.z_max(peers, liars)),
        "FOE": poisoning.inner_product(1.1),
        "sign flip": poisoning.sign_flip(),
        "label flip": poisoning.stale(1),  # what they have learned from flipped labels
    }
    rules = {
        "mean": weighted_mean(),
        "NNM + trimmed mean": nearest_neighbors(trimmed_mean(trim=liars), byzantine=liars),
    }
    is_byzantine = np.arange(peers) >= peers - liars
    clean = image_task(config.data, peers, config.alpha, seed=0, widths=(config.width,))
    flipped = with_flipped_labels(clean, is_byzantine)
    accuracy: dict[tuple[str, str], float] = {}
    rows: list[Row] = []
    for rule, mixer in rules.items():
        for name in (*config.attacks, "none") if rule == "mean" else config.attacks:
            attack = attacks.get(name)
            result = (flipped if name == "label flip" else clean).run(
                gossip(mixer),
                config.learning_rate,
                momentum=config.momentum,
                batch_size=config.batch_size,
                rounds=config.rounds,
                topology=topology.complete(peers),
                attack=attack,
                is_byzantine=None if attack is None else is_byzantine,
            )
            accuracy[rule, name] = 100 * result.column("accuracy_mean")[-1]
            rows.append({"rule": rule, "attack": name, "accuracy": accuracy[rule, name]})
            print(f"{rule}, {name}: {accuracy[rule, name]:.1f} %", flush=True)
    robust = [accuracy["NNM + trimmed mean", name] for name in config.attacks]
    naive = [accuracy["mean", name] for name in config.attacks]
    results = [
        at_most(
            f"loss by {name}, NNM + trimmed mean, points",
            config.points,
            accuracy["mean", "none"] - accuracy["NNM + trimmed mean", name],
        )
        for name in config.attacks
    ]
    gap = min(robust) - min(naive)
    results.append(at_least("worst attack: robust rule minus mean, points", config.gap, gap))
    return Outcome(results, rows)


QUICK = {"peers": 9, "byzantine": 2, "data": "digits", "rounds": 150, "attacks": ("sign flip",)}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
