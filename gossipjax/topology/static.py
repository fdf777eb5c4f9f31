"""Graphs that stay the same in all rounds.

Undirected ones carry Metropolis weights (for others see `uniform_weights`). The random ones give
the same graph for the same arguments on every machine.
"""

import numpy as np

from gossipjax.topology.base import (
    Edges,
    Topology,
    from_edges,
    is_connected,
    pack,
    require_peers,
    undirected,
)

ATTEMPTS = 100
"""Random graphs drawn until one is connected."""


def ring(peers: int) -> Topology:
    """Each peer and the two beside it. Spectral gap `(2/3)(1 - cos(2π/N))`, about `13.2 / N²`."""
    require_peers(peers)
    return from_edges(peers, _lattice(peers, 1))


def torus(rows: int, columns: int) -> Topology:
    """A grid whose edges are joined: each peer and its four neighbors. Gap of order 1/N."""
    if min(rows, columns) < 2:
        raise ValueError(f"a torus needs at least 2 rows and 2 columns, got {rows} × {columns}")
    index = np.arange(rows * columns).reshape(rows, columns)
    down, right = np.roll(index, -1, axis=0), np.roll(index, -1, axis=1)
    edges = np.concatenate([np.stack([index.ravel(), to.ravel()], 1) for to in (down, right)])
    return from_edges(rows * columns, edges)


def complete(peers: int) -> Topology:
    """Everybody hears everybody: the exact mean in one round, N - 1 messages per peer."""
    require_peers(peers)
    return from_edges(peers, np.stack(np.triu_indices(peers, 1), axis=1))


def star(peers: int) -> Topology:
    """Peer 0 hears all and all hear peer 0, and nobody else."""
    require_peers(peers)
    return from_edges(peers, [(0, peer) for peer in range(1, peers)])


def line(peers: int) -> Topology:
    """Each peer and the one or two beside it: the deepest tree."""
    require_peers(peers)
    return from_edges(peers, [(peer - 1, peer) for peer in range(1, peers)])


