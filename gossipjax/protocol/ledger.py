"""Who has done how much verified work: the memory of one peer by which committees are drawn.

Nobody agrees on it with anybody: each peer counts what it has seen verified. The weight of i is

    work_i(e) = Σ_k  samples_k · 2^(-(e - e_k) / half_life)      over its verified updates k
    weight_i  = min(1024, floor(work_i / unit)),   unit = Σ_j work_j / (32 · peers with work)

Linear, so that splitting one's work over identities gains nothing: n identities with one n-th of
the work each have at most the weight of one. A new identity has none, and a ban takes it away. All
integers: peers that have seen the same have the same weights, whatever their platform.
"""

from math import isqrt
from typing import NamedTuple

from msgspec import Struct

from gossipjax.crypto.sortition import MAX_WEIGHT
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.types import PeerId
from gossipjax.wire.envelope import record_author
from gossipjax.wire.messages import PeerRecord

ADMISSION_EPOCHS = 2
"""An identity counts from the second epoch after the one in which it was first seen: it cannot be
made to suit a draw, since what the draw hangs on did not exist when the identity was shown."""

_UNITS_PER_PEER = 32
_STEPS_PER_HALVING = 64
_FRACTION_BITS = 64
_EPOCHS_CACHED = 4


class Electorate(NamedTuple):
    """The weights of one epoch.

    Attributes:
        weights: units of weight, 1 to 1024, of every peer that has any.
        total: their sum.
    """

    weights: dict[PeerId, int]
    total: int

    def of(self, peer: PeerId) -> int:
        """Weight of a peer, 0 of a stranger."""
        return self.weights.get(peer, 0)


class Standing:
    """What is remembered of one peer.

    Attributes:
        sign_key, vrf_key: its public keys.
        admitted: the epoch in which it was first seen.
        work: verified samples, each times 2^(64 + e / half_life) for its epoch e: so standings of
            different times compare, and nothing has to be done for them to decay.
    """

    __slots__ = ("admitted", "sign_key", "vrf_key", "work")

    def __init__(self, sign_key: bytes, vrf_key: bytes, admitted: int, work: int):
        self.sign_key = sign_key
        self.vrf_key = vrf_key
        self.admitted = admitted
        self.work = work


class _Ban(NamedTuple):
    epoch: int
    lost: int


class KeptStanding(Struct, array_like=True, frozen=True):
    """A `Standing` on disk; the work as hexadecimal digits, since it has hundreds of bits."""

    peer: bytes
    sign_key: bytes
    vrf_key: bytes
    admitted: int
    work: str


class KeptBan(Struct, array_like=True, frozen=True):
    """A ban on disk: whose, since which epoch, and the work that it took."""

    peer: bytes
    epoch: int
    lost: str


class LedgerMemory(Struct, array_like=True, frozen=True):
    """What a ledger leaves to its next life."""

    first_epoch: int
    standings: tuple[KeptStanding, ...]
    bans: tuple[KeptBan, ...]


