"""`join` and `Swarm.mix`: the two lines that a training loop gains."""

import time
import weakref
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from gossipjax.algorithms.compressed import compressed
from gossipjax.algorithms.load import load_algorithm
from gossipjax.compression.load import load_compressor
from gossipjax.errors import LocalProtocolError
from gossipjax.mixing.base import GossipAlgorithm, MixInfo, Needs, Neighbors, State
from gossipjax.runtime.config import PeerConfig, load_config
from gossipjax.runtime.host import Host
from gossipjax.runtime.mailbox import Arrival, Outgoing
from gossipjax.runtime.metrics import JsonLines, Metrics, Snapshot
from gossipjax.types import Params, Payload, PeerId
from gossipjax.verification.auditor import Auditor
from gossipjax.verification.rounds import CommittedRound, Drawn
from gossipjax.wire.tensors import FLOATING, Manifest, manifest_of


def join(
    config: "str | Path | Mapping[str, Any] | PeerConfig | None" = None,
    params: Params = None,
    algorithm: GossipAlgorithm | str | None = None,
    *,
    version: int = 0,
    seed: int = 0,
    auditor: Auditor | None = None,
    **overrides: Any,
) -> "Swarm":
    """Take part in a run.

    Example:
        ```python
        with gj.join("peer.toml", params) as swarm:
            for batch in batches:
                params, opt_state = train_step(params, opt_state, batch)
                params = swarm.mix(params)
        ```

    Args:
        config: a TOML file, a mapping or a `PeerConfig`; defaults when None.
        params: example of what is trained: a pytree of floating-point arrays.
        algorithm: what to share and how to mix, or the name of an algorithm as in the settings; by
            default the one that the settings name, which is `gossip` where they say nothing.
        version: local steps that `params` has absorbed; above 0 after a restart.
        seed: of the algorithm's random choices.
        auditor: of the run, where updates can be audited: their payload is the parameters.
        **overrides: settings by name, for instance `slots=4`, `join=["gossipjax://…"]`.

    Returns:
        A `Swarm`, already listening; close it, or use it in a `with` statement.

    Raises:
        LocalProtocolError: wrong settings or parameters, or an algorithm that needs what a network
            cannot give (see `gossipjax.mixing.Needs`); the text says what and what to do.
    """
    if isinstance(algorithm, str):
        overrides["algorithm"], algorithm = algorithm, None
    return Swarm(
        load_config(config, **overrides),
        params,
        algorithm,
        version=version,
        seed=seed,
        auditor=auditor,
    )


class _Pending(NamedTuple):
    """A mix whose weights the device is still computing."""

    info: MixInfo
    versions: list[float]
    own_version: float


