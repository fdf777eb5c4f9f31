"""Every algorithm against its paper's equations, in matrix form in NumPy with float64.

Peer i minimizes a quadratic of its own with gradient `A_i x - b_i`, by one step of SGD per round.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gossipjax import algorithms, compression, topology
from gossipjax.algorithms.gossip_learning import AgedModel
from gossipjax.mixing import GossipAlgorithm, Neighbors
from gossipjax.topology import Topology

PEERS, SIZE, RATE, ROUNDS = 8, 5, 0.1, 15
PEER_IDS = range(PEERS)
RNG = np.random.default_rng(0)
MATRICES = np.stack([np.diag(row) for row in RNG.uniform(0.5, 2, (PEERS, SIZE))])
OFFSETS = RNG.normal(size=(PEERS, SIZE))
START = RNG.normal(size=(PEERS, SIZE))

Trajectory = list[np.ndarray]


def gradient(params: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", MATRICES, params) - OFFSETS


def trained(algorithm: GossipAlgorithm, graph: Topology) -> Trajectory:
    """Parameters of all peers after each round, by the library's functions under vmap."""

    @jax.jit
    def one_round(state: Any, params: jax.Array, keys: jax.Array, row: Any):
        neighbors, weight, self_weight = row
        stepped = params - RATE * (jnp.einsum("nij,nj->ni", MATRICES, params) - OFFSETS)
        payloads, state = jax.vmap(algorithm.share)(state, stepped.astype(jnp.float32), keys)
        heard = Neighbors(
            payload=jax.tree.map(lambda leaf: leaf[neighbors], payloads),
            weight=weight,
            staleness=jnp.zeros_like(weight),
            slot_is_new=weight > 0,
            self_weight=self_weight,
        )
        return jax.vmap(algorithm.mix)(state, stepped.astype(jnp.float32), heard)

    params = jnp.asarray(START, jnp.float32)
    state = jax.vmap(algorithm.init)(params)
    trajectory = []
    for step in range(ROUNDS):
        at = step % graph.period
        row = (graph.neighbors[at], np.float32(graph.weight[at]), np.float32(graph.self_weight[at]))
        keys = jax.random.split(jax.random.key(step), PEERS)
        params, state, _ = one_round(state, params, keys, row)
        trajectory.append(np.asarray(params))
    return trajectory


def gossip(graph: Topology) -> Iterator[np.ndarray]:
    x = START
    for step in range(ROUNDS):
        x = graph.matrix(step) @ (x - RATE * gradient(x))
        yield x


def d_psgd(graph: Topology) -> Iterator[np.ndarray]:
    x = START
    for step in range(ROUNDS):
        x = graph.matrix(step) @ x - RATE * gradient(x)
        yield x


def quasi_global_momentum(graph: Topology) -> Iterator[np.ndarray]:
    beta = mu = 0.9
    x, m_hat = START, 0 * START
    for step in range(ROUNDS):
        m = beta * m_hat + gradient(x)
        mixed = graph.matrix(step) @ (x - RATE * m)
        m_hat = mu * m_hat + (1 - mu) * (x - mixed) / RATE
        x = mixed
        yield x


def decentralized_momentum(graph: Topology) -> Iterator[np.ndarray]:
    x, m = START, 0 * START
    for step in range(ROUNDS):
        m = 0.9 * m + gradient(x)
        x = graph.matrix(step) @ (x - RATE * m)
        m = graph.matrix(step) @ m
        yield x


def gradient_tracking(graph: Topology) -> Iterator[np.ndarray]:
    x, y = START, gradient(START)
    for step in range(ROUNDS):
        matrix = graph.matrix(step)
        moved = matrix @ (x - RATE * y)
        y = matrix @ y + gradient(moved) - gradient(x)
        x = moved
        yield x


def d_squared(graph: Topology) -> Iterator[np.ndarray]:
    before, x = START, graph.matrix() @ (START - RATE * gradient(START))
    yield x
    for _ in range(ROUNDS - 1):
        step = 2 * x - before - RATE * (gradient(x) - gradient(before))
        before, x = x, graph.matrix() @ step
        yield x


def push_sum(graph: Topology) -> Iterator[np.ndarray]:
    x, w = START, np.ones((PEERS, 1))
    for step in range(ROUNDS):
        links = (graph.matrix(step) > 0).astype(float)
        matrix = links / links.sum(axis=0)  # column stochastic, as senders divide it
        x = matrix @ (x - RATE * gradient(x / w))
        w = matrix @ w
        yield x / w


def epidemic_learning(graph: Topology) -> Iterator[np.ndarray]:
    x = START
    for step in range(ROUNDS):
        links = (graph.matrix(step) > 0).astype(float)
        x = links / links.sum(axis=1, keepdims=True) @ (x - RATE * gradient(x))
        yield x


def gossip_learning(graph: Topology) -> Iterator[np.ndarray]:
    x, age = START, np.zeros(PEERS)
    for step in range(ROUNDS):
        trained_x, trained_age = x - RATE * gradient(x), age + 1
        x, age = trained_x.copy(), trained_age.copy()
        for i in range(PEERS):
            for j in np.flatnonzero(graph.matrix(step)[i]):
                if i != j:
                    t_i, t_j = trained_age[[i, j]]
                    x[i] = (t_i * trained_x[i] + t_j * trained_x[j]) / (t_i + t_j)
                    age[i] = max(t_i, t_j)
        yield x


