import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.protocol.rng import SplitMix64


def test_splitmix64_gives_the_published_sequence():
    rng = SplitMix64(1234567)
    assert [rng.next_u64() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert SplitMix64(0).next_u64() == 0xE220A8397B1DCDAF
    assert SplitMix64(2**64).next_u64() == SplitMix64(0).next_u64()


@given(st.integers(), st.integers(1, 2**64))
def test_below_stays_below(seed: int, bound: int):
    assert 0 <= SplitMix64(seed).below(bound) < bound


def test_below_is_even():
    rng = SplitMix64(1)
    counts = [0] * 10
    for _ in range(10_000):
        counts[rng.below(10)] += 1
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts)
    assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001


def test_nothing_is_below_zero():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SplitMix64(0).below(0)


@given(st.integers(), st.lists(st.integers(), unique=True), st.integers(0, 12))
def test_a_sample_has_different_items(seed: int, items: list[int], count: int):
    sample = SplitMix64(seed).sample(items, count)
    assert len(sample) == min(count, len(items))
    assert len(set(sample)) == len(sample)
    assert set(sample) <= set(items)


def test_every_order_is_drawn_equally_often():
    rng = SplitMix64(2)
    counts: dict[tuple[str, ...], int] = {}
    for _ in range(6000):
        order = tuple(rng.sample("abc", 3))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5  # p = 0.001


@given(st.integers(), st.integers(1, 10**12))
def test_jitter_leaves_at_least_half(seed: int, span: int):
    assert span - span // 2 <= SplitMix64(seed).jittered(span) <= span
