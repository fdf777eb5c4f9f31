"""What a run cost, as one row."""

import gc
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.network import SECOND


class Measurement(Struct, frozen=True, kw_only=True):
    """Counts and costs of a run.

    Attributes:
        peers, seconds, seed: what was run, for how much virtual time.
        events: steps of the simulation.
        messages, bytes_sent: sent by all peers, greetings included.
        messages_per_peer_round, bytes_per_peer_round: in the second half of the run, when everybody
            has joined.
        delivered: updates handed to training.
        delivered_per_peer_round: in the second half; `fanout`, when nothing gets lost.
        refused: messages that were refused.
        components: parts into which the graph of views falls; 1: connected.
        wall_seconds, cpu_seconds: real time, and that of it in which this process ran.
        memory_mib: largest resident memory of the process so far.
        digest: of the trace.
    """

    peers: int
    seconds: int
    seed: int
    events: int
    messages: int
    bytes_sent: int
    messages_per_peer_round: float
    bytes_per_peer_round: float
    delivered: int
    delivered_per_peer_round: float
    refused: int
    components: int
    wall_seconds: float
    cpu_seconds: float
    memory_mib: int
    digest: str


def measure(config: ClusterConfig, seconds: int) -> Measurement:
    """Run a cluster for so many virtual seconds."""
    began, cpu_began = time.perf_counter(), time.process_time()
    with _no_cycle_collection():
        cluster = Cluster(config)
        cluster.run_for(seconds * SECOND // 2)
        early = cluster.totals()
        cluster.run_for(seconds * SECOND - seconds * SECOND // 2)
    late = cluster.totals()
    rounds = max(late.rounds - early.rounds, 1)
    return Measurement(
        peers=config.peers,
        seconds=seconds,
        seed=config.seed,
        events=late.events,
        messages=late.messages,
        bytes_sent=late.bytes_sent,
        messages_per_peer_round=(late.messages - early.messages) / rounds,
        bytes_per_peer_round=(late.bytes_sent - early.bytes_sent) / rounds,
        delivered=late.delivered,
        delivered_per_peer_round=(late.delivered - early.delivered) / rounds,
        refused=late.refused,
        components=len(cluster.components()),
        wall_seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu_began,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        digest=cluster.world.trace.digest(),
    )


@contextmanager
def _no_cycle_collection() -> Iterator[None]:
    """A heap of live objects would be searched again and again for cycles that are not there."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
