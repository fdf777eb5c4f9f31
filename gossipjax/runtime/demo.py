"""`python -m gossipjax.peer demo`: real peers on this machine learn what none could alone.

Each peer is a process of its own (`python -m gossipjax.peer run`) that finds the others over
encrypted ZeroMQ on loopback. Afterwards the same steps are trained without exchange (each peer
alone) and centrally (one process on the union), and everything is put into one table.
"""

import concurrent.futures
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from gossipjax.errors import LocalProtocolError
from gossipjax.runtime.cli import (
    METRICS_FILE,
    PARAMS_FILE,
    PEER_FILE,
    RESULT_FILE,
    source_commit,
    write_json,
)
from gossipjax.runtime.display import Record, Screen, peer_table

WORKLOAD = "fashion_mnist"
ROUND_STEPS = 5
# Epochs that fit a run of minutes. A round has one segment, so an audit redoes a whole round.
_RULES = ("epoch_s=10", "audit_percent=10", "audit_seats=3", "claims=true")
_START_TIMEOUT_S = 60.0
_POLL_S = 0.2
_SHUTDOWN_S = 10.0
_LINGER_S = 60  # a peer that was killed needs some seconds to start again
_JOIN_LATE_AT = 0.35  # of the steps
_KILL_AT = 0.35
_RESTART_AT = 0.45


