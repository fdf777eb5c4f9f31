"""What an author commits to with a round of training, and how one part of it is opened.

A round of local steps is cut into segments. The author commits to the training state at every
boundary between them, the first and the last included, by one Merkle root:

    state(i) = 0-th to m-th boundary: parameters, and the rest (optimizer state, random key)
    leaf(i)  = SHA-256(0x00 ‖ root(parameters) ‖ root(rest))
    root     = Merkle root over leaf(0) … leaf(m)

The two inner roots are over 1 MiB chunks, as that of an update's payload. So whoever asks for a
state can take it chunk by chunk from anybody; and the last boundary's root of the parameters is the
very root in the header of an update that shares these parameters: nothing need be hashed twice, and
an author cannot commit to one thing and share another.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from gossipjax.errors import RemoteProtocolError
from gossipjax.wire import limits
from gossipjax.wire.merkle import MerkleTree, leaf_hash, proves

_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class StateDigest(NamedTuple):
    """The Merkle roots over one packed training state.

    Attributes:
        params: 32 bytes, over the parameters; an update that shares them has this root.
        rest: 32 bytes, over the optimizer state and the random key.
    """

    params: bytes
    rest: bytes


class Opening(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One boundary of a committed round, with the proof that it belongs to the commitment.

    Attributes:
        index: which boundary: 0 is the start of the round.
        params, rest: see `StateDigest`.
        proof: sibling hashes from the boundary's leaf up to the committed root.
    """

    index: Annotated[int, Meta(ge=0, le=limits.SEGMENTS_MAX)]
    params: _Digest
    rest: _Digest
    proof: Annotated[tuple[_Digest, ...], Meta(max_length=limits.PROOF_HASHES_MAX)]


class RoundCommitment:
    """The author's side: every boundary of one round.

    Args:
        states: digests of the boundaries in order; a round of m segments has m + 1.

    Raises:
        ValueError: fewer than two states, or more than `SEGMENTS_MAX` segments.
    """

    def __init__(self, states: Sequence[StateDigest]):
        if not 2 <= len(states) <= limits.SEGMENTS_MAX + 1:
            raise ValueError(
                f"a round has 1 to {limits.SEGMENTS_MAX} segments, got {len(states) - 1}"
            )
        self.states = tuple(states)
        self._tree = MerkleTree([_leaf(state) for state in states])

    @property
    def root(self) -> bytes:
        """32 bytes that commit to every boundary and to their order."""
        return self._tree.root

    def open(self, index: int) -> Opening:
        """Boundary `index` with its proof."""
        state = self.states[index]
        return Opening(index, state.params, state.rest, self._tree.proof(index))


def check_opening(root: bytes, segments: int, opening: Opening) -> StateDigest:
    """The digests of a boundary, once they are shown to be the committed ones.

    Args:
        root: what the author committed to.
        segments: of the round; it has one boundary more.
        opening: what the author, or anybody else, says.

    Raises:
        RemoteProtocolError: (`root`) the opening does not belong to the commitment.
    """
    state = StateDigest(opening.params, opening.rest)
    if not proves(root, opening.index, segments + 1, _leaf(state), opening.proof):
        raise RemoteProtocolError("root", f"boundary {opening.index} is not the committed one")
    return state


def _leaf(state: StateDigest) -> bytes:
    return leaf_hash(state.params + state.rest)
