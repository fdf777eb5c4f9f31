"""Training states as bytes: what is hashed into a commitment, and handed to an auditor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gossipjax.errors import RemoteProtocolError
from gossipjax.training.local import TrainState
from gossipjax.wire.commitment import StateDigest
from gossipjax.wire.merkle import MerkleTree, chunk_tree
from gossipjax.wire.tensors import Manifest, manifest_of, pack, unpack


@dataclass(frozen=True, slots=True)
class PackedState:
    """A training state as two buffers, each with the Merkle tree over its chunks.

    Attributes:
        params: packed parameters: the payload of an update that shares them.
        rest: packed optimizer state and random key.
    """

    params: memoryview
    rest: memoryview
    params_tree: MerkleTree
    rest_tree: MerkleTree

    @property
    def digest(self) -> StateDigest:
        """What goes into the commitment."""
        return StateDigest(self.params_tree.root, self.rest_tree.root)


class StateForm:
    """Names, shapes and dtypes of a run's training states.

    Args:
        state: an example.

    Attributes:
        params, rest: manifests of the two buffers of a packed state.

    Raises:
        ValueError: a dtype that cannot travel.
    """

    def __init__(self, state: TrainState):
        self.params = _manifest(state.params)
        self.rest = _manifest(_rest(state))
        self._structure = jax.tree.structure((state.params, _rest(state)))
        self._key_impl = jax.random.key_impl(state.key)

    def pack(self, state: TrainState) -> PackedState:
        """Copy a state to the host, pack it and hash it: for a worker thread."""
        params = pack(self.params, _arrays(state.params))
        rest = pack(self.rest, _arrays(_rest(state)))
        return PackedState(params, rest, chunk_tree(params), chunk_tree(rest))

    def unpack(self, params: memoryview | bytes, rest: memoryview | bytes) -> TrainState:
        """The state in two buffers, as arrays on the host.

        Raises:
            RemoteProtocolError: (`size`) not the number of bytes of the manifests.
        """
        leaves = [*unpack(self.params, params), *unpack(self.rest, rest)]
        tree, (opt_state, key_data) = jax.tree.unflatten(self._structure, leaves)
        key = jax.random.wrap_key_data(key_data, impl=self._key_impl)
        return TrainState(tree, opt_state, key)


def check_state(digest: StateDigest, params: bytes | memoryview, rest: bytes | memoryview) -> None:
    """Refuse buffers that are not those that were committed to.

    Raises:
        RemoteProtocolError: (`root`) a byte differs.
    """
    for name, expected, data in (
        ("parameters", digest.params, params),
        ("optimizer state", digest.rest, rest),
    ):
        if not len(data) or chunk_tree(data).root != expected:
            raise RemoteProtocolError("root", f"the {name} are not the committed ones")


def _rest(state: TrainState) -> Any:
    # The key is overwritten in each segment; here it sees to it that the rest is never empty.
    return state.opt_state, jax.random.key_data(state.key)


def _manifest(tree: Any) -> Manifest:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return manifest_of(
        {jax.tree_util.keystr(path): (np.shape(leaf), leaf.dtype.name) for path, leaf in leaves}
    )


def _arrays(tree: Any) -> Sequence[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
