"""What a slow link costs: a peer's step, and the time to a loss beside synchronous all-reduce.

    python benchmarks/bench_wan.py [--quick] [--profiles INDEX…]

Two processes, and between them a link with a delay, a rate and stalls (`shaper.py`); on a machine
that does other things, `nice -n -15 python …` keeps these out of the way.

*Steps.* One peer trains, pinned to core 0 with all that computes; what speaks with the network is
on core 1, as an accelerator would leave the host free; so is the other peer, which only exchanges.
Parts with the network and without any take turns; the mean time of a step is compared. The model is
so large that one exchange takes longer than a round (except over a LAN).

*Time to a loss.* The same model, data and optimizer, three times: synchronous all-reduce of float32
gradients over a plain TCP connection through the link, half the vector each way twice a step; peers
that exchange when they can; and, for comparison, each peer alone. The classes are spread unevenly
over the two (Dirichlet 1). Measured is the time until the test loss of both is what synchronous
training has after `--steps` steps; evaluation is not counted.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from reporting import print_tables, report
from shaper import PROFILES, Link, Profile

BATCH = 128
LEARNING_RATE = 0.05
ALPHA = 1.0
Row = dict[str, Any]


class Training:
    """A multilayer perceptron on Fashion-MNIST, of the size that is asked for."""

    def __init__(self, index: int, widths: tuple[int, ...]):
        import jax
        import jax.numpy as jnp
        import optax

        from gossipjax.data.batching import batches
        from gossipjax.data.images import fashion_mnist_12k
        from gossipjax.data.partition import partition_dirichlet
        from gossipjax.models.classification import classification_loss
        from gossipjax.models.mlp import MLP

        data = fashion_mnist_12k()
        model = MLP(widths=widths)
        loss = classification_loss(model)
        optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
        self._test = {"inputs": data.test_inputs, "labels": data.test_labels}
        mine = partition_dirichlet(data.train_labels, 2, ALPHA, seed=0)[index]
        self._batches: Iterator[Any] = batches(
            data.train_inputs[mine], data.train_labels[mine], BATCH, seed=index
        )
        key = jax.random.key(0)
        self.params: Any = model.init(key, jnp.zeros((1, 28, 28, 1)))
        self._state = optimizer.init(self.params)
        gradient = jax.value_and_grad(loss, has_aux=True)
        self._gradient = jax.jit(lambda params, batch: gradient(params, batch, key)[1])
        self._loss = jax.jit(lambda params, batch: loss(params, batch, key)[0])

        @jax.jit
        def apply(gradients: Any, state: Any, params: Any) -> Any:
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        self._apply = apply

    def step(self, exchange: Callable[[Any], Any] | None = None) -> None:
        """One step; `exchange` gives the gradients to apply in place of the own."""
        import jax

        gradients = self._gradient(self.params, next(self._batches))
        if exchange is not None:
            gradients = exchange(gradients)
        self.params, self._state = self._apply(gradients, self._state, self.params)
        jax.block_until_ready(self.params)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        import jax

        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    def test_loss(self) -> float:
        """On the whole test set."""
        return float(self._loss(self.params, self._test))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_of(port: int, link: Link, join: str = "") -> Row:
    """Of a peer that others reach through the link."""
    return {
        "listen": f"tcp://127.0.0.1:{port}",
        "public_address": f"tcp://127.0.0.1:{link.port}",
        "join": [join] if join else [],
        "slots": 2,
    }


# ---- steps -----------------------------------------------------------------------------------


def be_partner(pipe: Connection, settings: Row, widths: tuple[int, ...]) -> None:
    """Exchange without training, on core 1."""
    os.sched_setaffinity(0, {1})
    import gossipjax as gj

    params = Training(1, widths).params
    with gj.join({}, params, **settings) as swarm:
        pipe.send(swarm.join_string)
        while not pipe.poll(0.05):
            params = swarm.mix(params)


def measure_steps(pipe: Connection, settings: Row, widths: tuple[int, ...], seconds: float) -> None:
    """Train on core 0, in turn with the network and without any."""
    os.sched_setaffinity(0, {0})
    import gossipjax as gj

    training = Training(0, widths)
    for _ in range(3):
        training.step()
    times: dict[bool, list[float]] = {False: [], True: []}
    mixed = sent = 0
    for part in range(6):
        with_network = part % 2 == 1
        if not with_network:
            times[False] += step_times(training, seconds, lambda params: params)
            continue
        with gj.join({}, training.params, **settings) as swarm:
            move_network_threads(core=1)
            deadline_s = time.monotonic() + 30
            while not swarm.neighbors and time.monotonic() < deadline_s:
                time.sleep(0.1)
            step_times(training, 3.0, swarm.mix)
            before = swarm.metrics()
            times[True] += step_times(training, seconds, swarm.mix)
            mixed += swarm.metrics().updates_mixed - before.updates_mixed
            sent += swarm.metrics().bytes_out - before.bytes_out
    pipe.send(
        {
            "parameters": training.parameters,
            "alone_ms": 1e3 * statistics.mean(times[False]),
            "network_ms": 1e3 * statistics.mean(times[True]),
            "by_medians": 100
            * (statistics.median(times[True]) / statistics.median(times[False]) - 1),
            "updates_mixed": mixed,
            "MB_sent": sent / 1e6,
        }
    )


def step_times(training: Training, seconds: float, mix: Callable[[Any], Any]) -> list[float]:
    import jax

    times = []
    end_s = time.perf_counter() + seconds
    while (started_s := time.perf_counter()) < end_s:
        training.step()
        training.params = jax.block_until_ready(mix(training.params))
        times.append(time.perf_counter() - started_s)
    return times


def move_network_threads(core: int) -> None:
    """Pin what speaks with the network; threads that it starts later follow it."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        name = names.get(int(task.name), "") + (task / "comm").read_text(encoding="utf-8")
        if "gossipjax" in name or "ZMQ" in name:
            os.sched_setaffinity(int(task.name), {core})