class DemoOptions(NamedTuple):
    """See `python -m gossipjax.peer demo --help`."""

    peers: int = 4
    steps: int = 3000
    alpha: float = 0.1
    kill_one: bool = False
    late_joiner: bool = False
    byzantine: int = 0
    attack: str = "sign_flip"
    mixer: str = "mean"
    assigned: bool = False
    policy: str = "off"
    seed: int = 0
    folder: Path = Path("runs/demo")

    @property
    def honest(self) -> int:
        """Peers that do as they should: the first ones."""
        return self.peers - self.byzantine

    @property
    def data(self) -> str:
        """What the peers train on, for people to read."""
        if self.assigned:
            return "assigned public data"
        return f"Dirichlet α = {self.alpha}"


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Run the swarm, then the baselines; print the table; write `summary.json` and `plot.png`.

    Raises:
        LocalProtocolError: a peer ended with an error; its output is named. Or no peer is honest.
    """
    if options.honest < 1 + options.late_joiner:
        raise LocalProtocolError(f"of {options.peers} peers, {options.byzantine} cannot attack")
    started_s = time.monotonic()
    for old in options.folder.glob("peer-*"):
        shutil.rmtree(old)
    with Screen() as screen:
        screen.console.print(
            f"[bold]1/2[/] {options.peers} peers train together · seed {options.seed} · "
            f"{options.data} · {options.steps} local steps{_attackers(options)}"
        )
        swarm = _Swarm(options)
        try:
            swarm.train(screen)
        finally:
            swarm.end()
    console = screen.console
    console.print("[bold]2/2[/] the same steps alone, and centrally on everything …")
    honest = range(options.honest)
    results = [swarm.result(peer) for peer in honest]
    alone, central, evaluated, distance = _baselines(options, [r["steps"] for r in results])
    snapshots = [swarm.history(peer)[-1] for peer in honest]
    summary = {
        "peers": options.peers,
        "seed": options.seed,
        "dataset": "fashion_mnist_12k",
        "alpha": None if options.assigned else options.alpha,
        "byzantine": options.byzantine,
        "attack": options.attack if options.byzantine else None,
        "mixer": options.mixer,
        "commit": source_commit(),
        "rounds": max(record["round"] for record in results),
        "steps": [record["steps"] for record in results],
        "alone_accuracy": alone,
        "swarm_accuracy": evaluated,
        "central_accuracy": central,
        "consensus_distance": distance,
        "bytes_sent": [swarm.total(peer, "bytes_out") for peer in range(options.peers)],
        "updates_mixed": sum(swarm.total(peer, "updates_mixed") for peer in honest),
        "policy": options.policy,
        "banned": _bans(swarm, options),
        "updates_refused": _sum_counts([record["updates_refused"] for record in results]),
        "staleness_p50": float(np.median([r["staleness_p50"] for r in snapshots])),
        "staleness_max": max(r["staleness_max"] for r in snapshots),
        "training_seconds": round(swarm.seconds, 1),
        "wall_seconds": round(time.monotonic() - started_s, 1),
    }
    write_json(options.folder / "summary.json", summary)
    histories = [swarm.history(peer) for peer in honest]
    _plot(options.folder / "plot.png", histories, alone, central)
    console.print(_summary_table(summary))
    if options.byzantine:
        console.print(_ban_table(summary["banned"], options))
    console.print(f"{options.folder / 'summary.json'} · {options.folder / 'plot.png'}")
    return summary


class _Swarm:
    """The peer processes of one demo."""

    def __init__(self, options: DemoOptions):
        self._options = options
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._records: dict[int, list[Record]] = {}
        self._remarks = [""] * options.honest + ["attacks"] * options.byzantine
        self._victim = 1 if options.kill_one else None
        self._late = options.honest - 1 if options.late_joiner else None
        self.seconds = 0.0

    def train(self, screen: Screen) -> None:
        """Start the peers, show them, play the faults, until all have ended."""
        started_s = time.monotonic()
        self._start(0)
        self._wait_for(0)
        for peer in range(1, self._options.peers):
            if peer != self._late:
                self._start(peer)
        while self._is_running() or self._is_fault_open():
            self._play_faults()
            screen.show(self._table())
            time.sleep(_POLL_S)
        self._play_faults()
        self.seconds = time.monotonic() - started_s
        screen.show(self._table(), last=True)

    def end(self) -> None:
        """Leave no process behind."""
        running = [p for p in self._processes.values() if p.poll() is None]
        for process in running:
            process.terminate()
        deadline_s = time.monotonic() + _SHUTDOWN_S
        for process in running:
            try:
                process.wait(max(deadline_s - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def history(self, peer: int) -> list[Record]:
        """Every metrics record of a peer so far."""
        return _read_lines(self._folder(peer) / METRICS_FILE)

    def result(self, peer: int) -> dict[str, Any]:
        """The last record of a peer that has ended."""
        return json.loads((self._folder(peer) / RESULT_FILE).read_text(encoding="utf-8"))

    def total(self, peer: int, counter: str) -> int:
        """A counter over all lives of a peer: it starts again at 0 when the peer is restarted."""
        values = [record[counter] for record in self.history(peer)]
        ends = [a for a, b in zip(values, [*values[1:], -1], strict=True) if b < a]
        return sum(ends)

    def _folder(self, peer: int) -> Path:
        return self._options.folder / f"peer-{peer}"

    def _start(self, peer: int) -> None:
        folder, options = self._folder(peer), self._options
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PEER_FILE).unlink(missing_ok=True)
        command = [sys.executable, "-m", "gossipjax.peer", "run", WORKLOAD]
        command += ["--shard", f"{peer}/{options.peers}", "--dir", str(folder)]
        command += ["--steps", str(options.steps), "--seed", str(options.seed)]
        command += ["--wait", str(self._others_at_start(peer)), "--linger", str(_LINGER_S)]
        command += ["--checkpoint", "10", "--with", f"decay_steps={options.steps}"]
        command += ["--with", f"alpha={options.alpha}", "--with", f"partition_seed={options.seed}"]
        # Rounds in seconds are for the end, when peers exchange without training.
        for setting in (f"round_steps={ROUND_STEPS}", "round_seconds=0.2"):
            command += ["--set", setting]
        command += ["--set", f"algorithm_options.mixer={options.mixer}"]
        command += ["--set", f"algorithm_options.byzantine={options.byzantine}"]
        command += ["--assigned"] if options.assigned else []
        if options.assigned:
            for setting in (f"policy={options.policy}", *_RULES):
                command += ["--set", f"rules.{setting}"]
        if peer >= options.honest:
            command += ["--attack", options.attack, "--set", "norm_max=inf"]
        # Peers that share cores: what one has to say must not wait for what others compute.
        command += ["--set", "listen=tcp://127.0.0.1:0", "--background"]
        for contact in range(options.peers):
            if contact != peer and (self._folder(contact) / PEER_FILE).exists():
                command += ["--join", self._join_string(contact)]
                break
        with (folder / "output.txt").open("ab") as output:
            self._processes[peer] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(options.peers),
                start_new_session=True,  # Ctrl-C reaches the parent, which ends them in order
            )

    def _others_at_start(self, peer: int) -> int:
        """Peers that start together wait for each other; one that comes later for any."""
        together = self._options.peers - (self._late is not None)
        return 1 if peer == self._late or self._remarks[peer] == "back" else together - 1

    def _join_string(self, peer: int) -> str:
        return json.loads((self._folder(peer) / PEER_FILE).read_text(encoding="utf-8"))["join"]

    def _wait_for(self, peer: int) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not (self._folder(peer) / PEER_FILE).exists():
            self._check(peer)
            if time.monotonic() > deadline_s:
                raise LocalProtocolError(
                    f"peer {peer} did not start; see {self._folder(peer) / 'output.txt'}"
                )
            time.sleep(_POLL_S)

    def _check(self, peer: int) -> None:
        code = self._processes[peer].poll()
        if code not in (None, 0) and self._remarks[peer] != "killed":
            output = self._folder(peer) / "output.txt"
            tail = output.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise LocalProtocolError(f"peer {peer} ended with code {code}; {output} ends:\n{tail}")

    def _is_running(self) -> bool:
        for peer in self._processes:
            self._check(peer)
        return any(process.poll() is None for process in self._processes.values())

    def _is_fault_open(self) -> bool:
        return "killed" in self._remarks or (
            self._late is not None and self._late not in self._processes
        )

    def _play_faults(self) -> None:
        progress = self._version(0) / self._options.steps
        is_late_away = self._late is not None and self._late not in self._processes
        if self._late is not None and is_late_away and progress >= _JOIN_LATE_AT:
            self._start(self._late)
            self._remarks[self._late] = "late"
        if self._victim is None:
            return
        remark = self._remarks[self._victim]
        if not remark and progress >= _KILL_AT:
            process = self._processes[self._victim]
            process.send_signal(signal.SIGKILL)
            process.wait()
            self._remarks[self._victim] = "killed"
        elif remark == "killed" and progress >= _RESTART_AT:
            self._remarks[self._victim] = "back"
            self._start(self._victim)

    def _version(self, peer: int) -> int:
        records = self.history(peer)
        return int(records[-1]["version"]) if records else 0

    def _table(self) -> Table:
        rows: list[tuple[str, Record | None, str]] = []
        for peer in range(self._options.peers):
            records = self.history(peer)
            rows.append((str(peer), records[-1] if records else None, self._remarks[peer]))
        return peer_table(rows, "swarm")


def _environment(peers: int) -> dict[str, str]:
    """One thread per process where processes share cores, and no fight over an accelerator."""
    environment = {"JAX_PLATFORMS": "cpu", **os.environ}
    if (os.cpu_count() or 1) < 2 * peers:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        environment.setdefault("OMP_NUM_THREADS", "1")
    return environment


def _read_lines(path: Path) -> list[Record]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _bans(swarm: "_Swarm", options: DemoOptions) -> dict[str, Any]:
    """Who is banned, by whom, why: by the number of the peer."""
    identities = {swarm.history(peer)[-1]["peer"]: peer for peer in range(options.peers)}
    bans: dict[str, Any] = {}
    for judge in range(options.honest):
        for identity, conviction in swarm.result(judge)["banned"].items():
            ban = bans.setdefault(str(identities[identity]), {**conviction, "by": []})
            ban["by"].append(judge)
    return bans


def _sum_counts(counts: list[dict[str, int]]) -> dict[str, int]:
    reasons = sorted({reason for count in counts for reason in count})
    return {reason: sum(count.get(reason, 0) for count in counts) for reason in reasons}


# ---- baselines, in processes of their own ------------------------------------------------------


def _baselines(
    options: DemoOptions, steps: list[int]
) -> tuple[list[float], float, list[float], float]:
    """Accuracies alone, centrally and of the swarm's final parameters; consensus distance."""
    os.environ.update(_environment(options.peers))
    context = multiprocessing.get_context("spawn")
    workers = min(os.cpu_count() or 1, options.peers + 1)
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        if options.assigned:  # whoever has all the data is alone what it would be centrally
            central = pool.submit(_train_alone, options, 0, 1, max(steps))
            alone = [central for _ in steps]
        else:
            central = pool.submit(_train_alone, options, 0, 1, sum(steps))
            alone = [
                pool.submit(_train_alone, options, peer, options.peers, count)
                for peer, count in enumerate(steps)
            ]
        swarm = pool.submit(_evaluate_swarm, options)
        evaluated, distance = swarm.result()
        return [a.result() for a in alone], central.result(), evaluated, distance


