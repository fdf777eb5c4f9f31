"""Rung 5: does an update lower the loss, on data that its author does not know?

A verifier looks at an update with a probability that it draws for itself (`private_coin`), so no
author knows which of its updates are looked at, on what, or by whom. Subjective: one verifier's
probe is no evidence for another, so a verdict takes votes.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.types import Params

Loss = Callable[[Params, Any, jax.Array], tuple[jax.Array, Any]]


class ProbeScore(NamedTuple):
    """Relative improvements of the loss, `(before - after) / before`; negative where it got worse.

    Attributes:
        private: on the verifier's own samples.
        assigned: on the samples that the author had to train on.
    """

    private: float
    assigned: float

    def is_harmful(self, tolerance: float) -> bool:
        """Whether the loss on private samples is worse by more than `tolerance`, or not finite."""
        return not self.private >= -tolerance

    @property
    def is_idle(self) -> bool:
        """Whether the author's own samples gained no more than any others.

        Who has trained on the assigned samples knows those best. A single score is noisy: average
        over several updates before drawing conclusions.
        """
        return not self.assigned > self.private


class Probe:
    """Scores updates on batches of a fixed shape, compiled once.

    Args:
        loss: the run's loss, see `gossipjax.training.workload.Loss`.

    References:
        The two-sided score (random against assigned data) follows the validators of the Templar
        network ("Incentivizing Permissionless Distributed Learning of LLMs", 2025); loss on the
        receiver's data: Xie et al. 2019, "Zeno"; Fang et al. 2020, "Local Model Poisoning Attacks
        to Byzantine-Robust Federated Learning", section 5 (LFR).
    """

    def __init__(self, loss: Loss):
        def value(params: Params, batch: Any, key: jax.Array) -> jax.Array:
            return loss(params, batch, key)[0]

        self._value = jax.jit(value)
        self._key = jax.random.key(0)

    def mean_loss(self, params: Params, batches: Sequence[Any]) -> float:
        """Mean over batches of equal size."""
        values = [self._value(params, batch, self._key) for batch in batches]
        return float(jnp.mean(jnp.stack(values)))

    def score(
        self, before: Params, after: Params, private: Sequence[Any], assigned: Sequence[Any]
    ) -> ProbeScore:
        """Compare parameters before and after an update.

        Args:
            before: the own parameters, or the state that the author's round began with.
            after: the update's parameters.
            private: the verifier's batches, unknown to the author.
            assigned: batches that the author had to train on.
        """

        def improvement(batches: Sequence[Any]) -> float:
            old, new = self.mean_loss(before, batches), self.mean_loss(after, batches)
            return (old - new) / old if old else old - new

        return ProbeScore(improvement(private), improvement(assigned))


def private_coin(secret: bytes, root: bytes, numerator: int, denominator: int) -> bool:
    """Whether to look at the update with this root: true for a share of n/d of all updates.

        SHA-512("gossipjax/v1/coin" ‖ 0x00 ‖ secret ‖ root) · d < n · 2^512

    The same update gives the same answer each time, so repeating it brings nothing; without the
    secret nobody can tell the answer.

    Args:
        secret: 32 bytes that never leave this peer.
        root: Merkle root of the payload.
        numerator: of the share.
        denominator: of the share, above 0.
    """
    if len(secret) != 32:
        raise ValueError(f"expected a secret of 32 bytes, got {len(secret)}")
    digest = hashlib.sha512(b"gossipjax/v1/coin\0" + secret + root).digest()
    return int.from_bytes(digest, "big") * denominator < numerator << 512
