"""How a joiner gets the network's parameters before its own count for anything."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, Inspect, Refuse, Send
from gossipjax.protocol.opening import Opener
from gossipjax.protocol.rng import SplitMix64
from gossipjax.protocol.transfer import Pulling, Transfer
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import (
    Chunk,
    GetSnapshots,
    Missing,
    PeerRecord,
    Snapshots,
    UpdateHeader,
)

_REFUSED_REMEMBERED = 64
_LOOKS_ALONE_MAX = 5  # without a donor, before a half fetched update is given up
_STRIKES_MAX = 3  # silences of a donor, without a chunk in between


class _Held(NamedTuple):
    """An update that a neighbor says it has."""

    author: Verified[PeerRecord]
    header: Verified[UpdateHeader]


class CatchUpMachine:
    """Compares versions, and pulls one update from several neighbors that have it.

    Accepts: a first connection, neighbors' versions, `Snapshots`, `Chunk`, `Missing`, the result of
    the inspection, deadlines.
    Emits: `Send`, `Inspect`, `Refuse`.
    Keeps true: `is_done` never turns false again; until it is true, this peer offers nothing, so
    that untrained or outdated parameters have weight 0 with everybody; it turns true at most
    `catch_up_patience_ns` after the first question or the last good chunk, when no donor is left
    then; at most one payload is on its way.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        opener: Opener,
        rng: SplitMix64,
        pulling: Pulling,
        *,
        joins_others: bool,
    ):
        self._config = config
        self._opener = opener
        self._rng = rng
        self._pulling = pulling
        self._pace, self._owed = pulling.pace, pulling.owed
        self._look_ns: Nanoseconds | None = None
        self._give_up_ns: Nanoseconds | None = None
        self._answers_due = BoundedDict[PeerId, int](config.book_size)
        self._silent: dict[PeerId, None] = {}
        self._held: dict[PeerId, dict[bytes, _Held]] = {}
        self._refused = BoundedDict[bytes, None](_REFUSED_REMEMBERED)
        self._transfer: Transfer | None = None
        self._looks_alone = 0
        self._strikes = BoundedDict[PeerId, int](config.book_size)
        self._adopted_version: int | None = None
        self.is_done = not joins_others

    @property
    def next_deadline_ns(self) -> Nanoseconds | None:
        """When to compare versions again, or to look at a donor."""
        if self.is_done or self._look_ns is None:
            return None
        due_ns = None if self._transfer is None else self._transfer.next_due_ns
        return self._look_ns if due_ns is None else min(self._look_ns, due_ns)

    @property
    def donors(self) -> list[PeerId]:
        """Who is asked for chunks."""
        return [] if self._transfer is None else self._transfer.sources

    def excuse(self, pause_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """Do not count a pause of this process as a stall of others."""
        if self._transfer is not None:
            self._transfer.excuse(pause_ns, now_ns)

    def connected(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """Start listening with the first connection; later, a new neighbor may be a donor."""
        if self.is_done:
            return []
        if self._look_ns is None:
            self._look_ns = now_ns + self._config.catch_up_settle_ns
        return [] if self._transfer is None else [self._ask(peer)]

    def lost(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        """A donor that is gone is replaced by the others."""
        self._held.pop(peer, None)
        self._silent.pop(peer, None)
        return self._without(peer, now_ns)

    def on_snapshots(
        self,
        peer: PeerId,
        message: Snapshots,
        versions: Mapping[PeerId, int],
        own_version: int,
        now_s: int,
        now_ns: Nanoseconds,
    ) -> Effects:
        """Note what a neighbor has; begin when all have answered.

        Raises:
            RemoteProtocolError: `unsolicited`, or one of the signed parts is refused.
        """
        due = self._answers_due.pop(peer, 0)
        if due == 0:
            raise RemoteProtocolError("unsolicited", "snapshots that nobody asked for")
        if due > 1:
            self._answers_due[peer] = due - 1
        self._silent.pop(peer, None)
        transfer = self._transfer
        if self.is_done or (transfer is not None and not transfer.missing):
            return []
        self._held[peer] = self._open(message, now_s)
        if transfer is not None and transfer.sources:
            return self._add_donors(transfer, now_ns)
        return [] if self._silent else self._begin(versions, own_version, now_ns)

    def expects(self, root: bytes) -> bool:
        """Whether this update is being pulled, or inspected."""
        return self._transfer is not None and self._transfer.root == root

    def on_chunk(
        self, peer: PeerId, chunk: Chunk, data: bytes | memoryview, now_ns: Nanoseconds
    ) -> Effects:
        """Check and keep a chunk; ask for the next; inspect when all are here.

        Raises:
            RemoteProtocolError: `unsolicited`, `size` or `root`; with the last two the donor is
                dropped, and what it gave before is kept, since it was right.
        """
        transfer = self._transfer
        if transfer is None or not transfer.wants(peer, chunk):
            self._owed.forgive(peer, chunk)
            return []
        try:
            effects = transfer.take(peer, chunk, data, now_ns)
        except RemoteProtocolError:
            self._held.pop(peer, None)
            raise
        self._strikes.pop(peer, None)
        self._give_up_ns = now_ns + self._config.catch_up_patience_ns
        if transfer.missing:
            return effects
        for donor in transfer.sources:
            transfer.drop(donor)
        self._pace.succeeded(peer)
        return [Inspect(transfer.header, transfer.chunks)]

    def on_missing(self, peer: PeerId, missing: Missing, now_ns: Nanoseconds) -> Effects:
        """A donor no longer has the update, or no place: go on with the others."""
        self._held.get(peer, {}).pop(missing.root, None)
        return self._without(peer, now_ns) if self.expects(missing.root) else []

    def inspected(self, *, is_good: bool) -> Transfer:
        """The transfer has been inspected: take it, or never again."""
        transfer, self._transfer = self._transfer, None
        assert transfer is not None, "ask `expects` first"
        if not is_good:
            self._refused[transfer.root] = None
        return transfer

    def adopts(self, version: int, own_version: int) -> bool:
        """End catching up with an inspected update; whether to adopt it."""
        self._finish()
        if version <= own_version + self._config.catch_up_gap:
            return False
        self._adopted_version = version
        return True

    def may_offer(self, version: int) -> bool:
        """Whether an own update counts: not before this peer has caught up.

        An update that was sealed while the adopted one was on its way to training still has the
        parameters of before, and a version below the adopted one.
        """
        if not self.is_done:
            return False
        if self._adopted_version is not None and version < self._adopted_version:
            return False
        self._adopted_version = None
        return True

    def tick(
        self, versions: Mapping[PeerId, int], own_version: int, now_ns: Nanoseconds
    ) -> Effects:
        """Look at the donors, and now and then for more of them; done when nobody is ahead."""
        if self.is_done or self._look_ns is None:
            return []
        effects: Effects = []
        if self._transfer is not None:
            more, given_up = self._transfer.tick(now_ns)
            effects += more
            for donor in given_up:
                self._pace.failed(donor, now_ns)
                self._held.pop(donor, None)
                self._strikes[donor] = self._strikes.get(donor, 0) + 1
                effects.append(Refuse(donor, "stalled"))
            effects += self._transfer.refill(now_ns)
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + self._config.catch_up_settle_ns
            effects += self._look(versions, own_version, now_ns)
        return effects

    def _look(
        self, versions: Mapping[PeerId, int], own_version: int, now_ns: Nanoseconds
    ) -> Effects:
        transfer = self._transfer
        if not versions or (transfer is not None and not transfer.missing):  # being inspected
            return []
        floor = own_version + self._config.catch_up_gap
        ahead = [peer for peer, version in versions.items() if version > floor]
        if transfer is not None and transfer.sources:
            others = [peer for peer in ahead if peer not in transfer.sources]
            full = len(transfer.sources) >= self._config.catch_up_donors_max
            return [] if full else [self._ask(peer) for peer in self._rng.sample(others, 1)]
        if self._give_up_ns is None:
            self._give_up_ns = now_ns + self._config.catch_up_patience_ns
        if believed_version(versions.values()) <= floor or now_ns >= self._give_up_ns:
            self._finish()
            return []
        effects = self._begin(versions, own_version, now_ns)
        if effects:
            return effects
        self._silent = dict.fromkeys(ahead)
        return [self._ask(peer) for peer in ahead]

    def _finish(self) -> None:
        self.is_done = True
        self._transfer = None
        self._held.clear()
        self._silent.clear()

    def _begin(
        self, versions: Mapping[PeerId, int], own_version: int, now_ns: Nanoseconds
    ) -> Effects:
        """Go on with the update that is half here; else choose one."""
        if self._transfer is not None:
            effects = self._add_donors(self._transfer, now_ns)
            self._looks_alone = 0 if effects else self._looks_alone + 1
            if effects or self._looks_alone <= _LOOKS_ALONE_MAX:
                return effects
            self._transfer = None
        chosen = self._choose(versions, own_version)
        if chosen is None:
            return []
        self._looks_alone = 0
        self._transfer = Transfer(chosen.author, chosen.header, self._pulling)
        return self._add_donors(self._transfer, now_ns)

    def _choose(self, versions: Mapping[PeerId, int], own_version: int) -> _Held | None:
        """Of a random neighbor's updates the one that most hold, and of these the newest.

        The neighbor is drawn first, so that one that claims much has no more say than another. What
        is further ahead than the version that is believed does not count.
        """
        gap = self._config.catch_up_gap
        highest = believed_version(versions.values()) + gap
        usable = [
            [
                held
                for root, held in told.items()
                if own_version + gap < held.header.body.version <= highest
                and root not in self._refused
            ]
            for told in self._held.values()
        ]
        usable = [told for told in usable if told]
        if not usable:
            return None
        (told,) = self._rng.sample(usable, 1)
        return max(
            told,
            key=lambda held: (len(self._holders(held.header.body.root)), held.header.body.version),
        )

    def _holders(self, root: bytes) -> list[PeerId]:
        return [peer for peer, told in self._held.items() if root in told]

    def _add_donors(self, transfer: Transfer, now_ns: Nanoseconds) -> Effects:
        """Ask random holders; those that have let transfers die last, or not at all."""
        donors = transfer.sources
        holders = [
            peer
            for peer in self._holders(transfer.root)
            if peer not in donors and self._strikes.get(peer, 0) < _STRIKES_MAX
        ]
        holders = sorted(self._rng.sample(holders, len(holders)), key=self._pace.failures)
        places = max(self._config.catch_up_donors_max - len(donors), 0)
        return transfer.add(holders[:places], now_ns)

    def _without(self, peer: PeerId, now_ns: Nanoseconds) -> Effects:
        if self._transfer is None:
            return []
        self._transfer.drop(peer)
        return self._transfer.refill(now_ns)

    def _ask(self, peer: PeerId) -> Send:
        self._answers_due[peer] = self._answers_due.get(peer, 0) + 1
        return Send(peer, GetSnapshots())

    def _open(self, message: Snapshots, now_s: int) -> dict[bytes, _Held]:
        """What is signed as it must be; records that have expired on the way are left out."""
        told: dict[bytes, _Held] = {}
        for snapshot in message.snapshots:
            try:
                held = _Held(*self._opener.snapshot(snapshot, now_s))
            except RemoteProtocolError as error:
                if error.reason != "expired":
                    raise
                continue
            told[held.header.body.root] = held
        return told


def believed_version(claims: Collection[int]) -> int:
    """How far the network is: the second highest of three claims or more, else the highest.

    Claims of 0 are of peers that have not caught up themselves, and do not count.
    """
    counted = sorted((claim for claim in claims if claim), reverse=True)
    if not counted:
        return 0
    return counted[1] if len(counted) > 2 else counted[0]
