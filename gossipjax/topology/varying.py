"""Sequences of graphs: another one in each round, few messages, and yet quick agreement."""

from itertools import combinations, zip_longest

import numpy as np

from gossipjax.topology.base import Topology, pack, require_peers

Round = list[tuple[int, int, float]]
"""Edges of one round with their weights, each once."""


def one_peer_exponential(peers: int) -> Topology:
    """In round t, peer i hears the peer 2^t behind it, with weight ½ (directed).

    One message per peer and round. Doubly stochastic; for N = 2^k, k rounds give the exact mean,
    for other N no number of rounds does: see `base_graph`.

    References:
        Ying et al. 2021, "Exponential Graph is Provably Efficient for Decentralized Deep Training",
        section 4 and lemma 1.
    """
    require_peers(peers)
    receivers = np.arange(peers)
    half = np.full(peers, 0.5)
    offsets = 2 ** np.arange((peers - 1).bit_length())
    return pack(peers, [(receivers, (receivers - offset) % peers, half) for offset in offsets])


def random_matching(peers: int, *, rounds: int, seed: int) -> Topology:
    """In each round all peers are paired up at random, and pairs average (weight ½).

    One message per peer and round. With an odd number one peer, another each time, sits out.

    Args:
        peers: N.
        rounds: length of the sequence, after which it repeats.
        seed: decides the pairs; the same on every machine.

    References:
        Boyd et al. 2006, "Randomized gossip algorithms", in its synchronous form.
    """
    require_peers(peers)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    rng = np.random.RandomState(np.random.PCG64(seed))
    paired = peers - peers % 2
    pairs = np.stack([rng.permutation(peers)[:paired].reshape(-1, 2) for _ in range(rounds)])
    half = np.full(paired, 0.5)
    return pack(peers, [(step.ravel(), step[:, ::-1].ravel(), half) for step in pairs])


def base_graph(peers: int, degree: int = 1) -> Topology:
    """Base-(k+1) graph: the exact mean for any N, with at most k = degree messages per round.

    After one period of T ≤ 2·log_{k+1}(N) + 2 rounds, all peers have the mean of the start values.
    Symmetric and doubly stochastic in each round.

    Where all prime factors of N are at most k + 1, it is a hypercube with sides of up to k + 1 that
    averages along one axis after another. Otherwise N is written in base k + 1. Each digit's block
    averages within itself; then the blocks, greatest first, trade with all lesser ones so that the
    mean of each of its parts becomes the mean of all; then each part averages within itself.

    Args:
        peers: N.
        degree: k ≥ 1.

    References:
        Takezawa et al. 2023, "Beyond Exponential Graph: Communication-Efficient Topologies for
        Decentralized Learning via Finite-time Convergence", algorithms 1 to 3 and theorem 1.
    """
    require_peers(peers)
    if degree < 1:
        raise ValueError(f"degree must be at least 1, got {degree}")
    rounds = _base_graph(np.arange(peers), degree)
    return pack(peers, [_both_ways(edges) for edges in rounds])


def _base_graph(members: np.ndarray, degree: int) -> list[Round]:
    """The shorter of two ways: all at once, or the smooth and the rough factor of N in turn."""
    at_once = _simple_base_graph(members, degree)
    smooth, rough = 1, len(members)
    for factor in range(2, degree + 2):
        while rough % factor == 0:
            smooth, rough = smooth * factor, rough // factor
    grid = members.reshape(smooth, rough)
    in_turn = [
        *_side_by_side([_simple_base_graph(row, degree) for row in grid]),
        *_side_by_side([_hypercube(column, degree) for column in grid.T]),
    ]
    return min(at_once, in_turn, key=len)


def _simple_base_graph(members: np.ndarray, degree: int) -> list[Round]:
    if _fewest_factors(len(members), degree + 1) is not None:
        return _hypercube(members, degree)
    blocks = _blocks_by_digit(members, degree + 1)
    within = _side_by_side([_hypercube(block.ravel(), degree) for block in blocks])
    after: list[list[Round]] = []
    for index, block in enumerate(blocks[:-1]):
        lesser = np.concatenate([other.ravel() for other in blocks[index + 1 :]])
        parts = _side_by_side([_hypercube(part, degree) for part in block])
        after.append([*([[]] * index), _trade(block, lesser), *parts])
    return within + _side_by_side(after)


def _blocks_by_digit(members: np.ndarray, base: int) -> list[np.ndarray]:
    """Blocks `[digit, base^p]` for the digits of N that are not 0, greatest first."""
    blocks, start, power = [], 0, 1
    while power * base <= len(members):
        power *= base
    while power:
        digit = (len(members) - start) // power
        if digit:
            blocks.append(members[start : start + digit * power].reshape(digit, power))
        start += digit * power
        power //= base
    return blocks


def _trade(block: np.ndarray, lesser: np.ndarray) -> Round:
    """Each lesser peer with one peer of each part, so that all parts get the mean of everything."""
    weight = block.size / (len(block) * (block.size + len(lesser)))
    return [
        (int(part[index]), int(peer), weight) for index, peer in enumerate(lesser) for part in block
    ]


def _hypercube(members: np.ndarray, degree: int) -> list[Round]:
    factors = _fewest_factors(len(members), degree + 1) or []
    rounds, stride = [], 1
    for factor in factors:
        groups = members.reshape(-1, factor, stride).swapaxes(1, 2).reshape(-1, factor)
        rounds.append([(*pair, 1 / factor) for row in groups for pair in combinations(row, 2)])
        stride *= factor
    return rounds


def _fewest_factors(number: int, most: int) -> list[int] | None:
    """As few factors of at most `most` as possible; None if a prime factor is greater."""
    if number == 1:
        return []
    found = None
    for factor in range(min(most, number), 1, -1):
        if number % factor == 0:
            rest = _fewest_factors(number // factor, most)
            if rest is not None and (found is None or len(rest) + 1 < len(found)):
                found = [factor, *rest]
    return found


def _side_by_side(sequences: list[list[Round]]) -> list[Round]:
    """Sequences on separate peers run at the same time; the shorter ones wait at their end."""
    return [
        [edge for edges in step for edge in edges] for step in zip_longest(*sequences, fillvalue=[])
    ]


def _both_ways(edges: Round) -> tuple[list[int], list[int], list[float]]:
    receivers = [edge[0] for edge in edges] + [edge[1] for edge in edges]
    senders = [edge[1] for edge in edges] + [edge[0] for edge in edges]
    return receivers, senders, [edge[2] for edge in edges] * 2
