"""Ways to deal one data set out to peers: alike, by label, feature, amount or speaking role.

Every function returns one shard per peer: a sorted int64 array of indices, never empty. The shards
are disjoint and cover everything. The same arguments give the same shards on every machine, so each
peer works out its own and nobody has to hand them out. What cannot be dealt so, and a seed below 0,
raises a ValueError.
"""

import numpy as np
import numpy.typing as npt

from gossipjax.data.rng import stable_random
from gossipjax.data.text import Corpus

Shards = list[npt.NDArray[np.int64]]

MAX_DRAWS = 10
"""Draws of Dirichlet proportions before too small shards are filled up instead."""

MIN_ALPHA = 1e-6
"""Least Dirichlet concentration; the greatest is its inverse. Beyond them nothing changes."""


def partition_iid(size: int, peers: int, *, seed: int) -> Shards:
    """Deals samples out at random, evenly: shard sizes differ by at most one.

    Args:
        size: number of samples.
        peers: number of shards.
        seed: decides who gets what.
    """
    _check_enough(size, peers)
    return _sorted(np.array_split(stable_random(seed).permutation(size), peers))


def partition_dirichlet(
    labels: npt.NDArray[np.integer], peers: int, alpha: float, *, seed: int, min_size: int = 10
) -> Shards:
    """Deals each class out in random proportions: peers see different label frequencies.

    For every class the shares of the peers are drawn from Dir(α, …, α): near equal for large α,
    almost all of a class at one peer for α → 0. Shards also differ in size.

    All proportions are drawn anew, `MAX_DRAWS` times at most, until each shard has `min_size`
    samples. Where that is hopeless (64 peers, ten classes and α = 0.01 leave most peers without
    anything) the last draw is mended: each peer that has too little gets what is missing from the
    commonest class of the peer that then has most, so a filled-up shard has one or few classes, as
    small α would have it.

    Args:
        labels: `[n]`, the class of each sample.
        peers: number of shards.
        alpha: α; 0.1 is a usual "strongly non-IID", 100 is close to IID.
        seed: decides who gets what.
        min_size: least number of samples in a shard, at least 1; 10 leaves something to learn.

    References:
        Yurochkin et al., Bayesian nonparametric federated learning of neural networks, ICML 2019
        (this form, by class); Hsu et al., Measuring the effects of non-identical data distribution
        for federated visual classification, 2019, arXiv:1909.06335 (by peer, of equal sizes).
    """
    _check_labels(labels)
    if min_size < 1:
        raise ValueError(f"expected min_size of at least 1, got {min_size}")
    _check_enough(len(labels), peers, min_size)
    rng = stable_random(seed)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    counts = np.zeros((len(members), peers), np.int64)
    for _ in range(MAX_DRAWS):
        for row, indices in zip(counts, members, strict=True):
            row[:] = _split_size(len(indices), _dirichlet(rng, alpha, peers))
        if counts.sum(0).min() >= min_size:
            break
    else:
        _fill_up(counts, min_size)
    hands = [
        np.split(indices, row.cumsum()[:-1]) for indices, row in zip(members, counts, strict=True)
    ]
    return _sorted([np.concatenate(hand) for hand in zip(*hands, strict=True)])


def partition_shards(
    labels: npt.NDArray[np.integer], peers: int, shards_per_peer: int, *, seed: int
) -> Shards:
    """Deals out stretches of the samples sorted by label: most peers see few classes.

    The samples, sorted by label and in random order within one, are cut into
    `peers · shards_per_peer` near equal pieces, and each peer gets `shards_per_peer` of them at
    random. Shard sizes are near equal; two pieces per peer give most peers two classes.

    Args:
        labels: `[n]`, the class of each sample.
        peers: number of shards.
        shards_per_peer: pieces that each peer gets.
        seed: decides who gets what.

    References:
        McMahan et al., Communication-efficient learning of deep networks from decentralized data,
        AISTATS 2017, section 3.
    """
    _check_labels(labels)
    if shards_per_peer < 1:
        raise ValueError(f"expected shards_per_peer of at least 1, got {shards_per_peer}")
    _check_enough(len(labels), peers, shards_per_peer)
    rng = stable_random(seed)
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(by_label, peers * shards_per_peer)
    dealt = rng.permutation(len(pieces)).reshape(peers, shards_per_peer)
    return _sorted([np.concatenate([pieces[piece] for piece in hand]) for hand in dealt])


