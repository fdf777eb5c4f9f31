"""Heavy work on payloads, for worker threads. What it calls lets other threads run meanwhile."""

import math
from collections.abc import Sequence

import numpy as np

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite
from gossipjax.runtime.mailbox import Outgoing
from gossipjax.types import RunId
from gossipjax.verification.auditor import Auditor
from gossipjax.verification.states import PackedState
from gossipjax.wire.envelope import SealedUpdate, seal_update
from gossipjax.wire.merkle import chunk_tree
from gossipjax.wire.tensors import Manifest, check_values, numpy_dtype, pack

_ALIGNMENT = 64


def seal(
    outgoing: Outgoing,
    sequence: int,
    *,
    manifest: Manifest,
    norm_max: float,
    run: RunId,
    identity: Identity,
    suite: CryptoSuite,
    auditor: Auditor | None = None,
) -> tuple[SealedUpdate, list[PackedState]]:
    """Pack, hash and sign a payload, unless every peer would refuse it.

    Returns:
        The update, and the states that it commits to: none without a round or an auditor.

    Raises:
        RemoteProtocolError: (`nonfinite`, `norm`) as others would raise it.
    """
    arrays = outgoing.arrays()
    if math.isfinite(norm_max):
        check_values(manifest, arrays, norm_max)
    payload = pack(manifest, arrays)
    tree = chunk_tree(payload)
    claim, states = None, []
    if auditor is not None and outgoing.round is not None:
        claim, states = auditor.pack(outgoing.round, outgoing.version, payload, tree)
    update = seal_update(
        payload,
        tree,
        run=run,
        sequence=sequence,
        version=outgoing.version,
        samples=outgoing.samples,
        manifest_digest=manifest.digest,
        identity=identity,
        suite=suite,
        claim=claim,
    )
    return update, states


def inspect(
    chunks: Sequence[bytes | memoryview], manifest: Manifest, norm_max: float
) -> list[np.ndarray]:
    """The tensors of a payload, once their values have been checked.

    Raises:
        RemoteProtocolError: (`malformed`, `nonfinite`, `norm`) what no honest peer sends.
    """
    arrays = unpack_chunks(chunks, manifest)
    check_values(manifest, arrays, norm_max)
    return arrays


def unpack_chunks(chunks: Sequence[bytes | memoryview], manifest: Manifest) -> list[np.ndarray]:
    """The tensors of a payload, read-only, each at an address that JAX on a CPU uses as it is.

    Args:
        chunks: as many bytes as the manifest says, cut anywhere.
        manifest: names, shapes and dtypes.
    """
    sizes = [-(-spec.nbytes // _ALIGNMENT) * _ALIGNMENT for spec in manifest.tensors]
    memory = np.empty(sum(sizes) + _ALIGNMENT, np.uint8)
    position = -memory.ctypes.data % _ALIGNMENT
    parts, part = iter(chunks), np.empty(0, np.uint8)
    arrays: list[np.ndarray] = []
    for spec, size in zip(manifest.tensors, sizes, strict=True):
        tensor = rest = memory[position : position + spec.nbytes]
        while rest.size:
            if not part.size:
                part = np.frombuffer(next(parts), np.uint8)
            count = min(rest.size, part.size)
            rest[:count] = part[:count]
            rest, part = rest[count:], part[count:]
        tensor.flags.writeable = False
        arrays.append(tensor.view(numpy_dtype(spec.dtype)).reshape(spec.shape))
        position += size
    return arrays
