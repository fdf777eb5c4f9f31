"""Sequences of graphs: another one in each round, few messages, and yet quick agreement."""

from itertools import combinations, zip_longest

import numpy as np
import numpy.typing as npt

from gossipjax.topology.base import Topology, pack, require_peers
from gossipjax.topology.static import random_regular

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
    rng = _random(seed, rounds)
    paired = peers - peers % 2
    pairs = np.stack([rng.permutation(peers)[:paired].reshape(-1, 2) for _ in range(rounds)])
    half = np.full(paired, 0.5)
    return pack(peers, [(step.ravel(), step[:, ::-1].ravel(), half) for step in pairs])


def epidemic_oracle(peers: int, degree: int, *, rounds: int, seed: int) -> Topology:
    """EL-Oracle: in each round another random regular graph (symmetric, doubly stochastic).

    Args:
        peers: N; N · degree must be even.
        degree: s, from 3 to N - 1: messages per peer and round.
        rounds: length of the sequence, after which it repeats.
        seed: decides the graphs; the same on every machine.

    References:
        de Vos et al. 2023, "Epidemic Learning", section 3.
    """
    seeds = _random(seed, rounds).randint(0, 2**31, rounds)
    graphs = [random_regular(peers, degree, seed=int(each)) for each in seeds]
    return Topology(*(np.concatenate(field) for field in zip(*graphs, strict=True)))


def epidemic_local(peers: int, fanout: int, *, rounds: int, seed: int) -> Topology:
    """EL-Local: in each round each peer tells random others, and averages evenly what it hears.

    Directed; its rows add up to 1, its columns do not, so the mean over the peers drifts. How many
    a peer hears differs: K is the greatest number in any round.

    Args:
        peers: N.
        fanout: s, from 1 to N - 1: messages that each peer sends per round.
        rounds: length of the sequence, after which it repeats.
        seed: decides who tells whom; the same on every machine.

    References:
        de Vos et al. 2023, "Epidemic Learning", section 3 and algorithm 1.
    """
    require_peers(peers)
    if not 1 <= fanout < peers:
        raise ValueError(f"fanout must be from 1 to {peers - 1}, got {fanout}")
    rng = _random(seed, rounds)
    senders = np.repeat(np.arange(peers), fanout)
    sequence = []
    for _ in range(rounds):
        offsets = 1 + _distinct(rng, peers, fanout, peers - 1)
        receivers = (senders + offsets.ravel()) % peers
        heard = np.bincount(receivers, minlength=peers)
        sequence.append((receivers, senders, 1 / (1 + heard[receivers])))
    return pack(peers, sequence)


def federated(
    peers: int, sampled: int, *, rounds: int, seed: int, samples: npt.ArrayLike | None = None
) -> Topology:
    """FedAvg's rounds: all peers hear the same few, and nothing else counts.

    A peer that is not among the sampled has an own weight of 0: it adopts their average.

    Args:
        peers: N.
        sampled: m, from 2 to N: peers that take part in a round.
        rounds: length of the sequence, after which it repeats.
        seed: decides who takes part; the same on every machine.
        samples: `[N]`, above 0: what each peer's model counts; by default all the same.

    References:
        McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
        Data", algorithm 1.
    """
    require_peers(peers)
    if not 2 <= sampled <= peers:
        raise ValueError(f"sampled must be from 2 to {peers}, got {sampled}")
    counts = np.ones(peers) if samples is None else np.asarray(samples, float)
    rng = _random(seed, rounds)
    sequence, own = [], np.zeros((rounds, peers))
    for step in range(rounds):
        chosen = rng.permutation(peers)[:sampled]
        share = counts[chosen] / counts[chosen].sum()
        own[step, chosen] = share
        receivers, senders = np.repeat(np.arange(peers), sampled), np.tile(chosen, peers)
        weights, is_other = np.tile(share, peers), receivers != senders
        sequence.append((receivers[is_other], senders[is_other], weights[is_other]))
    # Where all weights are others', rounding must not leave something for the own parameters.
    return pack(peers, sequence)._replace(self_weight=own)


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


def _random(seed: int, rounds: int) -> np.random.RandomState:
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    return np.random.RandomState(np.random.PCG64(seed))


def _distinct(rng: np.random.RandomState, rows: int, count: int, limit: int) -> np.ndarray:
    """Rows of `count` different numbers below `limit`, each set equally likely: `[rows, count]`."""
    if 4 * count > limit:
        return np.stack([rng.permutation(limit)[:count] for _ in range(rows)])
    drawn = rng.randint(0, limit, (rows, count))
    while True:
        ordered = np.sort(drawn, axis=1)
        again = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if not again.any():
            return drawn
        drawn[again] = rng.randint(0, limit, (int(again.sum()), count))


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
