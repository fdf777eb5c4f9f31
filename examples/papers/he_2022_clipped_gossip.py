"""ClippedGossip: honest peers learn although most of the peers that they hear are attackers.

L. He, S. P. Karimireddy, M. Jaggi: "Byzantine-Robust Decentralized Learning via ClippedGossip",
2022, section 6, figure "honest majority".

Claim: 5 honest peers in a ring, each with 2 attackers beside it and one of them with a third: 11 of
16 are Byzantine. Self-centered clipping keeps on learning under ALIE, IPM and dissensus, where the
mean, trimmed mean and geometric median end near chance (MNIST: 90 to 94 % against 10 to 11 %).

    python examples/papers/he_2022_clipped_gossip.py [--quick]

About eight minutes on 2 CPU cores. Here it is Fashion-MNIST, which is harder than MNIST (a
perceptron gets 80 to 83 %), 32 hidden units and 500 steps where the paper has 900; batch 32,
learning rate 0.01, momentum 0.9, clipping radius 0.1, as in the paper. UBAR (ρ = 0.4, a = 0.5)
judges by 100 samples of an honest peer. Accuracy of the honest peers. Expected:
- clipping at 70 % or more under ALIE (z = 10; does not hold: it settles at 67 %, after the paper's
  900 steps too), IPM (ε = 0.1), dissensus (ε = 1.5), bit flips and flipped labels, and within 5
  points of the plain mean when nobody attacks;
- UBAR at 70 % or more under ALIE, IPM and dissensus;
- mean, trimmed mean and geometric median at 20 % or less under ALIE; mean and geometric median at
  20 % or less under IPM.
The whole matrix of rules and attacks is in the CSV file.
"""

import sys
from dataclasses import dataclass

import jax
import numpy as np
from reproduction import (
    Outcome,
    Row,
    Task,
    at_least,
    at_most,
    image_task,
    main,
    with_flipped_labels,
)

from gossipjax import gossip, topology
from gossipjax.mixing import (
    Mixer,
    chain,
    clip_distance,
    geometric_median,
    trimmed_mean,
    ubar,
    weighted_mean,
)
from gossipjax.simulation import poisoning


@dataclass(frozen=True)
class Config:
    """Settings of the reproduction; `least` is what clipping and UBAR must reach."""

    honest: int = 5
    data: str = "fashion_mnist_12k"
    width: int = 32
    rounds: int = 500
    learning_rate: float = 0.01
    momentum: float = 0.9
    radius: float = 0.1
    probe: int = 100
    attacks: tuple[str, ...] = ("none", "ALIE", "IPM", "dissensus", "bit flip", "label flip")
    rules: tuple[str, ...] = ("mean", "clipping", "UBAR", "trimmed mean", "geometric median")
    alpha: float = 100.0
    least: float = 70.0
    cost: float = 5.0


ATTACKS = {
    "none": None,
    "ALIE": poisoning.little_is_enough(10.0),
    "IPM": poisoning.inner_product(0.1),
    "dissensus": poisoning.dissensus(1.5),
    "bit flip": poisoning.bit_flip(),
    "label flip": poisoning.stale(1),  # what they have learned from flipped labels
}


NOTES = {"ALIE": "(it learns, and settles lower)"}


def malicious_ring(honest: int) -> topology.Topology:
    """Honest peers first, in a ring; two attackers beside each, and one more beside peer 0."""
    edges = [(peer, (peer + 1) % honest) for peer in range(honest)]
    edges += [(number // 2, honest + number) for number in range(2 * honest)]
    return topology.from_edges(3 * honest + 1, [*edges, (0, 3 * honest)])


def mixers(config: Config, task: Task) -> dict[str, Mixer]:
    """The rules; those by coordinate and by distance are told of two attackers per peer."""
    probe = {name: np.asarray(leaf)[: config.probe] for name, leaf in task.shards[0].items()}
    judge = ubar(lambda params, batch: task.loss_fn(params, batch, jax.random.key(0))[0], probe)
    return {
        "mean": weighted_mean(),
        "clipping": chain(clip_distance(radius=config.radius), weighted_mean()),
        "UBAR": chain(judge, weighted_mean()),
        "trimmed mean": trimmed_mean(trim=2),
        "geometric median": geometric_median(),
    }


def reproduce(config: Config) -> Outcome:
    """Every rule under every attack."""
    graph = malicious_ring(config.honest)
    clean = image_task(config.data, graph.peers, config.alpha, seed=0, widths=(config.width,))
    is_byzantine = np.arange(graph.peers) >= config.honest
    flipped = with_flipped_labels(clean, is_byzantine)
    rules = mixers(config, clean)
    accuracy: dict[tuple[str, str], float] = {}
    rows: list[Row] = []
    for rule in config.rules:
        for name in config.attacks:
            attack = ATTACKS[name]
            result = (flipped if name == "label flip" else clean).run(
                gossip(rules[rule]),
                config.learning_rate,
                momentum=config.momentum,
                rounds=config.rounds,
                topology=graph,
                attack=attack,
                is_byzantine=None if attack is None else is_byzantine,
            )
            accuracy[rule, name] = 100 * result.column("accuracy_mean")[-1]
            rows.append({"rule": rule, "attack": name, "accuracy": accuracy[rule, name]})
            print(f"{rule}, {name}: {accuracy[rule, name]:.1f} %", flush=True)
    results = [
        at_least(
            f"clipping under {name}, %",
            config.least,
            accuracy["clipping", name],
            NOTES.get(name, ""),
        )
        for name in config.attacks
        if name != "none"
    ]
    results += [
        at_least(f"UBAR under {name}, %", config.least, accuracy["UBAR", name])
        for name in ("ALIE", "IPM", "dissensus")
        if ("UBAR", name) in accuracy
    ]
    if "none" in config.attacks:
        cost = accuracy["mean", "none"] - accuracy["clipping", "none"]
        results.append(at_most("cost of clipping without attack, points", config.cost, cost))
    broken = [(rule, "ALIE") for rule in ("mean", "trimmed mean", "geometric median")]
    broken += [(rule, "IPM") for rule in ("mean", "geometric median")]
    results += [
        at_most(f"{rule} under {name}, %", 20.0, accuracy[rule, name])
        for rule, name in broken
        if (rule, name) in accuracy
    ]
    return Outcome(results, rows)


QUICK = {"data": "digits", "rounds": 300, "rules": ("mean", "clipping"), "attacks": ("ALIE",)}

if __name__ == "__main__":
    sys.exit(main(__file__, Config(), QUICK, reproduce))
