import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from gossipjax.wire.limits import CHUNKS_MAX, PROOF_HASHES_MAX
from gossipjax.wire.merkle import MerkleTree, leaf_hash, proves


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(index.to_bytes(4, "little")) for index in range(count)]


def test_a_tree_gives_back_its_leaves():
    leaves = leaves_of(7)
    assert MerkleTree(leaves).leaves == tuple(leaves)


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word: split at the largest power of two below the number."""
    if len(leaves) == 1:
        return leaves[0]
    split = naive_split(len(leaves))
    left, right = naive_root(leaves[:split]), naive_root(leaves[split:])
    return blake3(b"\1" + left + right).digest()


def naive_proof(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = naive_split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if index < split:
        return [*naive_proof(index, left), naive_root(right)]
    return [*naive_proof(index - split, right), naive_root(left)]


def naive_split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


@pytest.mark.parametrize("count", [*range(1, 35), 63, 64, 65, 100])
def test_roots_and_proofs_are_those_of_the_naive_definition(count: int):
    leaves = leaves_of(count)
    tree = MerkleTree(leaves)
    assert tree.root == naive_root(leaves)
    for index in range(count):
        assert list(tree.proof(index)) == naive_proof(index, leaves)
        assert proves(tree.root, index, count, leaves[index], tree.proof(index))


def test_the_deepest_proof_has_the_length_that_a_message_allows():
    tree = MerkleTree([leaf_hash(b"")] * CHUNKS_MAX)
    assert len(tree.proof(CHUNKS_MAX - 1)) == PROOF_HASHES_MAX


def test_a_tree_needs_a_leaf():
    with pytest.raises(ValueError, match="at least one leaf"):
        MerkleTree([])


places = st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


@given(places, st.data())
def test_no_altered_byte_verifies(place: tuple[int, int], data: st.DataObject):
    count, index = place
    tree, leaf = MerkleTree(leaves_of(count)), leaves_of(count)[index]
    parts = [tree.root, leaf, *tree.proof(index)]
    part = data.draw(st.integers(0, len(parts) - 1))
    altered = bytearray(parts[part])
    altered[data.draw(st.integers(0, 31))] ^= data.draw(st.integers(1, 255))
    parts[part] = bytes(altered)
    root, leaf, *proof = parts
    assert not proves(root, index, count, leaf, proof)


@given(places, st.integers(-2, 80))
@example((1, 0), -1)
def test_no_other_index_verifies(place: tuple[int, int], other: int):
    count, index = place
    leaves = leaves_of(count)
    tree = MerkleTree(leaves)
    verifies = proves(tree.root, other, count, leaves[index], tree.proof(index))
    assert verifies == (other == index)


@given(places, st.data())
def test_no_shorter_or_longer_proof_verifies(place: tuple[int, int], data: st.DataObject):
    count, index = place
    leaves = leaves_of(count)
    tree = MerkleTree(leaves)
    proof = list(tree.proof(index))
    longer = data.draw(st.lists(st.sampled_from([*leaves, tree.root]), min_size=1, max_size=3))
    where = data.draw(st.integers(0, len(proof)))
    assert not proves(
        tree.root, index, count, leaves[index], proof[:where] + longer + proof[where:]
    )
    if where < len(proof):
        assert not proves(
            tree.root, index, count, leaves[index], proof[:where] + proof[where + 1 :]
        )


@given(
    st.binary(max_size=40),
    st.integers(-5, 2**17),
    st.integers(-5, 2**17),
    st.binary(max_size=40),
    st.lists(st.binary(max_size=40), max_size=20),
)
def test_any_proof_is_judged(root: bytes, index: int, count: int, leaf: bytes, proof: list[bytes]):
    assert proves(root, index, count, leaf, proof) == (
        count == 1 and index == 0 and proof == [] and leaf == root
    )


def test_a_leaf_never_passes_for_a_node():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != MerkleTree([left, right]).root
