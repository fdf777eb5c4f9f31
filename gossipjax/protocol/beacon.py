"""A value per epoch that nobody could foresee or choose, without agreement: the lowest ticket.

Time is cut into epochs by Unix time. In each, every peer with weight draws a ticket,

    beta    = VRF_i("gossipjax/v1/beacon" ‖ 0x00 ‖ run ‖ u64 e ‖ E(e-1))
    value   = min over units m = 1 … w_i of SHA-512(beta ‖ u32 m)

and the `TICKETS_KEPT` tickets with the lowest values travel from neighbor to neighbor. E(e) is the
beta of the best one that a peer knows at the end of e. Two peers may know different ones, so a draw
counts with whoever has the value that it hangs on among its lowest; a ticket counts when its parent
does. The best is the lowest, but a ticket whose parent is not the peer's own E(e-1) has a handicap:
else whoever draws under all parents and shows the best would have three draws.
"""

import hashlib
from collections import deque
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from typing import NamedTuple

from gossipjax.crypto.committee_size import census_alarm
from gossipjax.crypto.sortition import UNIFORM_BITS
from gossipjax.crypto.suite import CryptoSuite
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.ledger import Ledger
from gossipjax.types import PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.messages import Ticket, Tickets

EPOCHS_KEPT = 6
CENSUS_EPOCHS = 20
CENSUS_FALSE_ALARM = 1e-6
_SKEW_PARTS = 4  # clocks may differ by a quarter of an epoch
_PREVIOUS_PARTS = 4  # tickets of the last epoch are told of in the first quarter of the next
_CENSUS_BITS = 32
_SEEN_MAX = 1024
_LATE_KEPT = 2 * limits.TICKETS_KEPT
_DOMAIN = b"gossipjax/v1/beacon\0"
_EMPTY_DOMAIN = b"gossipjax/v1/beacon-empty\0"


class Draw(NamedTuple):
    """A ticket that was found to be true.

    Attributes:
        value: a 512-bit number; the lowest are passed on.
        rank: of its parent among the values of the epoch before, 0 for this peer's own.
        beta: output of the verifiable random function: what E becomes.
        ticket: as it is passed on.
    """

    value: int
    rank: int
    beta: bytes
    ticket: Ticket

    @property
    def order(self) -> int:
        """The lowest becomes E: `value · 4^rank`."""
        return self.value << 2 * self.rank


class _Epoch:
    """What is known of one epoch."""

    __slots__ = ("fixed", "lowest", "seen")

    def __init__(self):
        self.lowest: list[Draw] = []
        self.seen = BoundedDict[tuple[bytes, bytes], Draw](_SEEN_MAX)
        self.fixed: bytes | None = None

    @property
    def best(self) -> bytes | None:
        """The value, as it is now."""
        if self.fixed is not None or not self.lowest:
            return self.fixed
        return min(self.lowest, key=lambda draw: draw.order).beta

    def told(self) -> list[Ticket]:
        """The tickets to tell of: the one that E is made of, and the lowest others."""
        best = self.best
        first = sorted(self.lowest, key=lambda draw: draw.beta != best)
        return [draw.ticket for draw in first[: limits.TICKETS_KEPT]]

    def add(self, draw: Draw) -> bool:
        """Keep one of the lowest tickets; whether it is one.

        When the epoch is over, more are kept: what is third with one, and so may be its E, may be
        sixth with another that has heard of three late ones in time.
        """
        if draw in self.lowest:
            return False
        kept = limits.TICKETS_KEPT if self.fixed is None else _LATE_KEPT
        lower = sum(other.value < draw.value for other in self.lowest)
        self.lowest.insert(lower, draw)
        del self.lowest[kept:]
        return lower < kept


