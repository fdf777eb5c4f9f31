"""What `swarm.mix` adds to a training loop, and how fast the mix kernel is.

    python benchmarks/bench_mix.py [--quick]

Prints two tables and, unless quick, writes benchmarks/results/mix.json.

*Loop.* Steps that last one second each, with 10 million float32 parameters, in turn with and
without `mix`: alone, with healthy neighbors, with neighbors stopped by SIGSTOP (they keep their
connections and read nothing), and with neighbors killed by SIGKILL. A step sleeps: that is what the
training thread does while an accelerator computes, and it repeats to a fraction of a millisecond,
where a real step varies by more than what is measured. It ends when its parameters are ready. So
whatever `mix` delays the loop by is counted, on the training thread and on the device. What runs on
other threads is in the column `processor`: processor time of this process per `mix`, the call
itself included; it competes with a step only where the step computes on the same cores. On a
machine that does other things the medians are firmer than the means, and `chrt -r 1 python …` keeps
others from delaying the steps.

*Kernel.* The compiled mix of full slots against copying the parameters: both are bound by memory,
so the rate of useful bytes (parameters read and written, slots read) should be near the rate of a
copy.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from reporting import print_tables, report

import gossipjax as gj
from gossipjax.mixing.base import GossipAlgorithm, Neighbors
from gossipjax.runtime.swarm import Swarm

LIMIT_PERCENT = 2.0
NEIGHBORS = 2
CONFIG: dict[str, Any] = {"listen": "tcp://127.0.0.1:0", "round_steps": 1}
Row = dict[str, Any]


def make_params(parameters: int) -> Any:
    """A tree like a network's: layers of a matrix and a vector."""
    width = parameters // 10 // 1000 - 1
    keys = jax.random.split(jax.random.key(0), 10)
    return {
        f"layer_{i}": {"kernel": jax.random.normal(key, (1000, width)), "bias": jnp.zeros(1000)}
        for i, key in enumerate(keys)
    }


class Loop:
    """Steps of a fixed length, in turn with and without mixing."""

    def __init__(self, options: argparse.Namespace):
        self.params = make_params(options.parameters)
        self.step_s: float = options.step_seconds
        self.steps: int = options.steps

    def run(self, case: str, swarm: Swarm) -> Row:
        """What mixing adds: percent of a step by means and by medians, milliseconds, and calls."""
        mixed_before, processor_s = swarm.metrics().updates_mixed, time.process_time()
        calls: list[float] = []
        with_mix: list[float] = []
        without: list[float] = []
        for _ in range(self.steps):
            without.append(self._step(lambda params: params))
            with_mix.append(self._step(lambda params: timed(swarm.mix, params, calls)))
        added_s = statistics.mean(with_mix) - statistics.mean(without)
        added_median_s = statistics.median(with_mix) - statistics.median(without)
        return {
            "neighbors": case,
            "added_percent": 100 * added_s / statistics.mean(without),
            "by_medians": 100 * added_median_s / statistics.median(without),
            "call_ms": 1e3 * statistics.median(calls),
            "worst_call_ms": 1e3 * max(calls),
            "processor_ms": 1e3 * (time.process_time() - processor_s) / self.steps,
            "updates_mixed": swarm.metrics().updates_mixed - mixed_before,
        }

    def _step(self, mix: Callable[[Any], Any]) -> float:
        started_s = time.perf_counter()
        time.sleep(self.step_s)
        self.params = jax.block_until_ready(mix(self.params))
        return time.perf_counter() - started_s


def timed(function: Callable[[Any], Any], argument: Any, seconds: list[float]) -> Any:
    started_s = time.perf_counter()
    result = function(argument)
    seconds.append(time.perf_counter() - started_s)
    return result


