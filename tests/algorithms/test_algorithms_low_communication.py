"""Every low-communication method against its paper's equations, in NumPy with float64.

The task and the loop over rounds are those of `test_algorithms_oracles`: one local step per round.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_algorithms_oracles import (
    ALL_ALIKE,
    MATCHING,
    ONE_PEER,
    PEERS,
    RATE,
    ROUNDS,
    SIZE,
    SMALL_WORLD,
    START,
    Oracle,
    gossip,
    gradient,
    trained,
)

from gossipjax import algorithms, compression, topology
from gossipjax.mixing import GossipAlgorithm, Neighbors
from gossipjax.topology import Topology


def diloco(graph: Topology) -> Iterator[np.ndarray]:
    """Algorithm 1 on the group of those who hear each other, with PyTorch's Nesterov."""
    phi, m = START, 0 * START
    for step in range(ROUNDS):
        theta = phi - RATE * gradient(phi)
        delta = phi - graph.matrix(step) @ theta
        m = 0.9 * m + delta
        phi = phi - 0.7 * (delta + 0.9 * m)
        yield phi


def noloco(gamma: float) -> Oracle:
    """The authors' sparse optimizer: g = θ - φ, by pairs."""

    def rounds(graph: Topology) -> Iterator[np.ndarray]:
        phi, m = START, 0 * START
        for step in range(ROUNDS):
            g = -RATE * gradient(phi)
            pair = graph.matrix(step)
            m = 0.5 * m + 0.7 * pair @ g + gamma * (pair @ phi - phi)
            phi = phi + m
            yield phi

    return rounds


def delayed_nesterov(graph: Topology) -> Iterator[np.ndarray]:
    """Algorithm 3 with c = 0, N = 6 and three pseudo-gradients each round: m in every other."""
    theta, m, buffer = START, 0 * START, 0 * START
    for step in range(ROUNDS):
        trained_theta = theta - RATE * gradient(theta)
        others = [graph.neighbors[step % graph.period, :, slot] for slot in (0, 1)]
        g = [theta - trained_theta, *(theta - trained_theta[who] for who in others)]
        buffer = buffer + sum(g)
        if step % 2:
            m = 0.9 * m + buffer / 6
            buffer = 0 * START
        theta = theta - 0.7 * ((0.9 * m if step % 2 else 0) + sum(g) / 6)
        yield theta


def largest_two(rows: np.ndarray) -> np.ndarray:
    """Two greatest of five, each told as the mean of its bin of sign and modulus."""
    kept = np.where(np.abs(rows) >= np.sort(np.abs(rows), axis=1)[:, -2:-1], rows, 0)
    for i, row in enumerate(kept):
        large = np.abs(row) > np.abs(row[row != 0]).mean()
        for bin_ in {(row[c] > 0, large[c]) for c in np.flatnonzero(row)}:
            of_bin = (row != 0) & ((row > 0) == bin_[0]) & (large == bin_[1])
            kept[i, of_bin] = row[of_bin].mean()
    return kept


def sparse_loco(graph: Topology) -> Iterator[np.ndarray]:
    """Algorithm 1 with β = 0.95, α = 1, and the second fragment of φ in every other round."""
    phi, e = START, 0 * START
    for step in range(ROUNDS):
        e = 0.95 * e + RATE * gradient(phi)
        q = largest_two(e)
        e = e - q
        told = np.arange(SIZE) // 3 == step % 2
        pulled = np.where(told, (graph.matrix(step) - np.eye(PEERS)) @ phi, 0)
        phi = phi + pulled - graph.matrix(step) @ q
        yield phi


def streaming(graph: Topology) -> Iterator[np.ndarray]:
    """Two fragments, τ = 1, α = 0.25: what a fragment's outer step gives counts a round later."""
    theta, phi, m = START, START, 0 * START
    due = np.zeros(SIZE, bool)
    for step in range(ROUNDS):
        theta = theta - RATE * gradient(theta)
        fragment = np.arange(SIZE) // 3 == step % 2
        delta = phi - graph.matrix(step) @ theta
        theta = np.where(due, 0.25 * theta + 0.75 * phi, theta)
        m = np.where(fragment, 0.8 * m + delta, m)
        phi = np.where(fragment, phi - 0.7 * (delta + 0.8 * m), phi)
        due = fragment
        yield theta


def compressed(graph: Topology) -> Iterator[np.ndarray]:
    """What changed most since it was told, two of five, counts for the receiver; else its own."""
    x, told = START, START
    for step in range(ROUNDS):
        x = x - RATE * gradient(x)
        change = np.abs(x - told)
        is_told = change >= np.sort(change, axis=1)[:, -2:-1]
        told = np.where(is_told, x, told)
        pulls = np.where(is_told, x, 0)[None] - is_told[None] * x[:, None]
        x = x + np.einsum("ij,ijc->ic", graph.matrix(step), pulls)
        yield x


