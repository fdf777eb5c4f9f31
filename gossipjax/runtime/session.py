"""One peer trains one workload: local rounds, mixing, evaluation, checkpoints, metrics."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec

from gossipjax.errors import LocalProtocolError
from gossipjax.mixing.base import GossipAlgorithm
from gossipjax.protocol.rules import AUDIT_PERCENT_MAX
from gossipjax.runtime.background import give_way, start_backend_in_background
from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.metrics import JsonLines
from gossipjax.runtime.swarm import Swarm, join
from gossipjax.training.checkpoint import Checkpoints
from gossipjax.training.local import LocalTrainer, RoundReport, TrainState
from gossipjax.training.workload import Shard, Workload
from gossipjax.types import Params, PeerId
from gossipjax.verification.auditor import Auditor
from gossipjax.verification.budget import affordable_percent
from gossipjax.verification.rounds import run_committed_round, segment_lengths

_POLL_S = 0.1
_WAIT_MAX_S = 60.0
_NEARLY = 0.95  # of the target version
_SETTLE_S = 3.0


class SessionOptions(NamedTuple):
    """What to train, for how long, and where to keep it.

    Attributes:
        shard: which part of the data this peer has.
        until_version: end when the model has absorbed so many local steps; None: run until stopped.
        seed: of the initial parameters, the same for all peers of a run, and of the batches.
        folder: checkpoints are kept here, and resumed from; None: none.
        checkpoint_seconds: between two checkpoints.
        evaluate_seconds: between two evaluations on the test set.
        wait_neighbors: begin to train when so many neighbors are connected, or after a minute.
        linger_seconds: how long to keep exchanging at the end, while a peer that this one has met
            has not ended.
        background: train only when nothing else wants the cores (Linux).
        accumulate: micro-batches per step, for a batch that does not fit the accelerator.
        assigned: train on the samples of the public data that are assigned to each round, in place
            of the shard; rounds then have `round_steps` steps.
    """

    shard: Shard = Shard(0, 1)
    until_version: int | None = None
    seed: int = 0
    folder: Path | None = None
    checkpoint_seconds: float = 30.0
    evaluate_seconds: float = 5.0
    wait_neighbors: int = 0
    linger_seconds: float = 10.0
    background: bool = False
    accumulate: int = 1
    assigned: bool = False


class SessionResult(NamedTuple):
    """What a session ends with."""

    params: Params
    record: dict[str, Any]
    interrupted: bool


OnRound = Callable[[dict[str, Any]], None]


def train_peer(
    workload: Workload,
    config: PeerConfig,
    options: SessionOptions,
    *,
    algorithm: GossipAlgorithm | None = None,
    on_start: Callable[[Swarm], None] = lambda swarm: None,
    on_round: OnRound = lambda record: None,
    stop: threading.Event | None = None,
) -> SessionResult:
    """Train as a peer until the target version, or until `stop` is set.

    Resumes from the newest checkpoint in `options.folder`, under the identity of
    `config.state_dir`.

    Args:
        workload: what to train.
        config: settings of the peer; a round is `round_steps` steps or `round_seconds`.
        options: what to train on, for how long.
        algorithm: what to share and how to mix; by default as the settings say.
        on_start: called once, with the swarm, when this peer listens.
        on_round: called with each round's record, as it goes to the metrics file.
        stop: ends the session after the current round.

    Raises:
        LocalProtocolError: settings that do not go together.
    """
    if options.background:
        start_backend_in_background()
    session = _Session(workload, config, options, algorithm)
    try:
        return session.run(on_start, on_round, stop or threading.Event())
    finally:
        session.close()


class _Session:
    def __init__(
        self,
        workload: Workload,
        config: PeerConfig,
        options: SessionOptions,
        algorithm: GossipAlgorithm | None,
    ):
        self._workload = workload
        self._algorithm = algorithm
        self._config = config
        self._options = options
        self._trainer = LocalTrainer(
            workload.loss, workload.optimizer, accumulate=options.accumulate
        )
        self._auditor = None
        if options.assigned:
            _check_round(config)
            self._auditor = Auditor(workload, self._trainer)
            self._config = with_affordable_audits(config, self._auditor)
        self._checkpoints = Checkpoints(options.folder) if options.folder else None
        self._lines = JsonLines(Path(config.metrics_file)) if config.metrics_file else None
        self._steps = 0
        self._met: dict[PeerId, int] = {}  # peers ever connected to, and their last known version
        self._train_metrics: dict[str, float] = {}
        self._evaluation: dict[str, float] = {}
        self._next_evaluation_s = 0.0
        self._next_checkpoint_s = time.monotonic() + options.checkpoint_seconds

    def close(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._lines is not None:
            self._lines.close()

    def run(
        self, on_start: Callable[[Swarm], None], on_round: OnRound, stop: threading.Event
    ) -> SessionResult:
        options = self._options
        state, version = self._first_state()
        # This loop calls `mix` once per round, so every call is due.
        swarm_config = msgspec.structs.replace(self._config, round_steps=1, metrics_file="")
        params = state.params
        with join(
            swarm_config,
            params,
            self._algorithm,
            version=version,
            seed=options.shard.index,
            auditor=self._auditor,
        ) as swarm:
            if options.background:
                give_way()
            on_start(swarm)
            self._wait_for_neighbors(swarm, stop)
            batches = self._workload.batches(options.shard, options.seed, self._steps)
            while not stop.is_set() and not self._has_ended(swarm):
                state, report, mix = self._round(state, swarm, batches)
                self._steps += report.steps
                params = mix(state.params, steps=report.steps, samples=report.samples)
                state = self._trainer.at_version(state._replace(params=params), swarm.version)
                on_round(self._after_round(swarm, params, report))
                self._checkpoint_if_due(state, swarm)
            params = self._linger(swarm, params, stop)
            self._evaluate(params)
            self._save(state._replace(params=params), swarm)
            record = self._record(swarm)
            on_round(record)
        return SessionResult(params, record, stop.is_set())

    def _first_state(self) -> tuple[TrainState, int]:
        key = jax.random.key(self._options.seed)
        params = jax.jit(self._workload.init)(key)
        local_key = jax.random.fold_in(key, 1 + self._options.shard.index)
        state = self._trainer.init(params, key=local_key)
        if self._checkpoints is None:
            return state, 0
        restored = self._checkpoints.restore(self._checkpoint_of(state, 0))
        if restored is None:
            return state, 0
        self._steps = int(restored["steps"])
        state = self._trainer.init(
            restored["params"],
            opt_state=restored["opt_state"],
            key=jax.random.wrap_key_data(restored["key"]),
        )
        return state, int(restored["version"])

    def _checkpoint_of(self, state: TrainState, version: int) -> dict[str, Any]:
        return {
            "params": state.params,
            "opt_state": state.opt_state,
            "key": jax.random.key_data(state.key),
            "steps": jnp.int32(self._steps),
            "version": jnp.int32(version),
        }

    def _round(
        self, state: TrainState, swarm: Swarm, batches: Iterator[Any]
    ) -> tuple[TrainState, RoundReport, Callable[..., Params]]:
        """Train a round; also returns how to mix what it has led to."""
        steps = self._config.round_steps
        if self._auditor is not None:
            sequence = swarm.next_sequence()
            task = self._auditor.task(swarm.id, sequence, swarm.version, swarm.drawn)
            length = self._auditor.segment_steps
            done = run_committed_round(self._trainer, state, task, steps, length)
            return done.state, done.report, partial(swarm.mix, sequence=sequence, done=done)
        seconds = None if steps else self._config.round_seconds
        state, report = self._trainer.run_round(
            state, batches, steps=steps or None, seconds=seconds
        )
        return state, report, swarm.mix

    def _has_ended(self, swarm: Swarm) -> bool:
        until = self._options.until_version
        return until is not None and swarm.version >= until

    def _after_round(self, swarm: Swarm, params: Params, report: RoundReport) -> dict[str, Any]:
        if time.monotonic() >= self._next_evaluation_s:
            self._evaluate(params)
        self._train_metrics = report.metrics
        return self._record(swarm)

    def _evaluate(self, params: Params) -> None:
        metrics = self._workload.evaluate(params)
        self._evaluation = {f"test_{name}": float(value) for name, value in metrics.items()}
        self._next_evaluation_s = time.monotonic() + self._options.evaluate_seconds

    def _record(self, swarm: Swarm) -> dict[str, Any]:
        self._met |= swarm.neighbor_versions
        record = {
            **swarm.describe(),
            "steps": self._steps,
            **{name: round(value, 6) for name, value in self._train_metrics.items()},
            **{name: round(value, 6) for name, value in self._evaluation.items()},
        }
        if self._lines is not None:
            self._lines.write(record)
        return record

    def _wait_for_neighbors(self, swarm: Swarm, stop: threading.Event) -> None:
        deadline_s = time.monotonic() + _WAIT_MAX_S
        while swarm.neighbors < self._options.wait_neighbors and time.monotonic() < deadline_s:
            if stop.wait(_POLL_S):
                break

    def _linger(self, swarm: Swarm, params: Params, stop: threading.Event) -> Params:
        """Keep sharing and mixing, without training, until all peers ever met have ended as well.

        One that is gone may be about to come back: without the others it would train alone. Nearly
        ended counts as ended, since mixing with those behind takes a version back a little; a few
        more exchanges then bring everybody's parameters together.
        """
        until = self._options.until_version
        now_s = time.monotonic()
        end_s = now_s + self._options.linger_seconds
        settled = False
        while until is not None and not stop.is_set() and now_s < end_s:
            self._met |= swarm.neighbor_versions
            if not settled and all(v >= _NEARLY * until for v in self._met.values()):
                settled = True
                end_s = min(end_s, now_s + _SETTLE_S if self._met else now_s)
            params = swarm.mix(params, steps=0, samples=0)
            stop.wait(_POLL_S)
            now_s = time.monotonic()
        return params

    def _checkpoint_if_due(self, state: TrainState, swarm: Swarm) -> None:
        if time.monotonic() >= self._next_checkpoint_s:
            self._save(state, swarm)

    def _save(self, state: TrainState, swarm: Swarm) -> None:
        if self._checkpoints is not None:
            self._checkpoints.save(self._checkpoint_of(state, swarm.version))
        self._next_checkpoint_s = time.monotonic() + self._options.checkpoint_seconds


def with_affordable_audits(config: PeerConfig, auditor: Auditor) -> PeerConfig:
    """Settings whose rules say how much is audited; the same for all whose rounds are the same."""
    if config.rules.audit_percent:
        return config
    form = auditor.form
    percent = affordable_percent(
        auditors=config.rules.audit_seats,
        segments=len(segment_lengths(config.round_steps, auditor.segment_steps)),
        state_payloads=(form.params.nbytes + form.rest.nbytes) / form.params.nbytes,
        fanout=config.protocol.fanout,
        percent_max=AUDIT_PERCENT_MAX,
    )
    rules = msgspec.structs.replace(config.rules, audit_percent=percent)
    return msgspec.structs.replace(config, rules=rules)


def _check_round(config: PeerConfig) -> None:
    if not config.round_steps:
        raise LocalProtocolError(
            "a round on assigned data has a number of steps: set round_steps, for instance to 50"
        )


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
