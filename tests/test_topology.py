"""Topologies: stochastic matrices, connected graphs, spectral gaps, exact consensus."""

import math
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from gossipjax import topology
from gossipjax.topology import Topology

SYMMETRIC: dict[str, Callable[[int], Topology]] = {
    "ring": topology.ring,
    "torus": lambda peers: topology.torus(4, peers // 4),
    "complete": topology.complete,
    "star": topology.star,
    "random_regular": lambda peers: topology.random_regular(peers, 4, seed=1),
    "random_regular_dense": lambda peers: topology.random_regular(peers, peers - 3, seed=1),
    "erdos_renyi": lambda peers: topology.erdos_renyi(peers, 0.3, seed=1),
    "small_world": lambda peers: topology.small_world(peers, 4, 0.2, seed=1),
    "dumbbell": topology.dumbbell,
    "base_graph": topology.base_graph,
    "base_3_graph": lambda peers: topology.base_graph(peers, 2),
    "line": topology.line,
    "binary_tree": topology.binary_tree,
    "epidemic_oracle": lambda peers: topology.epidemic_oracle(peers, 4, rounds=5, seed=1),
    "random_matching": lambda peers: topology.random_matching(peers, rounds=20, seed=1),
}
DIRECTED: dict[str, Callable[[int], Topology]] = {
    "exponential": topology.exponential,
    "one_peer_exponential": topology.one_peer_exponential,
}


def product(graph: Topology, rounds: int) -> np.ndarray:
    matrix = np.eye(graph.peers)
    for step in range(rounds):
        matrix = graph.matrix(step) @ matrix
    return matrix


@pytest.mark.parametrize("name", [*SYMMETRIC, *DIRECTED])
@pytest.mark.parametrize("peers", [12, 16, 20])
def test_weights_are_doubly_stochastic_and_peers_agree(name: str, peers: int):
    graph = (SYMMETRIC | DIRECTED)[name](peers)
    assert graph.neighbors.shape == graph.weight.shape == (graph.period, peers, graph.slots)
    assert graph.self_weight.shape == (graph.period, peers)
    assert topology.is_connected(graph)
    for step in range(graph.period):
        matrix = graph.matrix(step)
        assert matrix.min() > -1e-15
        np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-12)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
        if name in SYMMETRIC:
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
    assert topology.consensus_rate(graph) < 1 - 1e-3


@pytest.mark.parametrize("name", [*SYMMETRIC, *DIRECTED])
def test_unused_slots_hold_the_peer_itself_and_no_pair_comes_twice(name: str):
    graph = (SYMMETRIC | DIRECTED)[name](12)
    own = np.arange(12)[None, :, None]
    assert ((graph.weight > 0) == (graph.neighbors != own)).all()
    for heard, weight in zip(
        graph.neighbors.reshape(-1, graph.slots), graph.weight.reshape(-1, graph.slots), strict=True
    ):
        assert len(set(heard[weight > 0].tolist())) == (weight > 0).sum()


@pytest.mark.parametrize(
    ("graph", "slots"),
    [
        (topology.ring(9), 2),
        (topology.ring(2), 1),
        (topology.torus(3, 5), 4),
        (topology.torus(2, 2), 2),
        (topology.complete(9), 8),
        (topology.exponential(9), 4),
        (topology.one_peer_exponential(9), 1),
        (topology.random_regular(9, 4, seed=0), 4),
        (topology.random_regular(9, 8, seed=0), 8),
        (topology.random_matching(9, rounds=3, seed=0), 1),
        (topology.small_world(9, 4, 0.0, seed=0), 4),
    ],
)
def test_degrees(graph: Topology, slots: int):
    assert graph.slots == slots
    if graph.period == 1:
        assert ((graph.weight > 0).sum(axis=2) == slots).all()


@pytest.mark.parametrize("peers", [16, 32, 64, 128])
def test_spectral_gap_of_the_ring(peers: int):
    gap = topology.spectral_gap(topology.ring(peers).matrix())
    assert gap == pytest.approx(2 / 3 * (1 - math.cos(2 * math.pi / peers)), abs=1e-9)
    assert gap == pytest.approx({16: 0.0508, 32: 0.0128, 64: 0.0032, 128: 0.0008}[peers], abs=1e-4)
    assert topology.consensus_rate(topology.ring(peers)) == pytest.approx(1 - gap)


@pytest.mark.parametrize("peers", [8, 10, 16, 32, 64, 100, 128, 256])
def test_spectral_gap_of_the_exponential_graph(peers: int):
    """Ying et al. 2021, proposition 1."""
    gap = topology.spectral_gap(topology.exponential(peers).matrix())
    assert gap == pytest.approx(2 / (1 + math.ceil(math.log2(peers))), abs=5e-5)


@pytest.mark.parametrize("peers", [7, 9, 33])
def test_spectral_gap_of_the_exponential_graph_is_greater_for_odd_numbers(peers: int):
    gap = topology.spectral_gap(topology.exponential(peers).matrix())
    assert gap > 2 / (1 + math.ceil(math.log2(peers))) + 0.01