def restless(graph: Topology) -> Iterator[np.ndarray]:
    """DiLoCo with η = 1 and μ = 0 is local SGD."""
    yield from gossip(graph)


TOP_TWO = compression.top_k(0.4)
CASES: list[tuple[str, GossipAlgorithm, Oracle, Topology]] = [
    ("local_sgd", algorithms.local_sgd(), gossip, ONE_PEER),
    ("diloco", algorithms.diloco(), diloco, topology.complete(PEERS)),
    ("diloco_groups", algorithms.diloco(), diloco, ALL_ALIKE),
    ("restless", algorithms.diloco(1.0, 0.0), restless, SMALL_WORLD),
    ("noloco", algorithms.noloco(), noloco(0.7), MATCHING),
    ("noloco_two_tensors", algorithms.noloco(consensus=0.9), noloco(0.9), MATCHING),
    ("noloco_no_pull", algorithms.noloco(consensus=0.0), noloco(0.0), MATCHING),
    (
        "delayed_nesterov",
        algorithms.delayed_nesterov(size=6),
        delayed_nesterov,
        topology.ring(PEERS),
    ),
    (
        "sparse_loco",
        algorithms.sparse_loco(compression.top_k_2bit(0.4), parts=2),
        sparse_loco,
        SMALL_WORLD,
    ),
    ("streaming", algorithms.streaming(2, 1, momentum=0.8, keep=0.25), streaming, SMALL_WORLD),
    ("compressed", algorithms.compressed(algorithms.gossip(), TOP_TWO), compressed, SMALL_WORLD),
]


@pytest.mark.parametrize(
    ("algorithm", "oracle", "graph"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_does_what_the_paper_says(algorithm: GossipAlgorithm, oracle: Oracle, graph: Topology):
    ours = trained(algorithm, graph)
    for step, (mine, theirs) in enumerate(zip(ours, oracle(graph), strict=True)):
        np.testing.assert_allclose(mine, theirs, atol=3e-5, rtol=3e-5, err_msg=f"round {step}")
    assert np.abs(ours[-1] - START).max() > 0.1


def silence() -> Neighbors:
    nothing = jnp.zeros(1)
    return Neighbors((), nothing, nothing, nothing > 0, jnp.float32(1))


def test_local_steps_that_were_not_told_are_not_lost():
    """A peer leaves out a `share` while its last payload is not out yet."""
    algorithm = algorithms.sparse_loco("sign", parts=2)
    start, trained_params = jnp.zeros(3), jnp.array([1.0, -2.0, 3.0])
    payload, _ = algorithm.share(algorithm.init(start), start, jax.random.key(0))
    neighbors = silence()._replace(payload=jax.tree.map(lambda leaf: leaf[None], payload))
    mixed, state, _ = algorithm.mix(algorithm.init(start), trained_params, neighbors)
    np.testing.assert_array_equal(mixed, trained_params)
    _, state = algorithm.share(state, mixed, jax.random.key(1))
    moved, state, _ = algorithm.mix(state, mixed, neighbors)
    np.testing.assert_allclose(moved + state.feedback[0] * -1, trained_params, rtol=1e-2)


def test_the_compressor_by_its_name_is_the_compressor():
    by_name = algorithms.compressed(algorithms.gossip(), "int8")
    params = jax.random.normal(jax.random.key(0), (40,))
    payload, _ = by_name.share(by_name.init(params), params, jax.random.key(1))
    decoded = compression.int8().decompress(payload, params)
    np.testing.assert_allclose(decoded, params, atol=float(jnp.abs(params).max()) / 250)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(payload)) == 40 + 2 + 4


def test_a_joiner_takes_what_it_is_told_however_coarsely():
    algorithm = algorithms.compressed(algorithms.gossip(), "int4")
    donor, untrained = jax.random.normal(jax.random.key(0), (2, 64))
    payload, _ = algorithm.share(algorithm.init(donor), donor, jax.random.key(1))
    gift = Neighbors(
        payload=jax.tree.map(lambda leaf: leaf[None], payload),
        weight=jnp.ones(1),
        staleness=jnp.zeros(1),
        slot_is_new=jnp.ones(1, bool),
        self_weight=jnp.float32(0),
    )
    mixed, _, _ = algorithm.mix(algorithm.init(untrained), untrained, gift)
    step = 2 * float(jnp.abs(donor).max()) / 15
    np.testing.assert_allclose(mixed, donor, atol=0.51 * step)
