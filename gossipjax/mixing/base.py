"""The types that mixers, compressors and algorithms are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gossipjax.types import Params, Payload

State = Any
"""A pytree of arrays that a mixer or algorithm carries from round to round."""


class Neighbors(NamedTuple):
    """What has arrived, in K slots of fixed number, so that mixing compiles once.

    The weights are a row of the mixing matrix W, up to a factor:

        W_i,j(k) = weight_k / (self_weight + Σ_l weight_l),   W_i,i = self_weight / (the same)

    A simulator puts the row of its topology here (see `gossipjax.topology`; Metropolis weights make
    W doubly stochastic); a peer on the network its neighbors' work relative to its own. Where a
    slot stays empty, the others share out its weight.

    Attributes:
        payload: pytree of arrays `[K, …]`. An empty slot may hold anything, NaN included.
        weight: float32 `[K]`, ≥ 0; 0 marks an empty slot.
        staleness: float32 `[K]`, ≥ 0: local steps by which the slot's version is behind.
        slot_is_new: bool `[K]`: the slot has changed since the last mix.
        self_weight: float32 scalar, ≥ 0; 0 for a joiner, whose own parameters are worth nothing:
            it adopts what it is given.
    """

    payload: Payload
    weight: jax.Array
    staleness: jax.Array
    slot_is_new: jax.Array
    self_weight: jax.Array


class MixInfo(NamedTuple):
    """Diagnostics of one mix. They never feed back into parameters.

    Attributes:
        weight: float32 `[K]`: the convex weight of each slot's payload, as the transforms left it,
            in the result. For rules that work by coordinate, the mean over coordinates.
        self_weight: float32 scalar: the own weight; the weights add up to 1.
    """

    weight: jax.Array
    self_weight: jax.Array


class Needs(NamedTuple):
    """What an algorithm needs of the transport for its equations to hold.

    A simulator with a fixed topology gives all of it. A peer on the network exchanges with random
    neighbors, and updates may come late or not at all, so it gives none but founders: it refuses an
    algorithm that needs something else (see `gossipjax.join`).

    Attributes:
        lossless: in each round every payload reaches all its receivers, once, before they mix.
        reciprocal: peers hear each other in the same round, with equal weights: W is symmetric.
        sticky_slots: a slot belongs to one neighbor for good, and its weight never changes.
        tree: the graph has no cycles.
        founders: all peers are there from the start, with the same parameters, since a payload is
            too little for a late joiner to begin from. A peer on the network that joins late is
            told so, and ends.
    """

    lossless: bool = False
    reciprocal: bool = False
    sticky_slots: bool = False
    tree: bool = False
    founders: bool = False


class GossipAlgorithm(NamedTuple):
    """Decentralized training as three pure functions, in the manner of an optax transformation.

    A peer calls `jit` of them; a simulator calls `vmap` of the same. A round is: local steps, then
    `share`, then `mix`, also when nothing has arrived (see `acts_alone`). A peer on the network
    leaves out a `share` while its last payload is not out yet, so only an algorithm that needs a
    lossless transport may rely on it.

    An algorithm sees parameters as the last `mix` left them and as the local steps left them. Their
    difference is the pseudo-gradient of the round; for one step of SGD it is η times the gradient.
    So methods that act on gradients (momentum, gradient tracking, D²) are written on differences,
    and work with any optimizer and any number of local steps.

    Attributes:
        init: `(params) → state`.
        share: `(state, params, key) → (payload, state)`: what this peer tells. The payload is a
            pytree of arrays of static shape.
        mix: `(state, params, neighbors) → (params, state, info)`.
        needs: what the transport has to give.
        acts_alone: whether `mix` changes anything in a round in which nothing has arrived. Where it
            does not, a peer on the network leaves the call out, and with it a pass over all
            parameters.
    """

    init: Callable[[Params], State]
    share: Callable[[State, Params, jax.Array], tuple[Payload, State]]
    mix: Callable[[State, Params, Neighbors], tuple[Params, State, MixInfo]]
    needs: Needs = Needs()
    acts_alone: bool = True


class Mixer(NamedTuple):
    """Reduces own parameters and K payloads of the same structure to new parameters.

    Attributes:
        init: `(params) → state`.
        mix: `(state, params, neighbors) → (params, state, info)`.
    """

    init: Callable[[Params], State]
    mix: Callable[[State, Params, Neighbors], tuple[Params, State, MixInfo]]


class Transform(NamedTuple):
    """Changes the neighbors' payloads or weights before a mixer reduces them.

    Attributes:
        init: `(params) → state`.
        apply: `(state, params, neighbors) → (neighbors, state)`.
    """

    init: Callable[[Params], State]
    apply: Callable[[State, Params, Neighbors], tuple[Neighbors, State]]


def reweigh(rule: Callable[[Neighbors], Neighbors]) -> Transform:
    """A stateless transform from a function of the neighbors.

    Example:
        >>> heads = reweigh(lambda neighbors: neighbors._replace(self_weight=jnp.float32(1)))
    """
    return Transform(lambda params: (), lambda state, params, neighbors: (rule(neighbors), state))


def chain(*links: Transform | Mixer) -> Mixer:
    """Transforms applied left to right, and the mixer at the end of the line.

    Its state is the tuple of the states.

    Example:
        >>> mixer = chain(discount_staleness(polynomial_decay(0.5)), weighted_mean())

    Args:
        *links: any number of transforms, then exactly one mixer.

    Raises:
        TypeError: anything else.
    """
    last = links[-1] if links else None
    transforms = [link for link in links[:-1] if isinstance(link, Transform)]
    if not isinstance(last, Mixer) or len(transforms) != len(links) - 1:
        kinds = ", ".join(type(link).__name__ for link in links)
        raise TypeError(f"chain takes transforms and, last, one mixer; got ({kinds})")

    def init(params: Params) -> State:
        return tuple(link.init(params) for link in links)

    def mix(state: State, params: Params, neighbors: Neighbors) -> tuple[Params, State, MixInfo]:
        states = []
        for transform, transform_state in zip(transforms, state[:-1], strict=True):
            neighbors, transform_state = transform.apply(transform_state, params, neighbors)
            states.append(transform_state)
        params, mixer_state, info = last.mix(state[-1], params, neighbors)
        return params, (*states, mixer_state), info

    return Mixer(init, mix)
