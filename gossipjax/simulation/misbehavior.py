"""A real peer that misbehaves: honest code whose training or payloads are changed. Pure JAX.

For tests and demonstrations of what honest peers do about it. Only the hidden option `--attack` of
`python -m gossipjax.peer run` leads here.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.base import GossipAlgorithm
from gossipjax.simulation.poisoning import (
    Attack,
    constant_direction,
    delayed,
    gaussian,
    inner_product,
    noise,
    not_a_number,
    sign_flip,
    stale,
    zeros,
)
from gossipjax.training.workload import Batch, Shard, Workload
from gossipjax.types import Params

CLASSES = 10
LAZY_EVERY = 4


class Misbehavior(NamedTuple):
    """What an attacker changes.

    Attributes:
        workload: `(workload) → workload` that it trains instead.
        algorithm: `(algorithm) → algorithm` whose payloads it tells instead.
    """

    workload: Callable[[Workload], Workload] = lambda workload: workload
    algorithm: Callable[[GossipAlgorithm], GossipAlgorithm] = lambda algorithm: algorithm


def misbehavior(name: str) -> Misbehavior:
    """The misbehavior of a name in `MISBEHAVIORS`.

    Raises:
        ValueError: no such name; the text says which there are.
    """
    if name not in MISBEHAVIORS:
        raise ValueError(f"there is no attack {name!r}; choose one of {', '.join(MISBEHAVIORS)}")
    return MISBEHAVIORS[name]


def telling(attack: Attack) -> Callable[[GossipAlgorithm], GossipAlgorithm]:
    """An algorithm that tells what an attack makes of its payload.

    The attacker knows no other payload than its own, which takes the place of the honest ones.
    """
    is_byzantine = jnp.array([False, True])

    def wrap(algorithm: GossipAlgorithm) -> GossipAlgorithm:
        def init(params: Params) -> Any:
            state = algorithm.init(params)
            payload = jax.eval_shape(lambda: algorithm.share(state, params, jax.random.key(0))[0])
            twice = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), payload)
            return state, attack.init(twice)

        def share(state: Any, params: Params, key: jax.Array) -> tuple[Any, Any]:
            own_key, attack_key = jax.random.split(key)
            payload, own = algorithm.share(state[0], params, own_key)
            twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), payload)
            told, attacking = attack.tell(state[1], twice, is_byzantine, attack_key)
            return jax.tree.map(lambda leaf: leaf[1], told), (own, attacking)

        def mix(state: Any, params: Params, neighbors: Any) -> Any:
            params, own, info = algorithm.mix(state[0], params, neighbors)
            return params, (own, state[1]), info

        return algorithm._replace(init=init, share=share, mix=mix)

    return wrap


def with_flipped_labels(workload: Workload, classes: int = CLASSES) -> Workload:
    """Trains on `y → classes - 1 - y`, honestly otherwise."""

    def flip(batch: Batch) -> Batch:
        return {**batch, "labels": classes - 1 - batch["labels"]}

    def batches(shard: Shard, seed: int, start: int) -> Iterator[Batch]:
        return map(flip, workload.batches(shard, seed, start))

    public = workload.public
    if public is not None:
        take = public.take
        public = public._replace(take=lambda indices: flip(take(indices)))
    return workload._replace(batches=batches, public=public)


def with_fewer_steps(workload: Workload, every: int = LAZY_EVERY) -> Workload:
    """Takes one step of `every`, and claims them all: the counters of its optimizer run on.

    The optimizer has a counter, as any with a schedule has.
    """
    inner = workload.optimizer

    def update(updates: Any, state: Any, params: Params = None) -> tuple[Any, Any]:
        moved, after = inner.update(updates, state, params)
        count = next(leaf for leaf in jax.tree.leaves(state) if _is_counter(leaf))
        is_taken = count % every == 0
        moved = jax.tree.map(lambda move: jnp.where(is_taken, move, 0), moved)
        after = jax.tree.map(
            lambda new, old: new if _is_counter(new) else jnp.where(is_taken, new, old),
            after,
            state,
        )
        return moved, after

    return workload._replace(optimizer=optax.GradientTransformation(inner.init, update))


def _is_counter(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.ndim == 0


def copying(algorithm: GossipAlgorithm) -> GossipAlgorithm:
    """An algorithm that tells what it has heard last, in place of its own payload."""

    def init(params: Params) -> Any:
        state = algorithm.init(params)
        payload = jax.eval_shape(lambda: algorithm.share(state, params, jax.random.key(0))[0])
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), payload), False

    def share(state: Any, params: Params, key: jax.Array) -> tuple[Any, Any]:
        own, heard, has_heard = state
        payload, own = algorithm.share(own, params, key)
        told = jax.tree.map(lambda a, b: jnp.where(has_heard, a, b), heard, payload)
        return told, (own, heard, has_heard)

    def mix(state: Any, params: Params, neighbors: Any) -> Any:
        own, heard, has_heard = state
        params, own, info = algorithm.mix(own, params, neighbors)
        newest = jnp.argmax(neighbors.weight)
        is_there = neighbors.weight[newest] > 0
        heard = jax.tree.map(
            lambda slots, before: jnp.where(is_there, slots[newest], before),
            neighbors.payload,
            heard,
        )
        return params, (own, heard, has_heard | is_there), info

    return algorithm._replace(init=init, share=share, mix=mix)


MISBEHAVIORS: dict[str, Misbehavior] = {
    "sign_flip": Misbehavior(algorithm=telling(sign_flip(1000.0))),
    "small_sign_flip": Misbehavior(algorithm=telling(sign_flip())),
    "noise": Misbehavior(algorithm=telling(gaussian())),
    "scaled_noise": Misbehavior(algorithm=telling(noise())),
    "inner_product": Misbehavior(algorithm=telling(inner_product())),
    "constant_direction": Misbehavior(algorithm=telling(constant_direction())),
    "delayed": Misbehavior(algorithm=telling(delayed(50))),
    "stale": Misbehavior(algorithm=telling(stale(50))),
    "copycat": Misbehavior(algorithm=copying),
    "zeros": Misbehavior(algorithm=telling(zeros())),
    "nan": Misbehavior(algorithm=telling(not_a_number())),
    "label_flip": Misbehavior(workload=with_flipped_labels),
    "lazy": Misbehavior(workload=with_fewer_steps),
}
"""Name → what an attacker of a real run changes."""