def partition_feature(
    values: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    peers: int,
    *,
    seed: int,
) -> Shards:
    """Deals samples out by a feature: labels alike at all peers, what they look like not.

    Each sample has a rank by its value among those of its class; the samples in the order of their
    relative ranks are cut into near equal pieces, one for each peer at random. So one peer has the
    darkest images of every class, another the brightest, if the value is brightness.

    Args:
        values: `[n]`, the feature, for instance `inputs.mean(axis=(1, 2, 3))`; finite.
        labels: `[n]`, the class of each sample; all 0 where there are none.
        peers: number of shards.
        seed: decides which peer gets which piece, and the order of equal values.

    References:
        Kairouz et al., Advances and open problems in federated learning, 2021, arXiv:1912.04977,
        section 3.1 (feature distribution skew).
    """
    _check_labels(labels)
    if values.shape != labels.shape or not np.isfinite(values).all():
        raise ValueError(
            f"expected one finite value per label, {list(labels.shape)}, got {list(values.shape)}"
        )
    _check_enough(len(labels), peers)
    rng = stable_random(seed)
    shuffled = rng.permutation(len(labels))
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        ordered = members[np.argsort(values[members], kind="stable")]
        ranks[ordered] = (np.arange(len(ordered)) + 0.5) / len(ordered)
    in_order = shuffled[np.argsort(ranks[shuffled], kind="stable")]
    pieces = np.array_split(in_order, peers)
    return _sorted([pieces[piece] for piece in rng.permutation(peers)])


def partition_quantity(size: int, peers: int, alpha: float, *, seed: int) -> Shards:
    """Deals samples out at random in unequal amounts: label frequencies alike, sizes not.

    Each peer gets one sample and, of the others, a share drawn from Dir(α, …, α).

    Args:
        size: number of samples.
        peers: number of shards.
        alpha: α; the smaller, the more unequal.
        seed: decides who gets what.
    """
    _check_enough(size, peers)
    rng = stable_random(seed)
    sizes = 1 + _split_size(size - peers, _dirichlet(rng, alpha, peers))
    return _sorted(np.split(rng.permutation(size), sizes.cumsum()[:-1]))


def partition_roles(corpus: Corpus, peers: int, *, seed: int) -> Shards:
    """Deals whole speaking roles out so that the peers' amounts of text are near equal.

    The longest role that is left goes to the peer that has least, so the fullest shard exceeds the
    emptiest by at most its own shortest role.

    Args:
        corpus: what `gossipjax.data.shakespeare` returns.
        peers: number of shards.
        seed: decides which peer gets which bundle.

    Returns:
        For each peer its indices into `corpus.roles`.

    References:
        Graham, Bounds on multiprocessing timing anomalies, SIAM J. Appl. Math. 1969 (the rule).
    """
    _check_enough(len(corpus.roles), peers)
    lengths = [len(role.tokens) for role in corpus.roles]
    hands: list[list[int]] = [[] for _ in range(peers)]
    totals = [0] * peers
    for role in sorted(range(len(lengths)), key=lambda role: -lengths[role]):
        # Of several the one with fewest roles: where there are empty ones, nobody stays without.
        poorest = min(range(peers), key=lambda peer: (totals[peer], len(hands[peer])))
        hands[poorest].append(role)
        totals[poorest] += lengths[role]
    order = stable_random(seed).permutation(peers)
    return _sorted([np.array(hands[peer]) for peer in order])


def _check_enough(size: int, peers: int, each: int = 1) -> None:
    if peers < 1:
        raise ValueError(f"expected at least one peer, got {peers}")
    if size < peers * each:
        raise ValueError(
            f"expected at least {each} for each of {peers} peers, {peers * each} in all, to deal "
            f"out, got {size}; take fewer peers or more data"
        )


def _check_labels(labels: npt.NDArray[np.integer]) -> None:
    if labels.ndim != 1:
        raise ValueError(f"expected one label per sample, [n], got shape {labels.shape}")


def _dirichlet(rng: np.random.RandomState, alpha: float, peers: int) -> npt.NDArray[np.float64]:
    """A draw of Dir(α, …, α), `[peers]`, for any α: as logarithms, which do not underflow.

    Gamma(α) is distributed as Gamma(α + 1) · U^(1/α) with U uniform on (0, 1].
    """
    if not MIN_ALPHA <= alpha <= 1 / MIN_ALPHA:
        raise ValueError(
            f"expected a concentration alpha from {MIN_ALPHA} to {1 / MIN_ALPHA}, got {alpha}"
        )
    logarithms = np.log(rng.standard_gamma(alpha + 1, peers)) + np.log1p(-rng.random(peers)) / alpha
    weights = np.exp(logarithms - logarithms.max())
    return weights / weights.sum()


def _split_size(size: int, proportions: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers `[peers]` of at least 0 with the sum `size`, near `size · proportions`."""
    ends = np.rint(proportions.cumsum() * size).astype(np.int64)
    ends[-1] = size  # whatever the rounding errors of the sum
    return np.diff(ends, prepend=0)


def _fill_up(counts: npt.NDArray[np.int64], min_size: int) -> None:
    """Moves samples within the rows of `counts`, `[classes, peers]`, until no peer has too few."""
    totals = counts.sum(0)
    while (missing := min_size - totals.min()) > 0:
        poorest, richest = totals.argmin(), totals.argmax()
        label = counts[:, richest].argmax()
        moved = min(missing, counts[label, richest], totals[richest] - min_size)
        for table in (counts[label], totals):
            table[poorest] += moved
            table[richest] -= moved


def _sorted(shards: Shards) -> Shards:
    return [np.sort(shard).astype(np.int64) for shard in shards]
