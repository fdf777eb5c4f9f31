"""What a topology is, the weights that go with it, and how well it mixes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Edges = npt.NDArray[np.int64]
"""`[E, 2]`: pairs of peers that hear each other."""


class Topology(NamedTuple):
    """Who hears whom in each round, and with which weights; round t uses row t mod T.

    In round t, peer i computes `w_i x_i + Σ_k w_ik x_j` with `j = neighbors[t, i, k]`,
    `w_ik = weight[t, i, k]` and `w_i = self_weight[t, i]`. A simulator gathers payloads with
    `neighbors` and hands both weights to the mixer.

    Attributes:
        neighbors: int32 `[T, N, K]`: the peers that each peer hears. Unused slots hold the peer
            itself, so that gathering is always valid.
        weight: float64 `[T, N, K]`, ≥ 0; 0 marks an unused slot.
        self_weight: float64 `[T, N]`; with the weights of the slots it adds up to 1.
    """

    neighbors: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float64]
    self_weight: npt.NDArray[np.float64]

    @property
    def peers(self) -> int:
        """N."""
        return self.neighbors.shape[1]

    @property
    def slots(self) -> int:
        """K: the greatest number of peers that any peer hears in one round."""
        return self.neighbors.shape[2]

    @property
    def period(self) -> int:
        """T: rounds after which the sequence starts again; 1 when it never changes."""
        return self.neighbors.shape[0]

    def matrix(self, round: int = 0) -> npt.NDArray[np.float64]:
        """The mixing matrix W `[N, N]` of a round: `x ← W x`. Its rows add up to 1."""
        step = round % self.period
        matrix = np.diag(self.self_weight[step])
        rows = np.arange(self.peers)[:, None]
        np.add.at(matrix, (rows, self.neighbors[step]), self.weight[step])
        return matrix


def from_edges(peers: int, edges: npt.ArrayLike) -> Topology:
    """A topology from any undirected graph, with Metropolis weights.

    Args:
        peers: number of peers, numbered from 0.
        edges: `[E, 2]`; an edge that is named twice, in either direction, counts once.

    Raises:
        ValueError: an edge is no pair of two peers, or the graph is not connected.
    """
    require_peers(peers)
    pairs = np.asarray(edges, np.int64).reshape(-1, 2)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= peers):
        raise ValueError(
            f"edges must join peers 0 to {peers - 1}, got {pairs.min()}, {pairs.max()}"
        )
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("an edge joins a peer to itself; leave it out: own weight needs no edge")
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    topology = undirected(peers, pairs)
    if not is_connected(topology):
        raise ValueError(
            f"the graph of {peers} peers and {len(pairs)} edges is not connected, so its peers can "
            "never agree; add edges between its parts"
        )
    return topology


def metropolis_weights(topology: Topology) -> Topology:
    """The same graph with `w_ij = 1 / (1 + max(d_i, d_j))`, from the degrees in each round.

    For an undirected graph this makes W symmetric and doubly stochastic, so that averaging keeps
    the mean over the peers.

    References:
        Xiao, Boyd 2004, "Fast linear iterations for distributed averaging", section 4.2.
    """
    degree = (topology.weight > 0).sum(axis=2)
    steps = np.arange(topology.period)[:, None, None]
    greater = np.maximum(degree[:, :, None], degree[steps, topology.neighbors])
    return _with_weights(topology, 1 / (1 + greater))


def uniform_weights(topology: Topology) -> Topology:
    """The same graph with `w_ij = 1 / (1 + d_i)`: each peer averages what it has, evenly.

    What peers do that know nothing of the others. W is doubly stochastic only where all degrees are
    equal; otherwise the mean over the peers drifts toward those of high degree.
    """
    degree = (topology.weight > 0).sum(axis=2)
    return _with_weights(topology, 1 / (1 + degree[:, :, None]))


def is_connected(topology: Topology) -> bool:
    """Whether news of every peer reaches every other within some number of rounds."""
    is_link = topology.weight > 0
    receivers, senders = np.nonzero(is_link)[1], topology.neighbors[is_link]
    return _reaches_all(topology.peers, senders, receivers) and _reaches_all(
        topology.peers, receivers, senders
    )


def spectral_gap(matrix: npt.NDArray[np.float64]) -> float:
    """`1 - |λ₂|`: one minus the second greatest modulus of the eigenvalues of a mixing matrix.

    The greater, the quicker peers agree: errors shrink by about `1 - gap` in each round.
    """
    moduli = np.sort(np.abs(np.linalg.eigvals(matrix)))
    return float(1 - moduli[-2])


def consensus_rate(topology: Topology) -> float:
    """Factor by which the distance from the mean shrinks in each round, at worst, over a period.

        ‖W_T ⋯ W_1 - 1 1ᵀ / N‖₂ ^ (1 / T)

    0 where a period gives the exact mean; 1 where peers do not agree at all. For one symmetric
    matrix it is `1 - spectral_gap`.
    """
    product = np.eye(topology.peers)
    for step in range(topology.period):
        product = topology.matrix(step) @ product
    error = float(np.linalg.norm(product - 1 / topology.peers, ord=2))
    return 0.0 if error < 1e-12 else error ** (1 / topology.period)


def undirected(peers: int, edges: Edges) -> Topology:
    """Metropolis weights on edges that are known to be right: no pair twice, none with itself."""
    both = np.concatenate([edges, edges[:, ::-1]])
    return metropolis_weights(pack(peers, [(both[:, 0], both[:, 1], np.ones(len(both)))]))


def pack(peers: int, rounds: list[tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]]) -> Topology:
    """A topology from links `(receivers, senders, weights)` of each round; no pair twice."""
    columns = [
        (np.asarray(receivers, int), np.asarray(senders, int), np.asarray(weights, float))
        for receivers, senders, weights in rounds
    ]
    counts = [np.bincount(receivers, minlength=peers) for receivers, _, _ in columns]
    slots = max(1, *(int(count.max()) for count in counts))
    neighbors = np.tile(np.arange(peers, dtype=np.int32)[:, None], (len(rounds), 1, slots))
    weight = np.zeros(neighbors.shape)
    for step, ((receivers, senders, weights), count) in enumerate(
        zip(columns, counts, strict=True)
    ):
        order = np.lexsort((senders, receivers))
        rows = receivers[order]
        slot = np.arange(len(rows)) - (np.cumsum(count) - count)[rows]
        neighbors[step, rows, slot] = senders[order]
        weight[step, rows, slot] = weights[order]
    return Topology(neighbors, weight, 1 - weight.sum(axis=2))


def require_peers(peers: int, least: int = 2) -> None:
    """Raise a ValueError unless there are enough peers."""
    if peers < least:
        raise ValueError(f"this topology needs at least {least} peers, got {peers}")


def _with_weights(topology: Topology, weight: npt.NDArray[np.float64]) -> Topology:
    weight = np.where(topology.weight > 0, weight, 0)
    return topology._replace(weight=weight, self_weight=1 - weight.sum(axis=2))


def _reaches_all(
    peers: int, senders: npt.NDArray[np.integer], receivers: npt.NDArray[np.integer]
) -> bool:
    reached = np.arange(peers) == 0
    while True:
        before = int(reached.sum())
        reached[receivers[reached[senders]]] = True
        if int(reached.sum()) == before:
            return before == peers