def steps_row(profile: Profile, options: argparse.Namespace) -> Row:
    widths = tuple(options.widths)
    context = multiprocessing.get_context("spawn")
    ports = [free_port(), free_port()]
    with Link(profile, ports[0]) as to_partner, Link(profile, ports[1]) as to_trainer:
        near, far = context.Pipe()
        partner = context.Process(
            target=be_partner, args=(far, settings_of(ports[0], to_partner), widths)
        )
        partner.start()
        join = near.recv()
        pipe, other = context.Pipe()
        settings = settings_of(ports[1], to_trainer, join)
        trainer = context.Process(
            target=measure_steps, args=(other, settings, widths, options.seconds)
        )
        trainer.start()
        row = pipe.recv()
        near.send("end")
        for process in (trainer, partner):
            process.join(30)
    exchange_s = 4 * row["parameters"] / profile.bytes_per_s
    return {
        "link": profile.name,
        "exchange_s": exchange_s,
        **row,
        "added_percent": 100 * (row["network_ms"] / row["alone_ms"] - 1),
    }


# ---- time to a loss ----------------------------------------------------------------------------


def train_synchronously(
    pipe: Connection, index: int, port: int, steps: int, widths: tuple[int, ...]
) -> None:
    """All-reduce of two: each adds up one half, then they exchange the sums."""
    import jax
    from jax.flatten_util import ravel_pytree

    training = Training(index, widths)
    wire = _connect(pipe, index, port)

    def exchange(gradients: Any) -> Any:
        flat, restore = ravel_pytree(gradients)
        own = np.array(flat)
        halves = np.array_split(own, 2)
        halves[index] += _swap(wire, halves[1 - index], halves[index])
        halves[1 - index][:] = _swap(wire, halves[index], halves[1 - index])
        return restore(jax.numpy.asarray(own / 2))

    training.step(exchange)  # compiles
    pipe.send("ready")
    pipe.recv()
    started_s = time.perf_counter()
    for _ in range(steps):
        training.step(exchange)
    pipe.send((time.perf_counter() - started_s, training.test_loss()))


