"""RelaySum: models are relayed along a tree, so that each counts everywhere exactly once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.base import GossipAlgorithm, MixInfo, Needs, Neighbors
from gossipjax.mixing.checks import require_at_least
from gossipjax.types import Params


class Sum(NamedTuple):
    """A sum of models, in float32 or wider, and how many they are (int32)."""

    models: Params
    terms: jax.Array


class RelayState(NamedTuple):
    """The last message from the neighbor of each slot, and the last one to it; leaves `[K, …]`."""

    heard: Sum
    told: Sum


def relay_sum(slots: int) -> GossipAlgorithm:
    """RelaySGD: local steps, then the mean of everybody's model, each as recent as its distance.

        m_{i→j} = x_i + Σ_{k ≠ j} m_{k→i}   (those of the last round, k over the neighbors of i)
        x_i ← (x_i + Σ_j m_{j→i}) / n_i,    n_i = 1 + Σ_j c_{j→i}

    with counts c relayed in the same way. On a tree every model reaches every peer once, after as
    many rounds as it is edges away, and has the same weight everywhere: no mixing matrix, and no
    bias by heterogeneous data.

    The message to each neighbor is a different one, but a peer tells all the same sum

        share: S_i = x_i + Σ_k m_{k→i}

    and the receiver takes out what it had told itself: `m_{i→j} = S_i - m_{j→i}`. So a round costs
    one payload of the size of the model, which is kept in float32 or wider.

    Needs a tree (`topology.line`, `topology.binary_tree`, `topology.star`), a slot of its own for
    each neighbor, and a lossless transport. The weights of the neighbors are not used.

    Args:
        slots: K, the greatest number of neighbors of a peer: `topology.slots`.

    References:
        Vogels et al. 2021, "RelaySum for Decentralized Deep Learning on Heterogeneous Data",
        algorithm 1.
    """
    require_at_least(1, slots=slots)

    def init(params: Params) -> RelayState:
        zeros = jax.tree.map(lambda x: jnp.zeros((slots, *jnp.shape(x)), _wide(x)), params)
        nothing = Sum(zeros, jnp.zeros(slots, jnp.int32))
        return RelayState(nothing, nothing)

    def share(state: RelayState, params: Params, key: jax.Array):
        return _total(params, state.heard), state

    def mix(state: RelayState, params: Params, neighbors: Neighbors):
        if neighbors.weight.shape[0] != slots:
            raise ValueError(
                f"relay_sum was made for {slots} slots, and there are {neighbors.weight.shape[0]}: "
                "make it with the topology's number of slots"
            )
        told = jax.tree.map(lambda s, m: s - m, _total(params, state.heard), state.heard)
        said = optax.tree.sub(neighbors.payload, state.told)
        is_full = neighbors.weight > 0
        heard = jax.tree.map(lambda new, old: _choose(is_full, new, old), said, state.heard)
        total = _total(params, heard)
        mixed = jax.tree.map(lambda x, s: (s / total.terms).astype(x.dtype), params, total.models)
        info = MixInfo(heard.terms / total.terms, 1 / total.terms.astype(jnp.float32))
        return mixed, RelayState(heard, told), info

    needs = Needs(lossless=True, reciprocal=True, sticky_slots=True, tree=True)
    return GossipAlgorithm(init, share, mix, needs)


def _total(params: Params, heard: Sum) -> Sum:
    wide = jax.tree.map(lambda x: x.astype(_wide(x)), params)
    own = Sum(wide, jnp.int32(1))

    def add(x: jax.Array, stacked: jax.Array) -> jax.Array:
        for slot in range(stacked.shape[0]):
            x += stacked[slot]
        return x

    return jax.tree.map(add, own, heard)


def _wide(leaf: jax.Array) -> jnp.dtype:
    return jnp.promote_types(leaf.dtype, jnp.float32)


def _choose(is_full: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(is_full.reshape(-1, *[1] * (old.ndim - 1)), new, old)
