"""With a constant rate and unlike data, some methods reach the optimum of all, and some do not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gossipjax as gj
from gossipjax import algorithms, compression, topology
from gossipjax.mixing import GossipAlgorithm
from gossipjax.topology import Topology

PEERS = 8
POINTS = np.random.default_rng(0).normal(size=(PEERS, 1, 5)).astype(np.float32)
LINE = topology.line(PEERS)


def loss(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    return ((params["x"] - batch["point"]) ** 2).sum(axis=-1).mean() / 2, {}


def worst_distance(algorithm: GossipAlgorithm, graph: Topology) -> float:
    """Of any peer from the optimum of all, after 1,000 rounds at a rate of 0.1."""
    result = gj.simulate(
        algorithm,
        optax.sgd(0.1),
        loss,
        {"x": jnp.full(5, 3.0)},
        [{"point": point} for point in POINTS],
        rounds=1000,
        topology=graph,
        batch_size=1,
    )
    return float(np.linalg.norm(result.params["x"] - POINTS.mean(axis=0), axis=1).max())


@pytest.mark.parametrize(
    ("algorithm", "graph"),
    [
        (algorithms.gradient_tracking(), LINE),
        (algorithms.d_squared(), LINE),
        (algorithms.relay_sum(2), LINE),
        (algorithms.fed_avg(), topology.complete(PEERS)),
    ],
    ids=["gradient_tracking", "d_squared", "relay_sum", "fed_avg"],
)
def test_reaches_the_optimum_of_all(algorithm: GossipAlgorithm, graph: Topology):
    assert worst_distance(algorithm, graph) < 1e-4


@pytest.mark.parametrize(
    "algorithm",
    [algorithms.d_psgd(), algorithms.choco(compression.top_k(0.5), 0.4)],
    ids=["d_psgd", "choco"],
)
def test_stays_away_by_the_rate_and_the_gap(algorithm: GossipAlgorithm):
    assert 0.1 < worst_distance(algorithm, LINE) < 2
