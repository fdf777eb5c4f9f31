"""What a peer costs in networks of 100 to 10,000, and how fast the simulator is.

Messages and bytes per peer and round must not grow with the network: the first table says by how
much they do. The second runs the one size again with views of other sizes, which is what they
depend on. Each run is a process of its own, so that its memory is its own.

    python benchmarks/bench_simulation.py [--quick]

Prints two tables and writes benchmarks/results/simulation.json.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from reporting import report

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.cluster import BOOK_SIZE, ClusterConfig
from gossipjax.simulation.measure import Measurement, measure

SIZES = (100, 300, 1000, 3000, 10_000)
VIEWS = (8, 16, 32)
SEED = 7


def run_alone(peers: int, view_size: int, seconds: int) -> Measurement:
    """Measure in a new process."""
    protocol = ProtocolConfig(view_size=view_size, book_size=BOOK_SIZE)
    config = ClusterConfig(peers=peers, seed=SEED, protocol=protocol)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, config, seconds).result()


def cost(row: Measurement) -> dict[str, Any]:
    """What a peer costs: per round of it, and to simulate."""
    return {
        "peers": row.peers,
        "messages": row.messages_per_peer_round,
        "bytes": row.bytes_per_peer_round,
        "delivered": row.delivered_per_peer_round,
        "events": row.events,
        "wall_s": row.wall_seconds,
        "cpu_s": row.cpu_seconds,
        "events_per_s": row.events / row.cpu_seconds,
        "memory_MiB": row.memory_mib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What a simulated peer costs.")
    parser.add_argument("--quick", action="store_true", help="small networks, half the time")
    quick = parser.parse_args().quick
    seconds = 30 if quick else 60
    sizes = SIZES[:2] if quick else SIZES
    rows = [cost(run_alone(peers, 16, seconds)) for peers in sizes]
    views = [
        {"view_size": view_size, **cost(run_alone(sizes[1], view_size, seconds))}
        for view_size in VIEWS
    ]
    report(
        "simulation",
        {
            f"{seconds} virtual seconds, rounds of 10 s, fanout 3, views of 16": rows,
            f"{sizes[1]} peers, views of other sizes": views,
        },
        seed=SEED,
        quick=quick,
        messages_growth=rows[-1]["messages"] / rows[0]["messages"],
        bytes_growth=rows[-1]["bytes"] / rows[0]["bytes"],
    )


if __name__ == "__main__":
    main()