class BeaconMachine:
    """Draws and collects tickets; says what E is and which values others may use.

    Accepts: the time (`advance`), tickets of others.
    Emits: `Tickets` to hand to neighbors, about every twentieth of an epoch.
    `alarms` counts how often the census found that most weight was not heard.

    Keeps true: an E of one's own never changes once its epoch is over; only identities with weight
    in the epoch of their ticket count; one ticket per identity and parent; memory is bounded.

    Args:
        run: id of the run.
        own: id of this peer.
        vrf_seed: secret of its verifiable random function.
        suite: proofs.
        ledger: weights and keys.
        epoch_s: length of an epoch.
        now_s: Unix time.
        founding_epochs: for so long this peer follows whatever chain it hears of.
    """

    def __init__(
        self,
        run: RunId,
        own: PeerId,
        vrf_seed: bytes,
        suite: CryptoSuite,
        ledger: Ledger,
        *,
        epoch_s: int,
        now_s: int,
        founding_epochs: int = 1,
    ):
        self._run = run
        self._own = own
        self._vrf_seed = vrf_seed
        self._suite = suite
        self._ledger = ledger
        self._epoch_s = epoch_s
        self.epoch = now_s // epoch_s
        self._first_epoch = self.epoch + founding_epochs - 1
        self._epochs = BoundedDict[int, _Epoch](EPOCHS_KEPT)
        self._has_drawn = False
        self._census: deque[int] = deque(maxlen=CENSUS_EPOCHS)
        self.alarms = 0

    def advance(self, now_s: int) -> bool:
        """Take note of the time; whether a new epoch begins with it. Time never goes back."""
        epoch = now_s // self._epoch_s
        begins = epoch > self.epoch
        if begins:
            self._end_epoch()
            self.epoch = epoch
            self._has_drawn = False
        if not self._has_drawn:
            self._draw_own()
        return begins

    def value_of(self, epoch: int) -> bytes:
        """E of an epoch, which is final when the epoch is over.

        When no ticket is known it is a value that anybody can compute.
        """
        known = self._epochs.get(epoch)
        best = None if known is None else known.best
        return self._empty(epoch) if best is None else best

    def candidates(self, epoch: int) -> list[bytes]:
        """The values of an epoch under which draws of others count, this peer's own E first.

        None for epochs before this peer began to listen: a newcomer does not judge.
        """
        if epoch < self._first_epoch:
            return []
        own = self.value_of(epoch)
        return [own, *(draw.beta for draw in self.draws_of(epoch) if draw.beta != own)]

    def draws_of(self, epoch: int) -> list[Draw]:
        """The lowest tickets known of an epoch, the lowest first."""
        known = self._epochs.get(epoch)
        return [] if known is None else list(known.lowest)

    def on_tickets(self, tickets: Iterable[Ticket], now_s: int) -> bool:
        """Take what is new and true; whether the lowest tickets have changed.

        What cannot be judged (a stranger's ticket, an unknown parent, another time) is dropped
        without a charge: the sender may know more than this peer.

        Raises:
            InvalidProof: a ticket whose proof does not belong to it.
        """
        changed = False
        for ticket in tickets:
            changed |= self._take(ticket, now_s)
        return changed

    def offer(self, now_s: int) -> Tickets | None:
        """What to tell a neighbor now; nothing when no ticket is known."""
        epochs = [self.epoch]
        if now_s % self._epoch_s < self._epoch_s // _PREVIOUS_PARTS:
            epochs.append(self.epoch - 1)
        known = [self._epochs[epoch] for epoch in epochs if epoch in self._epochs]
        tickets = tuple(ticket for epoch in known for ticket in epoch.told())
        return Tickets(tickets) if tickets else None

    def _end_epoch(self) -> None:
        ended = self._epochs.get(self.epoch)
        if ended is not None:
            ended.fixed = ended.best
        total = self._ledger.electorate(self.epoch).total
        if self.epoch > self._first_epoch and total:
            lowest = ended.lowest[0].value if ended is not None and ended.lowest else None
            value = (1 << UNIFORM_BITS) if lowest is None else lowest
            self._take_census(total * value >> (UNIFORM_BITS - _CENSUS_BITS))

    def _take_census(self, count: int) -> None:
        """Is most of the remembered weight still there? If not, begin anew with those who are.

        `total weight · lowest value / 2^512` is exponentially distributed with mean 1 when
        everybody takes part, and with mean 1 / rho when a share rho does. The alarm is raised when
        the sum over the last n epochs, for some n up to `CENSUS_EPOCHS`, is so large that chance
        alone explains it once in a million times: the others are out of reach, or have another
        chain of values since they were. So it is also how the parts of a network that was split
        come together again.
        """
        self._census.append(count)
        sums = accumulate(reversed(self._census))
        if any(total > bound for total, bound in zip(sums, _census_bounds(), strict=False)):
            self.alarms += 1
            self._census.clear()
            self._first_epoch = self.epoch + 1

    def _draw_own(self) -> None:
        weight = self._ledger.electorate(self.epoch).of(self._own)
        if not weight:
            return
        self._has_drawn = True
        alpha = beacon_input(self._run, self.epoch, parent := self.value_of(self.epoch - 1))
        proof, beta = self._suite.prove(self._vrf_seed, alpha)
        ticket = Ticket(self.epoch, self._own, parent, proof)
        self._of(self.epoch).add(Draw(ticket_value(beta, weight), 0, beta, ticket))

    def _take(self, ticket: Ticket, now_s: int) -> bool:
        lead_s = self._epoch_s // _SKEW_PARTS
        if not self.epoch - 1 <= ticket.epoch <= (now_s + lead_s) // self._epoch_s:
            return False
        peer = PeerId(ticket.peer)
        standing = self._ledger.standing(peer)
        weight = self._ledger.electorate(ticket.epoch).of(peer)
        rank = self._rank(ticket.epoch - 1, ticket.parent)
        if standing is None or not weight or rank is None:
            return False
        epoch, key = self._of(ticket.epoch), (peer, ticket.parent)
        if peer == self._own:
            return False
        draw = epoch.seen.get(key)
        if draw is None:
            alpha = beacon_input(self._run, ticket.epoch, ticket.parent)
            beta = self._suite.verify_proof(standing.vrf_key, alpha, ticket.proof)
            draw = Draw(ticket_value(beta, weight), rank, beta, ticket)
            epoch.seen[key] = draw
        return epoch.add(draw)

    def _rank(self, epoch: int, value: bytes) -> int | None:
        """How this peer likes a parent; what was before its time it must believe."""
        if epoch < self._first_epoch:
            return 0
        candidates = self.candidates(epoch)
        return candidates.index(value) if value in candidates else None

    def _of(self, epoch: int) -> _Epoch:
        known = self._epochs.get(epoch)
        if known is None:
            known = self._epochs[epoch] = _Epoch()
        return known

    def _empty(self, epoch: int) -> bytes:
        return hashlib.sha512(_EMPTY_DOMAIN + self._run + epoch.to_bytes(8, "big")).digest()


@cache
def _census_bounds() -> list[int]:
    """What the sum over the last 1, 2, … epochs exceeds by chance once in a million, all in all."""
    chance = CENSUS_FALSE_ALARM / CENSUS_EPOCHS
    sums = [census_alarm(epochs, chance) for epochs in range(1, CENSUS_EPOCHS + 1)]
    return [int(total * (1 << _CENSUS_BITS)) for total in sums]


def beacon_input(run: RunId, epoch: int, parent: bytes) -> bytes:
    """What the verifiable random function of a ticket is asked: alpha."""
    return _DOMAIN + run + epoch.to_bytes(8, "big") + parent


def ticket_value(beta: bytes, weight: int) -> int:
    """The lowest of `weight` draws: the same chances for one identity or for many.

    Raises:
        ValueError: a weight below 1.
    """
    draws = (hashlib.sha512(beta + m.to_bytes(4, "big")).digest() for m in range(1, weight + 1))
    return int.from_bytes(min(draws), "big")
