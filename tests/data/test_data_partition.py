import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.data import (
    Corpus,
    Role,
    partition_dirichlet,
    partition_feature,
    partition_iid,
    partition_quantity,
    partition_roles,
    partition_shards,
)

Shards = list[np.ndarray]
Partitioner = Callable[..., Shards]

SEEDS = st.integers(0, 2**40)
ALPHAS = st.sampled_from([1e-6, 0.01, 0.1, 1.0, 100.0, 1e6])


def corpus_of(lengths: list[int]) -> Corpus:
    roles = [Role("play", str(length), np.zeros(length, np.uint8)) for length in lengths]
    return Corpus("a", tuple(roles))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Partitioner, int, int]:
    """A partitioner without its seed, the number of things that it deals out, and of peers."""
    peers, alpha = draw(st.integers(1, 12)), draw(ALPHAS)
    size = draw(st.integers(2 * peers, 2 * peers + 60))
    labels = np.array(draw(st.lists(st.integers(-3, 5), min_size=size, max_size=size)))
    lengths = draw(st.lists(st.integers(0, 99), min_size=size, max_size=size))
    partitioner = draw(
        st.sampled_from(
            [
                partial(partition_iid, size, peers),
                partial(partition_dirichlet, labels, peers, alpha, min_size=1),
                partial(partition_dirichlet, labels, peers, alpha, min_size=2),
                partial(partition_shards, labels, peers, 2),
                partial(partition_feature, np.array(lengths, float), labels, peers),
                partial(partition_quantity, size, peers, alpha),
                partial(partition_roles, corpus_of(lengths), peers),
            ]
        )
    )
    return partitioner, size, peers


@given(case=cases(), seed=SEEDS)
def test_shards_are_disjoint_cover_everything_and_are_never_empty(
    case: tuple[Partitioner, int, int], seed: int
):
    partitioner, size, peers = case
    shards = partitioner(seed=seed)
    assert len(shards) == peers
    assert min(map(len, shards)) > 0
    np.testing.assert_array_equal(np.sort(np.concatenate(shards)), np.arange(size))
    for shard in shards:
        assert shard.dtype == np.int64
        assert (np.diff(shard) > 0).all()


@given(case=cases(), seed=SEEDS)
def test_same_seed_gives_the_same_shards(case: tuple[Partitioner, int, int], seed: int):
    first, second = case[0](seed=seed), case[0](seed=seed)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


LABELS = np.arange(12_000) % 10
FINGERPRINT = """
import zlib, numpy as np
from gossipjax.data import *
labels = np.arange(12_000) % 10
for shards in (
    partition_iid(12_000, 8, seed=1), partition_dirichlet(labels, 8, 0.1, seed=1),
    partition_dirichlet(labels, 64, 0.01, seed=1), partition_shards(labels, 8, 2, seed=1),
    partition_quantity(12_000, 8, 0.5, seed=1), partition_roles(shakespeare(), 8, seed=1),
):
    print(zlib.crc32(np.concatenate([np.append(s, -1) for s in shards]).astype("<i8").tobytes()))
"""


def test_shards_are_the_same_in_every_process_and_with_every_version_of_numpy():
    run = subprocess.run(
        [sys.executable, "-c", FINGERPRINT], capture_output=True, text=True, check=True
    )
    # Printed with NumPy 2.0.0 and 2.4.6.
    expected = "4051142092 2222957105 3537341882 1433179559 1984929135 2338532596"
    assert run.stdout.split() == expected.split()


@pytest.mark.parametrize(
    "partitioner",
    [
        partial(partition_iid, 1000, 4),
        partial(partition_dirichlet, LABELS, 4, 1.0),
        partial(partition_shards, LABELS, 4, 2),
        partial(partition_quantity, 1000, 4, 1.0),
        partial(partition_roles, corpus_of(list(range(1, 50))), 4),
    ],
)
def test_another_seed_gives_other_shards(partitioner: Partitioner):
    first, second = partitioner(seed=0), partitioner(seed=1)
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@given(size=st.integers(1, 200), peers=st.integers(1, 20), seed=SEEDS)
def test_iid_sizes_differ_by_at_most_one(size: int, peers: int, seed: int):
    sizes = [len(shard) for shard in partition_iid(max(size, peers), peers, seed=seed)]
    assert max(sizes) - min(sizes) <= 1


@given(alpha=ALPHAS, peers=st.integers(1, 64), min_size=st.integers(1, 150), seed=SEEDS)
def test_dirichlet_gives_everyone_the_least_size(
    alpha: float, peers: int, min_size: int, seed: int
):
    shards = partition_dirichlet(LABELS, peers, alpha, seed=seed, min_size=min_size)
    assert min(map(len, shards)) >= min_size
    assert sum(map(len, shards)) == len(LABELS)


def test_dirichlet_works_with_64_peers_and_a_tiny_alpha():
    shards = partition_dirichlet(LABELS, 64, 0.01, seed=0)
    classes = [len(np.unique(LABELS[shard])) for shard in shards]
    assert len(shards) == 64
    assert min(map(len, shards)) >= 10
    assert np.median(classes) == 1


def frequencies(shards: Shards) -> np.ndarray:
    return np.array([np.bincount(LABELS[shard], minlength=10) / len(shard) for shard in shards])


