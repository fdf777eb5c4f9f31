"""Ranked views: which of all known peers to be connected with, so that pushing gains nothing."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from gossipjax.types import PeerId

_SEED_BYTES = 16


class Slot:
    """One place of a view.

    Attributes:
        seed: ranks the candidates of this place.
        peer: the neighbor that has it.
        is_stale: whether it has been reseeded and its best candidate is still to be found.
        target: key of the candidate that is being dialled for it.
        target_network: where that candidate claims to be.
    """

    __slots__ = ("is_stale", "peer", "seed", "target", "target_network")

    def __init__(self, seed: bytes):
        self.seed = seed
        self.peer: PeerId | None = None
        self.is_stale = False
        self.target: bytes | None = None
        self.target_network = b""

    @property
    def is_open(self) -> bool:
        """Whether somebody is wanted for it."""
        return self.peer is None or self.is_stale


class RankedView:
    """Slots, each of which wants the candidate that its secret seed ranks first.

    The rank of a candidate is `(H(seed, network), H(seed, key))`: networks first, so an attacker
    gets a slot with the share of networks that it has, however many peers it makes up in them and
    however often it tells of them. Slots are reseeded one at a time, slowly: an attacker that makes
    neighbors fail gets no new draw. No peer has two slots.

    BASALT (Auvolat, Bromberg, Frey, Taïani, Middleware 2021), with networks ranked before ids.

    Args:
        size: slots.
        secret: nobody else knows it; seeds follow from it.
    """

    def __init__(self, size: int, secret: bytes):
        self._secret = secret
        self._seeds_drawn = 0
        self._next_stale = 0
        self._guest_seed = self._draw_seed()
        self.slots = [Slot(self._draw_seed()) for _ in range(size)]
        self.chosen: dict[PeerId, Slot] = {}

    def reseed_next(self) -> None:
        """Let the next slot in turn rank its candidates anew."""
        slot = self.slots[self._next_stale]
        self._next_stale = (self._next_stale + 1) % len(self.slots)
        slot.seed = self._draw_seed()
        slot.is_stale = True

    def occupy(self, slot: Slot, peer: PeerId) -> PeerId | None:
        """Give a slot to a neighbor; returns the one who had it, if that is another."""
        before = slot.peer
        if before is not None:
            del self.chosen[before]
        slot.peer, slot.target, slot.is_stale = peer, None, False
        self.chosen[peer] = slot
        return before if before != peer else None

    def vacate(self, peer: PeerId) -> None:
        """A neighbor is gone."""
        slot = self.chosen.pop(peer, None)
        if slot is not None:
            slot.peer = None

    def worst_guest(self, guests: Mapping[PeerId, bytes]) -> PeerId:
        """Who gives way among guests with these networks.

        The first guest of each network comes before the second of any, and so on; among equals
        the hash decides, not who came first or comes again.
        """
        seen: dict[bytes, int] = {}
        ranked: list[tuple[int, bytes, bytes, PeerId]] = []
        for rank, peer in sorted((_hash(self._guest_seed, peer), peer) for peer in guests):
            network = guests[peer]
            seen[network] = crowd = seen.get(network, 0) + 1
            ranked.append((crowd, _hash(self._guest_seed, network), rank, peer))
        return max(ranked)[-1]

    def _draw_seed(self) -> bytes:
        self._seeds_drawn += 1
        return _hash(self._secret, self._seeds_drawn.to_bytes(8, "little"))[:_SEED_BYTES]


def best(seed: bytes, candidates: Mapping[bytes, bytes]) -> bytes:
    """The key of the candidate that a seed ranks first.

    Args:
        seed: of a slot.
        candidates: network by key; at least one.
    """
    network = _lowest(seed, dict.fromkeys(candidates.values()))
    return _lowest(seed, [key for key, at in candidates.items() if at == network])


def _lowest(seed: bytes, values: Iterable[bytes]) -> bytes:
    return min(values, key=lambda value: _hash(seed, value))


def _hash(seed: bytes, value: bytes) -> bytes:
    return blake2b(seed + value).digest()  # one block; with the seed as its key it would be two
