"""How many peers the vectorized learner trains, at what cost, beside gossipy's simulator.

    python benchmarks/bench_learner.py [--quick] [--gossipy PYTHON]

A peer-round is one peer's local step on a batch of 32, with a perceptron of 4,810 parameters, and
the mean with what K neighbors tell it.

First table: networks of 100 to 10,000 peers on a random regular graph, K = 7. Each size is a
process of its own, so that its memory is its own. Cost per peer and round must not grow with the
network. Second table: the same peer-rounds in gossipy (Polato 2022) for K = 7, and for K = 1, which
is its usual protocol. It runs in an environment of its own: PYTHON has `gossipy-dfl` and PyTorch
installed; by default build/gossipy is made for it.

gossipy runs on one thread (more are slower for layers this small), ours on all cores; columns per
second of processor time compare core with core, and are the firm ones on a machine that does other
things. Writes benchmarks/results/learner.json unless quick.
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import time
import venv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from reporting import print_tables, report

ROOT = Path(__file__).resolve().parents[1]
SIZES = (100, 300, 1000, 3000, 10_000)
NEIGHBORS, BATCH, INPUTS, HIDDEN, SAMPLES = 7, 32, 64, 64, 100
Row = dict[str, Any]


def train(peers: int, rounds: int, neighbors: int) -> Row:
    """Rounds of so many peers in this process: time after compilation, and greatest memory."""
    import jax
    import numpy as np
    import optax

    import gossipjax as gj
    from gossipjax.mixing import weighted_mean
    from gossipjax.simulation import learner
    from gossipjax.simulation import rounds as engine

    rng = np.random.RandomState(0)
    shards = [
        {
            "inputs": rng.standard_normal((SAMPLES, INPUTS)).astype(np.float32),
            "labels": rng.randint(0, 10, SAMPLES),
        }
        for _ in range(100)
    ]
    model = gj.models.MLP(10, (HIDDEN,))
    params = model.init(jax.random.key(0), shards[0]["inputs"][:1])
    loss = gj.models.classification_loss(model)
    if neighbors == 1:
        graph = gj.topology.random_matching(peers, rounds=8, seed=0)
    else:
        graph = gj.topology.random_regular(peers, neighbors, seed=0)
    setup = engine.Setup(gj.gossip(weighted_mean()), optax.sgd(0.05), loss, 1, BATCH, 1, None)
    world = learner.make_world(shards, graph, np.zeros(peers, bool), 0)
    state = engine.start(setup, params, np.uint32(0), peers)
    start_s = time.perf_counter()
    state = jax.block_until_ready(engine.advance(setup, world, state, 0, 2))
    compile_s = time.perf_counter() - start_s
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    jax.block_until_ready(engine.advance(setup, world, state, 2, 2 + rounds))
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return {
        "peers": peers,
        "rounds": rounds,
        "compile_s": compile_s,
        "peer_rounds_per_s": peers * rounds / wall_s,
        "peer_rounds_per_cpu_s": peers * rounds / cpu_s,
        "cpu_us_per_peer_round": 1e6 * cpu_s / (peers * rounds),
        "memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def train_alone(peers: int, rounds: int, neighbors: int = NEIGHBORS) -> Row:
    """The same in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, peers, rounds, neighbors).result()


def gossipy_python() -> Path:
    """An interpreter with gossipy; made when it is not there."""
    folder = ROOT / "build" / "gossipy"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "torch", "gossipy-dfl"]
        subprocess.run(install, check=True, timeout=1200)
    return python


def train_in_gossipy(python: Path, peers: int, rounds: int, neighbors: int) -> Row:
    """The same rounds in gossipy's simulator."""
    script = Path(__file__).with_name("gossipy_rounds.py")
    arguments = [python, script, *map(str, (peers, rounds, INPUTS, HIDDEN, neighbors))]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=900)
    result = json.loads(done.stdout.splitlines()[-1])
    if result["parameters"] != 4810:
        raise RuntimeError(f"expected the model of this file in gossipy, got {result}")
    return {
        "peer_rounds_per_s": peers * rounds / result["wall_s"],
        "peer_rounds_per_cpu_s": peers * rounds / result["cpu_s"],
    }


def side_by_side(python: Path, peers: int, neighbors: int) -> Row:
    """Our rates, gossipy's, and how many times more ours are."""
    ours = train_alone(peers, max(2, 20_000 // peers), neighbors)
    theirs = train_in_gossipy(python, peers, 2, neighbors)
    row: dict[str, Any] = {"peers": peers, "neighbors": neighbors}
    for rate, unit in (("peer_rounds_per_s", "s"), ("peer_rounds_per_cpu_s", "cpu_s")):
        row[f"ours_per_{unit}"], row[f"gossipy_per_{unit}"] = ours[rate], theirs[rate]
        row[f"ratio_per_{unit}"] = ours[rate] / theirs[rate]
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description="What a simulated peer's training costs.")
    parser.add_argument("--quick", action="store_true", help="small networks, nothing is written")
    parser.add_argument("--gossipy", type=Path, help="a Python that has gossipy-dfl and PyTorch")
    options = parser.parse_args()
    sizes = SIZES[:2] if options.quick else SIZES
    rows = [train_alone(peers, max(2, 20_000 // peers)) for peers in sizes]
    tables = {f"gossipjax: {NEIGHBORS} neighbors, batch {BATCH}, 4,810 parameters": rows}
    if options.quick and not options.gossipy:
        print_tables(tables)
        return 0
    python = options.gossipy or gossipy_python()
    peers = 100 if options.quick else 1000
    tables["the same rounds in gossipjax and in gossipy"] = [
        side_by_side(python, peers, neighbors) for neighbors in (NEIGHBORS, 1)
    ]
    if options.quick:
        print_tables(tables)
    else:
        growth = rows[-1]["cpu_us_per_peer_round"] / rows[2]["cpu_us_per_peer_round"]
        report("learner", tables, cost_growth_1000_to_10000=growth)
    return 0


if __name__ == "__main__":
    sys.exit(main())
