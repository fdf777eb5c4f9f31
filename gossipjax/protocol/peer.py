"""`PeerMachine`: routes events to the machines of one peer and gathers their effects."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import NamedTuple

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.catch_up import CatchUpMachine
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.dissemination import DisseminationMachine
from gossipjax.protocol.effects import (
    Ban,
    Deliver,
    Disconnect,
    Effects,
    Learn,
    Pardon,
    Refuse,
)
from gossipjax.protocol.events import (
    Appealed,
    Audited,
    DeadlinePassed,
    Event,
    Inspected,
    Misbehaved,
    PeerConnected,
    PeerLost,
    Published,
    Received,
    RecordSigned,
    Stopping,
)
from gossipjax.protocol.ledger import LedgerMemory
from gossipjax.protocol.membership import MembershipMachine, part
from gossipjax.protocol.neighbor import Neighbor
from gossipjax.protocol.opening import Opener
from gossipjax.protocol.pace import Pace
from gossipjax.protocol.reachability import ReachabilityMachine
from gossipjax.protocol.relay import RelayMachine
from gossipjax.protocol.rng import SplitMix64
from gossipjax.protocol.rules import OFF, Rules
from gossipjax.protocol.transfer import Owed, Pulling
from gossipjax.protocol.uploads import UploadMachine
from gossipjax.protocol.verification import VerificationMachine
from gossipjax.types import Nanoseconds, PeerId, RunId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, record_author
from gossipjax.wire.merkle import leaf_hash
from gossipjax.wire.messages import (
    Alive,
    Ballot,
    Case,
    Certificate,
    Chunk,
    DataPort,
    DialBack,
    Evidence,
    Get,
    GetPeers,
    GetRound,
    GetSnapshots,
    Hello,
    Leave,
    Missing,
    Offer,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    Relay,
    Round,
    Snapshots,
    Suspect,
    Tickets,
    Undelivered,
)

_QUESTIONS = (Ping, GetPeers, Suspect, Hello)
_SECOND = 1_000_000_000


class _Faults(NamedTuple):
    """How often a peer was refused, and since when that is counted."""

    seen: int
    since_ns: Nanoseconds


class PeerMachine:
    """The whole protocol of one peer as one deterministic object.

    Outputs are a function of the arguments given here and of the history of `handle` calls.

    Accepts: every `Event`.
    Emits: every `Effect`.
    Keeps true: nothing that a peer sends raises; whatever is refused is reported as `Refuse`.

    Args:
        config: parameters.
        record: the own peer record.
        manifest_digest: digest of this run's manifest.
        payload_bytes: size of every payload of this run.
        suite: signatures and digests.
        seed: of every random choice; 64 bits that nobody else knows.
        identity: the own keys, for tickets and votes; not needed when the rules verify nothing.
        rules: of the run, on verification.
        bootstrap: addresses to join by; empty for the first peer of a run.
        book: records remembered from an earlier life.
        memory: the ledger of an earlier life; with it bans go on.
        version: model version to begin with.
        epoch_s: Unix time in seconds at protocol time 0; for the expiry of records and for epochs.
        hash_leaf: how a received chunk is hashed; a replay, which has no chunks, knows the result.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        record: Verified[PeerRecord],
        *,
        manifest_digest: bytes,
        payload_bytes: int,
        suite: CryptoSuite,
        seed: int,
        identity: Identity | None = None,
        rules: Rules = OFF,
        bootstrap: Iterable[Address] = (),
        book: Iterable[Verified[PeerRecord]] = (),
        memory: LedgerMemory | None = None,
        version: int = 0,
        epoch_s: int = 0,
        hash_leaf: Callable[[bytes | memoryview], bytes] = leaf_hash,
    ):
        self.id = record_author(record.body)
        self._config = config
        self._rng = SplitMix64(int.from_bytes(_derive(seed, b"gossipjax.draws"), "little"))
        self._version = version
        self._epoch_s = epoch_s
        self._faults = BoundedDict[PeerId, _Faults](config.book_size)
        self._banned_until_ns = BoundedDict[PeerId, Nanoseconds](config.book_size)
        self._membership = MembershipMachine(
            config,
            record,
            suite,
            self._rng,
            secret=_derive(seed, b"gossipjax.views"),
            bootstrap=bootstrap,
            book=book,
            epoch_s=epoch_s,
        )
        self._uploads = UploadMachine(config, record.sealed)
        self._opener = Opener(RunId(record.body.run), manifest_digest, payload_bytes, suite)
        pulling = Pulling(Pace(config.book_size), Owed(), hash_leaf)
        self._dissemination = DisseminationMachine(config, pulling)
        self._relay = RelayMachine(config, self._rng)
        self._reachability = ReachabilityMachine(config, record.body, self._rng)
        self._catch_up = CatchUpMachine(
            config,
            self._opener,
            self._rng,
            pulling,
            joins_others=self._membership.joins_others,
        )
        self._rules = rules
        self._verification: VerificationMachine | None = None
        if rules.policy != "off":
            if identity is None:
                raise LocalProtocolError("a peer that verifies draws and votes: pass its identity")
            self._verification = VerificationMachine(
                rules, self._opener, record, identity, self._rng, epoch_s, memory
            )
            for peer, end in self._verification.ledger.banned(epoch_s // rules.epoch_s).items():
                self._banned_until_ns[peer] = (end * rules.epoch_s - epoch_s) * _SECOND
            for remembered in book:
                self._verification.meet(remembered)
        timed = (self._dissemination, self._uploads, self._catch_up, self._relay)
        self._timed = timed if self._verification is None else (*timed, self._verification)

    @property
    def next_deadline_ns(self) -> Nanoseconds:
        """When the shell should hand in `DeadlinePassed`, if nothing else happens before."""
        earliest_ns = self._membership.next_deadline_ns
        for machine in self._timed:
            deadline_ns = machine.next_deadline_ns
            if deadline_ns is not None and deadline_ns < earliest_ns:
                earliest_ns = deadline_ns
        return earliest_ns

    @property
    def neighbors(self) -> dict[PeerId, Neighbor]:
        """Connected peers, for display."""
        return self._membership.neighbors

    def has_chosen(self, peer: PeerId) -> bool:
        """Whether this peer has chosen a neighbor itself, for display."""
        return self._membership.is_chosen(peer)

    def audience(self) -> list[PeerId]:
        """Draw whom an update would be offered to; changes what is drawn next."""
        return self._membership.audience()

    @property
    def has_caught_up(self) -> bool:
        """Whether this peer's parameters count."""
        return self._catch_up.is_done

    @property
    def donors(self) -> list[PeerId]:
        """Of whom the update is pulled that this peer catches up with, for display."""
        return self._catch_up.donors

    @property
    def is_reachable(self) -> bool | None:
        """Whether others can open connections to this peer; None while that is not known."""
        return self._reachability.is_reachable

    @property
    def verification(self) -> VerificationMachine | None:
        """Beacon and ledger, for display; None when this run verifies nothing."""
        return self._verification

    def handle(self, event: Event, now_ns: Nanoseconds) -> Effects:
        """Take one event; return what to do, in order. Never raises because of a peer."""
        effects = self._handle(event, now_ns)
        return effects if self._verification is None else self._follow_up(effects, now_ns)

    def _handle(self, event: Event, now_ns: Nanoseconds) -> Effects:
        match event:
            case Received():
                return self._received(event, now_ns)
            case DeadlinePassed():
                return self._tick(now_ns)
            case Published():
                return self._published(event)
            case Inspected():
                return self._inspected(event, now_ns)
            case PeerConnected():
                return self._connected(event, now_ns)
            case PeerLost():
                self._membership.lost(event.peer, now_ns)
                return self._forget(event.peer, now_ns)
            case Misbehaved():
                return self._refuse(event.sender, event.reason, now_ns)
            case RecordSigned():
                return self._membership.record_signed(event.record, now_ns)
            case Audited() if self._verification is not None:
                trusted = self._membership.trusted_neighbors()
                return self._charge(self._verification.on_audited(event, trusted), now_ns)
            case Appealed() if self._verification is not None:
                return self._verification.appeal(event.peer)
            case Audited() | Appealed():
                return []
            case Stopping():  # pragma: no branch (there is no other event)
                return [effect for peer in self.neighbors for effect in part(peer, "stopping")]

    def _received(self, event: Received, now_ns: Nanoseconds) -> Effects:
        neighbor = self.neighbors.get(event.sender)
        if neighbor is None:  # usually a last message of somebody who was just dropped
            return [Disconnect(event.sender, "not a neighbor")]
        neighbor.heard(now_ns)
        try:
            effects = self._dispatch(neighbor, event, now_ns)
        except RemoteProtocolError as error:
            return self._refuse(event.sender, error.reason, now_ns)
        return self._charge(effects, now_ns)

    def _dispatch(self, neighbor: Neighbor, event: Received, now_ns: Nanoseconds) -> Effects:
        sender, message, data = event.sender, event.message, event.data
        if isinstance(message, _QUESTIONS):
            self._membership.admit_question(sender, now_ns)
        match message:  # most frequent first
            case Ping():
                return self._membership.on_ping(sender, message, self._claim)
            case Pong():
                return self._membership.on_pong(sender, message, now_ns)
            case Chunk() if data is not None:
                catching_up = self._catch_up.expects(message.root)
                machine = self._catch_up if catching_up else self._dissemination
                return machine.on_chunk(sender, message, data, now_ns)
            case Get():
                return self._uploads.on_get(sender, message, now_ns)
            case Offer():
                return self._offered(sender, neighbor.record, message, now_ns)
            case Missing():
                effects = self._catch_up.on_missing(sender, message, now_ns)
                return effects + self._dissemination.on_missing(sender, message, now_ns)
            case GetPeers():
                return self._membership.on_get_peers(sender, now_ns)
            case Peers():
                effects = self._membership.on_peers(sender, message, now_ns)
                self._relay.told(sender, self._membership.known(message.records))
                return effects
            case GetSnapshots():
                return self._uploads.on_get_snapshots(sender)
            case Snapshots():
                return self._catch_up.on_snapshots(
                    sender, message, self._versions(), self._version, self._now_s(now_ns), now_ns
                )
            case Suspect():
                return self._membership.on_suspect(sender, message, now_ns)
            case Alive():
                return self._parted(self._membership.on_alive(sender, message, now_ns), now_ns)
            case Tickets() | Case() | Ballot() | Evidence() | Certificate():
                return self._verify(sender, message, now_ns)
            case Leave():
                return self._parted(self._membership.on_leave(sender, now_ns), now_ns)
            case Hello():
                return self._membership.on_hello(sender, message, now_ns)
            case Relay() if data is not None:
                return self._relay.on_relay(sender, message, data, self.neighbors, now_ns)
            case Undelivered():
                if not self._relay.on_undelivered(sender, message):
                    return []
                peer = PeerId(message.target)
                self._membership.lost(peer, now_ns)
                return self._parted([Disconnect(peer, "its relay is gone")], now_ns)
            case DialBack():
                return self._reachability.on_dial_back(sender, neighbor.record.body, now_ns)
            case GetRound() | Round() | DataPort():  # audits and connections are the shell's
                return []
            case Chunk() | Relay():  # pragma: no branch (there is no other message)
                raise RemoteProtocolError("malformed", f"{message} without data")

    def _now_s(self, now_ns: Nanoseconds) -> int:
        return self._epoch_s + now_ns // _SECOND

    def _verify(
        self,
        sender: PeerId,
        message: Tickets | Case | Ballot | Evidence | Certificate,
        now_ns: Nanoseconds,
    ) -> Effects:
        if self._verification is None:
            return []
        now_s = self._now_s(now_ns)
        if isinstance(message, Tickets):
            return self._verification.on_tickets(message, now_s)
        trusted = self._membership.trusted_neighbors()
        return self._verification.on_rumor(sender, message, now_s, trusted)

    def _follow_up(self, effects: Effects, now_ns: Nanoseconds) -> Effects:
        """Part with those who were banned; give verification the records that were learned."""
        assert self._verification is not None
        more: Effects = []
        for effect in effects:
            if isinstance(effect, Learn):
                self._verification.meet(effect.record)
            elif isinstance(effect, Ban):
                ban_ns = self._rules.ban_epochs * self._rules.epoch_s * _SECOND
                more += self._shut_out(effect.peer, ban_ns, now_ns)
            elif isinstance(effect, Pardon):
                self._banned_until_ns.pop(effect.peer, None)
        for certificate in self._verification.take_approved():
            more += self._uploads.offer_certified(certificate, self.audience())
        return effects + more if more else effects

    def _offered(
        self, sender: PeerId, author: Verified[PeerRecord], offer: Offer, now_ns: Nanoseconds
    ) -> Effects:
        header = self._opener.header(offer.header, author.body)
        claim = header.body.claim
        if self._rules.claims and claim is None:
            raise RemoteProtocolError("claim", "the update claims no round of training")
        if self._verification is not None:
            if claim is not None and not self._verification.accepts_draw(claim):
                return []  # the samples of the round may have been chosen, or peers differ
            trusted = self._membership.trusted_neighbors()
            effects = self._verification.on_signed(author, header, trusted)
            if effects:
                return effects
            if self._verification.is_gate and not self._verification.is_approved(header):
                return self._verification.on_committed(author, header, trusted)
        self._membership.note_version(sender, header.body.version)
        if not self._catch_up.is_done:  # its downlink is for the update that it adopts
            return []
        return self._dissemination.on_offer(author, header, now_ns)

    def _published(self, event: Published) -> Effects:
        self._version = event.update.header.body.version
        if not self._catch_up.may_offer(self._version):
            return []
        opened: Effects | None = []
        if self._verification is not None and self._verification.is_gate:
            trusted = self._membership.trusted_neighbors()
            opened = self._verification.commit(event.update.header, trusted)
        return (
            [] if opened is None else self._uploads.publish(event.update, self.audience()) + opened
        )

    def _inspected(self, event: Inspected, now_ns: Nanoseconds) -> Effects:
        banned = self._is_banned(event.author, now_ns)
        catching_up = self._catch_up.expects(event.root)
        if catching_up:
            is_good = event.refusal is None and not banned
            transfer = self._catch_up.inspected(is_good=is_good)
        else:
            transfer = self._dissemination.inspected(event.author, event.root)
        if transfer is None:
            return []
        effects = self._dissemination.start_waiting(now_ns)
        if event.refusal is not None:
            effects += self._refuse(event.author, event.refusal, now_ns)
            if event.refusal == "nonfinite" and self._verification is not None:
                effects += self._verification.on_refused(transfer.author, transfer.header)
            return effects
        if banned:
            return effects
        self._forgive(event.author)
        self._uploads.keep(transfer)
        header = transfer.header
        author = self.neighbors.get(event.author)
        if self._verification is not None and author is not None:
            self._verification.on_taken(author.record, header)
        adopt = catching_up and self._catch_up.adopts(header.body.version, self._version)
        self._dissemination.note_taken(header.body)
        return [Deliver(header, adopt), *effects]

    def _connected(self, event: PeerConnected, now_ns: Nanoseconds) -> Effects:
        peer = record_author(event.record.body)
        if event.relay is None:
            self._reachability.connected(now_ns, dialled=event.dialled)
        if self._is_banned(peer, now_ns):
            return part(peer, "banned for a while")
        known = self.neighbors.get(peer)
        effects = self._membership.connected(
            event.record,
            self._claim,
            now_ns,
            endpoint=event.endpoint,
            dialled=event.dialled,
        )
        effects = self._parted(effects, now_ns)
        neighbor = self.neighbors.get(peer)
        if known is not None and neighbor is not known:  # it has restarted
            effects += self._forget(peer, now_ns)
        if neighbor is None:
            return effects
        self._relay.connected(peer, event.relay)
        return effects if neighbor is known else effects + self._catch_up.connected(peer, now_ns)

    def _tick(self, now_ns: Nanoseconds) -> Effects:
        pause_ns = self._membership.own_pause_ns(now_ns)
        if pause_ns:
            self._membership.excuse(pause_ns, now_ns)
            self._dissemination.excuse(pause_ns, now_ns)
            self._catch_up.excuse(pause_ns, now_ns)
        effects = self._parted(self._membership.tick(self._claim, now_ns), now_ns)
        effects += self._relay.tick(self.neighbors, self._membership.places, now_ns)
        if self._reachability.is_due(now_ns):
            direct = [peer for peer in self.neighbors if self._relay.is_direct(peer)]
            effects += self._reachability.tick(direct, now_ns)
        effects += self._uploads.tick(now_ns)
        exchange = self._dissemination.tick(now_ns)
        if not self._catch_up.is_done:
            exchange += self._catch_up.tick(self._versions(), self._version, now_ns)
        effects += self._charge(exchange, now_ns)
        if self._verification is not None:
            trusted = self._membership.trusted_neighbors()
            effects += self._verification.tick(self._now_s(now_ns), now_ns, trusted)
        return effects

    @property
    def _claim(self) -> int:
        """The version that others are told: 0 as long as it does not count."""
        return self._version if self._catch_up.is_done else 0

    def _versions(self) -> dict[PeerId, int]:
        return {
            peer: neighbor.version
            for peer, neighbor in self.neighbors.items()
            if neighbor.version is not None and not neighbor.suspected
        }

    def _forget(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """A peer is gone: expect nothing of it, and keep nothing for it."""
        self._relay.lost(peer)
        self._uploads.lost(peer)
        effects = self._dissemination.lost(peer, now_ns)
        return effects + self._catch_up.lost(peer, now_ns)

    def _parted(self, effects: Effects, now_ns: Nanoseconds) -> Effects:
        """Add what follows from the end of connections among `effects`."""
        gone = [effect.peer for effect in effects if isinstance(effect, Disconnect)]
        for peer in gone:
            effects = effects + self._forget(peer, now_ns)
        return effects

    def _is_banned(self, peer: PeerId, now_ns: Nanoseconds) -> bool:
        return self._banned_until_ns.get(peer, 0) > now_ns

    def _charge(self, effects: Effects, now_ns: Nanoseconds) -> Effects:
        """Add the consequences of the refusals among `effects`."""
        if not effects:
            return effects
        charged: Effects = []
        for effect in effects:
            if isinstance(effect, Refuse):
                charged += self._refuse(effect.peer, effect.reason, now_ns)
            else:
                charged.append(effect)
        return charged

    def _forgive(self, peer: PeerId) -> None:
        """A good update makes up for one fault: what a bad network does is no malice."""
        faults = self._faults.get(peer)
        if faults is not None and faults.seen > 1:
            self._faults[peer] = faults._replace(seen=faults.seen - 1)
        elif faults is not None:
            del self._faults[peer]

    def _refuse(self, peer: PeerId, reason: str, now_ns: Nanoseconds) -> Effects:
        """Count a fault; after `faults_max` of them ban the peer for `ban_ns`."""
        effects: Effects = [Refuse(peer, reason)]
        if reason == "stalled":  # slowness is none
            return effects
        faults = self._faults.get(peer, _Faults(0, now_ns))
        if now_ns - faults.since_ns >= self._config.fault_memory_ns:
            faults = _Faults(0, now_ns)
        self._faults[peer] = faults = faults._replace(seen=faults.seen + 1)
        if faults.seen < self._config.faults_max:
            return effects
        del self._faults[peer]
        return effects + self._shut_out(peer, self._config.ban_ns, now_ns)

    def _shut_out(self, peer: PeerId, ban_ns: Nanoseconds, now_ns: Nanoseconds) -> Effects:
        self._banned_until_ns[peer] = now_ns + ban_ns
        effects: Effects = []
        if peer in self.neighbors:
            self._membership.lost(peer, now_ns, ban_ns)
            effects += part(peer, "banned for a while")
        return effects + self._forget(peer, now_ns)


def _derive(seed: int, purpose: bytes) -> bytes:
    """A seed for one purpose: what is guessed from the choices of one tells nothing of another."""
    return blake2b(seed.to_bytes(8, "little"), person=purpose, digest_size=16).digest()