def test_spectral_gaps_at_the_ends():
    assert topology.spectral_gap(topology.complete(10).matrix()) == pytest.approx(1)
    assert topology.spectral_gap(np.eye(3)) == pytest.approx(0)


@pytest.mark.parametrize("peers", [2, 8, 64, 128])
def test_one_peer_exponential_is_exact_after_log2_rounds(peers: int):
    """Ying et al. 2021, lemma 1."""
    graph = topology.one_peer_exponential(peers)
    assert graph.period == math.log2(peers)
    assert topology.consensus_rate(graph) == 0
    np.testing.assert_allclose(product(graph, graph.period), 1 / peers, atol=1e-15)
    if peers > 2:
        assert np.abs(product(graph, graph.period - 1) - 1 / peers).max() > 1e-3


def test_one_peer_exponential_is_never_exact_for_other_numbers():
    graph = topology.one_peer_exponential(100)
    assert np.abs(product(graph, 5 * graph.period) - 0.01).max() > 1e-9


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("peers", range(2, 65))
def test_base_graph_is_exact_for_any_number(peers: int, degree: int):
    """Takezawa et al. 2023, theorem 1."""
    graph = topology.base_graph(peers, degree)
    np.testing.assert_allclose(product(graph, graph.period), 1 / peers, atol=1e-12)
    assert graph.slots <= degree
    assert graph.period <= 2 * math.log(peers, degree + 1) + 2 + 1e-9


@pytest.mark.parametrize(("peers", "rounds"), [(2, 1), (3, 3), (4, 2), (5, 5), (6, 4), (8, 3)])
def test_lengths_of_base_2_graphs(peers: int, rounds: int):
    assert topology.base_graph(peers).period == rounds


def test_uniform_weights_drift_where_degrees_differ():
    star = topology.uniform_weights(topology.star(5))
    np.testing.assert_allclose(star.matrix().sum(axis=1), 1)
    assert star.matrix()[0, 0] == pytest.approx(0.2)
    assert star.matrix()[1, 0] == 0.5
    assert star.matrix().sum(axis=0)[0] > 2
    regular = topology.random_regular(10, 3, seed=0)
    np.testing.assert_allclose(
        topology.uniform_weights(regular).matrix(), regular.matrix(), atol=1e-15
    )


def test_metropolis_weights_follow_the_formula():
    matrix = topology.from_edges(4, [(0, 1), (1, 2), (1, 3), (2, 3), (3, 1)]).matrix()
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(1 / 4)
    assert matrix[2, 3] == pytest.approx(1 / 3)
    assert matrix[0, 0] == pytest.approx(3 / 4)


@given(st.integers(2, 30), st.integers(0, 1000))
def test_random_matchings_pair_everybody_but_one(peers: int, seed: int):
    graph = topology.random_matching(peers, rounds=4, seed=seed)
    partner = graph.neighbors[:, :, 0]
    for step in range(4):
        assert (partner[step][partner[step]] == np.arange(peers)).all()
        assert (partner[step] == np.arange(peers)).sum() == peers % 2


@pytest.mark.parametrize("name", ["random_regular", "erdos_renyi", "small_world"])
def test_seeds_decide(name: str):
    def draw(seed: int) -> np.ndarray:
        arguments = {"random_regular": (4,), "erdos_renyi": (0.3,), "small_world": (4, 0.5)}[name]
        return getattr(topology, name)(20, *arguments, seed=seed).matrix()

    assert (draw(3) == draw(3)).all()
    assert (draw(3) != draw(4)).any()


