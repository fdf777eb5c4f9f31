"""Bytes that a loss costs: low-communication algorithms and compressors against all-reduce.

    python benchmarks/bench_bytes_to_loss.py [--quick] [--only TEXT ...]

Prints a table and, unless quick or told `--only`, writes benchmarks/results/bytes_to_loss.json.

A transformer over characters learns Shakespeare's plays, by 8 peers that simulate each other's
exchange to the byte; the samples are dealt out at random. *All-reduce* is synchronous data-parallel
training: in every step the gradients of all 8 batches are averaged, and AdamW steps once; a peer
sends `2 · 7/8 · 4` bytes per parameter for it (a ring, float32). The others take as many local
steps on as many samples, with AdamW of their own, and exchange every H steps; a peer sends its
payload to each neighbor, and all of these bytes count. All begin with the same parameters, which a
short synchronous training has led to (as in the DiLoCo paper; the same for all, so not counted),
and the same learning rate, which is the best of a few for all-reduce.

*Loss*: cross entropy on the test text, mean over peers. *Above*: that of all-reduce, in percent.
*Fewer*: bytes of all-reduce over those of the row. The goal: at least 200 times fewer bytes at a
loss at most 1 % above.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from reporting import print_tables, report

import gossipjax as gj
from gossipjax import algorithms, topology
from gossipjax.mixing import GossipAlgorithm
from gossipjax.training.builtin import shakespeare
from gossipjax.training.local import train_alone
from gossipjax.training.workload import Shard

PEERS = 8
GOAL_FEWER, GOAL_ABOVE_PERCENT = 200.0, 1.0
Row = dict[str, Any]


class Case(NamedTuple):
    """A row: what to run, H, and who hears whom."""

    algorithm: Callable[[], GossipAlgorithm]
    steps: int
    graph: Callable[[int], topology.Topology] = topology.complete


def pairs(peers: int) -> topology.Topology:
    return topology.random_matching(peers, rounds=64, seed=0)


def coded(algorithm: GossipAlgorithm, compressor: str) -> Callable[[], GossipAlgorithm]:
    return lambda: gj.compressed(algorithm, compressor)


nesterov = partial(algorithms.sparse_loco, rate=0.7, momentum=0.9, decay=1.0, parts=0)
one_peer = topology.one_peer_exponential
CASES = {
    "local SGD": Case(algorithms.local_sgd, 20),
    "DiLoCo": Case(algorithms.diloco, 20),
    "DiLoCo, int8": Case(coded(algorithms.diloco(), "int8"), 20),
    "DiLoCo, int8, one peer": Case(coded(algorithms.diloco(), "int8"), 8, one_peer),
    "DiLoCo, int4, one peer": Case(coded(algorithms.diloco(), "int4"), 4, one_peer),
    "NoLoCo, pairs": Case(algorithms.noloco, 20, pairs),
    "NoLoCo, int8, one peer": Case(coded(algorithms.noloco(), "int8"), 8, one_peer),
    "delayed Nesterov": Case(lambda: algorithms.delayed_nesterov(PEERS), 20),
    "streaming, 4 fragments": Case(lambda: algorithms.streaming(4, 1), 5),
    "SparseLoCo, top 1/64, 2 bits": Case(lambda: algorithms.sparse_loco(parts=0), 20),
    "DiLoCo by int4 differences": Case(lambda: nesterov("int4"), 20),
    "DiLoCo by int2 differences": Case(lambda: nesterov("int2"), 20),
    "DiLoCo by signs": Case(lambda: nesterov("sign"), 20),
    "DiLoCo by signs, H = 30": Case(lambda: nesterov("sign"), 30),
    "DiLoCo by top 1/16, 2 bits": Case(lambda: nesterov(gj.compression.top_k_2bit(1 / 16)), 20),
}


class Task:
    """The model and the text, dealt out at random."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        batch = PEERS * options.batch
        workload = shakespeare(window=options.window, batch_size=batch, width=options.width)
        assert workload.public is not None
        shuffled = np.random.default_rng(0).permutation(workload.public.size)
        self.shards = [workload.public.take(shuffled[peer::PEERS]) for peer in range(PEERS)]
        start = self.all_reduce(workload, options.warm_steps)
        self.workload = workload._replace(init=lambda key: start)
        self.start = start
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(start))

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """AdamW with a cosine schedule over so many steps."""
        rate = self.options.learning_rate
        schedule = optax.warmup_cosine_decay_schedule(0, rate, min(20, steps // 4), steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))

    def all_reduce(self, workload: gj.Workload, steps: int) -> Any:
        """Parameters after so many steps, each on the samples of a step of all peers."""
        workload = workload._replace(optimizer=self.optimizer(steps))
        return train_alone(workload, Shard(0, 1), steps=steps, seed=steps)

    def mean_loss(self, params: Any) -> float:
        """Of peers' own parameters `[PEERS, …]`."""
        evaluate = self.workload.evaluate
        each = [evaluate(jax.tree.map(lambda x, p=p: x[p], params)) for p in range(PEERS)]
        return float(np.mean([metrics["loss"] for metrics in each]))

    def row_of_all_reduce(self) -> Row:
        """The reference."""
        started_s = time.monotonic()
        params = self.all_reduce(self.workload, self.options.steps)
        sent = self.options.steps * 2 * (PEERS - 1) / PEERS * 4 * self.parameters
        loss = float(self.workload.evaluate(params)["loss"])
        return row("all-reduce", 1, loss, sent, time.monotonic() - started_s)

    def row_of(self, name: str, case: Case) -> Row:
        """As many local steps on as many samples, with fewer bytes."""
        started_s, options = time.monotonic(), self.options
        rounds = options.steps // case.steps
        result = gj.simulate(
            case.algorithm(),
            self.optimizer(rounds * case.steps),
            self.workload.loss,
            self.start,
            self.shards,
            rounds=rounds,
            local_steps=case.steps,
            batch_size=options.batch,
            topology=case.graph(PEERS),
        )
        sent = result.column("bytes_per_peer")[-1]
        loss = self.mean_loss(result.params)
        return row(name, case.steps, loss, sent, time.monotonic() - started_s)


def row(name: str, steps: int, loss: float, sent: float, seconds: float) -> Row:
    return {"method": name, "H": steps, "loss": loss, "MB_per_peer": sent / 1e6, "s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes to a given loss.")
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs")
    parser.add_argument("--only", nargs="*", help="rows whose name has one of these texts")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--warm-steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4, help="windows per peer and step")
    parser.add_argument("--window", type=int, default=32, help="characters")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    options = parser.parse_args()
    if options.quick:
        options.steps, options.warm_steps, options.only = 60, 20, options.only or ["signs"]
    task = Task(options)
    rows = [task.row_of_all_reduce()]
    for name, case in CASES.items():
        if not options.only or any(text in name for text in options.only):
            rows.append(task.row_of(name, case))
            print(rows[-1], flush=True)
    base = rows[0]
    for one in rows:
        one["above_percent"] = 100 * (one["loss"] / base["loss"] - 1)
        one["fewer"] = base["MB_per_peer"] / one["MB_per_peer"]
    good = [one for one in rows if one["above_percent"] <= GOAL_ABOVE_PERCENT]
    best = max(good, key=lambda one: one["fewer"])
    reached = best["fewer"] >= GOAL_FEWER
    print(f"best within {GOAL_ABOVE_PERCENT:g} %: {best['method']}, {best['fewer']:.0f} × fewer")
    title = f"{options.steps} steps of {PEERS} peers, {task.parameters} parameters"
    if options.quick or options.only:
        print_tables({title: rows})
    else:
        facts = {"best": best["method"], "goal_fewer": GOAL_FEWER, "goal_reached": reached}
        report("bytes_to_loss", {title: rows}, options=vars(options), **facts)


if __name__ == "__main__":
    main()