def test_smaller_alpha_skews_the_label_frequencies_more():
    def distance(alpha: float) -> float:
        """Mean total variation from the frequencies of the whole."""
        trials = [partition_dirichlet(LABELS, 10, alpha, seed=seed) for seed in range(5)]
        return float(np.mean([np.abs(frequencies(t) - 0.1).sum(1).mean() / 2 for t in trials]))

    distances = [distance(alpha) for alpha in (0.01, 0.1, 1.0, 100.0)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.75
    assert distances[-1] < 0.05


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_proportions_have_the_mean_and_variance_of_the_dirichlet_distribution(alpha: float):
    peers, size = 5, 1_000
    shards = [partition_quantity(size + peers, peers, alpha, seed=seed) for seed in range(1_000)]
    shares = np.array([[len(shard) - 1 for shard in hands] for hands in shards]) / size
    variance = (peers - 1) / peers**2 / (peers * alpha + 1)
    np.testing.assert_allclose(shares.mean(0), 1 / peers, rtol=0.15)
    np.testing.assert_allclose(shares.var(), variance, rtol=0.1)


def test_shards_per_peer_limits_the_classes():
    shards = partition_shards(LABELS, 10, 2, seed=0)
    assert {len(shard) for shard in shards} == {1_200}
    # 20 pieces of 600 out of classes of 1,200: none holds two classes.
    assert all(1 <= len(np.unique(LABELS[shard])) <= 2 for shard in shards)


def test_quantity_skew_leaves_label_frequencies_alike():
    shards = partition_quantity(len(LABELS), 8, 0.5, seed=0)
    sizes = np.array([len(shard) for shard in shards])
    assert sizes.max() > 4 * sizes.min()
    large = [shard for shard in shards if len(shard) > 1_000]
    np.testing.assert_allclose(frequencies(large), 0.1, atol=0.04)


@given(
    lengths=st.lists(st.integers(1, 1000), min_size=8, max_size=60),
    peers=st.integers(1, 8),
    seed=SEEDS,
)
def test_roles_are_dealt_evenly(lengths: list[int], peers: int, seed: int):
    shards = partition_roles(corpus_of(lengths), peers, seed=seed)
    hands = [np.array(lengths)[shard] for shard in shards]
    fullest = max(hands, key=np.sum)
    assert fullest.sum() - min(hand.sum() for hand in hands) <= fullest.min()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (partial(partition_iid, 3, 4), "take fewer peers"),
        (partial(partition_iid, 3, 0), "at least one peer, got 0"),
        (partial(partition_iid, 3, -1), "at least one peer, got -1"),
        (partial(partition_dirichlet, LABELS, 4, 0.0), "alpha"),
        (partial(partition_dirichlet, LABELS, 4, -1.0), "alpha"),
        (partial(partition_dirichlet, LABELS, 4, np.nan), "alpha"),
        (partial(partition_dirichlet, LABELS, 4, np.inf), "alpha"),
        (partial(partition_dirichlet, LABELS, 4, 1.0, min_size=0), "min_size"),
        (partial(partition_dirichlet, LABELS[:39], 4, 1.0), "at least 10 for each of 4 peers"),
        (partial(partition_dirichlet, LABELS.reshape(-1, 2), 4, 1.0), "one label per sample"),
        (partial(partition_dirichlet, LABELS[:0], 1, 1.0), "got 0"),
        (partial(partition_shards, LABELS, 4, 0), "shards_per_peer"),
        (partial(partition_shards, LABELS[:7], 4, 2), "at least 2 for each"),
        (partial(partition_shards, LABELS.reshape(-1, 2), 4, 2), "one label per sample"),
        (partial(partition_quantity, 3, 4, 1.0), "take fewer peers"),
        (partial(partition_quantity, 30, 4, 0.0), "alpha"),
        (partial(partition_roles, corpus_of([5]), 2), "take fewer peers"),
    ],
)
def test_bad_arguments_are_refused(call: Partitioner, text: str):
    with pytest.raises(ValueError, match=text):
        call(seed=0)


@pytest.mark.parametrize(
    "call",
    [
        partial(partition_iid, 30, 4),
        partial(partition_dirichlet, LABELS, 4, 1.0),
        partial(partition_shards, LABELS, 4, 2),
        partial(partition_quantity, 30, 4, 1.0),
        partial(partition_roles, corpus_of([5, 6, 7]), 2),
    ],
)
def test_negative_seeds_are_refused(call: Partitioner):
    with pytest.raises(ValueError, match="non-negative"):
        call(seed=-1)


def test_by_feature_labels_are_alike_and_values_are_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1000)
    values = rng.normal(size=1000) + 10 * labels  # the class shifts it, which must not matter
    shards = partition_feature(values, labels, 4, seed=3)
    assert {len(shard) for shard in shards} == {250}
    counts = np.array([np.bincount(labels[shard]) for shard in shards])
    assert np.ptp(counts, axis=0).max() <= 1
    for label in range(5):
        within = [values[shard][labels[shard] == label] for shard in shards]
        within.sort(key=lambda own: own[0])
        for lesser, greater in pairwise(within):
            assert lesser.max() <= greater.min()
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(shards, partition_feature(values, labels, 4, seed=4), strict=True)
    )


@pytest.mark.parametrize("values", [np.zeros(3), np.full(4, np.nan), np.zeros((4, 1))])
def test_a_feature_is_one_finite_value_per_sample(values: np.ndarray):
    with pytest.raises(ValueError, match="one finite value per label"):
        partition_feature(values, np.zeros(4, int), 2, seed=0)