class Swarm:
    """One peer's membership in a run; made by `join`.

    Attributes:
        id: this peer's id.
        join_string: paste it into another peer's `join` setting; empty when nobody can dial it.
    """

    def __init__(
        self,
        config: PeerConfig,
        params: Params,
        algorithm: GossipAlgorithm | None = None,
        *,
        version: int = 0,
        seed: int = 0,
        auditor: Auditor | None = None,
    ):
        self._config = config
        self._algorithm = configured_algorithm(config, algorithm)
        _refuse_needs(self._algorithm.needs)
        manifest, self._structure = _payload_manifest(self._algorithm, params)
        if auditor is None and (config.rules.policy == "gate" or config.rules.claims):
            raise LocalProtocolError(
                "rules.policy gate and rules.claims are for runs on assigned data, whose rounds "
                "others can redo: pass an auditor (on the command line: --assigned)"
            )
        if auditor is not None and auditor.form.params != manifest:
            raise LocalProtocolError(
                "updates of this algorithm cannot be audited: they are not the parameters; "
                "use gossip, or no auditor"
            )
        self._form = _form(params)
        self._state = _init(self._algorithm, params)
        self._key = jax.random.key(seed)
        self._empty_slot: Payload = jax.tree.unflatten(
            self._structure,
            [jnp.zeros(spec.shape, spec.dtype) for spec in manifest.tensors],
        )
        self._warm_up(params)
        self._version = float(version)
        self._pending: _Pending | None = None
        self._steps = 0
        self._samples = 0
        self._last_samples = 1
        self.round = 0
        self._next_round_s = 0.0
        self._metrics = Metrics()
        self._host = Host(config, manifest, version=version, metrics=self._metrics, auditor=auditor)
        self.id: PeerId = self._host.id
        self._lines = JsonLines(Path(config.metrics_file)) if config.metrics_file else None
        # Also when the swarm is forgotten, or the program ends without `close`.
        self._finalizer = weakref.finalize(self, _stop, self._host, self._lines)
        try:
            self._host.start()
        except BaseException:
            self._finalizer()
            raise
        self.join_string = self._host.join_string

    def next_sequence(self) -> int:
        """Reserve the number of an update before its round is trained; see `mix`."""
        return self._host.next_sequence()

    @property
    def drawn(self) -> Drawn:
        """The last value of the beacon: what is assigned to the next round hangs on it."""
        return self._host.status.drawn

    def mix(
        self,
        params: Params,
        *,
        steps: int = 1,
        samples: int | None = None,
        sequence: int | None = None,
        done: CommittedRound | None = None,
    ) -> Params:
        """Share own parameters, fold in what has arrived; never waits for the network.

        Call it after each local step, or after several. At most once per round (see
        `PeerConfig.round_seconds`) it does work; otherwise it returns `params` itself.

        Args:
            params: current parameters, of the structure given to `join`.
            steps: local steps since the last call; 0 when this peer only exchanges: then a round is
                `round_seconds` long in any case.
            samples: training samples since the last call; by default `steps`. Only the ratio
                between peers counts.
            sequence: what `next_sequence` gave for these parameters: for rounds on assigned data,
                which follow from it.
            done: the round that led to these parameters, for those who audit it.

        Returns:
            Parameters to go on with: `params` itself when no round is due.

        Raises:
            LocalProtocolError: `params` has another structure, shape or dtype than at `join`, or
                this is a process that was forked off after it.
        """
        self._count(steps, samples)
        if not self._is_round_due(steps):
            return params
        self._publish(params, sequence, done)
        return self.fold_in(params)

    def share(self, params: Params, *, steps: int = 1, samples: int | None = None) -> bool:
        """The first half of a round: tell the neighbors; `fold_in` is the other.

        For a program that drives several peers in step: unlike `mix`, it does not ask whether a
        round is due.

        Args:
            params: as for `mix`; the `fold_in` that follows has to get the same ones.
            steps: as for `mix`.
            samples: as for `mix`.

        Returns:
            False when the last payload is not out yet, so that nothing was told: try again, with
            `steps=0`.
        """
        self._count(steps, samples)
        return self._publish(params)

    def fold_in(self, params: Params) -> Params:
        """The second half of a round: mix with what has arrived; see `share`."""
        self._check_form(params)
        arrivals = self._host.mailbox.take(self._config.slots)
        if arrivals or self._algorithm.acts_alone:
            params = self._mix_with(params, arrivals)
        self.round += 1
        if self._lines is not None:
            self._lines.write(self.describe())
        return params

    @property
    def waiting(self) -> int:
        """Neighbors' updates that the next mix will find."""
        return self._host.mailbox.waiting

    @property
    def version(self) -> int:
        """Local steps that the parameters have absorbed, own and, through mixing, others'."""
        self._settle_version()
        return int(self._version)

    @property
    def neighbors(self) -> int:
        """Connected peers."""
        return len(self._host.status.versions)

    @property
    def neighbor_versions(self) -> dict[PeerId, int]:
        """Model version of each neighbor, as of its last keep-alive; -1 before the first."""
        return self._host.status.versions

    @property
    def has_caught_up(self) -> bool:
        """False while this peer, having joined late, waits for a neighbor's parameters."""
        return self._host.status.has_caught_up

    def metrics(self) -> Snapshot:
        """Bytes, updates mixed and refused, staleness."""
        return self._metrics.snapshot()

    def describe(self) -> dict[str, Any]:
        """The state of this peer as one flat record, as written to the metrics file."""
        snapshot = self._metrics.snapshot()
        return {
            "time": round(time.time(), 3),
            "peer": self.id.hex(),
            "round": self.round,
            "version": int(self._version),
            "neighbors": self.neighbors,
            "bytes_in": snapshot.bytes_in,
            "bytes_out": snapshot.bytes_out,
            "updates_mixed": snapshot.updates_mixed,
            "updates_refused": snapshot.updates_refused,
            "staleness_p50": snapshot.staleness_p50,
            "staleness_max": snapshot.staleness_max,
            "banned": {
                peer.hex(): {
                    "reason": conviction.reason,
                    "evidence_id": conviction.evidence.hex(),
                    "after_updates": conviction.sequence,
                }
                for peer, conviction in snapshot.banned.items()
            },
        }

    def audit(self, peer: PeerId) -> bool | None:
        """Redo a part of the last update that was taken from a neighbor; waits for the result.

        Returns:
            True when it is what its author says, False when it is not; None when nothing was taken
            from this neighbor, when it does not show what it has committed to, or when this peer
            joined without an auditor.
        """
        return self._host.audit(peer)

    def close(self) -> None:
        """Say goodbye to the neighbors and stop; may be called twice."""
        self._finalizer()
        self._lines = None

    def __enter__(self) -> "Swarm":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _warm_up(self, params: Params) -> None:
        """Compile now, so that no step of the training loop has to wait for it."""
        nothing = np.zeros(self._config.slots, np.float32)
        slots = [self._empty_slot] * self._config.slots
        _share(self._algorithm, self._state, params, self._key)
        _mix(self._algorithm, self._state, params, slots, nothing, nothing, np.float32(1.0))

    def _count(self, steps: int, samples: int | None) -> None:
        if not self._host.is_here:
            raise LocalProtocolError(
                "this process was forked off the one that joined, and has no connections; "
                "join in the process that trains, after forking"
            )
        self._version += steps
        self._steps += steps
        self._samples += steps if samples is None else samples

    def _check_form(self, params: Params) -> None:
        if _form(params) != self._form:
            raise LocalProtocolError(
                "params have another structure, shape or dtype than those given to join; "
                "pass the same tree of arrays each time"
            )

    def _is_round_due(self, steps: int) -> bool:
        if self._config.round_steps and steps:
            due = self._steps >= self._config.round_steps
        else:
            due = time.monotonic() >= self._next_round_s
        if due:
            self._steps = 0
            self._next_round_s = time.monotonic() + self._config.round_seconds
        return due

    def _publish(
        self,
        params: Params,
        sequence: int | None = None,
        done: CommittedRound | None = None,
    ) -> bool:
        self._check_form(params)
        self._settle_version()
        if done is None and self._config.rules.claims:  # everybody would refuse it
            return False
        if self._samples:
            self._last_samples = self._samples
            self._samples = 0
        if self._host.mailbox.is_busy:  # the last one is not out yet: the next round will share
            return False
        payload, self._state, self._key = _share(self._algorithm, self._state, params, self._key)
        leaves = jax.tree.leaves(payload)
        self._host.publish(
            Outgoing(
                lambda: [np.asarray(leaf) for leaf in leaves],
                int(self._version),
                self._last_samples,
                sequence,
                done,
            )
        )
        return True

    def _mix_with(self, params: Params, arrivals: list[Arrival]) -> Params:
        count = self._config.slots
        lead_max = self._version + self._config.version_lead_max
        versions = [min(float(arrival.version), lead_max) for arrival in arrivals]
        weight = np.zeros(count, np.float32)
        staleness = np.zeros(count, np.float32)
        for slot, (arrival, version) in enumerate(zip(arrivals, versions, strict=True)):
            ratio = arrival.samples / self._last_samples
            weight[slot] = min(ratio, self._config.work_ratio_max)
            staleness[slot] = max(0.0, self._version - version)
        adopt = bool(arrivals) and arrivals[0].adopt
        if adopt and self._algorithm.needs.founders:
            raise LocalProtocolError(
                "this peer has joined late, and a payload of this algorithm is too little to begin "
                "from: start together with the others, or from a checkpoint of one of them"
            )
        if adopt:
            weight[0] = 1.0
            versions = [float(arrivals[0].version)]
        params, self._state, info = _mix(
            self._algorithm,
            self._state,
            params,
            self._slots(arrivals),
            weight,
            staleness,
            np.float32(0.0 if adopt else 1.0),
        )
        if adopt:  # what it remembers is of parameters that are gone
            self._state = _init(self._algorithm, params)
        self._pending = _Pending(info, versions, self._version)
        if arrivals:
            self._metrics.mixed(staleness[: len(arrivals)].tolist())
        return params

    def _slots(self, arrivals: list[Arrival]) -> list[Payload]:
        """K payloads; the empty ones are one and the same array of zeros."""
        filled = [jax.tree.unflatten(self._structure, arrival.arrays) for arrival in arrivals]
        return filled + [self._empty_slot] * (self._config.slots - len(filled))

    def _settle_version(self) -> None:
        """Mix versions with the weights that the parameters were mixed with.

        Done at the next call, when the device has long finished, so that `mix` never waits for it.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        weight = np.asarray(pending.info.weight, np.float64)[: len(pending.versions)]
        own = float(pending.info.self_weight) * pending.own_version
        steps_since = self._version - pending.own_version
        self._version = own + float(weight @ np.asarray(pending.versions)) + steps_since


def configured_algorithm(
    config: PeerConfig, algorithm: GossipAlgorithm | None = None
) -> GossipAlgorithm:
    """The algorithm that the settings name, or the given one, compressed as they say.

    The same object for the same settings.

    Raises:
        LocalProtocolError: there is none, or it does not take the options or the compressor.
    """
    try:
        return _load_algorithm(
            algorithm or config.algorithm,
            b"{}" if algorithm else msgspec.json.encode(config.algorithm_options),
            config.compression,
            msgspec.json.encode(config.compression_options),
        )
    except ValueError as error:
        raise LocalProtocolError(f"algorithm: {error}") from None


@cache
def _load_algorithm(
    chosen: GossipAlgorithm | str, options: bytes, compression: str, compression_options: bytes
) -> GossipAlgorithm:
    # One object for all peers of a process, so that they share what is compiled.
    decode = msgspec.json.decode
    compressor = (
        load_compressor(compression, **decode(compression_options)) if compression else None
    )
    if isinstance(chosen, str):
        return load_algorithm(chosen, compressor, **decode(options))
    return chosen if compressor is None else compressed(chosen, compressor)


# The caller may donate `params`, and what `mix` returned, to its next step. Nothing that is kept is
# lost with them: what a compiled function returns has memory of its own (held by a test).


@partial(jax.jit, static_argnums=0)
def _init(algorithm: GossipAlgorithm, params: Params) -> State:
    return algorithm.init(params)


@partial(jax.jit, static_argnums=0)
def _share(
    algorithm: GossipAlgorithm, state: State, params: Params, key: jax.Array
) -> tuple[Payload, State, jax.Array]:
    key, next_key = jax.random.split(key)
    payload, new_state = algorithm.share(state, params, key)
    return payload, new_state, next_key


@partial(jax.jit, static_argnums=0)
def _mix(
    algorithm: GossipAlgorithm,
    state: State,
    params: Params,
    slots: list[Payload],
    weight: jax.Array,
    staleness: jax.Array,
    self_weight: jax.Array,
) -> tuple[Params, State, MixInfo]:
    # Stacked in here, where XLA need not materialize the stack.
    neighbors = Neighbors(
        payload=jax.tree.map(lambda *leaves: jnp.stack(leaves), *slots),
        weight=weight,
        staleness=staleness,
        slot_is_new=weight > 0,
        self_weight=self_weight,
    )
    return algorithm.mix(state, params, neighbors)


def _refuse_needs(needs: Needs) -> None:
    needed = [name for name, need in needs._replace(founders=False)._asdict().items() if need]
    if needed:
        raise LocalProtocolError(
            f"this algorithm needs of the transport: {', '.join(needed)}; a peer on the network "
            "exchanges with random neighbors, and updates may come late or not at all. Take an "
            "algorithm without needs, such as gossip or quasi_global_momentum, or simulate it"
        )


def _stop(host: Host, lines: JsonLines | None) -> None:
    host.stop()
    if lines is not None:
        lines.close()


def _form(params: Params) -> tuple[Any, list[tuple[Any, Any]]]:
    leaves, structure = jax.tree.flatten(params)
    return structure, [(np.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves]


def _payload_manifest(algorithm: GossipAlgorithm, params: Params) -> tuple[Manifest, Any]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if str(dtype) not in FLOATING:
            raise LocalProtocolError(
                f"params{jax.tree_util.keystr(path)} is {dtype}; only floating-point arrays can be "
                "averaged: pass the trained parameters alone (nnx: nnx.state(model, nnx.Param))"
            )

    def payload_of(params: Params, key: jax.Array) -> Payload:
        return algorithm.share(algorithm.init(params), params, key)[0]

    payload = jax.eval_shape(payload_of, params, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(payload)
    try:
        manifest = manifest_of(
            {jax.tree_util.keystr(path): (leaf.shape, str(leaf.dtype)) for path, leaf in leaves}
        )
    except ValueError as error:
        raise LocalProtocolError(f"params: {error}") from None
    return manifest, jax.tree.structure(payload)