def _workload(options: DemoOptions, decay_steps: int) -> Any:
    from gossipjax.training.workload import load_workload

    return load_workload(
        WORKLOAD, alpha=options.alpha, partition_seed=options.seed, decay_steps=decay_steps
    )


def _attackers(options: DemoOptions) -> str:
    if not options.byzantine:
        return ""
    return f" · {options.byzantine} of them attack ({options.attack}) · mixer {options.mixer}"


def _train_alone(options: DemoOptions, index: int, count: int, steps: int) -> float:
    from gossipjax.training.local import train_alone
    from gossipjax.training.workload import Shard

    workload = _workload(options, decay_steps=steps)
    params = train_alone(workload, Shard(index, count), steps=steps, seed=options.seed)
    return float(workload.evaluate(params)["accuracy"])


def _evaluate_swarm(options: DemoOptions) -> tuple[list[float], float]:
    """Accuracy of each peer's final parameters, and their root mean square distance.

    distance = √(mean_i ‖x_i - x̄‖²)
    """
    import flax.serialization
    import jax
    from jax.flatten_util import ravel_pytree

    workload = _workload(options, options.steps)
    template = workload.init(jax.random.key(options.seed))
    accuracies, vectors = [], []
    for peer in range(options.honest):
        data = (options.folder / f"peer-{peer}" / PARAMS_FILE).read_bytes()
        params = flax.serialization.from_bytes(template, data)
        accuracies.append(float(workload.evaluate(params)["accuracy"]))
        vectors.append(np.asarray(ravel_pytree(params)[0], np.float64))
    spread = np.stack(vectors) - np.mean(vectors, axis=0)
    return accuracies, float(np.sqrt(np.mean(np.sum(spread**2, axis=1))))


