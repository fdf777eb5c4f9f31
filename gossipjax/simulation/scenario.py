"""Random scenarios: everything that a run consists of is drawn from one seed.

A scenario has a safety phase, in which anything may go wrong and nothing may break, and a liveness
phase: faults stop, and the network must recover within stated times. Attackers never stop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from msgspec import Struct

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.attacks import ROLES, attack
from gossipjax.simulation.checkers import SafetyChecker, Violation, check_memory
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.faults import (
    Fault,
    FaultRun,
    draw_churn,
    draw_outage,
    draw_partition,
    draw_pause,
)
from gossipjax.simulation.liveness import (
    check_connected,
    check_exchange,
    check_silence,
    exchange_span_ns,
    heal_span_ns,
)
from gossipjax.simulation.network import MILLISECOND, SECOND, LinkModel
from gossipjax.types import Nanoseconds
from gossipjax.wire import limits

_MEMORY_CHECK_NS = 5 * SECOND
_CHUNK_BYTES = 256


class Scenario(Struct, frozen=True, kw_only=True):
    """A run with faults.

    Attributes:
        config: the network.
        safety_ns: length of the first phase.
        faults: what happens in it.
        roles: one attacker each, from the start to the end.
        chunk_bytes: size of a chunk, instead of 1 MiB, for transfers of many chunks at little cost.
    """

    config: ClusterConfig
    safety_ns: Nanoseconds
    faults: tuple[Fault, ...] = ()
    roles: tuple[str, ...] = ()
    chunk_bytes: int = limits.CHUNK_BYTES

    @property
    def has_faults(self) -> bool:
        """Whether peers or connections fail."""
        return bool(self.faults)


class Report(NamedTuple):
    """What a scenario that held has done."""

    events: int
    messages: int
    delivered: int
    refused: dict[str, int]
    digest: str


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    draws = Draws(seed, "scenario")
    peers = draws.between(4, 20)
    model = _draw_model(draws)
    chunks_max = 2 if model.is_harsh else 20  # a chunk that vanishes costs the whole transfer
    config = ClusterConfig(
        peers=peers,
        seed=seed,
        protocol=_draw_protocol(draws),
        model=model,
        round_ns=draws.between(1, 5) * SECOND,
        payload_floats=draws.choice((8, draws.between(1, chunks_max * _CHUNK_BYTES // 4))),
        start_ns=draws.between(0, 20) * SECOND,
        bootstrap_max=draws.between(1, 3),
        drift_ppm_max=draws.choice((0, 200, 50_000)),
        skew_s_max=draws.choice((0, 5, 3600)),
    )
    safety_ns = draws.between(20, 90) * SECOND
    roles: tuple[str, ...] = ()
    if draws.below(3) == 0:
        most = max(1, min(config.protocol.view_size, peers) // 3)
        roles = tuple(draws.choice(list(ROLES)) for _ in range(draws.between(1, most)))
    return Scenario(
        config=config,
        safety_ns=safety_ns,
        faults=tuple(_draw_faults(draws, peers, safety_ns)),
        roles=roles,
        chunk_bytes=_CHUNK_BYTES,
    )


def describe_scenario(scenario: Scenario) -> str:
    """Everything that was drawn, one line per fact."""
    config = scenario.config
    fields = {name: getattr(config, name) for name in config.__struct_fields__}
    fields |= {"safety_ns": scenario.safety_ns, "roles": scenario.roles}
    lines = [f"{name} = {value}" for name, value in fields.items()]
    return "\n".join([*lines, *map(str, scenario.faults)])


def run_scenario(scenario: Scenario) -> Report:
    """Run both phases.

    Raises:
        Violation: something that must hold did not; the text says how to see it again.
    """
    config = scenario.config
    checker = SafetyChecker(config.model, has_faults=scenario.has_faults)
    with _small_chunks(scenario.chunk_bytes):
        cluster = Cluster(config, checker)
        faults = FaultRun(cluster, list(scenario.faults))
        attack(cluster, scenario.roles)
        try:
            _run_safety_phase(cluster, scenario.safety_ns)
            faults.heal()
            _run_liveness_phase(cluster, scenario, checker)
        except Violation as violation:
            raise Violation(f"{violation}\nreproduce: {reproduce(config.seed)}") from violation
    totals = cluster.totals()
    return Report(
        events=totals.events,
        messages=totals.messages,
        delivered=totals.delivered,
        refused=dict(sorted(cluster.world.refused.items())),
        digest=cluster.world.trace.digest(),
    )


def reproduce(seed: int) -> str:
    """The command that runs the scenario of a seed again."""
    return f"python -m gossipjax.simulation scenario --seed {seed}"


def _run_safety_phase(cluster: Cluster, span_ns: Nanoseconds) -> None:
    draws = Draws(cluster.config.seed, "memory check")
    for _ in range(span_ns // _MEMORY_CHECK_NS):
        cluster.run_for(_MEMORY_CHECK_NS)
        for host in draws.sample(list(cluster.hosts.values()), 2):
            check_memory(host)


def _run_liveness_phase(cluster: Cluster, scenario: Scenario, checker: SafetyChecker) -> None:
    config = scenario.config
    cluster.world.network.set_model(config.model.without_resets())
    for index in range(config.peers):
        cluster.start(index)
    cluster.run_for(heal_span_ns(config))
    check_connected(cluster)
    before = {index: host.delivered for index, host in cluster.hosts.items()}
    cluster.run_for(exchange_span_ns(config, scenario.chunk_bytes))
    if scenario.roles:  # a joiner may first believe a lying donor
        cluster.run_for(config.protocol.catch_up_patience_ns)
    check_exchange(cluster, before)
    check_silence(cluster, checker)
    for host in cluster.hosts.values():
        check_memory(host)


@contextmanager
def _small_chunks(chunk_bytes: int) -> Iterator[None]:
    """Let all peers of this process agree on another size of chunks for a while."""
    usual, limits.CHUNK_BYTES = limits.CHUNK_BYTES, chunk_bytes
    try:
        yield
    finally:
        limits.CHUNK_BYTES = usual


def _draw_protocol(draws: Draws) -> ProtocolConfig:
    """The default parameters at another pace, with views and queues of other sizes."""
    default = ProtocolConfig()
    percent = draws.choice((50, 100, 200))
    scaled = {
        name: getattr(default, name) * percent // 100
        for name in (
            "probe_interval_ns",
            "suspect_after_ns",
            "dead_after_ns",
            "connect_timeout_ns",
            "retry_min_ns",
            "retry_max_ns",
            "gossip_peers_interval_ns",
            "renew_interval_ns",
        )
    }
    return ProtocolConfig(
        fanout=draws.between(1, 4),
        view_size=draws.between(8, 16),
        downloads_max=draws.between(1, 4),
        upload_bytes_per_s=draws.choice((1 << 30, draws.log_between(50_000, 10_000_000))),
        snapshot_uploads_max=draws.between(1, 4),
        catch_up_donors_max=draws.between(1, 4),
        book_size=draws.choice((64, 256, 1024)),
        **scaled,
    )


def _draw_model(draws: Draws) -> LinkModel:
    """As TCP in three runs of four; else any of loss, duplication and reordering."""
    harsh = draws.below(4) == 0
    latency_min_ns = draws.between(1, 50) * MILLISECOND
    return LinkModel(
        latency_min_ns=latency_min_ns,
        latency_max_ns=latency_min_ns + draws.between(1, 300) * MILLISECOND,
        jitter_ns=draws.between(0, 50) * MILLISECOND,
        uplink_bytes_per_s=draws.log_between(20_000, 10_000_000),
        loss_ppm=draws.choice((0, draws.below(200_000))) if harsh else 0,
        duplicate_ppm=draws.choice((0, draws.below(100_000))) if harsh else 0,
        reorder_ppm=draws.choice((0, draws.below(100_000))) if harsh else 0,
        reset_ppm=draws.below(2_000) if draws.below(4) == 0 else 0,
        through_codec=True,
    )


def _draw_faults(draws: Draws, peers: int, end_ns: Nanoseconds) -> list[Fault]:
    """Each kind of fault takes part in half of the runs, so that their combinations differ."""
    faults: list[Fault] = []
    for kind in (draw_partition, draw_outage, draw_pause):
        if draws.below(2):
            continue
        for _ in range(draws.between(1, 3)):
            at_ns = draws.below(end_ns)
            until_ns = at_ns + draws.log_between(1, 64) * SECOND
            faults.append(kind(draws, peers, at_ns, min(until_ns, end_ns)))
    if draws.below(3) == 0:
        faults += draw_churn(draws, peers, end_ns)
    return sorted(faults, key=lambda fault: fault.at_ns)
