"""Wrong settings get an error that says what was expected, what came and what to do."""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gossipjax as gj
from gossipjax import algorithms, compression, mixing, topology
from gossipjax.algorithms.load import load_algorithm
from gossipjax.simulation import poisoning

LABELS = np.arange(80) % 4


def simulate(algorithm: Any, graph: Any = topology.ring, peers: int = 6, **options: Any) -> Any:
    shards = [{"c": np.full((2, 3), peer, np.float32)} for peer in range(peers)]

    def loss(params: Any, batch: Any, key: Any) -> Any:
        return ((params["x"] - batch["c"]) ** 2).mean(), {}

    options = {"rounds": 1, **options}
    start = {"x": jnp.zeros(3)}
    return gj.simulate(algorithm, optax.sgd(0.1), loss, start, shards, topology=graph, **options)


def join(mixer: mixing.Mixer | str = "mean", algorithm: Any = None, **settings: Any) -> Any:
    chosen = algorithm or gj.gossip(mixer)
    config = {"listen": "tcp://127.0.0.1:0", **settings}
    return gj.join(config, {"x": jnp.zeros(3)}, chosen)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "K too small for krum in a simulator": (
        lambda: simulate(gj.gossip(mixing.krum(1))),
        "needs at least 5 inputs, that is 4 slots besides the own parameters; there are 2: give "
        "the peer more slots or choose a smaller byzantine",
    ),
    "K too small for nearest neighbors in a swarm": (
        lambda: join(mixing.nearest_neighbors(mixing.weighted_mean(), byzantine=2), slots=3),
        "there are 3: give the peer more slots or choose a smaller byzantine",
    ),
    "trim at least half of K": (
        lambda: join(mixing.trimmed_mean(trim=2), slots=3),
        "trimmed_mean(trim=2) needs at least 5 inputs, that is 4 slots besides the own parameters; "
        "there are 3: give the peer more slots or choose a smaller trim",
    ),
    "slots of relay_sum": (
        lambda: simulate(algorithms.relay_sum(2), topology.star),
        "was made for 2 slots, and there are 5: make it with the topology's number of slots",
    ),
    "disconnected topology": (
        lambda: topology.from_edges(4, [(0, 1), (2, 3)]),
        "is not connected, so its peers can never agree; add edges between its parts",
    ),
    "random graph that is never connected": (
        lambda: topology.erdos_renyi(50, 0.001, seed=0),
        "in 100 attempts: take a probability above ln N / N = 0.0782",
    ),
    "alpha 0": (
        lambda: gj.data.partition_dirichlet(LABELS, 4, 0.0, seed=0),
        "expected a concentration alpha from 1e-06 to 1000000.0, got 0.0",
    ),
    "alpha below 0": (
        lambda: gj.data.partition_quantity(20, 4, -1.0, seed=0),
        "expected a concentration alpha from 1e-06 to 1000000.0, got -1.0",
    ),
    "fewer samples than peers": (
        lambda: gj.data.partition_iid(3, 4, seed=0),
        "take fewer peers or more data",
    ),
    "unknown algorithm": (
        lambda: load_algorithm("dpsgd"),
        "there is no GossipAlgorithm 'dpsgd': expected one of ad_psgd, choco, d_psgd",
    ),
    "unknown option of an algorithm": (
        lambda: load_algorithm("gossip_learning", limits=3),
        "Its options: merge, limit",
    ),
    "unknown mixer of an algorithm": (
        lambda: load_algorithm("quasi_global_momentum", mixer="trimed_mean"),
        "there is no mixer 'trimed_mean'; choose one of mean, balance, clip, nearest, median, "
        "trimmed_mean",
    ),
    "unknown setting": (
        lambda: join(slot=3),
        "Object contains unknown field `slot`. Keys: run, state_dir",
    ),
    "unknown merge": (
        lambda: algorithms.gossip_learning("median"),  # pyright: ignore[reportArgumentType]
        "merge must be one of age, mean, replace, got 'median'",
    ),
    "no mixer at the end of a chain": (
        lambda: mixing.chain(mixing.clip_distance(1.0)),
        "chain takes transforms and, last, one mixer; got (Transform)",
    ),
    "momentum of 1": (
        lambda: algorithms.quasi_global_momentum(1.0),
        "momentum must be below 1, got 1.0",
    ),
    "step of CHOCO": (
        lambda: algorithms.choco(compression.top_k(0.1), step=0.0),
        "step must be above 0 and at most 1, got 0.0",
    ),
    "share of top_k": (
        lambda: compression.top_k(1.5),
        "share must be above 0 and at most 1, got 1.5",
    ),
    "levels of qsgd": (lambda: compression.qsgd(0), "levels must be at least 1, got 0"),
    "compressor of differences for parameters": (
        lambda: gj.compressed(gj.gossip(), "sign"),
        "tells differences only; take one that tells parameters, such as int8, or an algorithm",
    ),
    "compression of what is not parameters": (
        lambda: join(algorithm=algorithms.gossip_learning(), compression="int8"),
        "the algorithm tells more than parameters, so its payload cannot be compressed",
    ),
    "unknown compression": (
        lambda: join(compression="int5"),
        "there is no Compressor 'int5': expected one of bf16, fp16, int8, int4, int2, qsgd, sign",
    ),
    "options without a compression": (
        lambda: join(compression_options={"share": 0.1}),
        "compression_options: there is no compression to take them",
    ),
    "wrong options of a compression": (
        lambda: join(compression="top_k", compression_options={"shares": 0.1}),
        "Its options: share, chunk",
    ),
    "delay of streaming": (lambda: algorithms.streaming(2, 2), "delay must be below 2, got 2"),
    "joiners where a payload is too little": (
        lambda: simulate(algorithms.sparse_loco(), topology.federated(6, 2, rounds=3, seed=0)),
        "needs founders: its payloads are too little for a peer without weight of its own",
    ),
    "radius 0": (lambda: mixing.clip_distance(0.0), "radius must be above 0, got 0.0"),
    "z of ALIE": (lambda: poisoning.z_max(10, 6), "choose z yourself"),
    "what a network cannot give": (
        lambda: join(algorithm=algorithms.push_sum()),
        "Take an algorithm without needs, such as gossip or quasi_global_momentum, or simulate it",
    ),
    "a graph with cycles for relay_sum": (
        lambda: simulate(algorithms.relay_sum(2)),
        "needs a tree: a connected topology with N - 1 edges",
    ),
    "a directed graph for D²": (
        lambda: simulate(algorithms.d_squared(), topology.exponential),
        "needs symmetric mixing: take an undirected topology",
    ),
    "a graph that changes for CHOCO": (
        lambda: simulate(
            algorithms.choco(compression.identity(), 1.0),
            topology.random_matching(6, rounds=4, seed=0),
        ),
        "needs the same neighbors in all rounds: a static topology",
    ),
    "a topology of another size": (
        lambda: simulate(gj.gossip(), topology.ring(8)),
        "make one of the other size",
    ),
}


@pytest.mark.parametrize(("wrong", "text"), CASES.values(), ids=CASES.keys())
def test_the_error_says_what_to_do(wrong: Callable[[], Any], text: str):
    with pytest.raises((ValueError, TypeError, gj.LocalProtocolError), match=re.escape(text)):
        wrong()
