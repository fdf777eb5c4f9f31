import hashlib
import itertools
import json
import math
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gossipjax.crypto import sortition
from gossipjax.crypto.sortition import MAX_WEIGHT, seats, uniform

VECTORS = Path(__file__).parents[1] / "vectors" / "sortition.json"
RANGE = 1 << 512
GRID = [
    (weight, numerator, denominator)
    for weight in (1, 2, 5, 16, 40)
    for numerator, denominator in ((1, 2), (1, 3), (80, 1000), (20, 700), (999, 1000), (1, 10**9))
]


def distribution(weight: int, numerator: int, denominator: int) -> list[Fraction]:
    """P[Bin(weight, numerator / denominator) <= j] for every j, from the definition."""
    p = Fraction(numerator, denominator)
    masses = [math.comb(weight, k) * p**k * (1 - p) ** (weight - k) for k in range(weight + 1)]
    return list(itertools.accumulate(masses))


def oracle(u: int, cumulative: list[Fraction]) -> int:
    return next(j for j, chance in enumerate(cumulative) if Fraction(u, RANGE) < chance)


def boundary_points(cumulative: list[Fraction]) -> set[int]:
    """Around every u at which the number of seats changes: one below, at, one above."""
    edges = (math.ceil(chance * RANGE) for chance in cumulative)
    around = {edge + offset for edge in edges for offset in (-1, 0, 1)}
    return {u for u in around if 0 <= u < RANGE} | {0, RANGE - 1}


def first_difference(implementation) -> tuple[int, ...] | None:
    """Where an implementation differs from the oracle on the boundaries of the grid."""
    for case in GRID:
        cumulative = distribution(*case)
        for u in sorted(boundary_points(cumulative)):
            if implementation(u, *case) != oracle(u, cumulative):
                return (u, *case)
    return None


chances = st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(sorted)
uniforms = st.integers(0, RANGE - 1)


def test_exact_on_every_boundary_of_a_grid():
    assert first_difference(seats) is None


@pytest.mark.parametrize(
    ("original", "changed"),
    [
        ("total <= target", "total < target"),
        (">> UNIFORM_BITS", ">> UNIFORM_BITS - 1"),
        ("u * denominator**weight", "(u + 1) * denominator**weight"),
        ("(weight - won)", "(weight - won + 1)"),
        ("(won + 1) * complement", "max(won, 1) * complement"),
        ("won = 0", "won = 1"),
        ("complement = denominator - numerator", "complement = denominator - numerator + 1"),
        ("term = complement**weight", "term = complement ** (weight + 1)"),
    ],
)
def test_the_boundary_grid_catches_mutants(original, changed):
    source = Path(sortition.__file__).read_text(encoding="utf-8")
    assert source.count(original) == 1
    module = {}
    exec(source.replace(original, changed), module)
    assert first_difference(module["seats"]) is not None


def test_floating_point_is_wrong_on_boundaries():
    def with_floats(u: int, weight: int, numerator: int, denominator: int) -> int:
        return int(stats.binom.ppf(u / RANGE, weight, numerator / denominator))

    assert first_difference(with_floats) is not None


@given(uniforms, st.integers(0, 60), chances)
def test_equal_to_the_definition_in_fractions(u, weight, chance):
    numerator, denominator = chance
    expected = oracle(u, distribution(weight, numerator, denominator))
    assert seats(u, weight, numerator, denominator) == expected


@given(uniforms, uniforms, st.integers(0, 60), chances)
def test_more_u_never_gives_fewer_seats(u, other, weight, chance):
    low, high = sorted((u, other))
    assert seats(low, weight, *chance) <= seats(high, weight, *chance)


@given(uniforms, st.integers(1, 60), chances)
def test_more_weight_or_a_larger_committee_never_gives_fewer_seats(u, weight, chance):
    numerator, denominator = chance
    won = seats(u, weight, numerator, denominator)
    assert seats(u, weight - 1, numerator, denominator) <= won
    assert seats(u, weight, numerator - 1, denominator) <= won
    assert won <= weight


@given(uniforms, st.integers(0, 40), chances, st.integers(2, 10**9))
def test_a_common_factor_changes_nothing(u, weight, chance, factor):
    numerator, denominator = chance
    scaled = seats(u, weight, numerator * factor, denominator * factor)
    assert scaled == seats(u, weight, numerator, denominator)


def test_chances_of_zero_and_of_one_or_more():
    for u in (0, RANGE // 3, RANGE - 1):
        assert seats(u, 5, 0, 7) == 0
        assert seats(u, 0, 3, 7) == 0
        assert seats(u, 5, 7, 7) == seats(u, 5, 9, 7) == 5
    # P[Bin(512, 1/2) <= 511] = 1 - 2^-512: the last u alone gives every seat.
    assert seats(RANGE - 1, 512, 1, 2) == 512
    assert seats(RANGE - 2, 512, 1, 2) == 511


@pytest.mark.parametrize("identities", [1, 3, 60])
def test_splitting_a_weight_leaves_the_distribution(identities):
    # 60 units at 1/20, as one, three and sixty identities: always Bin(60, 1/20).
    random_source = random.Random(identities)
    draws, weight = 3000, 60 // identities
    won = [
        sum(seats(random_source.getrandbits(512), weight, 50, 1000) for _ in range(identities))
        for _ in range(draws)
    ]
    binned = [sum(min(w, 8) == j for w in won) for j in range(9)]

    def expected(chance: float) -> list[float]:
        masses = [float(stats.binom.pmf(j, 60, chance)) for j in range(8)]
        return [draws * mass for mass in (*masses, 1 - sum(masses))]

    assert stats.chisquare(binned, expected(0.05)).pvalue > 1e-3
    # The same test notices a chance that is off by a tenth.
    assert stats.chisquare(binned, expected(0.055)).pvalue < 1e-3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1, 1, 1, 2), "u is between"),
        ((RANGE, 1, 1, 2), "u is between"),
        ((0, -1, 1, 2), "a weight is between"),
        ((0, MAX_WEIGHT + 1, 1, 2), "a weight is between"),
        ((0, 1, -1, 2), "numerator >= 0"),
        ((0, 1, 1, 0), "denominator >= 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        seats(*arguments)


def test_uniform_is_the_documented_hash():
    text = b"gossipjax/v1/sortition\0" + b"\0\0\0\x04beta" + b"\0\0\0\x07context"
    digest = hashlib.sha512(text).digest()
    assert uniform(b"beta", b"context") == int.from_bytes(digest, "big")


def test_the_vectors_of_the_specification():
    for example in json.loads(VECTORS.read_text(encoding="utf-8"))["examples"]:
        u = uniform(bytes.fromhex(example["beta"]), bytes.fromhex(example["context"]))
        assert u == int(example["u"], 16)
        for weight, numerator, denominator, expected in example["seats"]:
            assert seats(u, weight, numerator, denominator) == expected
            assert oracle(u, distribution(weight, numerator, denominator)) == expected


def test_uniform_depends_on_every_part_and_on_where_it_ends():
    values = {
        uniform(*parts) for parts in ((b"a", b"bc"), (b"ab", b"c"), (b"abc", b""), (b"", b""))
    }
    assert len(values) == 4
    assert all(0 <= value < RANGE for value in values)


def test_uniform_is_uniform():
    cells = [0] * 16
    for k in range(4000):
        cells[uniform(k.to_bytes(64, "big"), b"role") >> 508] += 1
    assert stats.chisquare(cells).pvalue > 1e-3
