"""Cases and votes: what a committee member has to do, and what follows from what others found.

An update that was drawn for an audit is a *case*. Its auditors check it and vote. What they can
show again (`FAULT`) every peer checks for itself before it believes it; what only votes can settle
goes before the judges, whose seats are counted with the receiver's own weights.
"""

import hashlib
from typing import NamedTuple

import msgspec

from gossipjax.crypto.ecvrf import InvalidProof
from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.credentials import case_of, committee_of, role_input, seats_of
from gossipjax.protocol.effects import Audit, Ban, Pardon, Refuse
from gossipjax.protocol.ledger import Ledger
from gossipjax.protocol.rules import Rules
from gossipjax.types import PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.codec import decode_body
from gossipjax.wire.envelope import Verified, open_vote, seal_vote
from gossipjax.wire.messages import (
    Ballot,
    Certificate,
    Evidence,
    PeerRecord,
    Role,
    Sealed,
    UpdateHeader,
    Verdict,
    Vote,
)

_CASES_MAX = 1024
# In an epoch: an attacker's own cases cannot push out those of others.
_CASES_PER_AUTHOR_MAX = 8
_GATED_PER_AUTHOR_MAX = 64
_OPEN_TASKS_MAX = 1024
_SUSPICIONS_PER_TELLER_MAX = 4
_SUBJECTIVE = (Verdict.HARMFUL, Verdict.WITHHELD)


class Spread(NamedTuple):
    """Tell some neighbors.

    Attributes:
        message: what.
        convicts: whose ban it proves to everybody, whenever they hear of it.
    """

    message: Ballot | Certificate | Evidence
    convicts: PeerId | None = None


class Approve(NamedTuple):
    """Auditors have found an update sound, with the votes that are needed."""

    case: bytes
    certificate: Certificate


Consequence = Approve | Audit | Ban | Pardon | Refuse | Spread


class _Count(NamedTuple):
    """A vote that counts."""

    verdict: Verdict
    seats: int
    sealed: Sealed


class _Case:
    """One update before one or more committees: one per value that some peer has for the epoch."""

    __slots__ = (
        "author",
        "beacons",
        "epoch",
        "header",
        "is_committed",
        "is_credited",
        "judged",
        "settled",
        "votes",
    )

    def __init__(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        epoch: int,
        is_committed: bool,
    ):
        self.is_committed = is_committed
        self.judged: dict[bytes, None] = {}
        self.author = author
        self.header = header
        self.epoch = epoch
        self.beacons: dict[bytes, bytes] = {}
        self.votes: dict[tuple[Role, bytes], dict[PeerId, _Count]] = {}
        self.is_credited = False
        self.settled: Verdict | None = None

    @property
    def accused(self) -> PeerId:
        return PeerId(self.header.body.author)

    def counted(self, role: Role, beacon: bytes) -> dict[PeerId, _Count]:
        return self.votes.setdefault((role, beacon), {})


class _Duty(NamedTuple):
    """A seat of one's own."""

    role: Role
    beacon: bytes
    proof: bytes


class _Suspicion(NamedTuple):
    """A fault that somebody says is in an update, outside of any case.

    Attributes:
        teller: who says so and answers for it; None: this peer itself.
        epoch: when.
        accuser: who has signed that there is a fault, and answers for it in place of the teller.
        accusation: its vote, and what is needed to check it.
    """

    author: Verified[PeerRecord]
    header: Verified[UpdateHeader]
    teller: PeerId | None
    epoch: int
    accuser: PeerId | None = None
    accusation: Certificate | None = None


class _Conviction(NamedTuple):
    """What a ban was based on: enough to check it again."""

    case: bytes
    author: Verified[PeerRecord]
    header: Verified[UpdateHeader]
    draw: bytes
    is_accuser: bool


