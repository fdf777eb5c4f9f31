"""A channel opens for its other end only, in order, once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.crypto.channel import BOX_OVERHEAD, Channel, InvalidBox, make_channel, shared_channel
from gossipjax.crypto.suite import CryptoSuite, ed25519_suite, insecure_suite

SUITES = {"x25519": ed25519_suite(), "insecure": insecure_suite()}
SUITE = ed25519_suite()


def ends(suite: CryptoSuite = SUITE, binding: bytes = b"both", tag: int = 0) -> list[Channel]:
    """Both ends of a channel; `tag` makes other ephemeral keys."""
    static = [bytes([1]) * 32, bytes([2]) * 32]
    ephemeral = [bytes([3 + tag]) * 32, bytes([4 + tag]) * 32]
    return [
        make_channel(
            suite,
            opens=opens,
            static_secret=static[own],
            ephemeral_secret=ephemeral[own],
            other_static=suite.exchange_key(static[1 - own]),
            other_ephemeral=suite.exchange_key(ephemeral[1 - own]),
            binding=binding,
        )
        for own, opens in ((0, True), (1, False))
    ]


@pytest.mark.parametrize("name", SUITES)
@given(texts=st.lists(st.tuples(st.booleans(), st.booleans(), st.binary(max_size=40))))
def test_what_one_end_seals_the_other_opens(name: str, texts: list[tuple[bool, bool, bytes]]):
    both = ends(SUITES[name])
    for sender, lane, text in texts:
        box = both[sender].seal(lane, text)
        assert len(box) == len(text) + BOX_OVERHEAD
        assert both[not sender].open(lane, box) == text


def test_boxes_may_get_lost_but_not_come_twice_or_late():
    one, other = ends()
    boxes = [one.seal(False, bytes([i])) for i in range(4)]
    assert other.open(False, boxes[0]) == b"\0"
    assert other.open(False, boxes[2]) == b"\2"
    for late in boxes[:3]:
        with pytest.raises(InvalidBox, match="after box 3"):
            other.open(False, late)
    assert other.open(False, boxes[3]) == b"\3"
    bulk = one.seal(True, b"bulk")  # lanes do not wait for each other
    assert other.open(True, bulk) == b"bulk"


def test_no_altered_bit_opens_and_none_opens_elsewhere():
    one, other = ends()
    box = one.seal(False, b"secret")
    assert b"secret" not in box
    for bit in range(8 * len(box)):
        altered = bytearray(box)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidBox):
            other.open(False, bytes(altered))
    for end, lane in ((other, True), (one, False), (ends(binding=b"x")[1], False)):
        with pytest.raises(InvalidBox):
            end.open(lane, box)
    with pytest.raises(InvalidBox):
        ends(tag=2)[1].open(False, box)
    for short in (b"", box[: BOX_OVERHEAD - 1]):
        with pytest.raises(InvalidBox):
            other.open(False, short)
    assert other.open(False, box) == b"secret"


@pytest.mark.parametrize("field", ["other_static", "other_ephemeral"])
@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32)])
def test_keys_that_are_no_points_are_refused(field: str, key: bytes):
    keys = {"other_static": SUITE.exchange_key(b"s" * 32), "other_ephemeral": b"e" * 32, field: key}
    with pytest.raises(InvalidBox):
        make_channel(
            SUITE,
            opens=True,
            static_secret=b"1" * 32,
            ephemeral_secret=b"2" * 32,
            binding=b"",
            **keys,
        )


def test_two_who_have_a_secret_in_common_have_a_channel():
    one, other = (shared_channel(bytes(32), opens=opens) for opens in (True, False))
    assert other.open(True, one.seal(True, b"there")) == b"there"
    assert one.open(True, other.seal(True, b"back")) == b"back"
    with pytest.raises(InvalidBox):
        shared_channel(bytes([1]) * 32, opens=False).open(True, one.seal(True, b"there"))
