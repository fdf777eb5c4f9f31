"""A run is a function of its seed: not of the process, nor of how Python hashes strings."""

import os
import subprocess
import sys

from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.draws import BlockDraws, Draws
from gossipjax.simulation.network import SECOND

PROGRAM = """
import sys
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.network import SECOND
from gossipjax.simulation.scenario import draw_scenario, run_scenario
cluster = Cluster(ClusterConfig(peers=30, seed=7))
cluster.run_for(20 * SECOND)
print(cluster.world.trace.digest(), cluster.totals())
print([run_scenario(draw_scenario(seed)) for seed in (3, 16)])
print("jax" in sys.modules)
"""


def output_with_hash_seed(seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=150,
    ).stdout


def test_two_processes_with_different_hash_seeds_agree_and_import_no_jax():
    first, second = output_with_hash_seed(1), output_with_hash_seed(2)
    assert first == second
    assert first.splitlines()[-1] == "False"


def digest_of(seed: int) -> str:
    cluster = Cluster(ClusterConfig(peers=6, seed=seed))
    cluster.run_for(10 * SECOND)
    return cluster.world.trace.digest()


def test_another_seed_is_another_run():
    assert digest_of(1) == digest_of(1)
    assert digest_of(1) != digest_of(2)


def test_numbers_drawn_in_blocks_are_the_same_numbers():
    one, many = Draws(3, "purpose"), BlockDraws(3, "purpose")
    assert [one.next_u64() for _ in range(10_000)] == [many.next_u64() for _ in range(10_000)]


def test_streams_for_different_purposes_differ():
    assert Draws(3, "a").next_u64() != Draws(3, "b").next_u64() != Draws(4, "b").next_u64()


def test_draws_have_the_ranges_and_means_that_they_claim():
    draws = Draws(0)
    assert {draws.between(3, 5) for _ in range(100)} == {3, 4, 5}
    waits = [draws.exponential(1000) for _ in range(5000)]
    assert 900 < sum(waits) / len(waits) < 1100
    spread = [draws.log_between(10, 1000) for _ in range(2000)]
    assert 10 <= min(spread) < 20
    assert 800 < max(spread) <= 1000
    assert sum(value < 100 for value in spread) > 600
    assert 380 < sum(draws.chance(200_000) for _ in range(2000)) < 420 + 50
    assert len({draws.choice("abc") for _ in range(50)}) == 3
