"""What an auditor of a run does with one update: from bytes to a verdict, without any network."""

import dataclasses
import math
from collections.abc import Callable

import jax

from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.training.local import LocalTrainer
from gossipjax.training.workload import Workload
from gossipjax.verification.assignment import assignment
from gossipjax.verification.recompute import TOLERANCE, deviation, is_within, recompute
from gossipjax.verification.rounds import (
    NOT_DRAWN,
    SEGMENT_STEPS,
    CommittedRound,
    Drawn,
    Task,
    segment_lengths,
)
from gossipjax.verification.states import PackedState, StateForm
from gossipjax.wire.commitment import RoundCommitment, StateDigest
from gossipjax.wire.merkle import MerkleTree
from gossipjax.wire.messages import RoundClaim, UpdateHeader
from gossipjax.wire.tensors import check_values

Buffers = tuple[bytes | memoryview, bytes | memoryview]
"""A packed state: parameters, and the rest."""


class Auditor:
    """Redoes segments of others' rounds, and packs the own ones for others.

    Its methods take from milliseconds to the time of a segment: for worker threads.

    Args:
        workload: of the run; its data have to be public.
        trainer: the very one that trains, so that nothing is compiled twice; None: one of its own.

    Raises:
        LocalProtocolError: the workload has no public data.
    """

    def __init__(self, workload: Workload, trainer: LocalTrainer | None = None):
        if workload.public is None:
            raise LocalProtocolError("this workload has no public data, so nobody can audit it")
        self._public = workload.public
        self._trainer = trainer or LocalTrainer(workload.loss, workload.optimizer)
        self._tolerance = TOLERANCE[workload.compute_dtype]
        self.segment_steps = SEGMENT_STEPS[workload.compute_dtype]
        params = jax.jit(workload.init)(jax.random.key(0))
        self.form = StateForm(self._trainer.init(params, key=jax.random.key(0)))

    def task(self, author: bytes, sequence: int, version: int, drawn: Drawn = NOT_DRAWN) -> Task:
        """What is assigned to an author for the round that ends with update `sequence`.

        Args:
            author: peer id.
            sequence: of the update.
            version: of the model at the start of the round.
            drawn: the last beacon value; without one an author can look for a number that suits it.
        """
        return Task(self._public, assignment(author, sequence, drawn.beacon), version, drawn)

    def pack(
        self, done: CommittedRound, version: int, payload: memoryview, tree: MerkleTree
    ) -> tuple[RoundClaim, list[PackedState]]:
        """The own claim for a round, and the states that it commits to.

        Args:
            done: the round.
            version: of the model at its end.
            payload: what is shared, packed: the parameters at the end of the round.
            tree: over the chunks of the payload.
        """
        states = [self.form.pack(state) for state in done.boundaries]
        # What is committed to is what is shared; and its memory is needed once only.
        states[-1] = dataclasses.replace(states[-1], params=payload, params_tree=tree)
        commitment = RoundCommitment([state.digest for state in states])
        steps = done.report.steps
        claim = RoundClaim(
            version=version - steps,
            steps=steps,
            segments=len(states) - 1,
            states=commitment.root,
            epoch=done.drawn.epoch,
            beacon=done.drawn.beacon,
        )
        return claim, states

    def check_claim(self, header: UpdateHeader) -> RoundClaim:
        """The claim of an update, if it can be true at all.

        Raises:
            RemoteProtocolError: (`claim`) there is none, or it contradicts itself or the rules.
        """
        claim = header.claim
        if claim is None:
            raise RemoteProtocolError("claim", "the update commits to no round of training")
        segments = len(segment_lengths(claim.steps, self.segment_steps))
        if claim.segments != segments:
            raise RemoteProtocolError(
                "claim", f"{claim.steps} steps are {segments} segments, not {claim.segments}"
            )
        if len(claim.beacon) not in (0, 64):
            raise RemoteProtocolError("claim", f"a beacon of {len(claim.beacon)} bytes, not 64")
        if claim.version + claim.steps != header.version:
            raise RemoteProtocolError(
                "claim",
                f"version {claim.version} and {claim.steps} steps do not make {header.version}",
            )
        return claim

    def redo(
        self, header: UpdateHeader, segment: int, start: Buffers
    ) -> tuple[StateDigest, Callable[[Buffers], bool]]:
        """Redo one segment from the state that its author committed to.

        Args:
            header: whose claim `check_claim` has accepted.
            segment: which one, from 0.
            start: the state at its start, checked against the commitment.

        Returns:
            The digest that the state at the end has on a machine like this one; and, for an author
            whose digest is another, a function that tells whether rounding explains the state that
            the author claims.

        Raises:
            RemoteProtocolError: (`size`) the state has another form than this run's; (`nonfinite`)
                no training comes to it.
        """
        claim = self.check_claim(header)
        lengths = segment_lengths(claim.steps, self.segment_steps)
        begin = self.form.unpack(*start)
        check_values(self.form.params, jax.tree.leaves(begin.params), math.inf)
        drawn = Drawn(claim.epoch, claim.beacon)
        task = self.task(header.author, header.sequence, claim.version, drawn)
        again = recompute(self._trainer, begin, task, sum(lengths[:segment]), lengths[segment])

        def explains(claimed: Buffers) -> bool:
            found = deviation(begin, self.form.unpack(*claimed), again)
            return is_within(found, self._tolerance)

        return self.form.pack(again).digest, explains
