"""How a joiner gets the network's parameters before its own count for anything."""

from collections.abc import Mapping

from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects, Send
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.messages import GetOffer


class CatchUpMachine:
    """Listens, compares versions, and fetches an update of a neighbor that is well ahead.

    Accepts: a first connection, neighbors' versions and offers, delivered updates, deadlines.
    Emits: `Send(GetOffer)`.
    Keeps true: `is_done` never turns false again; until it is true, this peer offers nothing, so
    that untrained or outdated parameters have weight 0 with everybody; it turns true at most
    `catch_up_patience_ns` after the first question, or with the end of the transfer then under way.
    """

    def __init__(self, config: ProtocolConfig, rng: SplitMix64, *, joins_others: bool):
        self._config = config
        self._rng = rng
        self._deadline_ns: Nanoseconds | None = None
        self._give_up_ns: Nanoseconds | None = None
        self._unanswered = BoundedDict[PeerId, int](config.book_size)
        self._adopted_version: int | None = None
        self.donor: PeerId | None = None
        """The neighbor that was asked last."""
        self.is_done = not joins_others

    @property
    def next_deadline_ns(self) -> Nanoseconds | None:
        """When to compare versions, or to look at the donor again."""
        return None if self.is_done else self._deadline_ns

    def connected(self, now_ns: Nanoseconds) -> None:
        """Start listening with the first connection."""
        if self._deadline_ns is None:
            self._deadline_ns = now_ns + self._config.catch_up_settle_ns

    def takes_answer(self, peer: PeerId) -> bool:
        """Whether an offer of this peer answers a question, so that it may be one seen before."""
        asked = self._unanswered.pop(peer, 0)
        if asked > 1:
            self._unanswered[peer] = asked - 1
        return asked > 0

    def adopts(self, version: int, own_version: int) -> bool:
        """Whether an update of this version is the one to adopt; if so, ends catching up."""
        if self.is_done or version <= own_version + self._config.catch_up_gap:
            return False
        self.is_done = True
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
        self,
        versions: Mapping[PeerId, int],
        own_version: int,
        donor_is_sending: bool,
        now_ns: Nanoseconds,
    ) -> Effects:
        """Compare versions and ask a neighbor that is well ahead; done when nobody is.

        The donor is drawn at random, so that many joiners share the load over many donors.
        """
        if self.is_done or self._deadline_ns is None or now_ns < self._deadline_ns:
            return []
        self._deadline_ns = now_ns + self._config.catch_up_settle_ns
        if donor_is_sending or not versions:
            return []
        gap = self._config.catch_up_gap
        ahead = [peer for peer, version in versions.items() if version > own_version + gap]
        if self._give_up_ns is None:
            self._give_up_ns = now_ns + self._config.catch_up_patience_ns
        if not ahead or now_ns >= self._give_up_ns:
            self.is_done = True
            return []
        self.donor = donor = self._rng.sample(ahead, 1)[0]
        self._unanswered[donor] = self._unanswered.get(donor, 0) + 1
        return [Send(donor, GetOffer())]
