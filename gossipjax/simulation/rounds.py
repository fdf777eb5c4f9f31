"""Rounds of N peers as one compiled program: `vmap` over peers, a loop over rounds."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.base import GossipAlgorithm, Neighbors, State
from gossipjax.simulation.poisoning import Attack
from gossipjax.training.workload import Loss
from gossipjax.types import Params, Payload


class Setup(NamedTuple):
    """What a compiled program depends on.

    Attributes:
        algorithm: what peers tell and how they mix.
        optimizer: of the local steps.
        loss: see `gossipjax.training.workload.Loss`.
        local_steps: in each round.
        batch_size: of each local step.
        window: ticks of payloads that are kept; 1 keeps none but this round's.
        attack: what Byzantine peers tell instead; None when all are honest.
    """

    algorithm: GossipAlgorithm
    optimizer: optax.GradientTransformation
    loss: Loss
    local_steps: int
    batch_size: int
    window: int
    attack: Attack | None


class Schedule(NamedTuple):
    """Who hears whom: the fields of `DeliveryTrace`; round t uses row t mod T.

    `age` and `is_active` are None for rounds in step.
    """

    author: jax.Array
    weight: jax.Array
    self_weight: jax.Array
    age: jax.Array | None
    is_active: jax.Array | None


class World(NamedTuple):
    """What does not change from round to round. Arguments, since XLA would fold constants.

    Attributes:
        data: pytree of arrays `[n, …]`: the samples of all shards, one shard after the other.
        start: uint32 `[N]`: first sample of each peer's shard.
        size: uint32 `[N]`: samples of each peer's shard.
        schedule: who hears whom.
        is_byzantine: bool `[N]`.
        key: of batches, losses and attacks.
    """

    data: Any
    start: jax.Array
    size: jax.Array
    schedule: Schedule
    is_byzantine: jax.Array
    key: jax.Array


class Peers(NamedTuple):
    """All peers between two rounds; every array has a leading axis of N, unless said otherwise.

    Attributes:
        params: what is trained.
        opt_state: of the optimizer.
        state: of the algorithm.
        version: float32: local steps that the parameters have absorbed.
        share_key: raw data of the keys of `share`.
        payloads: what was told in the last `window` ticks, `[window, N, …]`; None for 1.
        versions: the versions that went with it, `[window, N]`; None for 1.
        messages: float32: payloads mixed so far.
        staleness: float32: sum over them.
        attack: state of the attack, of all attackers together; None without one.
    """

    params: Params
    opt_state: optax.OptState
    state: State
    version: jax.Array
    share_key: jax.Array
    payloads: Payload | None
    versions: jax.Array | None
    messages: jax.Array
    staleness: jax.Array
    attack: Any


@partial(jax.jit, static_argnames=("setup", "peers"))
def start(setup: Setup, params: Params, seed: jax.Array, peers: int) -> Peers:
    """N peers with the same parameters. `share` of peer i draws as in `join(seed=seed·N + i)`."""
    params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (peers, *leaf.shape)), params)
    state = jax.vmap(setup.algorithm.init)(params)
    keys = jax.vmap(jax.random.key)(seed * peers + jnp.arange(peers))
    told = jax.eval_shape(jax.vmap(setup.algorithm.share), state, params, keys)[0]
    payloads = versions = None
    if setup.window > 1:
        payloads = jax.tree.map(
            lambda leaf: jnp.zeros((setup.window, *leaf.shape), leaf.dtype), told
        )
        versions = jnp.zeros((setup.window, peers))
    return Peers(
        params=params,
        opt_state=jax.vmap(setup.optimizer.init)(params),
        state=state,
        version=jnp.zeros(peers),
        share_key=jax.random.key_data(keys),
        payloads=payloads,
        versions=versions,
        messages=jnp.zeros(peers),
        staleness=jnp.zeros(peers),
        attack=setup.attack and setup.attack.init(told),
    )


def payload_bytes(setup: Setup, params: Params) -> int:
    """Bytes of what one peer tells in one round."""

    def share(params: Params, key: jax.Array) -> Payload:
        return setup.algorithm.share(setup.algorithm.init(params), params, key)[0]

    payload = jax.eval_shape(share, params, jax.random.key(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(payload))


@partial(jax.jit, static_argnames="setup", donate_argnames="peers")
def advance(setup: Setup, world: World, peers: Peers, first: jax.Array, after: jax.Array) -> Peers:
    """The peers after rounds `first` to `after - 1`."""
    return jax.lax.fori_loop(
        first, after, lambda tick, peers: _round(setup, world, peers, tick), peers
    )


def _round(setup: Setup, world: World, peers: Peers, tick: jax.Array) -> Peers:
    row = jax.tree.map(lambda leaf: leaf[tick % len(leaf)], world.schedule)
    trained = _train(setup, world, peers, tick)
    payloads, shared = _share(setup, world, trained, tick)
    remembered, told = _remember(setup, shared, payloads, tick)
    mixed = _mix(setup, world, remembered, row, told)
    if row.is_active is None:
        return mixed

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(row.is_active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    # Who does not end a round in this tick stays as it was; what belongs to all has moved on.
    common = {"payloads": None, "versions": None, "attack": None}
    kept = jax.tree.map(choose, mixed._replace(**common), peers._replace(**common))
    return kept._replace(**{name: getattr(mixed, name) for name in common})


def _train(setup: Setup, world: World, peers: Peers, tick: jax.Array) -> Peers:
    def one_step(params: Params, opt_state: Any, batch: Any, key: jax.Array) -> tuple[Params, Any]:
        gradients, _ = jax.grad(setup.loss, has_aux=True)(params, batch, key)
        updates, opt_state = setup.optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def step(index: jax.Array, carry: tuple[Params, Any]) -> tuple[Params, Any]:
        key = jax.random.fold_in(world.key, tick * setup.local_steps + index)
        # One draw for all peers: XLA's CPU backend is slow to compile many.
        shape = (len(world.start), setup.batch_size)
        chosen = world.start[:, None] + jax.random.bits(key, shape) % world.size[:, None]
        batches = jax.tree.map(lambda leaf: leaf[chosen], world.data)
        return jax.vmap(one_step)(*carry, batches, jax.random.split(key, len(world.start)))

    carry = (peers.params, peers.opt_state)
    if setup.local_steps == 1:
        carry = step(jnp.int32(0), carry)
    else:
        carry = jax.lax.fori_loop(0, setup.local_steps, step, carry)
    return peers._replace(
        params=carry[0], opt_state=carry[1], version=peers.version + setup.local_steps
    )


def _share(setup: Setup, world: World, peers: Peers, tick: jax.Array) -> tuple[Payload, Peers]:
    def share(state: State, params: Params, key_data: jax.Array):
        key, next_key = jax.random.split(jax.random.wrap_key_data(key_data))
        payload, state = setup.algorithm.share(state, params, key)
        return payload, state, jax.random.key_data(next_key)

    payloads, state, share_key = jax.vmap(share)(peers.state, peers.params, peers.share_key)
    peers = peers._replace(state=state, share_key=share_key)
    if setup.attack is None:
        return payloads, peers
    key = jax.random.fold_in(jax.random.fold_in(world.key, tick), 1)
    payloads, attack = setup.attack.tell(peers.attack, payloads, world.is_byzantine, key)
    return payloads, peers._replace(attack=attack)


class _Told(NamedTuple):
    """Where payloads are gathered from: by author, or by tick and author."""

    now: Payload
    payloads: Payload
    versions: jax.Array
    tick: jax.Array | None


def _remember(
    setup: Setup, peers: Peers, payloads: Payload, tick: jax.Array
) -> tuple[Peers, _Told]:
    if setup.window == 1:
        return peers, _Told(payloads, payloads, peers.version, None)
    assert peers.versions is not None
    place = tick % setup.window
    kept = jax.tree.map(lambda kept, new: kept.at[place].set(new), peers.payloads, payloads)
    versions = peers.versions.at[place].set(peers.version)
    peers = peers._replace(payloads=kept, versions=versions)
    return peers, _Told(payloads, kept, versions, tick)


def _mix(setup: Setup, world: World, peers: Peers, row: Schedule, told: _Told) -> Peers:
    where: Any = row.author
    if told.tick is not None and row.age is not None:
        where = ((told.tick - row.age) % setup.window, row.author)
    versions = told.versions[where]
    is_full = row.weight > 0
    staleness = jnp.where(is_full, jnp.maximum(0, peers.version[:, None] - versions), 0)
    neighbors = Neighbors(
        payload=jax.tree.map(lambda leaf: leaf[where], told.payloads),
        weight=row.weight,
        staleness=staleness,
        slot_is_new=is_full,
        self_weight=row.self_weight,
    )
    if setup.attack is not None and setup.attack.tell_each is not None:
        lies = jax.vmap(setup.attack.tell_each)
        heard = lies(told.now, neighbors, world.is_byzantine[row.author])
        neighbors = neighbors._replace(payload=heard)
    params, state, info = jax.vmap(setup.algorithm.mix)(peers.state, peers.params, neighbors)
    version = info.self_weight * peers.version + (info.weight * versions).sum(axis=1)
    return peers._replace(
        params=params,
        state=state,
        version=version,
        messages=peers.messages + is_full.sum(axis=1),
        staleness=peers.staleness + staleness.sum(axis=1),
    )