class CommitteeMachine:
    """Takes seats of one's own, counts the votes of others, convicts.

    Accepts: cases, votes, suspicions, results of audits, appeals.
    Emits: `Audit`, `Ban`, `Pardon`, `Refuse`, and votes and evidence to spread.
    Keeps true: a peer is banned for a fault, or for a false claim of one, only after this very peer
    has audited; for anything else only by votes with `threshold` seats or more under one beacon
    value; nobody votes twice under one value; a voter counts as far as this peer's own weights go.
    """

    def __init__(
        self,
        run: RunId,
        own: PeerId,
        identity: Identity,
        suite: CryptoSuite,
        ledger: Ledger,
        rules: Rules,
    ):
        self._run = run
        self._own = own
        self._identity = identity
        self._suite = suite
        self._ledger = ledger
        self._rules = rules
        self._is_gate = rules.policy == "gate"
        self._per_author_max = _GATED_PER_AUTHOR_MAX if self._is_gate else _CASES_PER_AUTHOR_MAX
        self._cases = BoundedDict[bytes, _Case](_CASES_MAX)
        self._per_author = BoundedDict[tuple[PeerId, int], int](_CASES_MAX)
        self._duties = BoundedDict[tuple[bytes, bytes], _Duty](_OPEN_TASKS_MAX)
        self._rechecks = BoundedDict[tuple[bytes, bytes], PeerId](_OPEN_TASKS_MAX)
        self._suspicions = BoundedDict[tuple[bytes, bytes], _Suspicion](_OPEN_TASKS_MAX)
        self._appeals = BoundedDict[tuple[bytes, bytes], PeerId](_OPEN_TASKS_MAX)
        self._convictions = BoundedDict[PeerId, _Conviction](_CASES_MAX)

    def knows(self, case: bytes, beacon: bytes) -> bool:
        """Whether a case was opened under this value."""
        known = self._cases.get(case)
        return known is not None and _digest(beacon) in known.beacons

    def open(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        epoch: int,
        beacon: bytes,
        *,
        is_committed: bool,
    ) -> list[Consequence]:
        """An update is before a committee; take the own seats on it.

        Args:
            author: the author's record.
            header: of the update.
            epoch: of the beacon value.
            beacon: a value that this peer accepts and that has drawn the update.
            is_committed: this peer knew the update before that value existed.
        """
        identifier, author_id = case_of(header.sealed.body), PeerId(header.body.author)
        case = self._cases.get(identifier)
        if case is None:
            opened = self._per_author.get((author_id, epoch), 0)
            if opened >= self._per_author_max:
                return []
            self._per_author[author_id, epoch] = opened + 1
            case = self._cases[identifier] = _Case(author, header, epoch, is_committed)
        digest = _digest(beacon)
        if case.epoch != epoch or digest in case.beacons:
            return []
        case.beacons[digest] = beacon
        return self._take_seats(identifier, case, Role.AUDIT, digest)

    def on_vote(self, sealed: Sealed) -> list[Consequence]:
        """Count a vote, if it counts.

        Raises:
            RemoteProtocolError: `malformed`, `protocol`, `signature` or `proof`.
        """
        vote = decode_body(Vote, sealed.body)
        if vote.run != self._run:
            raise RemoteProtocolError("protocol", "a vote of another run")
        case, voter = self._cases.get(vote.case), PeerId(vote.voter)
        standing = self._ledger.standing(voter)
        if case is None or standing is None or voter in (self._own, case.accused):
            return []
        if vote.epoch != case.epoch or vote.beacon not in case.beacons:
            return []
        if voter in case.counted(vote.role, vote.beacon):
            return []
        verified = open_vote(sealed, vote, standing.sign_key, self._suite)
        alpha = self._alpha(vote.case, case, vote.role, vote.beacon)
        return self._count(case, verified, self._proven(standing.vrf_key, alpha, vote.proof))

    def suspect(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        draw: bytes,
        teller: PeerId | None,
        epoch: int,
    ) -> list[Consequence]:
        """A segment of an update is said to be false: see for oneself, whoever says so.

        Nobody needs to know the case, the beacon or the weights: what is checked again is what the
        author has signed. A few claims of each teller at a time.

        Args:
            author: the author's record.
            header: of the update.
            draw: what picks the segment.
            teller: who says so; None: this peer itself.
            epoch: the present one.
        """
        return self._look_at(draw, _Suspicion(author, header, teller, epoch))

    def on_accusation(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        accusation: Certificate,
        teller: PeerId,
        epoch: int,
    ) -> list[Consequence]:
        """Somebody has signed that there is a fault: there is one, or that was a lie.

        The accuser need not have had a seat, nor the beacon value have been one: whoever signs a
        finding answers for it.

        Args:
            author: the author's record.
            header: of the update.
            accusation: with one vote.
            teller: who has passed it on.
            epoch: the present one.

        Raises:
            RemoteProtocolError: `malformed`, `signature` or `proof`.
        """
        (sealed,) = accusation.votes
        vote, case_id = decode_body(Vote, sealed.body), case_of(header.sealed.body)
        about = (vote.run, vote.case, vote.epoch, vote.beacon, vote.role, vote.verdict)
        claimed = (self._run, case_id, accusation.epoch, _digest(accusation.beacon))
        accuser = PeerId(vote.voter)
        standing = self._ledger.standing(accuser)
        if about != (*claimed, Role.AUDIT, Verdict.FAULT) or standing is None:
            return []
        if self._ledger.is_banned(accuser, epoch) or accuser == PeerId(header.body.author):
            return []
        open_vote(sealed, vote, standing.sign_key, self._suite)
        alpha = role_input(self._run, Role.AUDIT, vote.epoch, accusation.beacon, case_id)
        beta = self._proven(standing.vrf_key, alpha, vote.proof)
        return self._look_at(beta, _Suspicion(author, header, teller, epoch, accuser, accusation))

    def _look_at(self, draw: bytes, suspicion: _Suspicion) -> list[Consequence]:
        key = (case_of(suspicion.header.sealed.body), draw)
        if key in self._rechecks or key in self._suspicions:
            return []
        told = sum(other.teller == suspicion.teller for other in self._suspicions.values())
        if told >= _SUSPICIONS_PER_TELLER_MAX:
            return []
        self._suspicions[key] = suspicion
        return [Audit(suspicion.author, suspicion.header, Role.AUDIT, draw)]

    def _proven(self, vrf_key: bytes, alpha: bytes, proof: bytes) -> bytes:
        try:
            return self._suite.verify_proof(vrf_key, alpha, proof)
        except InvalidProof as error:
            raise RemoteProtocolError("proof", str(error)) from None

    def on_audited(self, case_id: bytes, draw: bytes, verdict: Verdict | None) -> list[Consequence]:
        """The result of an audit: of one's own, of somebody's finding, or of an appeal."""
        key = (case_id, draw)
        if key in self._appeals:
            return self._settle_appeal(self._appeals.pop(key), verdict)
        suspicion, accuser = self._suspicions.pop(key, None), self._rechecks.pop(key, None)
        case, duty = self._cases.get(case_id), self._duties.pop(key, None)
        if verdict is None:
            return []
        found: list[Consequence] = []
        if suspicion is not None:
            found += self._settle_suspicion(suspicion, draw, verdict)
        if case is not None and accuser is not None:
            found += self._settle_accusation(case, accuser, draw, verdict)
        elif case is not None and duty is not None:
            found += self._vote(case_id, case, duty, draw, verdict)
        return found

    def _vote(
        self, case_id: bytes, case: _Case, duty: _Duty, draw: bytes, verdict: Verdict
    ) -> list[Consequence]:
        """Say what was found; a fault needs no more votes."""
        vote = Vote(
            run=self._run,
            voter=self._own,
            epoch=case.epoch,
            beacon=duty.beacon,
            role=duty.role,
            case=case_id,
            verdict=verdict,
            proof=duty.proof,
        )
        sealed = seal_vote(vote, self._identity, self._suite)
        found = self._count(case, sealed, draw)
        if verdict is Verdict.FAULT:
            found += self._convict_of_fault(case, draw)
        return found

    def appeal(self, peer: PeerId) -> list[Consequence]:
        """Check again what a ban was based on; nothing when that proves itself, or is forgotten."""
        conviction = self._convictions.get(peer)
        if conviction is None:
            return []
        self._appeals[conviction.case, conviction.draw] = peer
        return [Audit(conviction.author, conviction.header, Role.AUDIT, conviction.draw)]

    def _alpha(self, case_id: bytes, case: _Case, role: Role, beacon: bytes) -> bytes:
        return role_input(self._run, role, case.epoch, case.beacons[beacon], case_id)

    def _take_seats(
        self, case_id: bytes, case: _Case, role: Role, beacon: bytes
    ) -> list[Consequence]:
        """Find out whether this peer has seats; if so, it has to audit."""
        electorate = self._ledger.electorate(case.epoch)
        if case.accused == self._own or not electorate.of(self._own):
            return []
        if self._ledger.is_banned(case.accused, case.epoch + 1):  # nothing is left to find out
            return []
        alpha = self._alpha(case_id, case, role, beacon)
        proof, beta = self._suite.prove(self._identity.vrf_seed, alpha)
        if not seats_of(self._rules, role, self._own, beta, electorate):
            return []
        self._duties[case_id, beta] = _Duty(role, beacon, proof)
        return [Audit(case.author, case.header, role, beta)]

    def _count(self, case: _Case, verified: Verified[Vote], beta: bytes) -> list[Consequence]:
        vote, voter = verified.body, PeerId(verified.body.voter)
        electorate = self._ledger.electorate(case.epoch)
        seats = seats_of(self._rules, vote.role, voter, beta, electorate)
        if not seats:
            return []
        counted = case.counted(vote.role, vote.beacon)
        counted[voter] = _Count(vote.verdict, seats, verified.sealed)
        found: list[Consequence] = [
            Spread(Ballot(self._rules.rumor_hops, verified.sealed)),
        ]
        total = sum(count.seats for count in counted.values() if count.verdict is vote.verdict)
        if vote.role is Role.JUDGE:
            threshold = committee_of(self._rules, Role.JUDGE, electorate).threshold
            return found + (self._judge(case, vote, beta) if total >= threshold else [])
        if vote.verdict is Verdict.FAULT and voter != self._own:
            return found + self._recheck(case, voter, vote.case, beta)
        if vote.verdict in _SUBJECTIVE and vote.beacon not in case.judged:
            case.judged[vote.beacon] = None
            return found + self._take_seats(vote.case, case, Role.JUDGE, vote.beacon)
        needed = committee_of(self._rules, Role.AUDIT, electorate).threshold
        if vote.verdict is Verdict.SOUND and total >= needed:
            return found + self._credit(vote.case, case, vote.beacon)
        return found

    def _credit(self, case_id: bytes, case: _Case, beacon: bytes) -> list[Consequence]:
        """The work counts; and where nothing is mixed without it, here is what says so."""
        if case.is_credited or case.settled is not None:
            return []
        case.is_credited = True
        self._ledger.credit(case.accused, case.header.body.samples, case.epoch + 1)
        if not self._is_gate:
            return []
        return [Approve(case_id, self._certificate(case, Role.AUDIT, Verdict.SOUND, beacon))]

    def _recheck(
        self, case: _Case, accuser: PeerId, case_id: bytes, draw: bytes
    ) -> list[Consequence]:
        if self._ledger.is_banned(case.accused, case.epoch + 1):
            return []
        self._rechecks[case_id, draw] = accuser
        if (case_id, draw) in self._suspicions:  # the same audit is under way
            return []
        return [Audit(case.author, case.header, Role.AUDIT, draw)]

    def _settle_accusation(
        self, case: _Case, accuser: PeerId, draw: bytes, verdict: Verdict
    ) -> list[Consequence]:
        """A fault that this peer was told of is there, or it is not."""
        if verdict is Verdict.FAULT:
            return self._convict_of_fault(case, draw)
        if verdict is Verdict.SOUND:
            convicted = self._convict(
                case.author,
                case.header,
                accuser,
                "false accusation",
                draw,
                case.epoch + 1,
                is_accuser=True,
            )
            return convicted + self._show_accusation(case, accuser) if convicted else []
        return []

    def _convict_of_fault(self, case: _Case, draw: bytes) -> list[Consequence]:
        case.settled = case.settled or Verdict.FAULT
        return self._prove(case.author, case.header, draw, case.epoch + 1)

    def _settle_suspicion(
        self, suspicion: _Suspicion, draw: bytes, verdict: Verdict
    ) -> list[Consequence]:
        if verdict is Verdict.FAULT:
            return self._prove(suspicion.author, suspicion.header, draw, suspicion.epoch)
        if verdict is not Verdict.SOUND:
            return []
        author, header, teller, epoch, accuser, accusation = suspicion
        if accuser is not None and accusation is not None:
            reason = "false accusation"
            found = self._convict(author, header, accuser, reason, draw, epoch, is_accuser=True)
            again = msgspec.structs.replace(accusation, hops=self._rules.rumor_hops)
            return [*found, Spread(again, accuser)] if found else []
        return [] if teller is None else [Refuse(teller, "evidence")]

    def _prove(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        draw: bytes,
        epoch: int,
    ) -> list[Consequence]:
        """Ban the author for a fault that this peer has found, and tell how it can be found."""
        accused = PeerId(header.body.author)
        found = self._convict(author, header, accused, "fault", draw, epoch, is_accuser=False)
        if not found:
            return []
        hops = self._rules.rumor_hops
        evidence = Evidence(hops, author.sealed, (header.sealed,), draw)
        return [*found, Spread(evidence, accused)]

    def _judge(self, case: _Case, vote: Vote, draw: bytes) -> list[Consequence]:
        """The judges have decided."""
        if case.settled is not None:
            return []
        case.settled = vote.verdict
        if vote.verdict is Verdict.SOUND:
            return self._punish_accusers(case, vote, draw)
        if vote.verdict not in _SUBJECTIVE:  # a fault is proven, not voted
            return []
        reason = vote.verdict.name.lower()
        convicted = self._convict(
            case.author, case.header, case.accused, reason, draw, case.epoch + 1, is_accuser=False
        )
        return convicted + self._show(case, Role.JUDGE, vote.verdict)

    def _punish_accusers(self, case: _Case, vote: Vote, draw: bytes) -> list[Consequence]:
        """Who called a sound update harmful loses as if it had cheated.

        Who missed one does not: its network may have failed it. Nor does anybody when the author
        may have made the update so that judges of its own were drawn.
        """
        if not case.is_committed:
            return []
        found: list[Consequence] = []
        for voter, count in case.counted(Role.AUDIT, vote.beacon).items():
            if count.verdict is Verdict.HARMFUL:
                found += self._convict(
                    case.author,
                    case.header,
                    voter,
                    "false accusation",
                    draw,
                    case.epoch + 1,
                    is_accuser=True,
                )
        return found

    def _convict(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        peer: PeerId,
        reason: str,
        draw: bytes,
        epoch: int,
        *,
        is_accuser: bool,
    ) -> list[Consequence]:
        if peer == self._own or self._ledger.is_banned(peer, epoch):
            return []
        self._ledger.ban(peer, epoch)
        case_id = case_of(header.sealed.body)
        self._convictions[peer] = _Conviction(case_id, author, header, draw, is_accuser)
        return [Ban(peer, reason, _digest(case_id + draw), header.body.sequence)]

    def _certificate(self, case: _Case, role: Role, verdict: Verdict, beacon: bytes) -> Certificate:
        """The votes of one committee for a verdict, with all that others need to count them."""
        counted = case.counted(role, beacon).values()
        votes = [count.sealed for count in counted if count.verdict is verdict]
        return Certificate(
            hops=self._rules.rumor_hops,
            author=case.author.sealed,
            header=case.header.sealed,
            epoch=case.epoch,
            beacon=case.beacons[beacon],
            votes=tuple(votes[: limits.VOTES_PER_CERTIFICATE_MAX]),
        )

    def _show_accusation(self, case: _Case, accuser: PeerId) -> list[Consequence]:
        """The vote by which an accuser has lied: others find that, whenever they hear of it."""
        for beacon in case.beacons:
            count = case.counted(Role.AUDIT, beacon).get(accuser)
            if count is not None and count.verdict is Verdict.FAULT:
                shown = self._certificate(case, Role.AUDIT, Verdict.FAULT, beacon)
                return [Spread(msgspec.structs.replace(shown, votes=(count.sealed,)), accuser)]
        return []

    def _show(self, case: _Case, role: Role, verdict: Verdict) -> list[Consequence]:
        """What convicts, all in one message: some have missed a part of it."""
        for beacon in case.beacons:
            certificate = self._certificate(case, role, verdict, beacon)
            if certificate.votes:
                return [Spread(certificate)]
        return []

    def _settle_appeal(self, peer: PeerId, verdict: Verdict | None) -> list[Consequence]:
        conviction = self._convictions[peer]
        found_wrong = Verdict.FAULT if conviction.is_accuser else Verdict.SOUND
        if verdict is not found_wrong:
            return []
        self._ledger.pardon(peer)
        del self._convictions[peer]
        return [Pardon(peer)]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
