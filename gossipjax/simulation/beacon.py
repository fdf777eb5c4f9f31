"""Beacon machines of many peers that tell each other of tickets, and an adversary among them.

Without membership and updates: in every tick each peer tells `fanout` random others of its lowest
tickets, which is what the protocol makes of the neighbors of a real peer.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gossipjax.crypto.suite import insecure_suite
from gossipjax.protocol.beacon import BeaconMachine, Draw, beacon_input, ticket_value
from gossipjax.protocol.ledger import Ledger
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.participant import simulated_identity
from gossipjax.types import PeerId, RunId
from gossipjax.wire.envelope import record_author
from gossipjax.wire.messages import PeerRecord, Ticket

RUN = RunId(bytes(32))
EPOCH_S = 120
_START_S = 1_800_000_000


class Epoch(NamedTuple):
    """What an epoch has come to, measured at the end of the next one.

    Attributes:
        agreement: share of honest peers whose E is the most frequent one.
        acceptance: share of honest pairs of which one takes a draw under the other's E.
        adversarial: share of honest peers whose E is a ticket of the adversary.
    """

    agreement: float
    acceptance: float
    adversarial: float


class BeaconSwarm:
    """Honest peers, and identities of one adversary that knows everything and is always in time.

    Args:
        honest: honest peers, all of the same weight.
        adversarial: identities of the adversary, of that weight too.
        seed: of every random choice.
        ticks: exchanges in an epoch.
        fanout: peers that each tells in a tick.
        skew_s: clocks of honest peers are ahead or behind by up to so much.
        reaches: whether one honest peer can tell another; by index.
    """

    def __init__(
        self,
        honest: int,
        adversarial: int,
        seed: int,
        *,
        ticks: int = 20,
        fanout: int = 2,
        skew_s: int = 0,
        reaches: Callable[[int, int], bool] = lambda one, other: True,
    ):
        self.draws = Draws(seed, "beacon")
        self._suite = insecure_suite()
        self.honest = honest
        self.ticks = ticks
        self._fanout = fanout
        self._reaches = reaches
        self._skew_s = [self.draws.between(-skew_s, skew_s) for _ in range(honest)]
        self.now_s = _START_S - _START_S % EPOCH_S
        ledger = Ledger(
            (self.now_s - skew_s) // EPOCH_S, half_life=5040, founder_work=1000, ban_epochs=1
        )
        self.peers: list[BeaconMachine] = []
        self._seeds: dict[PeerId, bytes] = {}
        for number in range(honest + adversarial):
            identity = simulated_identity(seed, "beacon", number)
            public = identity.public
            record = PeerRecord(RUN, public.sign, public.vrf, public.transport, (), 1, 1 << 40)
            ledger.meet(record, (self.now_s - skew_s) // EPOCH_S)
            peer = record_author(record)
            if number < honest:
                self.peers.append(self._machine(peer, identity.vrf_seed, ledger, number))
            else:
                self._seeds[peer] = identity.vrf_seed
        self._ledger = ledger

    def parents(self, epoch: int) -> list[bytes]:
        """The values of an epoch that honest peers have, the most frequent first."""
        counted = Counter(peer.value_of(epoch) for peer in self.peers)
        return [value for value, _ in counted.most_common()]

    def adversarial_draws(self, epoch: int, parent: bytes) -> list[Draw]:
        """The tickets that the adversary can have under a parent, the lowest first."""
        draws: list[Draw] = []
        for peer, seed in self._seeds.items():
            proof, beta = self._suite.prove(seed, beacon_input(RUN, epoch, parent))
            weight = self._ledger.electorate(epoch).of(peer)
            ticket = Ticket(epoch, peer, parent, proof)
            draws.append(Draw(ticket_value(beta, weight), 0, beta, ticket))
        return sorted(draws, key=lambda draw: draw.value)

    def lowest_honest(self, epoch: int) -> Draw:
        """The lowest ticket of honest peers that any of them knows."""
        draws = [draw for peer in self.peers for draw in peer.draws_of(epoch)]
        honest = [draw for draw in draws if draw.ticket.peer not in self._seeds]
        return min(honest, key=lambda draw: draw.value)

    def tell(self, index: int, tickets: tuple[Ticket, ...]) -> None:
        """Say something to one honest peer."""
        self.peers[index].on_tickets(tickets, self.peer_now_s(index))

    def run_tick(self) -> None:
        """Everybody tells some others of what it knows."""
        self.now_s += EPOCH_S // self.ticks
        for index, peer in enumerate(self.peers):
            peer.advance(self.peer_now_s(index))
        for index, peer in enumerate(self.peers):
            offer = peer.offer(self.peer_now_s(index))
            if offer is None:
                continue
            for _ in range(self._fanout):
                other = self.draws.below(self.honest)
                if self._reaches(index, other):
                    self.tell(other, offer.tickets)

    def run_epoch(self, each_tick: Callable[[int], None] = lambda tick: None) -> None:
        """A whole epoch, from just after the beginning of one to that of the next."""
        for tick in range(self.ticks):
            each_tick(tick)
            self.run_tick()

    def measure(self, epoch: int) -> Epoch:
        """What an epoch before the present one has come to."""
        values = Counter(peer.value_of(epoch) for peer in self.peers)
        bad = self._values_of_adversary(epoch)
        accepted = sum(
            count * sum(value in peer.candidates(epoch) for peer in self.peers)
            for value, count in values.items()
        )
        return Epoch(
            agreement=max(values.values()) / self.honest,
            acceptance=accepted / self.honest**2,
            adversarial=sum(values[value] for value in bad) / self.honest,
        )

    def peer_now_s(self, index: int) -> int:
        """What the clock of an honest peer shows."""
        return self.now_s + self._skew_s[index]

    def _values_of_adversary(self, epoch: int) -> set[bytes]:
        return {
            draw.beta
            for peer in self.peers
            for draw in peer.draws_of(epoch)
            if draw.ticket.peer in self._seeds
        }

    def _machine(self, peer: PeerId, vrf_seed: bytes, ledger: Ledger, index: int) -> BeaconMachine:
        now_s = self.peer_now_s(index)
        return BeaconMachine(RUN, peer, vrf_seed, self._suite, ledger, epoch_s=EPOCH_S, now_s=now_s)
