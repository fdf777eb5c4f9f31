"""Merkle tree over the chunks of a payload (RFC 6962 section 2.1: leaf and node prefixes).

    leaf(chunk)       = BLAKE3(0x00 ‖ chunk)
    node(left, right) = BLAKE3(0x01 ‖ left ‖ right)

An odd last node of a level is carried up unchanged, so a proof has at most ⌈log2 n⌉ hashes. BLAKE3
(O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020): whoever sends hashes every byte, and so does
whoever receives it, and SHA-256 took a quarter of an exchange.
"""

from collections.abc import Sequence

from blake3 import blake3

from gossipjax.wire import limits


def leaf_hash(chunk: bytes | memoryview) -> bytes:
    """Hash of one chunk. Releases the GIL for chunks above 2 KiB."""
    return blake3(b"\0").update(chunk).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return blake3(b"\1" + left + right).digest()


class MerkleTree:
    """All levels of the tree, leaves first; made once by whoever serves the chunks."""

    def __init__(self, leaves: Sequence[bytes]):
        if not leaves:
            raise ValueError("a Merkle tree needs at least one leaf")
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = zip(below[0::2], below[1::2], strict=False)
            level = [_node_hash(left, right) for left, right in pairs]
            self._levels.append(level + below[len(level) * 2 :])

    @property
    def root(self) -> bytes:
        """32 bytes that commit to every chunk and to their order."""
        return self._levels[-1][0]

    @property
    def leaves(self) -> tuple[bytes, ...]:
        """The hashes of the chunks, in order."""
        return tuple(self._levels[0])

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The sibling hashes from leaf `index` up to the root."""
        siblings: list[bytes] = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                siblings.append(level[sibling])
            index //= 2
        return tuple(siblings)


def chunk_tree(data: bytes | bytearray | memoryview) -> MerkleTree:
    """The tree over a buffer cut into chunks of `CHUNK_BYTES`."""
    view, size = memoryview(data), limits.CHUNK_BYTES
    return MerkleTree(
        [leaf_hash(view[start : start + size]) for start in range(0, len(view), size)]
    )


def proves(root: bytes, index: int, count: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is leaf `index` of the `count` leaves under `root`.

    `proof` must have exactly the hashes that such a tree gives: no shorter, no longer.
    """
    if not 0 <= index < count:
        return False
    remaining = list(reversed(proof))
    value, width = leaf, count
    while width > 1:
        if index ^ 1 < width:
            if not remaining:
                return False
            sibling = remaining.pop()
            value = _node_hash(sibling, value) if index & 1 else _node_hash(value, sibling)
        index, width = index // 2, (width + 1) // 2
    return not remaining and value == root
