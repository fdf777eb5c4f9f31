"""Verification of updates: epochs, cases, rumors, evidence. Routes between beacon and committee."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from gossipjax.crypto.ecvrf import InvalidProof
from gossipjax.crypto.identity import Identity
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.beacon import BeaconMachine
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.committee import Approve, CommitteeMachine, Consequence, Spread
from gossipjax.protocol.credentials import case_of, draw_of, is_sampled
from gossipjax.protocol.effects import Ban, Effects, Pardon, Send
from gossipjax.protocol.events import Audited
from gossipjax.protocol.ledger import Ledger, LedgerMemory
from gossipjax.protocol.opening import Opener
from gossipjax.protocol.rng import SplitMix64
from gossipjax.protocol.rules import Rules
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.envelope import Verified, open_claim, open_header, open_record, record_author
from gossipjax.wire.messages import (
    Ballot,
    Case,
    Certificate,
    Evidence,
    PeerRecord,
    RoundClaim,
    Sealed,
    Tickets,
    UpdateHeader,
)

_SECOND = 1_000_000_000
_EXCHANGES_PER_EPOCH = 20
_TICKET_FANOUT = 2
_COMMIT_EPOCHS = 2  # committed in e - 2, drawn by E(e - 1), audited in e
_HELD_MAX = 1024
_PROOFS_MAX = 256
_APPROVED_MAX = 1024
_DRAW_EPOCHS = 3  # a round takes time, and so does its update

Rumor = Case | Ballot | Evidence | Certificate


class Committed(NamedTuple):
    """An update that this peer has taken, and when."""

    author: Verified[PeerRecord]
    header: Verified[UpdateHeader]
    epoch: int


class _Pending(NamedTuple):
    """The own update that waits for its certificate."""

    case: bytes
    epoch: int


class VerificationMachine:
    """Draws audits of updates that this peer has taken, passes on what others find.

    Accepts: verified headers, `Tickets`, `Case`, `Ballot`, `Evidence`, `Certificate`, results of
    audits, deadlines.
    Emits: `Send`, `Audit`, `Ban`, `Pardon`, `Refuse`.
    Keeps true: what is passed on was checked first, once, and `rumor_hops` times at most; an author
    cannot know, when it commits to an update, whether and by whom it will be audited; who has
    banned a peer by evidence tells some neighbors of it in every epoch while the ban lasts; under
    `gate` one own update at a time waits for its certificate.
    """

    def __init__(
        self,
        rules: Rules,
        opener: Opener,
        own: Verified[PeerRecord],
        identity: Identity,
        rng: SplitMix64,
        now_s: int,
        memory: LedgerMemory | None = None,
    ):
        self._rules = rules
        self._opener = opener
        self._rng = rng
        self.ledger = Ledger(
            now_s // rules.epoch_s,
            half_life=rules.half_life_epochs,
            founder_work=rules.founder_samples,
            ban_epochs=rules.ban_epochs,
            founding_epochs=rules.founding_epochs,
        )
        if memory is not None:
            self.ledger.restore(memory)
        own_id, suite = record_author(own.body), opener.suite
        self._own, self._own_id = own, own_id
        self._pending: _Pending | None = None
        self._approved = BoundedDict[bytes, None](_APPROVED_MAX)
        self._own_approved: list[Certificate] = []
        self.beacon = BeaconMachine(
            opener.run,
            own_id,
            identity.vrf_seed,
            suite,
            self.ledger,
            epoch_s=rules.epoch_s,
            now_s=now_s,
            founding_epochs=rules.founding_epochs,
        )
        self._committee = CommitteeMachine(opener.run, own_id, identity, suite, self.ledger, rules)
        self._held = BoundedDict[bytes, Committed](_HELD_MAX)
        self._proofs = BoundedDict[PeerId, Evidence | Certificate](_PROOFS_MAX)
        self._signed = BoundedDict[tuple[PeerId, int], Verified[UpdateHeader]](_HELD_MAX)
        self._interval_ns: Nanoseconds = rules.epoch_s * _SECOND // _EXCHANGES_PER_EPOCH
        self.next_deadline_ns: Nanoseconds = 0
        self.meet(own)

    def meet(self, record: Verified[PeerRecord]) -> None:
        """A peer shows itself, or is told of."""
        self.ledger.meet(record.body, self.beacon.epoch)

    def tick(self, now_s: int, now_ns: Nanoseconds, neighbors: Sequence[PeerId]) -> Effects:
        """Tell some neighbors of the lowest tickets; when an epoch begins, open its cases."""
        effects: Effects = []
        if self.beacon.advance(now_s):
            effects += self._open_cases(neighbors) + self._remind(neighbors)
        if now_ns >= self.next_deadline_ns:
            self.next_deadline_ns = now_ns + self._rng.jittered(self._interval_ns)
            offer = self.beacon.offer(now_s)
            chosen = [] if offer is None else self._rng.sample(neighbors, _TICKET_FANOUT)
            effects += [Send(peer, offer) for peer in chosen if offer is not None]
        return effects

    def on_signed(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        neighbors: Sequence[PeerId],
    ) -> Effects:
        """An author has shown a header: remember it; two with one number convict it."""
        key = (PeerId(header.body.author), header.body.sequence)
        other = self._signed.get(key)
        if other is None:
            self._signed[key] = header
            return []
        if other.sealed.body == header.sealed.body:
            return []
        headers = (other.sealed, header.sealed)
        evidence = Evidence(self._rules.rumor_hops, author.sealed, headers)
        return self._convict(author, "equivocation", header.body.sequence, evidence, neighbors)

    def on_taken(self, author: Verified[PeerRecord], header: Verified[UpdateHeader]) -> None:
        """An update of a neighbor has come entirely, and may be drawn for an audit."""
        self._held[case_of(header.sealed.body)] = Committed(author, header, self.beacon.epoch)

    def last_value(self) -> tuple[int, bytes]:
        """The last epoch that is over, and its value; 0 and nothing while this peer knows none."""
        epoch = self.beacon.epoch - 1
        candidates = self.beacon.candidates(epoch)
        return (epoch, candidates[0]) if candidates else (0, b"")

    def accepts_draw(self, claim: RoundClaim) -> bool:
        """Whether the value on which a claimed round hangs is one that its author had to take.

        Without a value only while the run is young; a peer that knows none of that epoch cannot
        tell.
        """
        if not claim.beacon:
            return self.ledger.is_founding(self.beacon.epoch)
        if not self.beacon.epoch - _DRAW_EPOCHS <= claim.epoch <= self.beacon.epoch:
            return False
        candidates = self.beacon.candidates(claim.epoch)
        return not candidates or claim.beacon in candidates

    @property
    def is_gate(self) -> bool:
        """Whether an update is mixed only with a certificate."""
        return self._rules.policy == "gate"

    def is_approved(self, header: Verified[UpdateHeader]) -> bool:
        """Whether the votes that this peer has counted certify an update."""
        return case_of(header.sealed.body) in self._approved

    def on_committed(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        neighbors: Sequence[PeerId],
    ) -> Effects:
        """Under `gate`, an author has shown what it wants to be certified."""
        self.on_taken(author, header)
        epoch = self.beacon.epoch - 1
        candidates = self.beacon.candidates(epoch)
        if self._wait_epochs or not candidates:
            return []
        return self._open(author, header, epoch, candidates[0], neighbors)

    def commit(self, header: Verified[UpdateHeader], neighbors: Sequence[PeerId]) -> Effects | None:
        """Under `gate`: the own update waits for its certificate; None when another one does.

        One that gets none in some epochs gives way.
        """
        pending = self._pending
        if pending is not None and self.beacon.epoch - pending.epoch <= _COMMIT_EPOCHS + 1:
            return None
        self._pending = _Pending(case_of(header.sealed.body), self.beacon.epoch)
        return self.on_committed(self._own, header, neighbors)

    def take_approved(self) -> list[Certificate]:
        """Certificates of own updates that have just come about: to travel with these."""
        approved, self._own_approved = self._own_approved, []
        return approved

    @property
    def _wait_epochs(self) -> int:
        """Epochs between a commitment and its draw.

        None in a small swarm that votes as a whole: an author cannot choose its voters there, nor
        tell which segments they will redo.
        """
        peers = len(self.ledger.electorate(self.beacon.epoch).weights)
        votes_whole = self.is_gate and peers <= self._rules.whole_swarm_peers
        return 0 if votes_whole else _COMMIT_EPOCHS

    def on_tickets(self, message: Tickets, now_s: int) -> Effects:
        """Take tickets.

        Raises:
            RemoteProtocolError: `proof`.
        """
        try:
            self.beacon.on_tickets(message.tickets, now_s)
        except InvalidProof as error:
            raise RemoteProtocolError("proof", str(error)) from None
        return []

    def on_rumor(
        self, sender: PeerId, rumor: Rumor, now_s: int, neighbors: Sequence[PeerId]
    ) -> Effects:
        """Check, act, pass on.

        Raises:
            RemoteProtocolError: it is false, and whoever passed it on should have known.
        """
        others = [peer for peer in neighbors if peer != sender]
        match rumor:
            case Ballot():
                found = self._committee.on_vote(rumor.vote)
                return self._carry_out(found, others, rumor.hops - 1)
            case Case():
                return self._on_case(rumor, now_s, others)
            case Certificate():
                return self._on_certificate(sender, rumor, now_s, others)
            case Evidence():  # pragma: no branch (there is no other rumor)
                return self._on_evidence(sender, rumor, now_s, others)

    def on_audited(self, event: Audited, neighbors: Sequence[PeerId]) -> Effects:
        """An audit has ended: vote, or believe another's finding, or not."""
        found = self._committee.on_audited(event.case, event.draw, event.verdict)
        return self._carry_out(found, neighbors, self._rules.rumor_hops)

    def appeal(self, peer: PeerId) -> Effects:
        """Check a ban again."""
        return self._carry_out(self._committee.appeal(peer), (), 0)

    def on_refused(self, author: Verified[PeerRecord], header: Verified[UpdateHeader]) -> Effects:
        """A payload has values that no training gives: the end of its round convicts its author."""
        claim = header.body.claim
        if claim is None:
            return []
        draw = draw_of(claim.segments - 1)
        found = self._committee.suspect(author, header, draw, None, self.beacon.epoch)
        return self._carry_out(found, (), 0)

    def _remind(self, neighbors: Sequence[PeerId]) -> Effects:
        """Tell some neighbors of one of the bans that evidence was found for: rumors get lost."""
        epoch = self.beacon.epoch
        for peer in list(self._proofs):
            if not self.ledger.is_banned(peer, epoch):
                del self._proofs[peer]
        if not self._proofs:
            return []
        (proof,) = self._rng.sample(list(self._proofs.values()), 1)
        return self._pass_on(proof, neighbors, self._rules.rumor_hops)

    def _open_cases(self, neighbors: Sequence[PeerId]) -> Effects:
        """Of the updates committed two epochs ago, those that the last value has drawn."""
        epoch = self.beacon.epoch - 1
        candidates = self.beacon.candidates(epoch)
        if not candidates:
            return []
        value, wait = candidates[0], self._wait_epochs
        effects: Effects = []
        for identifier, held in list(self._held.items()):
            age = self.beacon.epoch - held.epoch
            if age > _COMMIT_EPOCHS:
                del self._held[identifier]
            elif age >= wait and is_sampled(value, identifier, self._rules.drawn_percent):
                effects += self._open(held.author, held.header, epoch, value, neighbors)
        return effects

    def _open(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        epoch: int,
        beacon: bytes,
        neighbors: Sequence[PeerId],
    ) -> Effects:
        if self._committee.knows(case_of(header.sealed.body), beacon):
            return []
        hops = self._rules.rumor_hops
        found = self._enter(author, header, epoch, beacon)
        case = Case(hops, author.sealed, header.sealed, epoch, beacon)
        return self._carry_out(found, neighbors, hops) + self._pass_on_case(case, neighbors, hops)

    def _enter(
        self,
        author: Verified[PeerRecord],
        header: Verified[UpdateHeader],
        epoch: int,
        beacon: bytes,
    ) -> list[Consequence]:
        held = self._held.get(case_of(header.sealed.body))
        is_committed = held is not None and held.epoch < epoch
        return self._committee.open(author, header, epoch, beacon, is_committed=is_committed)

    def _on_case(self, case: Case, now_s: int, neighbors: Sequence[PeerId]) -> Effects:
        opened = self._opened(case, now_s)
        if opened is None:
            return []
        found = self._enter(*opened, case.epoch, case.beacon)
        effects = self._carry_out(found, neighbors, self._rules.rumor_hops)
        return effects + self._pass_on_case(case, neighbors, case.hops - 1)

    def _pass_on_case(self, case: Case, neighbors: Sequence[PeerId], hops: int) -> Effects:
        """Not one that this peer did not take: it would pass on the same again and again."""
        if not self._committee.knows(case_of(case.header.body), case.beacon):
            return []
        return self._pass_on(case, neighbors, hops)

    def _on_certificate(
        self, sender: PeerId, certificate: Certificate, now_s: int, neighbors: Sequence[PeerId]
    ) -> Effects:
        """As the case, and then each of the votes: it is believed as far as they are."""
        if len(certificate.votes) == 1:
            found = self._on_accusation(sender, certificate, now_s)
            if found:
                return found
        effects: Effects = []
        opened = self._opened(certificate, now_s)
        if opened is not None:
            found = self._enter(*opened, certificate.epoch, certificate.beacon)
            effects += self._carry_out(found, neighbors, self._rules.rumor_hops)
        counts = False
        for sealed in certificate.votes:
            found = self._committee.on_vote(sealed)
            counts |= bool(found)
            effects += self._carry_out(found, neighbors, 0)
        if not counts:
            return effects
        return effects + self._pass_on(certificate, neighbors, certificate.hops - 1)

    def _on_accusation(self, sender: PeerId, certificate: Certificate, now_s: int) -> Effects:
        """One vote may be a false one of a fault, of whatever time: that is looked at."""
        author = self._open_author(certificate.author, now_s)
        if author is None:
            return []
        _, manifest_digest, payload_bytes, suite = self._opener
        header = open_header(certificate.header, author.body, manifest_digest, payload_bytes, suite)
        epoch = self.beacon.epoch
        found = self._committee.on_accusation(author, header, certificate, sender, epoch)
        return self._carry_out(found, (), 0)

    def _opened(
        self, case: Case | Certificate, now_s: int
    ) -> tuple[Verified[PeerRecord], Verified[UpdateHeader]] | None:
        """Author and header of a case that is new and was drawn, as far as this peer can tell."""
        identifier = case_of(case.header.body)
        if not self.beacon.epoch - 1 <= case.epoch <= self.beacon.epoch:
            return None
        if case.beacon not in self.beacon.candidates(case.epoch):
            return None
        if not is_sampled(case.beacon, identifier, self._rules.drawn_percent):
            return None
        if self._committee.knows(identifier, case.beacon):
            return None
        author = self._open_author(case.author, now_s)
        if author is None:
            return None
        _, manifest_digest, payload_bytes, suite = self._opener
        return author, open_header(case.header, author.body, manifest_digest, payload_bytes, suite)

    def _open_author(self, sealed: Sealed, now_s: int) -> Verified[PeerRecord] | None:
        """The record, unless it has expired: that may have happened on its way."""
        try:
            author = open_record(sealed, self._opener.run, self._opener.suite, now_s)
        except RemoteProtocolError as error:
            if error.reason == "expired":
                return None
            raise
        self.meet(author)
        return author

    def _on_evidence(
        self, sender: PeerId, evidence: Evidence, now_s: int, neighbors: Sequence[PeerId]
    ) -> Effects:
        """What proves by itself: believed by whoever has seen nothing else, or refused."""
        author = self._open_author(evidence.author, now_s)
        if author is None:
            return []
        if evidence.draw is not None:
            return self._on_fault(sender, author, evidence, evidence.draw)
        headers = [
            open_claim(sealed, author.body, self._opener.suite).body for sealed in evidence.headers
        ]
        reason = self._proven(evidence.headers, headers)
        if reason is None:
            raise RemoteProtocolError("evidence", "these headers contradict nothing")
        return self._convict(author, reason, headers[0].sequence, evidence, neighbors)

    def _on_fault(
        self, sender: PeerId, author: Verified[PeerRecord], evidence: Evidence, draw: bytes
    ) -> Effects:
        """A segment that is said to be false: this peer redoes it, and answers for itself."""
        peer, epoch = record_author(author.body), self.beacon.epoch
        if peer == self._own_id or self.ledger.is_banned(peer, epoch):
            return []
        _, manifest_digest, payload_bytes, suite = self._opener
        sealed = evidence.headers[0]
        header = open_header(sealed, author.body, manifest_digest, payload_bytes, suite)
        if len(evidence.headers) > 1 or header.body.claim is None:
            raise RemoteProtocolError("evidence", "no round of training to redo")
        found = self._committee.suspect(author, header, draw, sender, epoch)
        return self._carry_out(found, (), 0)

    def _proven(self, sealed: Sequence[Sealed], headers: Sequence[UpdateHeader]) -> str | None:
        if len(headers) == 1:
            form = (headers[0].manifest, headers[0].size)
            return None if form == self._opener[1:3] else "form"
        one, other = headers
        same = one.sequence == other.sequence and sealed[0].body != sealed[1].body
        return "equivocation" if same else None

    def _convict(
        self,
        author: Verified[PeerRecord],
        reason: str,
        sequence: int,
        evidence: Evidence,
        neighbors: Sequence[PeerId],
    ) -> Effects:
        peer = record_author(author.body)
        if peer == self._own_id or self.ledger.is_banned(peer, self.beacon.epoch):
            return []
        self.ledger.ban(peer, self.beacon.epoch)
        self._proofs[peer] = evidence
        digest = hashlib.sha256(b"".join(sealed.body for sealed in evidence.headers)).digest()
        return [
            Ban(peer, reason, digest, sequence),
            *self._pass_on(evidence, neighbors, evidence.hops - 1),
        ]

    def _carry_out(
        self, found: Iterable[Consequence], neighbors: Sequence[PeerId], hops: int
    ) -> Effects:
        effects: Effects = []
        for one in found:
            if isinstance(one, Spread):
                if one.convicts is not None and not isinstance(one.message, Ballot):
                    self._proofs[one.convicts] = one.message
                effects += self._pass_on(one.message, neighbors, hops)
                continue
            if isinstance(one, Approve):
                self._approve(one)
                continue
            if isinstance(one, Pardon):
                self._proofs.pop(one.peer, None)
            effects.append(one)
        return effects

    def _approve(self, approved: Approve) -> None:
        self._approved[approved.case] = None
        if self._pending is not None and self._pending.case == approved.case:
            self._pending = None
            certificate = msgspec.structs.replace(approved.certificate, hops=1)
            self._own_approved.append(certificate)

    def _pass_on(self, rumor: Rumor, neighbors: Sequence[PeerId], hops: int) -> Effects:
        """Tell some neighbors, unless it has come far enough."""
        if hops < 1:
            return []
        hops = min(hops, self._rules.rumor_hops)
        chosen = self._rng.sample(neighbors, self._rules.rumor_fanout)
        return [Send(peer, msgspec.structs.replace(rumor, hops=hops)) for peer in chosen]