def test_random_graphs_are_as_random_as_they_say():
    edges = (topology.erdos_renyi(200, 0.1, seed=0).weight > 0).sum() / 2
    assert edges == pytest.approx(0.1 * 200 * 199 / 2, rel=0.1)
    lattice = topology.small_world(200, 4, 0, seed=0)
    distance = (lattice.neighbors[0] - np.arange(200)[:, None]) % 200
    assert (np.minimum(distance, 200 - distance) <= 2).all()
    moved = topology.small_world(200, 4, 0.25, seed=0)
    distance = (moved.neighbors[0] - np.arange(200)[:, None]) % 200
    is_far = (moved.weight[0] > 0) & (np.minimum(distance, 200 - distance) > 2)
    assert is_far.sum() / 2 == pytest.approx(0.25 * 400, rel=0.25)
    assert (moved.weight > 0).sum() == (lattice.weight > 0).sum()
    gap = topology.spectral_gap(topology.random_regular(200, 4, seed=0).matrix())
    assert gap > 0.05  # an expander; the ring of 200 has 0.0003


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: topology.ring(1), "at least 2 peers, got 1"),
        (lambda: topology.torus(1, 5), "at least 2 rows and 2 columns, got 1 × 5"),
        (lambda: topology.dumbbell(3), "at least 4 peers"),
        (lambda: topology.base_graph(1), "at least 2 peers"),
        (lambda: topology.base_graph(5, 0), "degree must be at least 1, got 0"),
        (lambda: topology.random_matching(5, rounds=0, seed=0), "rounds must be at least 1"),
        (lambda: topology.random_regular(9, 3, seed=0), "peers · degree must be even"),
        (lambda: topology.random_regular(10, 2, seed=0), "degree 2 are rings"),
        (lambda: topology.random_regular(10, 10, seed=0), "degree must be from 3 to 9"),
        (lambda: topology.erdos_renyi(10, 0, seed=0), "probability must be above 0"),
        (lambda: topology.erdos_renyi(500, 0.001, seed=0), "a probability above ln N / N = 0.0124"),
        (lambda: topology.small_world(10, 3, 0.1, seed=0), "degree must be even"),
        (lambda: topology.small_world(10, 4, 1.1, seed=0), "rewiring must be a probability"),
        (lambda: topology.from_edges(4, [(0, 1), (2, 3)]), "is not connected"),
        (lambda: topology.from_edges(2, []), "is not connected"),
        (lambda: topology.from_edges(3, [(0, 3)]), "edges must join peers 0 to 2, got 0, 3"),
        (lambda: topology.from_edges(3, [(-1, 0)]), "edges must join peers 0 to 2"),
        (lambda: topology.from_edges(3, [(1, 1)]), "joins a peer to itself"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Topology], text: str):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: topology.random_regular(10, 3, seed=0), "regular graph of degree 3 .* a higher"),
        (lambda: topology.small_world(10, 2, 1, seed=0), "small world .* less rewiring"),
    ],
)
def test_attempts_end(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Topology], text: str):
    monkeypatch.setattr("gossipjax.topology.static.ATTEMPTS", 0)
    with pytest.raises(ValueError, match=f"no connected {text}"):
        make()


def test_large_graphs_are_quick():
    """Ten thousand peers of degree 8: no N × N matrix anywhere."""
    graph = topology.random_regular(10_000, 8, seed=0)
    assert graph.weight.shape == (1, 10_000, 8)
    assert graph.weight.min() > 0


def test_a_directed_graph_that_news_cannot_leave_is_not_connected():
    graph = topology.exponential(4)
    deaf = graph._replace(weight=graph.weight * (np.arange(4) > 0)[None, :, None])
    assert not topology.is_connected(deaf)


def test_trees_have_one_edge_less_than_peers():
    for tree in (topology.line(13), topology.binary_tree(13), topology.star(13)):
        assert np.count_nonzero(tree.weight) == 2 * 12
        assert topology.is_connected(tree)
    assert topology.line(13).slots == 2
    assert topology.binary_tree(13).slots == 3


@pytest.mark.parametrize(("peers", "fanout"), [(40, 3), (10, 4), (5, 4)])
def test_epidemic_local_has_random_receivers_and_even_weights(peers: int, fanout: int):
    graph = topology.epidemic_local(peers, fanout, rounds=30, seed=2)
    assert graph.period == 30
    told = np.zeros((peers, peers))
    for step in range(graph.period):
        matrix = graph.matrix(step)
        is_link = (matrix > 0) & ~np.eye(peers, dtype=bool)
        assert (is_link.sum(axis=0) == fanout).all()
        for row, linked in zip(matrix, is_link, strict=True):
            np.testing.assert_allclose(row[row > 0], 1 / (1 + linked.sum()), atol=1e-12)
        told += is_link
    expected = 30 * fanout / (peers - 1)
    off_diagonal = told[~np.eye(peers, dtype=bool)]
    assert off_diagonal.mean() == pytest.approx(expected)
    assert off_diagonal.max() < expected + 6 * np.sqrt(expected) + 1
    same = topology.epidemic_local(peers, fanout, rounds=30, seed=2)
    np.testing.assert_array_equal(graph.neighbors, same.neighbors)


def test_oracle_draws_another_graph_in_each_round():
    graph = topology.epidemic_oracle(12, 4, rounds=5, seed=1)
    assert len({graph.neighbors[step].tobytes() for step in range(5)}) == 5


def test_federated_rounds_give_all_peers_the_same_average():
    samples = np.arange(1, 13)
    for counts in (None, samples):
        graph = topology.federated(12, 5, rounds=8, seed=3, samples=counts)
        assert graph.slots == 5
        for step in range(graph.period):
            matrix = graph.matrix(step)
            np.testing.assert_allclose(matrix, matrix[:1].repeat(12, axis=0), atol=1e-12)
            taking_part = matrix[0] > 0
            assert taking_part.sum() == 5
            assert (graph.self_weight[step][~taking_part] == 0).all()
            weights = (samples if counts is not None else np.ones(12)) * taking_part
            np.testing.assert_allclose(matrix[0], weights / weights.sum(), atol=1e-12)


def test_sizes_of_random_rounds_are_checked():
    for fanout in (0, 8):
        with pytest.raises(ValueError, match="fanout must be from 1 to 7"):
            topology.epidemic_local(8, fanout, rounds=3, seed=0)
    for sampled in (1, 9):
        with pytest.raises(ValueError, match="sampled must be from 2 to 8"):
            topology.federated(8, sampled, rounds=3, seed=0)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        topology.epidemic_local(8, 2, rounds=0, seed=0)
