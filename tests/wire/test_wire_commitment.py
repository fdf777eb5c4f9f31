"""Commitments to a round: every boundary opens, and nothing else does."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.errors import RemoteProtocolError
from gossipjax.wire import limits
from gossipjax.wire.commitment import Opening, RoundCommitment, StateDigest, check_opening
from gossipjax.wire.merkle import MerkleTree, leaf_hash


def digests(count):
    def digest(*parts):
        return hashlib.sha256(repr(parts).encode()).digest()

    return [StateDigest(digest("params", i), digest("rest", i)) for i in range(count)]


@given(st.integers(1, 70))
def test_every_boundary_opens_and_only_in_its_place(segments):
    commitment = RoundCommitment(digests(segments + 1))
    for index in range(segments + 1):
        opening = commitment.open(index)
        decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(opening), type=Opening)
        assert check_opening(commitment.root, segments, decoded) == commitment.states[index]
        elsewhere = msgspec.structs.replace(opening, index=(index + 1) % (segments + 1))
        with pytest.raises(RemoteProtocolError, match="root: boundary"):
            check_opening(commitment.root, segments, elsewhere)


def test_what_is_not_committed_does_not_open():
    commitment = RoundCommitment(digests(5))
    opening = commitment.open(2)
    changes = (
        {"params": opening.rest, "rest": opening.params},
        {"rest": bytes(32)},
        {"proof": opening.proof[:-1]},
        {"proof": (*opening.proof, bytes(32))},
        {"index": 5},
    )
    for change in changes:
        with pytest.raises(RemoteProtocolError, match="root"):
            check_opening(commitment.root, 4, msgspec.structs.replace(opening, **change))
    with pytest.raises(RemoteProtocolError, match="root"):
        check_opening(bytes(32), 4, opening)


def test_the_formula():
    states = digests(2)
    leaves = [leaf_hash(state.params + state.rest) for state in states]
    assert RoundCommitment(states).root == MerkleTree(leaves).root


@pytest.mark.parametrize("count", [0, 1, limits.SEGMENTS_MAX + 2])
def test_a_round_has_a_start_and_an_end(count):
    with pytest.raises(ValueError, match="segments"):
        RoundCommitment(digests(count))