@contextmanager
def neighbor(join_string: str, options: argparse.Namespace) -> Iterator["subprocess.Popen[bytes]"]:
    """A peer in a process of its own, that shares and mixes once per step."""
    arguments = [join_string, str(options.parameters), str(options.step_seconds)]
    command = [sys.executable, __file__, "--neighbor", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def be_neighbor(join_string: str, parameters: str, step_seconds: str) -> None:
    params = make_params(int(parameters))
    with gj.join(CONFIG, params, join=[join_string]) as swarm:
        while True:
            time.sleep(float(step_seconds))
            params = swarm.mix(params)


def loop_rows(options: argparse.Namespace) -> list[Row]:
    loop = Loop(options)
    with ExitStack() as stack:
        swarm = stack.enter_context(gj.join(CONFIG, loop.params))
        rows = [loop.run("none", swarm)]
        processes = [
            stack.enter_context(neighbor(swarm.join_string, options)) for _ in range(NEIGHBORS)
        ]
        wait_for_exchange(swarm, loop)
        rows.append(loop.run(f"{NEIGHBORS} healthy", swarm))
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        rows.append(loop.run(f"{NEIGHBORS} stopped", swarm))
        for process in processes:
            process.kill()
        rows.append(loop.run(f"{NEIGHBORS} killed", swarm))
    return rows


def wait_for_exchange(swarm: Swarm, loop: Loop) -> None:
    deadline_s = time.monotonic() + 120
    while swarm.neighbors < NEIGHBORS or not swarm.metrics().updates_mixed:
        if time.monotonic() > deadline_s:
            raise SystemExit("the neighbors did not exchange anything within 120 s")
        loop.params = swarm.mix(loop.params)
        time.sleep(0.1)


def kernel_rows(options: argparse.Namespace) -> list[Row]:
    params = make_params(options.parameters)
    nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    algorithm = gj.gossip()
    state = algorithm.init(params)
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    rows = [kernel_row("copy", 2 * nbytes, lambda: copy(params), options)]
    for slots in (1, 2, 4, 8):
        weight = np.ones(slots, np.float32)
        payloads = [jax.tree.map(lambda leaf, k=k: leaf + k, params) for k in range(slots)]

        run = partial(jax.jit(partial(mix_all, algorithm, state)), params, payloads, weight)
        rows.append(kernel_row(f"mix of {slots}", (slots + 2) * nbytes, run, options))
    for row in rows:
        row["of_copy_percent"] = 100 * row["GB_per_s"] / rows[0]["GB_per_s"]
    return rows


def mix_all(
    algorithm: GossipAlgorithm, state: Any, params: Any, payloads: list[Any], weight: jax.Array
) -> Any:
    """As `Swarm.mix` does it: stacked within the compiled function."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *payloads)
    neighbors = Neighbors(stacked, weight, 0 * weight, weight > 0, jnp.float32(1))
    return algorithm.mix(state, params, neighbors)[0]


def kernel_row(name: str, moved: int, run: Callable[[], Any], options: argparse.Namespace) -> Row:
    jax.block_until_ready(run())
    times = []
    for _ in range(options.repeats):
        started_s = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - started_s)
    best_s = min(times)  # others share the machine: the best is the least disturbed
    return {"kernel": name, "ms": 1e3 * best_s, "GB_per_s": moved / best_s / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description="What `swarm.mix` adds to a training loop.")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it runs")
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--step-seconds", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=20, help="with mix, and as many without")
    parser.add_argument("--repeats", type=int, default=20, help="of each kernel")
    parser.add_argument("--neighbor", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.neighbor:
        be_neighbor(*options.neighbor)
    if options.quick:
        options.parameters, options.step_seconds = 100_000, 0.1
        options.steps, options.repeats = 5, 3
    tables = {
        f"Added to a loop of {options.step_seconds:g} s steps, "
        f"{options.parameters / 1e6:g} million float32 parameters": loop_rows(options),
        "Mix kernel against copying": kernel_rows(options),
    }
    if options.quick:
        print_tables(tables)
    else:
        report("mix", tables, limit_percent=LIMIT_PERCENT, options=vars(options))


if __name__ == "__main__":
    main()