def _connect(pipe: Connection, index: int, port: int) -> socket.socket:
    if index == 0:
        with socket.create_server(("127.0.0.1", port)) as server:
            pipe.send("listening")
            return server.accept()[0]
    wire = socket.create_connection(("127.0.0.1", port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def _swap(wire: socket.socket, out: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Send one array and receive another at the same time."""
    sending = threading.Thread(target=wire.sendall, args=(out.tobytes(),))
    sending.start()
    taken = bytearray(like.nbytes)
    view = memoryview(taken)
    while view:
        view = view[wire.recv_into(view) :]
    sending.join()
    return np.frombuffer(taken, like.dtype)


def train_by_gossip(
    pipe: Connection, index: int, settings: Row, target: float, limit_s: float, widths: Any
) -> None:
    """Train and exchange; tell when the test loss is reached."""
    import gossipjax as gj

    training = Training(index, widths)
    training.step()
    training.test_loss()
    settings = {**settings, "round_seconds": 0.5}
    with gj.join({}, training.params, **settings) as swarm:
        pipe.send(swarm.join_string)
        while not swarm.neighbors:
            time.sleep(0.01)
        pipe.send("ready")
        pipe.recv()
        spent_s, steps, loss, is_told = 0.0, 0, float("inf"), False
        while not pipe.poll():  # the other one may need this peer for longer
            started_s = time.perf_counter()
            for _ in range(5):
                training.step()
                training.params = swarm.mix(training.params)
            steps += 5
            spent_s += time.perf_counter() - started_s
            if is_told:
                continue
            loss = training.test_loss()
            if loss <= target or spent_s >= limit_s:
                counts = swarm.metrics()
                pipe.send((spent_s, loss, steps, counts.bytes_out, counts.updates_mixed))
                is_told = True


def train_alone(pipe: Connection, index: int, steps: int, widths: tuple[int, ...]) -> None:
    """What as many steps give without any exchange."""
    training = Training(index, widths)
    for _ in range(steps):
        training.step()
    pipe.send(training.test_loss())


def loss_row(profile: Profile, options: argparse.Namespace) -> Row:
    context = multiprocessing.get_context("spawn")
    widths = tuple(options.loss_widths)
    ports = [free_port(), free_port()]
    pipes = [context.Pipe() for _ in range(2)]
    with Link(profile, ports[0]) as link:
        arguments = [
            (pipes[i][1], i, (ports[0], link.port)[i], options.steps, widths) for i in (0, 1)
        ]
        processes = [context.Process(target=train_synchronously, args=a) for a in arguments]
        processes[0].start()
        pipes[0][0].recv()
        processes[1].start()
        _start_together([near for near, _ in pipes])
        seconds, losses = zip(*(near.recv() for near, _ in pipes), strict=True)
        for process in processes:
            process.join(30)
    synchronous_s, target = max(seconds), max(losses)
    pipes = [context.Pipe() for _ in range(2)]
    with Link(profile, ports[0]) as first, Link(profile, ports[1]) as second:
        processes, join = [], ""
        for i, link in enumerate((first, second)):
            settings = settings_of(ports[i], link, join)
            arguments = (pipes[i][1], i, settings, target, synchronous_s, widths)
            processes.append(context.Process(target=train_by_gossip, args=arguments))
            processes[i].start()
            join = pipes[i][0].recv()
        _start_together([near for near, _ in pipes])
        heard = [near.recv() for near, _ in pipes]
        for near, _ in pipes:
            near.send("end")
        for process in processes:
            process.join(30)
    gossip_s = max(row[0] for row in heard)
    steps = max(row[2] for row in heard)
    for i, (_, far) in enumerate(pipes):
        context.Process(target=train_alone, args=(far, i, steps, widths)).start()
    alone = max(near.recv() for near, _ in pipes)
    return {
        "link": profile.name,
        "test_loss": target,
        "reached": max(row[1] for row in heard),
        "sync_s": synchronous_s,
        "sync_steps": options.steps,
        "gossip_s": gossip_s,
        "gossip_steps": steps,
        "alone_loss": alone,
        "gossip_MB": statistics.mean(row[3] for row in heard) / 1e6,
        "updates_mixed": sum(row[4] for row in heard),
        "times_faster": synchronous_s / gossip_s,
    }


def _start_together(pipes: list[Any]) -> None:
    for pipe in pipes:
        while pipe.recv() != "ready":
            pass
    for pipe in pipes:
        pipe.send("go")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a slow link costs.")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it runs")
    parser.add_argument("--profiles", type=int, nargs="*", default=[1, 2, 3], help="which links")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of six parts")
    parser.add_argument("--widths", type=int, nargs="*", default=[2000, 1600])
    parser.add_argument("--steps", type=int, default=150, help="of synchronous training")
    parser.add_argument("--loss-widths", type=int, nargs="*", default=[500, 500])
    options = parser.parse_args()
    if options.quick:
        options.profiles, options.seconds, options.steps = [1], 1.0, 5
        options.widths, options.loss_widths = [50], [50]
    profiles = [PROFILES[index] for index in options.profiles]
    tables = {
        "A step with the network and without": [steps_row(p, options) for p in profiles],
        "Time to a loss": [loss_row(p, options) for p in profiles],
    }
    if options.quick:
        print_tables(tables)
    else:
        report("wan", tables, options=vars(options))


if __name__ == "__main__":
    main()