# ---- results -----------------------------------------------------------------------------------


def _summary_table(summary: dict[str, Any]) -> Table:
    table = Table(title="test accuracy on the full test set", title_justify="left")
    for column in ("", "mean", "worst", "best"):
        table.add_column(column, justify="left" if not column else "right")
    for label, values in (
        ("each peer alone", summary["alone_accuracy"]),
        ("the swarm", summary["swarm_accuracy"]),
        ("central, all data", [summary["central_accuracy"]]),
    ):
        figures = (float(np.mean(values)), min(values), max(values))
        table.add_row(label, *(f"{100 * figure:.2f} %" for figure in figures))
    return table


def _ban_table(bans: dict[str, Any], options: DemoOptions) -> Table:
    """Who was banned, and what proves it."""
    table = Table(title="banned", title_justify="left")
    for column in ("peer", "reason", "evidence", "update", "by"):
        table.add_column(column, justify="right" if column == "update" else "left")
    for peer, ban in sorted(bans.items()):
        by = f"{len(ban['by'])} of {options.honest} honest peers"
        evidence = ban["evidence_id"][:16]
        table.add_row(peer, ban["reason"], evidence, str(ban["after_updates"]), by)
    return table


def _plot(path: Path, histories: list[list[Record]], alone: list[float], central: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for peer, history in enumerate(histories):
        # Each evaluation once: the records in between repeat it.
        by_loss = {r["test_loss"]: r for r in reversed(history) if "test_loss" in r}
        points = [(r["version"], 100 * r["test_accuracy"]) for r in reversed(by_loss.values())]
        color = f"C{peer % 10}"
        axes.plot(*zip(*points, strict=True), color=color, label=f"peer {peer} in the swarm")
        axes.axhline(100 * alone[peer], color=color, linestyle=":", linewidth=1)
    axes.axhline(100 * central, color="black", linestyle="--", label="central, all data")
    axes.set_xlabel("version (local steps absorbed)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("Fashion-MNIST; dotted: each peer alone", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)
    plt.close(figure)
