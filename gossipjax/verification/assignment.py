"""Which samples of a public data set an author has to train on: assigned, not chosen.

An author that may choose its data can make almost any update pass a recomputation. So the samples
of a step follow from what the author does not control: a value E that is drawn in public after the
author's identity is fixed.

    A          = SHA-512("gossipjax/v1/assignment" ‖ 0x00 ‖ author ‖ u64 sequence ‖ E)
    index(t,j) = u64 number j of SHAKE-256(A ‖ u64 t), modulo the number of samples

for sample j of step t of the round, integers big-endian. Samples are drawn with replacement; the
modulo favors no sample by more than one part in 2^64 / n.
"""

import hashlib

import numpy as np
import numpy.typing as npt

_DOMAIN = b"gossipjax/v1/assignment\0"


def assignment(author: bytes, sequence: int, beacon: bytes) -> bytes:
    """The 64 bytes A from which every sample of a round follows.

    Args:
        author: peer id, 32 bytes.
        sequence: number of the update that the round ends with.
        beacon: E, 64 bytes that nobody could foresee; empty in a run without a beacon, where an
            author can look for a sequence number whose data suit it.

    Raises:
        ValueError: an author or a beacon of another length, since the parts are not told apart.
    """
    if len(author) != 32 or len(beacon) not in (0, 64):
        raise ValueError(
            f"expected an author of 32 bytes and a beacon of 64 or none, "
            f"got {len(author)} and {len(beacon)}"
        )
    return hashlib.sha512(_DOMAIN + author + sequence.to_bytes(8, "big") + beacon).digest()


def assigned_indices(assigned: bytes, step: int, count: int, size: int) -> npt.NDArray[np.int64]:
    """The samples of one step, `[count]`, each from 0 to `size - 1`.

    Args:
        assigned: what `assignment` returned.
        step: of the round, from 0.
        count: samples per step.
        size: samples of the public data set.
    """
    stream = hashlib.shake_256(assigned + step.to_bytes(8, "big")).digest(8 * count)
    return (np.frombuffer(stream, ">u8") % np.uint64(size)).astype(np.int64)
