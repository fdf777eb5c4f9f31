"""Decentralized training of thousands of peers on one machine, by the functions that peers run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from rich.progress import Progress

from gossipjax.mixing.base import GossipAlgorithm
from gossipjax.simulation import rounds as engine
from gossipjax.simulation.deliveries import DeliveryTrace
from gossipjax.simulation.measures import Evaluate, consensus_distance, metrics_of, test_metrics
from gossipjax.simulation.poisoning import Attack
from gossipjax.simulation.results import Row, SimulationResult, read_rows, write_rows
from gossipjax.topology import Topology
from gossipjax.training.checkpoint import Checkpoints
from gossipjax.training.workload import Batch, Loss
from gossipjax.types import Params


def simulate(
    algorithm: GossipAlgorithm,
    optimizer: optax.GradientTransformation,
    loss_fn: Loss,
    init_params: Params,
    shards: Sequence[Batch],
    *,
    rounds: int,
    topology: Topology | DeliveryTrace | Callable[[int], Topology],
    peers: int | None = None,
    local_steps: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    attack: Attack | None = None,
    is_byzantine: npt.ArrayLike | None = None,
    test_data: Batch | None = None,
    evaluate_fn: Evaluate | None = None,
    evaluate_every: int | None = None,
    on_evaluation: Callable[[Row], None] = lambda row: None,
    devices: Sequence[Any] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> SimulationResult:
    """Train N peers for some rounds: local steps, `share`, `mix`, all peers in one program.

    Each peer starts from `init_params`. In a round it takes `local_steps` steps on batches that are
    drawn from its shard with replacement, shares, and mixes what it hears. The algorithm's
    functions are the ones that a peer on the network calls, under `vmap`.

    The evaluations make a table (`SimulationResult.rows`), over honest peers:

    | column | |
    |---|---|
    | `round` | rounds done |
    | `version` | local steps that parameters have absorbed: mean |
    | `consensus_distance` | root of the mean squared distance of parameters from their mean |
    | `bytes_per_peer` | bytes of payloads mixed so far: mean |
    | `staleness` | of the payloads mixed so far: mean |
    | `accuracy_mean`, `_min`, `_max` | of the peers' own parameters on `test_data`, by metric |
    | `accuracy_of_mean` | of the mean of all parameters |

    Example:
        ```python
        images = gj.data.fashion_mnist_12k()
        model = gj.models.MLP(10, (64,))
        dealt = gj.data.partition_dirichlet(images.train_labels, 64, 0.1, seed=0)
        result = gj.simulate(
            gj.gossip(),
            optax.sgd(0.05),
            gj.models.classification_loss(model),
            model.init(jax.random.key(0), images.train_inputs[:1]),
            [{"inputs": images.train_inputs[i], "labels": images.train_labels[i]} for i in dealt],
            rounds=600,
            topology=gj.topology.exponential,
            test_data={"inputs": images.test_inputs, "labels": images.test_labels},
            evaluate_every=100,
        )
        result.write_csv("runs/exponential.csv")
        ```

    Args:
        algorithm: what to share and how to mix.
        optimizer: of the local steps; each peer has a state of its own.
        loss_fn: `(params, batch, key) → (scalar, metrics)`.
        init_params: pytree of arrays.
        shards: for each peer, a pytree of arrays `[samples, …]`.
        rounds: how many; of a `DeliveryTrace`, ticks.
        topology: who hears whom: a topology, a function of the number of peers that gives one
            (`gossipjax.topology.ring`), or a `DeliveryTrace`.
        peers: N; by default one per shard. Peer i has shard i modulo the number of shards.
        local_steps: in each round.
        batch_size: samples of a local step.
        seed: decides batches and the algorithm's random choices.
        attack: what Byzantine peers tell instead; see `gossipjax.simulation.poisoning`.
        is_byzantine: bool `[N]`: who attacks; they do not count in the table.
        test_data: pytree of arrays `[samples, …]`, for evaluation.
        evaluate_fn: `(params, batch) → {name: scalar}`, means over the batch; by default the
            metrics of `loss_fn`.
        evaluate_every: rounds between evaluations; by default only at the end.
        on_evaluation: called with each new row.
        devices: the peers are sharded over these; by default all are on one.
        checkpoint: folder; state and table are kept there at each evaluation, and a run that finds
            some goes on from them. The other arguments must be the same, but `rounds` may grow.
        progress: show a progress bar.

    Returns:
        The parameters of all peers, and the table.

    Raises:
        ValueError: arguments that do not fit each other; the text says what to do.
    """
    count = len(shards) if peers is None else peers
    every = rounds if evaluate_every is None else evaluate_every
    if min(rounds, every, local_steps, batch_size, len(shards), count - 1) < 1:
        raise ValueError(
            "expected at least 2 peers, 1 shard, and rounds, evaluate_every, local_steps and "
            f"batch_size of at least 1; got {count}, {len(shards)}, {rounds}, {every}, "
            f"{local_steps}, {batch_size}"
        )
    driver = topology(count) if callable(topology) else topology
    _check_driver(driver, count, rounds)
    _check_needs(algorithm, driver)
    window = driver.window if isinstance(driver, DeliveryTrace) else 1
    setup = engine.Setup(algorithm, optimizer, loss_fn, local_steps, batch_size, window, attack)
    world = make_world(shards, driver, _byzantine(is_byzantine, attack, count), seed)
    state = engine.start(setup, init_params, jnp.uint32(seed), count)
    world, state = _spread(world, state, devices, count)
    metrics = evaluate_fn or metrics_of(loss_fn)
    is_honest = ~np.asarray(world.is_byzantine)
    payload_bytes = engine.payload_bytes(setup, init_params)

    with _Run(state, checkpoint) as run, _bar(progress, rounds) as show:
        while run.done < rounds:
            after = min(run.done + every - run.done % every, rounds)
            run.state = engine.advance(setup, world, run.state, run.done, after)
            run.done = after
            row = _row(run, is_honest, payload_bytes)
            if test_data is not None:
                row |= test_metrics(metrics, run.state.params, test_data, is_honest)
            run.keep(row)
            on_evaluation(row)
            show(run.done)
        return SimulationResult(run.state.params, np.asarray(run.state.version), run.rows)


class _Run:
    """State and table of a run, and their copies on disk."""

    def __init__(self, state: engine.Peers, folder: str | Path | None):
        self.state = state
        self.done = 0
        self.rows: list[Row] = []
        self._folder = None if folder is None else Path(folder)
        self._checkpoints = self._folder and Checkpoints(self._folder / "state")

    def __enter__(self) -> "_Run":
        if self._checkpoints is None or self._folder is None:
            return self
        restored = self._checkpoints.restore(self._content())
        if restored is not None:
            self.state, self.done = restored["peers"], int(restored["done"])
            rows = read_rows(self._folder / "table.csv")
            self.rows = [row for row in rows if row["round"] <= self.done]
        return self

    def __exit__(self, *error: object) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()

    def keep(self, row: Row) -> None:
        self.rows.append(row)
        if self._checkpoints is not None and self._folder is not None:
            write_rows(self._folder / "table.csv", self.rows)
            # Copies: the next round consumes the state while it is being written.
            self._checkpoints.save(jax.tree.map(jnp.copy, self._content()))

    def _content(self) -> dict[str, Any]:
        return {"peers": self.state, "done": jnp.int32(self.done)}


def _row(run: _Run, is_honest: np.ndarray, payload_bytes: int) -> Row:
    state = run.state
    messages = np.asarray(state.messages, np.float64)[is_honest]
    staleness = np.asarray(state.staleness, np.float64)[is_honest]
    return {
        "round": run.done,
        "version": float(np.asarray(state.version, np.float64)[is_honest].mean()),
        "consensus_distance": float(consensus_distance(state.params, is_honest)),
        "bytes_per_peer": float(messages.mean() * payload_bytes),
        "staleness": float(staleness.sum() / max(messages.sum(), 1)),
    }


def _check_driver(driver: Topology | DeliveryTrace, peers: int, rounds: int) -> None:
    if driver.peers != peers:
        raise ValueError(
            f"the topology is of {driver.peers} peers, but there are {peers}: one per shard, or as "
            "many as peers= says; make one of the other size"
        )
    if isinstance(driver, DeliveryTrace) and driver.ticks < rounds:
        raise ValueError(
            f"the trace has {driver.ticks} ticks, fewer than {rounds} rounds; record a longer one "
            "or ask for fewer rounds"
        )


def _check_needs(algorithm: GossipAlgorithm, driver: Topology | DeliveryTrace) -> None:
    """Refuse an algorithm whose equations do not hold on what drives it."""
    needs = algorithm.needs
    if needs.founders and not np.all(driver.self_weight):
        raise ValueError(
            "the algorithm needs founders: its payloads are too little for a peer without weight "
            "of its own to begin from; take a topology in which all count themselves"
        )
    needs = needs._replace(founders=False)
    if not any(needs):
        return
    if isinstance(driver, DeliveryTrace):
        raise ValueError(
            f"the algorithm needs {needs}, which no trace of deliveries gives; take a topology, or "
            "an algorithm without needs"
        )
    matrices = [driver.matrix(step) for step in range(driver.period)]
    if needs.reciprocal and not all(np.allclose(matrix, matrix.T) for matrix in matrices):
        raise ValueError(
            "the algorithm needs symmetric mixing: take an undirected topology with Metropolis "
            "weights, not an exponential graph"
        )
    if (needs.sticky_slots or needs.tree) and driver.period > 1:
        raise ValueError("the algorithm needs the same neighbors in all rounds: a static topology")
    if needs.tree and np.count_nonzero(driver.weight) != 2 * (driver.peers - 1):
        raise ValueError("the algorithm needs a tree: a connected topology with N - 1 edges")


def make_world(
    shards: Sequence[Batch],
    driver: Topology | DeliveryTrace,
    is_byzantine: npt.NDArray[np.bool_],
    seed: int,
) -> engine.World:
    """What does not change from round to round, on the device."""
    sizes = np.array([len(jax.tree.leaves(shard)[0]) for shard in shards])
    if not sizes.all():
        raise ValueError(f"shard {int(np.argmin(sizes))} is empty; every peer needs some samples")
    shard_of = np.arange(len(is_byzantine)) % len(shards)
    starts = np.cumsum(sizes) - sizes
    return engine.World(
        data=jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *shards),
        start=jnp.asarray(starts[shard_of], jnp.uint32),
        size=jnp.asarray(sizes[shard_of], jnp.uint32),
        schedule=_schedule(driver),
        is_byzantine=jnp.asarray(is_byzantine),
        key=jax.random.key(seed),
    )


def _byzantine(
    is_byzantine: npt.ArrayLike | None, attack: Attack | None, peers: int
) -> npt.NDArray[np.bool_]:
    if (is_byzantine is None) != (attack is None):
        raise ValueError("an attack needs attackers and the other way round: give both")
    mask = np.zeros(peers, bool) if is_byzantine is None else np.asarray(is_byzantine, bool)
    if mask.shape != (peers,) or mask.all():
        raise ValueError(f"is_byzantine is bool [{peers}] with an honest peer; got {mask}")
    return mask


def _schedule(driver: Topology | DeliveryTrace) -> engine.Schedule:
    if isinstance(driver, DeliveryTrace):
        return engine.Schedule(**jax.tree.map(jnp.asarray, driver._asdict()))
    return engine.Schedule(
        author=jnp.asarray(driver.neighbors, jnp.int32),
        weight=jnp.asarray(driver.weight, jnp.float32),
        self_weight=jnp.asarray(driver.self_weight, jnp.float32),
        age=None,
        is_active=None,
    )


def _spread(
    world: engine.World,
    state: engine.Peers,
    devices: Sequence[Any] | None,
    peers: int,
) -> tuple[engine.World, engine.Peers]:
    """Peers cut into equal parts, one for each device; the data on all of them."""
    if devices is None:
        return world, state
    if peers % len(devices):
        raise ValueError(
            f"{peers} peers cannot be cut into {len(devices)} equal parts; take a multiple"
        )
    mesh = jax.sharding.Mesh(np.array(devices), ("peers",))

    def put(tree: Any, *axes: str | None) -> Any:
        spec = jax.sharding.PartitionSpec(*axes)
        return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))

    payloads, versions = put((state.payloads, state.versions), None, "peers")
    attack = put(state.attack)
    state = put(state._replace(payloads=None, versions=None, attack=None), "peers")
    return put(world), state._replace(payloads=payloads, versions=versions, attack=attack)


@contextmanager
def _bar(is_shown: bool, rounds: int) -> Iterator[Callable[[int], None]]:
    if not is_shown:
        yield lambda done: None
        return
    with Progress() as bar:
        task = bar.add_task("rounds", total=rounds)
        yield lambda done: bar.update(task, completed=done)
