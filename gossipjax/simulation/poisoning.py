"""What Byzantine peers and free riders tell instead of what they should. Pure JAX, seeded.

All attackers know all honest payloads of the round and act together: the strongest case. Integers
in payloads, such as ages and indices, are left as they are.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.mixing.averaging import input_weights
from gossipjax.mixing.base import Neighbors
from gossipjax.mixing.checks import require_at_least, require_positive
from gossipjax.types import Payload


class Attack(NamedTuple):
    """Changes what attackers tell; payloads of honest peers stay as they are.

    Attributes:
        init: `(payloads) → state`, from payloads `[N, …]` or their shapes.
        tell: `(state, payloads, is_byzantine, key) → (payloads, state)`: what all peers would tell,
            `[N, …]`, and who is an attacker, bool `[N]`; what they do tell.
        tell_each: `(told, neighbors, is_byzantine) → payload`, or None: what one receiver that has
            told `told` hears, `[K, …]`, where attackers tell each receiver something else.
            `neighbors.payload` is what its slots would hold, `is_byzantine` is bool `[K]`. A
            simulator calls it under vmap over the receivers.
    """

    init: Callable[[Payload], Any]
    tell: Callable[[Any, Payload, jax.Array, jax.Array], tuple[Payload, Any]]
    tell_each: Callable[[Payload, Neighbors, jax.Array], Payload] | None = None


def sign_flip(scale: float = 1.0) -> Attack:
    """`-scale · μ`, with μ the mean of the honest payloads: away from where all others go.

    References:
        Li et al. 2019, "RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed
        Learning from Heterogeneous Datasets", section 5.
    """
    return _alike(lambda mean, deviation: -scale * mean)


def inner_product(epsilon: float = 0.1) -> Attack:
    """Inner product manipulation (IPM, "fall of empires"): `-ε μ`.

    For a small ε hard to tell from an honest payload near 0; enough of them turn the mean around.

    References:
        Xie, Koyejo, Gupta 2019, "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product
        Manipulation", section 4.
    """
    require_positive(epsilon=epsilon)
    return sign_flip(epsilon)


def little_is_enough(z: float) -> Attack:
    """ALIE: `μ - z σ`, in each coordinate, with σ the honest payloads' standard deviation.

    Few honest payloads are farther from the mean, so robust rules take it for one of them.

    Args:
        z: how far to go; `z_max` gives the paper's value. Greater ones break more and show more.

    References:
        Baruch, Baruch, Goldberg 2019, "A Little Is Enough: Circumventing Defenses For Distributed
        Learning", algorithm 3.
    """
    return _alike(lambda mean, deviation: mean - z * deviation)


def z_max(peers: int, byzantine: int) -> float:
    """The z of ALIE beyond which a majority would notice.

        z = Φ⁻¹((n - m - s) / (n - m)),   s = ⌊n / 2 + 1⌋ - m

    Args:
        peers: n, attackers included.
        byzantine: m; less than half of n.
    """
    supporters = peers // 2 + 1 - byzantine
    if not byzantine > 0 or supporters < 1:
        raise ValueError(
            f"z_max is defined for 1 to {(peers - 1) // 2} attackers among {peers} peers, got "
            f"{byzantine}; against a minority choose z yourself, for instance 10"
        )
    honest = peers - byzantine
    return NormalDist().inv_cdf((honest - supporters) / honest)


def dissensus(epsilon: float = 1.5) -> Attack:
    """Keeps peers apart: tells each receiver what undoes its average with honest neighbors.

        y_{b→i} = x_i - ε Σ_{honest j} W_ij (x_j - x_i) / Σ_{Byzantine b} W_ib

    With ε = 1 and the plain mean, peer i stays where it is.

    References:
        He, Karimireddy, Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip",
        section 5 and equation 8.
    """
    require_positive(epsilon=epsilon)

    def tell_each(told: Payload, neighbors: Neighbors, is_byzantine: jax.Array) -> Payload:
        weights = input_weights(neighbors)[1:]
        honest = jnp.where(is_byzantine, 0, weights)
        share = honest * (epsilon / jnp.maximum((weights - honest).sum(), 1e-12))

        def lie(own: jax.Array, stacked: jax.Array) -> jax.Array:
            if not _is_real(own):
                return stacked
            away = jnp.where(_rows(share > 0, stacked), stacked - own, 0)
            lies = own - jnp.tensordot(share.astype(own.dtype), away, 1)
            return jnp.where(_rows(is_byzantine, stacked), lies, stacked)

        return jax.tree.map(lie, told, neighbors.payload)

    return Attack(lambda payloads: (), lambda state, payloads, *_: (payloads, state), tell_each)


def bit_flip() -> Attack:
    """`-x`: the negative of the own honest payload."""
    return _each(lambda key, honest: -honest)


def gaussian(scale: float = 1.0) -> Attack:
    """`N(0, scale²)` in each coordinate: nothing but noise, anew for each attacker and round."""
    require_positive(scale=scale)
    return _each(lambda key, honest: scale * jax.random.normal(key, honest.shape, honest.dtype))


def noise(scale: float = 1.0) -> Attack:
    """`x + N(0, scale²)`: the own honest payload, disturbed."""
    require_positive(scale=scale)
    return _each(
        lambda key, honest: honest + scale * jax.random.normal(key, honest.shape, honest.dtype)
    )


def zeros() -> Attack:
    """A free rider that tells zeros."""
    return _each(lambda key, honest: jnp.zeros_like(honest))


def stale(rounds: int) -> Attack:
    """A free rider that tells each of its payloads for so many rounds, and listens meanwhile.

    References:
        Fraboni, Vidal, Lorenzi 2021, "Free-rider Attacks on Model Aggregation in Federated
        Learning" (plain free-riding: what one has is told again).
    """
    require_at_least(1, rounds=rounds)

    def init(payloads: Payload) -> tuple[jax.Array, Payload]:
        return jnp.int32(0), optax.tree.zeros_like(payloads)

    def tell(state: tuple[jax.Array, Payload], payloads: Payload, is_byzantine: jax.Array, _: Any):
        age, kept = state
        kept = jax.tree.map(lambda new, old: jnp.where(age == 0, new, old), payloads, kept)
        return _replace(payloads, kept, is_byzantine), ((age + 1) % rounds, kept)

    return Attack(init, tell)


def delayed(rounds: int) -> Attack:
    """Delayed gradients: tells what it held so many rounds ago; before that, its first payload.

    References:
        Gorbunov, Borzunov, Diskin, Ryabinin 2022, "Secure Distributed Training at Scale", section
        4.1 (there 1000 steps). Keeps `rounds` payloads of each attacker.
    """
    require_at_least(1, rounds=rounds)

    def init(payloads: Payload) -> tuple[jax.Array, Payload]:
        def kept(leaf: Any) -> jax.Array:
            return jnp.zeros((rounds, *leaf.shape), leaf.dtype)

        return jnp.int32(0), jax.tree.map(kept, payloads)

    def tell(state: tuple[jax.Array, Payload], payloads: Payload, is_byzantine: jax.Array, _: Any):
        count, kept = state
        place = count % rounds
        oldest = jax.tree.map(
            lambda new, old: jnp.where(
                count == 0, new, jnp.where(count < rounds, old[0], old[place])
            ),
            payloads,
            kept,
        )
        kept = jax.tree.map(lambda new, old: old.at[place].set(new), payloads, kept)
        return _replace(payloads, oldest, is_byzantine), (count + 1, kept)

    return Attack(init, tell)


def constant_direction(scale: float = 1000.0) -> Attack:
    """`scale ‖μ‖ u` per tensor: one random direction u, the same for all attackers and rounds.

    References:
        Gorbunov, Borzunov, Diskin, Ryabinin 2022, "Secure Distributed Training at Scale", section
        4.1.
    """
    require_positive(scale=scale)

    def lie(mean: jax.Array, deviation: jax.Array) -> jax.Array:
        drawn = jax.random.normal(jax.random.key(0), mean.shape, mean.dtype)
        return scale * jnp.linalg.norm(mean) / jnp.linalg.norm(drawn) * drawn

    return _alike(lie)


def copycat() -> Attack:
    """A free rider that tells the payload of an honest peer, the first one."""

    def tell(state: tuple[()], payloads: Payload, is_byzantine: jax.Array, key: jax.Array):
        victim = jnp.argmin(is_byzantine)
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[victim], leaf.shape), payloads)
        return _replace(payloads, copies, is_byzantine), state

    return Attack(lambda payloads: (), tell)


def not_a_number() -> Attack:
    """NaN in each coordinate."""
    return _each(lambda key, honest: jnp.full_like(honest, jnp.nan))


def label_flip(labels: jax.Array, classes: int) -> jax.Array:
    """`y → classes - 1 - y`: labels that an attacker trains on, honestly otherwise."""
    return classes - 1 - labels


def _alike(lie: Callable[[jax.Array, jax.Array], jax.Array]) -> Attack:
    """All attackers tell the same: a function of mean and deviation of the honest payloads."""

    def of_leaf(leaf: jax.Array, is_byzantine: jax.Array) -> jax.Array:
        honest = _rows(~is_byzantine, leaf)
        count = honest.sum(dtype=jnp.float32)
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        mean = jnp.where(honest, wide, 0).sum(axis=0) / jnp.maximum(count, 1)
        squares = jnp.square(jnp.where(honest, wide - mean, 0)).sum(axis=0)
        deviation = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
        return jnp.broadcast_to(lie(mean, deviation).astype(leaf.dtype), leaf.shape)

    def tell(state: tuple[()], payloads: Payload, is_byzantine: jax.Array, key: jax.Array):
        lies = jax.tree.map(lambda leaf: of_leaf(leaf, is_byzantine), payloads)
        return _replace(payloads, lies, is_byzantine), state

    return Attack(lambda payloads: (), tell)


def _each(lie: Callable[[jax.Array, jax.Array], jax.Array]) -> Attack:
    """Each attacker by itself: a function of a key and the honest payloads `[N, …]` of all."""

    def tell(state: tuple[()], payloads: Payload, is_byzantine: jax.Array, key: jax.Array):
        leaves, structure = jax.tree.flatten(payloads)
        keys = jax.random.split(key, len(leaves))
        lies = [
            lie(key, leaf) if _is_real(leaf) else leaf
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return _replace(payloads, jax.tree.unflatten(structure, lies), is_byzantine), state

    return Attack(lambda payloads: (), tell)


def _replace(payloads: Payload, lies: Payload, is_byzantine: jax.Array) -> Payload:
    def of_leaf(honest: jax.Array, lie: jax.Array) -> jax.Array:
        if not _is_real(honest):
            return honest
        return jnp.where(_rows(is_byzantine, honest), lie, honest)

    return jax.tree.map(of_leaf, payloads, lies)


def _is_real(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _rows(mask: jax.Array, leaf: jax.Array) -> jax.Array:
    """A mask of the leading axis, in a form that goes with all axes."""
    return mask.reshape(-1, *[1] * (leaf.ndim - 1))