def binary_tree(peers: int) -> Topology:
    """Peer i and the peers 2i + 1 and 2i + 2 below it: a tree of depth ⌊log₂ N⌋, degree 3."""
    require_peers(peers)
    return from_edges(peers, [((peer - 1) // 2, peer) for peer in range(1, peers)])


def exponential(peers: int) -> Topology:
    """Peer i hears the peers 1, 2, 4, 8, … behind it, all with equal weights (directed).

    Doubly stochastic; ⌈log₂ N⌉ messages per peer. For even N the spectral gap is
    `2 / (1 + ⌈log₂ N⌉)`, for odd N it is greater.

    References:
        Ying et al. 2021, "Exponential Graph is Provably Efficient for Decentralized Deep Training",
        section 3 and proposition 1.
    """
    require_peers(peers)
    offsets = 2 ** np.arange((peers - 1).bit_length())
    receivers = np.repeat(np.arange(peers), len(offsets))
    senders = (receivers - np.tile(offsets, peers)) % peers
    weights = np.full(len(receivers), 1 / (1 + len(offsets)))
    return pack(peers, [(receivers, senders, weights)])


def random_regular(peers: int, degree: int, *, seed: int) -> Topology:
    """A connected graph in which each peer has the same degree, near uniformly at random.

    An expander: the spectral gap does not go to 0 as N grows.

    Args:
        peers: N; N · degree must be even.
        degree: from 3 to N - 1.
        seed: decides the graph.

    References:
        Steger, Wormald 1999, "Generating random regular graphs quickly".
    """
    require_peers(peers, 4)
    if not 3 <= degree < peers:
        raise ValueError(
            f"degree must be from 3 to {peers - 1}, got {degree}; connected graphs of degree 2 are "
            "rings"
        )
    if peers * degree % 2:
        raise ValueError(
            f"peers · degree must be even, got {peers} · {degree}: change one of them by 1"
        )
    rng = _random(seed)
    is_dense = 2 * degree > peers - 1
    for _ in range(ATTEMPTS):
        edges = _pair_ends(rng, peers, peers - 1 - degree if is_dense else degree)
        if edges is not None:
            topology = undirected(peers, _complement(peers, edges) if is_dense else edges)
            if is_connected(topology):
                return topology
    raise ValueError(_NOT_CONNECTED.format(f"regular graph of degree {degree}", "a higher degree"))


def erdos_renyi(peers: int, probability: float, *, seed: int) -> Topology:
    """Each pair is joined with the same probability; drawn again until it is connected.

    Args:
        peers: N.
        probability: in (0, 1]; well above `ln N / N`, where such graphs become connected.
        seed: decides the graph.

    Raises:
        ValueError: no connected graph in 100 attempts.
    """
    require_peers(peers)
    if not 0 < probability <= 1:
        raise ValueError(f"probability must be above 0 and at most 1, got {probability}")
    rng, pairs = _random(seed), peers * (peers - 1) // 2
    for _ in range(ATTEMPTS):
        topology = undirected(peers, _decode_pairs(peers, _bernoulli_hits(rng, pairs, probability)))
        if is_connected(topology):
            return topology
    better = f"a probability above ln N / N = {np.log(peers) / peers:.3g}"
    raise ValueError(_NOT_CONNECTED.format(f"graph of probability {probability}", better))


def small_world(peers: int, degree: int, rewiring: float, *, seed: int) -> Topology:
    """A ring in which each peer has `degree` neighbors, and some edges are moved at random.

    Args:
        peers: N.
        degree: even, from 2 to N - 1: half of it on each side.
        rewiring: probability, in [0, 1], that an edge's far end goes to a random peer instead.
        seed: decides the graph.

    References:
        Watts, Strogatz 1998, "Collective dynamics of 'small-world' networks".
    """
    require_peers(peers, 3)
    if degree % 2 or not 2 <= degree < peers:
        raise ValueError(f"degree must be even and from 2 to {peers - 1}, got {degree}")
    if not 0 <= rewiring <= 1:
        raise ValueError(f"rewiring must be a probability from 0 to 1, got {rewiring}")
    rng = _random(seed)
    for _ in range(ATTEMPTS):
        topology = undirected(peers, _rewire(rng, peers, _lattice(peers, degree // 2), rewiring))
        if is_connected(topology):
            return topology
    raise ValueError(_NOT_CONNECTED.format("small world", "a higher degree or less rewiring"))


def dumbbell(peers: int) -> Topology:
    """Two halves in which all hear each other, joined by one edge: the worst case for gossip."""
    require_peers(peers, 4)
    half = peers // 2
    left, right = (np.stack(np.triu_indices(size, 1), 1) for size in (half, peers - half))
    return from_edges(peers, np.concatenate([left, right + half, [[half - 1, half]]]))


_NOT_CONNECTED = "no connected {} in " + str(ATTEMPTS) + " attempts: take {}"


def _random(seed: int) -> np.random.RandomState:
    # Not `Generator`: NumPy may change its streams, and peers draw the same graph each for itself.
    return np.random.RandomState(np.random.PCG64(seed))


def _lattice(peers: int, reach: int) -> Edges:
    """Each peer with the `reach` next ones on a ring."""
    start = np.tile(np.arange(peers), reach)
    return np.stack([start, (start + np.repeat(np.arange(1, reach + 1), peers)) % peers], axis=1)


def _pair_ends(rng: np.random.RandomState, peers: int, degree: int) -> Edges | None:
    """Pairs up `degree` ends of edges per peer, no pair twice; None when it gets stuck."""
    ends = np.repeat(np.arange(peers), degree)
    codes = np.empty(0, np.int64)
    for _ in range(ATTEMPTS):
        if not len(ends):
            return np.stack([codes // peers, codes % peers], axis=1)
        pairs = np.sort(rng.permutation(ends).reshape(-1, 2), axis=1)
        code = pairs[:, 0] * peers + pairs[:, 1]
        is_first = np.zeros(len(code), bool)
        is_first[np.unique(code, return_index=True)[1]] = True
        is_new = is_first & (pairs[:, 0] != pairs[:, 1]) & ~np.isin(code, codes)
        codes = np.append(codes, code[is_new])
        ends = pairs[~is_new].ravel()
    return None


def _complement(peers: int, edges: Edges) -> Edges:
    is_joined = np.ones((peers, peers), bool)
    is_joined[edges[:, 0], edges[:, 1]] = False
    return np.argwhere(np.triu(is_joined, 1))


def _bernoulli_hits(rng: np.random.RandomState, count: int, probability: float) -> np.ndarray:
    """Which of `count` independent draws succeed, from the gaps between successes."""
    hits = np.empty(0, np.int64)
    last = -1
    while last < count:
        expected = int((count - last) * probability) + 10
        hits = np.append(hits, last + np.cumsum(rng.geometric(probability, expected)))
        last = int(hits[-1])
    return hits[hits < count]


def _decode_pairs(peers: int, codes: np.ndarray) -> Edges:
    """The pairs (i, j), i < j, of the given numbers in lexicographic order."""
    firsts = np.cumsum(np.arange(peers - 1, 0, -1))
    low = np.searchsorted(firsts, codes, side="right")
    return np.stack([low, codes - firsts[low] + peers], axis=1)


def _rewire(rng: np.random.RandomState, peers: int, edges: Edges, probability: float) -> Edges:
    joined: list[set[int]] = [set() for _ in range(peers)]
    for start, end in edges.tolist():
        joined[start].add(end)
        joined[end].add(start)
    for index in np.flatnonzero(rng.random_sample(len(edges)) < probability):
        start, end = edges[index].tolist()
        new = int(rng.randint(peers))
        if new != start and new not in joined[start]:
            joined[start].remove(end)
            joined[end].remove(start)
            joined[start].add(new)
            joined[new].add(start)
    pairs = [
        (start, end) for start, others in enumerate(joined) for end in sorted(others) if start < end
    ]
    return np.asarray(pairs, np.int64).reshape(-1, 2)