class Ledger:
    """Standings of at most `size_max` peers with work and as many without.

    Keeps true: weights of an epoch do not change while it lasts, except by a ban; an identity that
    was first seen in epoch e has no weight before e + 2; founders (those met in the first epochs of
    this memory, when nobody has done anything yet) begin with equal work, which decays as any.

    Args:
        first_epoch: in which this memory begins.
        half_life: epochs after which work counts half.
        founder_work: samples that a founder begins with.
        ban_epochs: how long a ban lasts; afterwards its peer is a stranger.
        founding_epochs: whom this peer meets in the first so many epochs is a founder.
        size_max: bounds memory.
    """

    def __init__(
        self,
        first_epoch: int,
        *,
        half_life: int,
        founder_work: int,
        ban_epochs: int,
        founding_epochs: int = 1,
        size_max: int = 4096,
    ):
        self._first_epoch = first_epoch
        self._founding_epochs = founding_epochs
        self._half_life = half_life
        self._founder_work = founder_work
        self._ban_epochs = ban_epochs
        self._size_max = size_max
        self._workers: dict[PeerId, Standing] = {}
        self._strangers = BoundedDict[PeerId, Standing](size_max)
        self._bans = BoundedDict[PeerId, _Ban](size_max)
        self._electorates = BoundedDict[int, Electorate](_EPOCHS_CACHED)

    def memory(self) -> LedgerMemory:
        """Everything that has to survive a restart: who has done how much, and who is banned."""
        standings = [
            KeptStanding(peer, known.sign_key, known.vrf_key, known.admitted, f"{known.work:x}")
            for peer, known in (*self._strangers.items(), *self._workers.items())
        ]
        bans = [KeptBan(peer, ban.epoch, f"{ban.lost:x}") for peer, ban in self._bans.items()]
        return LedgerMemory(self._first_epoch, tuple(standings), tuple(bans))

    def restore(self, memory: LedgerMemory) -> None:
        """Go on from an earlier life; for a ledger that has met nobody."""
        self._first_epoch = memory.first_epoch
        for kept in memory.standings:
            work = int(kept.work, 16)
            standing = Standing(kept.sign_key, kept.vrf_key, kept.admitted, work)
            (self._workers if work else self._strangers)[PeerId(kept.peer)] = standing
        for ban in memory.bans:
            self._bans[PeerId(ban.peer)] = _Ban(ban.epoch, int(ban.lost, 16))

    def banned(self, epoch: int) -> dict[PeerId, int]:
        """The bans in force, and the epochs in which they end."""
        ends = {peer: ban.epoch + self._ban_epochs for peer, ban in self._bans.items()}
        return {peer: end for peer, end in ends.items() if epoch < end}

    def meet(self, record: PeerRecord, epoch: int) -> None:
        """Remember a peer whose (verified) record is seen; the first time counts."""
        peer = record_author(record)
        if self.standing(peer) is not None:
            return
        if not self.is_founding(epoch):
            self._strangers[peer] = Standing(record.sign_key, record.vrf_key, epoch, 0)
            return
        since = self._first_epoch - ADMISSION_EPOCHS
        founded = Standing(record.sign_key, record.vrf_key, since, 0)
        self._electorates.clear()
        self._add(peer, founded, self._founder_work, self._first_epoch)

    def is_founding(self, epoch: int) -> bool:
        """Whether an epoch is one of the first of this memory."""
        return epoch < self._first_epoch + self._founding_epochs

    def standing(self, peer: PeerId) -> Standing | None:
        """What is remembered of a peer."""
        return self._workers.get(peer) or self._strangers.get(peer)

    def credit(self, peer: PeerId, samples: int, epoch: int) -> None:
        """Verified work of a peer that is known and not banned; counts from the next epoch on."""
        standing = self.standing(peer)
        if standing is not None and samples > 0 and not self.is_banned(peer, epoch):
            self.electorate(epoch)  # of this epoch, before it changes
            self._add(peer, standing, samples, epoch)

    def electorate(self, epoch: int) -> Electorate:
        """The weights of an epoch; work must have been credited in the order of epochs."""
        known = self._electorates.get(epoch)
        if known is None:
            known = self._electorates[epoch] = self._count(epoch)
        return known

    def ban(self, peer: PeerId, epoch: int) -> None:
        """Take all weight away, at once."""
        standing = self._workers.pop(peer, None)
        lost = 0
        if standing is not None:
            lost, standing.work = standing.work, 0
            self._strangers[peer] = standing
        self._bans[peer] = _Ban(epoch, lost)
        for cached, electorate in list(self._electorates.items()):
            weight = electorate.weights.pop(peer, 0)
            self._electorates[cached] = electorate._replace(total=electorate.total - weight)

    def is_banned(self, peer: PeerId, epoch: int) -> bool:
        """Whether a ban is in force."""
        ban = self._bans.get(peer)
        return ban is not None and epoch < ban.epoch + self._ban_epochs

    def pardon(self, peer: PeerId) -> None:
        """A ban was wrong: lift it, and give back the work that it took."""
        ban = self._bans.pop(peer, None)
        standing = self.standing(peer)
        if ban is not None and standing is not None and ban.lost:
            self._set_work(peer, standing, standing.work + ban.lost)

    def _add(self, peer: PeerId, standing: Standing, samples: int, epoch: int) -> None:
        self._set_work(peer, standing, standing.work + samples * self._growth(epoch))

    def _set_work(self, peer: PeerId, standing: Standing, work: int) -> None:
        standing.work = work
        self._strangers.pop(peer, None)
        self._workers[peer] = standing
        if len(self._workers) > self._size_max:
            least = min(self._workers, key=lambda other: self._workers[other].work)
            del self._workers[least]

    def _count(self, epoch: int) -> Electorate:
        admitted = {
            peer: standing.work
            for peer, standing in self._workers.items()
            if standing.admitted + ADMISSION_EPOCHS <= epoch
        }
        unit = max(1, sum(admitted.values()) // max(1, _UNITS_PER_PEER * len(admitted)))
        weights = {peer: min(MAX_WEIGHT, work // unit) for peer, work in admitted.items()}
        weights = {peer: weight for peer, weight in weights.items() if weight}
        return Electorate(weights, sum(weights.values()))

    def _growth(self, epoch: int) -> int:
        """`floor(2^64 · 2^(epochs / half_life))` for the epochs of this memory, in 64ths."""
        steps = max(0, epoch - self._first_epoch) * _STEPS_PER_HALVING // self._half_life
        whole, part = divmod(steps, _STEPS_PER_HALVING)
        return _ROOTS[part] << whole


def _roots_of_two() -> list[int]:
    """`2^(64 + i/64)` for i from 0 to 63, by square roots of integers."""
    one = 1 << _FRACTION_BITS
    roots, root, span = [one] * _STEPS_PER_HALVING, 2 * one, _STEPS_PER_HALVING
    while span > 1:
        root, span = isqrt(root << _FRACTION_BITS), span // 2
        for i in range(_STEPS_PER_HALVING):
            if i // span % 2:
                roots[i] = roots[i] * root >> _FRACTION_BITS
    return roots


_ROOTS = _roots_of_two()
