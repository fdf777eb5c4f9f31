"""What must hold when the faults are over: the network is one again, and nobody hangs."""

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.pace import DEADLINE_FIRST_NS
from gossipjax.protocol.transfer import SILENT_DEADLINES_MAX
from gossipjax.simulation.checkers import SafetyChecker, Violation, name_of
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.draws import MILLION
from gossipjax.simulation.network import SECOND
from gossipjax.types import Nanoseconds, short

HEAL_PROBE_INTERVALS = 10
"""So many probe intervals after the last fault the views are one connected graph."""

_OFFERS_EXPECTED = 16  # P(none arrives) = e⁻¹⁶ for offers that come at random


def heal_span_ns(config: ClusterConfig) -> Nanoseconds:
    """How long the network may take to become one again; slow clocks count their own time."""
    span_ns = HEAL_PROBE_INTERVALS * config.protocol.probe_interval_ns
    return span_ns + span_ns * config.drift_ppm_max // MILLION


def exchange_span_ns(config: ClusterConfig, chunk_bytes: int) -> Nanoseconds:
    """How long it takes until a peer has received an update, but for one case in 10⁷.

    An offer comes about `fanout` times per round. Where offer, question or a chunk gets lost, the
    transfer holds its place until it has been asked for again, or counts as stalled.
    """
    chunks = -(-4 * config.payload_floats // chunk_bytes)
    works = (1 - config.model.loss_ppm / MILLION) ** (2 + chunks)
    between_ns = config.round_ns / config.protocol.fanout
    stalled_ns = SILENT_DEADLINES_MAX * DEADLINE_FIRST_NS
    between_ns += (1 - works) * stalled_ns / config.protocol.downloads_max
    return int(_OFFERS_EXPECTED * between_ns / works) + stalled_ns


def check_connected(cluster: Cluster) -> None:
    """The views of all running peers are one connected graph."""
    components = cluster.components()
    if len(components) > 1:
        sizes = [len(component) for component in components]
        lonely = [short(peer) for peer in components[-1]]
        raise Violation(
            f"{_time(cluster)}: expected one connected graph of views, parts have {sizes} peers; "
            f"the smallest: {lonely}"
        )


def check_exchange(cluster: Cluster, before: dict[int, int]) -> None:
    """Every running peer has received updates since the counts `before`, and counts itself."""
    hungry = [i for i, host in cluster.hosts.items() if host.delivered <= before.get(i, 0)]
    if hungry:
        raise Violation(f"{_time(cluster)}: expected an update for everybody, none for {hungry}")
    behind = [i for i, host in cluster.hosts.items() if not host.machine.has_caught_up]
    if behind:
        raise Violation(f"{_time(cluster)}: expected that all have caught up, not so {behind}")


def check_silence(cluster: Cluster, checker: SafetyChecker) -> None:
    """Nobody keeps a neighbor that has long been silent."""
    config: ProtocolConfig = cluster.config.protocol
    limit_ns = config.dead_after_ns + 2 * config.probe_interval_ns
    limit_ns += limit_ns * cluster.config.drift_ppm_max // MILLION
    for host in cluster.hosts.values():
        for peer in host.machine.neighbors:
            silence_ns = cluster.world.schedule.now_ns - checker.last_heard_ns(host, peer)
            if silence_ns > limit_ns:
                raise Violation(
                    f"{name_of(host)}: keeps neighbor {short(peer)}, silent for "
                    f"{silence_ns / SECOND:.0f} s"
                )


def _time(cluster: Cluster) -> str:
    return f"{cluster.world.schedule.now_ns / SECOND:.3f} s"
