"""Who is there: joining, keep-alives, suspicion, peer exchange, re-dialling when cut off."""

from collections.abc import Iterable

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.audience import near_and_random
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Disconnect, Effects, Send
from gossipjax.protocol.neighbor import Neighbor
from gossipjax.protocol.places import Places
from gossipjax.protocol.records import Records
from gossipjax.protocol.rng import SplitMix64
from gossipjax.protocol.suspicion import Suspicions
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire import limits
from gossipjax.wire.address import Address, network_of
from gossipjax.wire.envelope import Verified, record_author
from gossipjax.wire.messages import (
    Alive,
    GetPeers,
    Hello,
    Leave,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    Sealed,
    Suspect,
)

_RELAYED = b""  # the network of all that are reached through a relay
_GUEST_TURNS = 3  # one partner in three is a guest
_QUESTIONS_PER_PROBE = 4  # that a neighbor may ask, on average, per `probe_interval_ns`


class MembershipMachine:
    """Chooses half of `view_size` neighbors, takes in others as guests, keeps a book of the rest.

    Accepts: connections made and lost, `Ping`, `Pong`, `GetPeers`, `Peers`, `Suspect`, `Alive`,
    `Hello`, `Leave`, deadlines, new own records.
    Emits: `Connect`, `Disconnect`, `Learn`, `Forget`, `SignRecord`, `Refuse`, and the answers.
    Keeps true: a neighbor has been heard within `dead_after_ns`, not counting pauses of this very
    process; the own peer is never a neighbor; there are at most `neighbors_max` neighbors, and half
    of `view_size` of these places are for those whom this peer chooses itself.

    Args:
        config: parameters.
        own: the own record.
        suite: signatures.
        rng: random choices that others may guess.
        secret: of the ranks of others, which nobody may guess.
        bootstrap: addresses to join by.
        book: records remembered from an earlier life.
        epoch_s: Unix time at protocol time 0.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        own: Verified[PeerRecord],
        suite: CryptoSuite,
        rng: SplitMix64,
        *,
        secret: bytes,
        bootstrap: Iterable[Address] = (),
        book: Iterable[Verified[PeerRecord]] = (),
        epoch_s: int = 0,
    ):
        self._config = config
        self._rng = rng
        self._own_id = record_author(own.body)
        self._next_probe_ns: Nanoseconds = 0
        self._next_gossip_ns: Nanoseconds = 0
        self._next_renewal_ns: Nanoseconds = 0
        self.neighbors: dict[PeerId, Neighbor] = {}
        self._records = Records(config, own, suite, rng, self.neighbors, epoch_s)
        for record in book:
            self._records.learn(record_author(record.body), record, None)
        own_key = own.body.transport_key
        others = [address for address in bootstrap if address.transport_key != own_key]
        self.joins_others = bool(others or len(self._records.book))
        self._places = Places(
            config, own_key, rng, secret, others, self._records.book, self.neighbors
        )
        self._suspicions = Suspicions(
            self._own_id, own.body.sequence, config.probe_interval_ns, self.neighbors
        )

    # ---- what the other machines ask -----------------------------------------------------------

    @property
    def next_deadline_ns(self) -> Nanoseconds:
        """When `tick` has something to do."""
        return min(
            self._next_probe_ns,
            self._next_gossip_ns,
            self._next_renewal_ns,
            self._places.next_ns,
        )

    @property
    def places(self) -> int:
        """How many more neighbors this peer looks for."""
        return self._places.free

    def known(self, records: Iterable[Sealed]) -> list[Verified[PeerRecord]]:
        """Those of received records that are in the book, or newer ones of the same peers."""
        return self._records.known(records)

    def own_pause_ns(self, now_ns: Nanoseconds) -> Nanoseconds:
        """For how long this process did not run; 0 when that is less than `probe_interval_ns`."""
        late_ns = now_ns - self._next_probe_ns
        return late_ns if late_ns > self._config.probe_interval_ns else 0

    def excuse(self, pause_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Do not count a pause of this process as the silence of others."""
        for neighbor in self.neighbors.values():
            neighbor.last_heard_ns = min(neighbor.last_heard_ns + pause_ns, now_ns)

    def trusted_neighbors(self) -> list[PeerId]:
        """Neighbors that are not suspected to be gone."""
        return [peer for peer, neighbor in self.neighbors.items() if not neighbor.suspected]

    def is_chosen(self, peer: PeerId) -> bool:
        """Whether this peer has chosen a neighbor itself; else it is a guest."""
        return peer in self._places.chosen

    def partners(self, count: int) -> list[PeerId]:
        """So many random neighbors to exchange with, not suspected ones: two in three chosen ones.

        One in three is a guest, for those who can be reached in no other way. Where one kind is
        missing the other takes its turn.
        """
        trusted, has_slot = self.trusted_neighbors(), self._places.chosen
        chosen = self._rng.sample([p for p in trusted if p in has_slot], count)
        guests = self._rng.sample([p for p in trusted if p not in has_slot], count)
        partners: list[PeerId] = []
        for _ in range(min(count, len(chosen) + len(guests))):
            is_guest = self._rng.below(_GUEST_TURNS) == 0
            first, second = (guests, chosen) if is_guest else (chosen, guests)
            partners.append((first or second).pop())
        return partners

    def audience(self) -> list[PeerId]:
        """Whom to offer an update to, as the parameter `offer_to` says."""
        config = self._config
        if config.offer_to == "random":
            return self.partners(config.fanout)
        trusted = {peer: self.neighbors[peer] for peer in self.trusted_neighbors()}
        if config.offer_to == "near":
            return near_and_random(trusted, self.partners(1), config.fanout, self._rng)
        listed = [PeerId(bytes.fromhex(text)) for text in config.offer_to]
        return [peer for peer in listed if peer in trusted]

    # ---- connections ---------------------------------------------------------------------------

    def connected(
        self,
        record: Verified[PeerRecord],
        version: int,
        now_ns: Nanoseconds,
        *,
        endpoint: str,
        dialled: bool,
    ) -> Effects:
        """A connection is up: greet with the own version, and ask for others."""
        peer = record_author(record.body)
        if peer == self._own_id:
            return [Disconnect(peer, "this is the peer itself")]
        effects = self._learned(self._records.learn(peer, record, None), now_ns)
        network = network_of(endpoint) if endpoint else _RELAYED
        known = self.neighbors.get(peer)
        if known is not None and known.record.body.sequence >= record.body.sequence:
            neighbor = known  # both have dialled, or it has reconnected
            known.heard(now_ns)
        else:
            neighbor = self.neighbors[peer] = Neighbor(record, network, now_ns)
            neighbor.answers_due = 1  # also unasked: one that has no room tells of others
        if dialled:
            neighbor.network = network
        else:
            neighbor.has_dialled = True
        replaced = self._places.connected(peer, neighbor)
        parted = self._make_room([replaced] if replaced is not None else [], now_ns, newcomer=peer)
        if neighbor is known or peer not in self.neighbors:
            return effects + parted
        effects.append(Send(peer, self._ping(neighbor, version, now_ns)))
        return [*effects, self._ask_for_peers(peer), *parted]

    def lost(self, peer: PeerId, now_ns: Nanoseconds, wait_ns: Nanoseconds | None = None) -> None:
        """A neighbor is gone; dial it again after `wait_ns`, by default soon."""
        neighbor = self.neighbors.pop(peer, None)
        if neighbor is None:
            return
        if wait_ns is None:
            wait_ns = self._rng.jittered(self._config.retry_min_ns)
        self._places.lost(peer, neighbor.record.body.transport_key, wait_ns, now_ns)

    # ---- messages ------------------------------------------------------------------------------

    def admit_question(self, peer: PeerId, now_ns: Nanoseconds) -> None:
        """Take a message that costs an answer, unless there have been too many.

        Raises:
            RemoteProtocolError: (`rate`) more than an honest neighbor has to ask.
        """
        interval_ns = self._config.probe_interval_ns // _QUESTIONS_PER_PROBE
        burst = self._config.questions_max
        if not self.neighbors[peer].allowance.takes(burst, interval_ns, now_ns):
            raise RemoteProtocolError(
                "rate", f"at most {burst} questions at once, then one per {interval_ns / 1e9:g} s"
            )

    def on_ping(self, peer: PeerId, ping: Ping, version: int) -> Effects:
        """Answer, and note how far the peer is."""
        self._note_keep_alive(peer, ping)
        return [Send(peer, Pong(ping.nonce, version, self._suspicions.incarnation))]

    def on_pong(self, peer: PeerId, pong: Pong, now_ns: Nanoseconds) -> Effects:
        """Note how far the peer is, in steps and in time."""
        self.neighbors[peer].answered(now_ns)
        self._note_keep_alive(peer, pong)
        return []

    def note_version(self, peer: PeerId, version: int) -> None:
        """Remember how far a neighbor is; its offers tell too, and a busy link is not probed."""
        self.neighbors[peer].version = version

    def on_get_peers(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """Tell of neighbors, and of others."""
        return [self._records.tell(peer, self._places.chosen, now_ns)]

    def on_peers(self, peer: PeerId, message: Peers, now_ns: Nanoseconds) -> Effects:
        """Keep the records that verify; a false one is refused and charged to whoever sent it.

        Raises:
            RemoteProtocolError: (`unsolicited`) nobody asked.
        """
        neighbor = self.neighbors[peer]
        if not neighbor.answers_due:
            raise RemoteProtocolError("unsolicited", "peer records that nobody asked for")
        neighbor.answers_due -= 1
        return self._learned(self._records.told(peer, message.records, now_ns), now_ns)

    def on_hello(self, peer: PeerId, hello: Hello, now_ns: Nanoseconds) -> Effects:
        """A neighbor introduces itself again: its record has been renewed.

        Raises:
            RemoteProtocolError: it is none, or no newer one.
        """
        return self._records.renewed(peer, hello, now_ns)

    def on_suspect(self, peer: PeerId, suspect: Suspect, now_ns: Nanoseconds) -> Effects:
        """A neighbor does not hear this peer, or another neighbor."""
        return self._suspicions.on_suspect(peer, suspect, now_ns)

    def on_alive(self, peer: PeerId, alive: Alive, now_ns: Nanoseconds) -> Effects:
        """A suspicion is refuted: if others hear a silent neighbor, the link to it is broken.

        So it is dropped at once and dialled again, instead of when it counts as dead. One that
        cannot be dialled is waited for.
        """
        effects, cut_off = self._suspicions.on_alive(peer, alive)
        if cut_off is None or not self.neighbors[cut_off].record.body.addresses:
            return effects
        self.lost(cut_off, now_ns)
        return [*effects, Disconnect(cut_off, "silent, but others hear it")]

    def on_leave(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """The peer goes, or has no room: do not come back to it at once."""
        self.lost(peer, now_ns, self._config.retry_max_ns)
        return [Disconnect(peer, "it left")]

    def record_signed(self, record: Verified[PeerRecord], now_ns: Nanoseconds) -> Effects:
        """This peer has a newer record."""
        return self._records.signed(record, now_ns)

    # ---- time ----------------------------------------------------------------------------------

    def tick(self, version: int, now_ns: Nanoseconds) -> Effects:
        """Probe, drop the dead, look for more neighbors."""
        effects: Effects = []
        if now_ns >= self._next_probe_ns:
            self._next_probe_ns = now_ns + self._config.probe_interval_ns
            effects += self._probe(version, now_ns)
            effects += self._records.sign(now_ns)
        if now_ns >= self._next_gossip_ns:
            self._next_gossip_ns = now_ns + self._config.gossip_peers_interval_ns
            effects += self._places.look_for_missing(now_ns)
            effects += [self._ask_for_peers(peer) for peer in self.partners(1)]
        if now_ns >= self._next_renewal_ns:
            self._next_renewal_ns = now_ns + self._rng.jittered(self._config.renew_interval_ns)
            self._places.renew(now_ns)
            effects += self._records.keep_neighbors()
        if now_ns >= self._places.next_ns:
            dialled, demoted = self._places.fill(self._records.now_s(now_ns), now_ns)
            effects += [*dialled, *self._make_room(demoted, now_ns)]
        return effects

    def _probe(self, version: int, now_ns: Nanoseconds) -> Effects:
        effects: Effects = []
        for peer, neighbor in list(self.neighbors.items()):
            silence_ns = now_ns - neighbor.last_heard_ns
            if silence_ns >= self._config.dead_after_ns:
                self.lost(peer, now_ns)
                self._places.miss(peer)
                effects += part(peer, f"silent for {silence_ns / 1e9:.1f} s")
                continue
            neighbor.suspected = silence_ns >= self._config.suspect_after_ns
            if silence_ns < self._config.probe_interval_ns // 2:
                continue  # it has probed this peer, so it need not be probed
            effects.append(Send(peer, self._ping(neighbor, version, now_ns)))
        return effects + self._ask_witnesses()

    def _ask_witnesses(self) -> Effects:
        """Ask about those who are suspected; nobody about more than one of them at a time."""
        suspected = [peer for peer, neighbor in self.neighbors.items() if neighbor.suspected]
        witnesses = self.partners(self._config.witnesses * len(suspected))
        return [
            self._suspicions.question(suspected[number % len(suspected)], witness)
            for number, witness in enumerate(witnesses)
        ]

    # ---- details -------------------------------------------------------------------------------

    def _ask_for_peers(self, peer: PeerId) -> Send:
        self.neighbors[peer].answers_due += 1
        return Send(peer, GetPeers())

    def _make_room(
        self, replaced: list[PeerId], now_ns: Nanoseconds, newcomer: PeerId | None = None
    ) -> Effects:
        """Part with those who lost their slots and have not dialled, and with a guest too many.

        A newcomer for whom there is no room is told of others first: it may know nobody else.
        """
        effects: Effects = []
        for peer in replaced:
            if not self.neighbors[peer].has_dialled:
                self.lost(peer, now_ns, self._config.retry_max_ns)
                effects += part(peer, "another neighbor was chosen")
        if len(self.neighbors) - len(self._places.chosen) > self._places.guests_max:
            peer = self._places.worst_guest()
            if peer == newcomer:
                effects += self.on_get_peers(peer, now_ns)
            self.lost(peer, now_ns, self._config.retry_max_ns)
            effects += part(peer, "no room for another neighbor")
        return effects

    def _learned(self, effects: Effects, now_ns: Nanoseconds) -> Effects:
        """Look at new candidates."""
        if effects:
            self._places.look_soon(now_ns)
        return effects

    def _note_keep_alive(self, peer: PeerId, message: Ping | Pong) -> None:
        self.neighbors[peer].version = message.version
        self._suspicions.note(self.neighbors[peer], message.incarnation)

    def _ping(self, neighbor: Neighbor, version: int, now_ns: Nanoseconds) -> Ping:
        neighbor.pinged_ns = now_ns
        nonce = self._rng.below(limits.INTEGER_MAX)
        return Ping(nonce, version, self._suspicions.incarnation)


def part(peer: PeerId, reason: str) -> Effects:
    """Say why, so that the other side need not wait for silence, and close the connection."""
    return [Send(peer, Leave(reason)), Disconnect(peer, reason)]