def merging_walks(graph: Topology) -> Iterator[np.ndarray]:
    """Ormándi et al.: the arriving model and the own one, half each."""
    x = START
    for step in range(ROUNDS):
        x = x - RATE * gradient(x)
        x = np.stack([(x[i] + x[graph.neighbors[step % graph.period, i, 0]]) / 2 for i in PEER_IDS])
        yield x


def random_walks(graph: Topology) -> Iterator[np.ndarray]:
    """Ormándi et al.: the arriving model takes the place of the own one."""
    x = START
    for step in range(ROUNDS):
        x = (x - RATE * gradient(x))[graph.neighbors[step % graph.period, :, 0]]
        yield x


def relay_sum(graph: Topology) -> Iterator[np.ndarray]:
    """The messages of algorithm 1, one for each direction of each edge."""
    links = [(i, j) for i, j in np.argwhere(graph.matrix() > 0) if i != j]
    x = START
    messages = {link: (np.zeros(SIZE), 0) for link in links}
    for _ in range(ROUNDS):
        half = x - RATE * gradient(x)
        sent = {}
        for i, j in links:
            relayed = [messages[k, to] for k, to in links if to == i and k != j]
            sent[i, j] = (half[i] + sum(m for m, _ in relayed), 1 + sum(c for _, c in relayed))
        messages = sent
        x = half.copy()
        for i in range(PEERS):
            heard = [messages[j, to] for j, to in links if to == i]
            x[i] = (half[i] + sum(m for m, _ in heard)) / (1 + sum(c for _, c in heard))
        yield x


def choco(graph: Topology) -> Iterator[np.ndarray]:
    """Algorithm 2, with the whole matrix of public copies, and the two greatest coordinates."""
    x, x_hat = START, 0 * START
    for _ in range(ROUNDS):
        half = x - RATE * gradient(x)
        difference = half - x_hat
        threshold = np.sort(np.abs(difference), axis=1)[:, -2:-1]
        x_hat = x_hat + np.where(np.abs(difference) >= threshold, difference, 0)
        x = half + 0.4 * (graph.matrix() - np.eye(PEERS)) @ x_hat
        yield x


ALL_ALIKE = topology.random_regular(PEERS, 3, seed=0)
MATCHING = topology.random_matching(PEERS, rounds=ROUNDS, seed=0)
ONE_PEER = topology.one_peer_exponential(PEERS)
LOCAL = topology.epidemic_local(PEERS, 2, rounds=ROUNDS, seed=0)
TREE = topology.binary_tree(PEERS)
FEDERATED = topology.federated(PEERS, 3, rounds=ROUNDS, seed=0)
SMALL_WORLD = topology.small_world(PEERS, 4, 0.3, seed=0)

Oracle = Callable[[Topology], Iterator[np.ndarray]]
CASES: list[tuple[str, GossipAlgorithm, Oracle, Topology]] = [
    ("gossip", algorithms.gossip(), gossip, SMALL_WORLD),
    ("d_psgd", algorithms.d_psgd(), d_psgd, SMALL_WORLD),
    ("ad_psgd", algorithms.ad_psgd(), d_psgd, MATCHING),
    ("epidemic_learning", algorithms.epidemic_learning(), epidemic_learning, LOCAL),
    ("gossip_learning", algorithms.gossip_learning(), gossip_learning, ONE_PEER),
    ("merging_walks", algorithms.gossip_learning("mean"), merging_walks, ONE_PEER),
    ("random_walks", algorithms.gossip_learning("replace"), random_walks, ONE_PEER),
    ("fed_avg", algorithms.fed_avg(), gossip, FEDERATED),
    ("quasi_global", algorithms.quasi_global_momentum(), quasi_global_momentum, SMALL_WORLD),
    ("momentum", algorithms.decentralized_momentum(), decentralized_momentum, ONE_PEER),
    ("gradient_tracking", algorithms.gradient_tracking(), gradient_tracking, ONE_PEER),
    ("d_squared", algorithms.d_squared(), d_squared, ALL_ALIKE),
    ("push_sum", algorithms.push_sum(2), push_sum, LOCAL),
    ("relay_sum", algorithms.relay_sum(TREE.slots), relay_sum, TREE),
    ("choco", algorithms.choco(compression.top_k(0.4), 0.4), choco, SMALL_WORLD),
]


@pytest.mark.parametrize(
    ("algorithm", "oracle", "graph"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_does_what_the_paper_says(algorithm: GossipAlgorithm, oracle: Oracle, graph: Topology):
    for step, (ours, theirs) in enumerate(
        zip(trained(algorithm, graph), oracle(graph), strict=True)
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5, err_msg=f"round {step}")


def test_the_limited_merge_keeps_the_older_model_when_ages_are_far_apart():
    algorithm = algorithms.gossip_learning(limit=3)
    own, other = jnp.float32(1), jnp.float32(5)
    for age, other_age, expected in ((9, 5, 1), (5, 9, 5), (8, 5, (8 + 5 * 5) / 13)):
        neighbors = Neighbors(
            payload=AgedModel(other[None], jnp.array([other_age])),
            weight=jnp.ones(1),
            staleness=jnp.zeros(1),
            slot_is_new=jnp.ones(1, bool),
            self_weight=jnp.float32(1),
        )
        mixed, merged_age, _ = algorithm.mix(jnp.int32(age - 1), own, neighbors)
        assert float(mixed) == pytest.approx(expected)
        assert int(merged_age) == max(age, other_age)
