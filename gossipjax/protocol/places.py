"""Fills the places of a view: which candidates there are, which one is dialled, who is chosen."""

from collections.abc import Iterable, Mapping

from gossipjax.protocol.book import Book
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.dialing import Dialable, Dialer, Place
from gossipjax.protocol.effects import Connect
from gossipjax.protocol.neighbor import Neighbor
from gossipjax.protocol.rng import SplitMix64
from gossipjax.protocol.views import RankedView, Slot, best
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.address import Address, network_of

_LOOKS_PER_RETRY = 2


class Places:
    """Half of a view: slots whose peers this peer chooses itself; guests have dialled it.

    Candidates are the records of the book, the addresses of the bootstrap, and the guests. The
    bootstrap is not left out when there are neighbors: these may be attackers all, who tell of
    nobody else. A neighbor is ranked by the network in which it was found, anybody else by that of
    the endpoint that would be dialled, so that a false claim wins nothing.

    Args:
        config: parameters.
        own_key: transport key of this peer, which is never dialled.
        rng: random waits.
        secret: of the ranks.
        bootstrap: addresses to join by.
        book, neighbors: of the membership machine, which changes them.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        own_key: bytes,
        rng: SplitMix64,
        secret: bytes,
        bootstrap: Iterable[Address],
        book: Book,
        neighbors: dict[PeerId, Neighbor],
    ):
        self._config = config
        self._own_key = own_key
        self._rng = rng
        self._bootstrap = tuple(bootstrap)
        self._dialer = Dialer(config, rng, [address.transport_key for address in self._bootstrap])
        self._book = book
        self._neighbors = neighbors
        listed = () if isinstance(config.offer_to, str) else config.offer_to
        self._wanted = dict.fromkeys(bytes.fromhex(text) for text in listed)
        self._view = RankedView((config.view_size + 1) // 2, secret)
        self._missing = BoundedDict[PeerId, None](2 * config.view_size)
        self.next_ns: Nanoseconds = 0

    @property
    def free(self) -> int:
        """How many slots nobody has."""
        return len(self._view.slots) - len(self._view.chosen)

    @property
    def chosen(self) -> Mapping[PeerId, object]:
        """Neighbors that have a slot."""
        return self._view.chosen

    @property
    def guests_max(self) -> int:
        """How many guests there is room for."""
        return self._config.neighbors_max - len(self._view.slots)

    def guests(self) -> dict[PeerId, bytes]:
        """Neighbors without a slot, and their networks."""
        chosen = self._view.chosen
        return {p: neighbor.network for p, neighbor in self._neighbors.items() if p not in chosen}

    def worst_guest(self) -> PeerId:
        """Who gives way when there are too many guests."""
        return self._view.worst_guest(self.guests())

    def connected(self, peer: PeerId, neighbor: Neighbor) -> PeerId | None:
        """A neighbor is there; if a slot waits for it, it gets that. Returns who loses a slot."""
        key = neighbor.record.body.transport_key
        self._missing.pop(peer, None)
        self._dialer.connected(peer)
        self._dialer.connected(key)
        self._dialer.is_alone = False
        if peer in self._view.chosen:
            return None
        for slot in self._view.slots:
            if slot.target is not None and slot.target in (peer, key):
                slot.target = None
                if slot.target_network == neighbor.network:
                    return self._view.occupy(slot, peer)
        return None

    def lost(self, peer: PeerId, key: bytes, wait_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        """A neighbor is gone, which is no longer in `neighbors`."""
        had_slot = peer in self._view.chosen
        self._view.vacate(peer)
        self._dialer.postpone(peer, wait_ns, now_ns)
        self._dialer.postpone(key, wait_ns, now_ns)
        self._dialer.is_alone = not self._neighbors
        self.next_ns = min(self.next_ns, now_ns if had_slot else now_ns + wait_ns)

    def miss(self, peer: PeerId) -> None:
        """A neighbor has fallen silent: look for it now and then, even if there is no place."""
        self._missing[peer] = None

    def look_soon(self, now_ns: Nanoseconds) -> None:
        """There are new candidates: they come many at a time, so wait for the others."""
        if self.free:
            wait_ns = self._config.retry_min_ns // _LOOKS_PER_RETRY
            self.next_ns = min(self.next_ns, now_ns + wait_ns)

    def renew(self, now_ns: Nanoseconds) -> None:
        """Let one slot choose anew."""
        self._view.reseed_next()
        self.next_ns = min(self.next_ns, now_ns)

    def look_for_missing(self, now_ns: Nanoseconds) -> list[Connect]:
        """Dial one of those who fell silent."""
        due = [
            (peer, record.body)
            for peer in self._missing
            if (record := self._book.get(peer)) is not None
            and record.body.addresses
            and self._dialer.due_ns(peer, now_ns) <= now_ns
        ]
        return [self._dialer.dial(*one, now_ns) for one in self._rng.sample(due, 1)]

    def fill(self, now_s: int, now_ns: Nanoseconds) -> tuple[list[Connect], list[PeerId]]:
        """Find the best candidate for every open slot.

        Returns whom to dial, and the neighbors that have lost their slots to others. Sets
        `next_ns`, in steps of `retry_min_ns` at least: a thousand dead addresses cost little.
        """
        self.next_ns = now_ns + self._config.retry_max_ns
        wanting = self._wanting(now_ns)
        if not wanting:
            return [], []
        candidates, networks = self._candidates(now_s, now_ns)
        dialled: list[Connect] = []
        demoted: list[PeerId] = []
        for slot in wanting:
            key = self._best(slot, networks)
            if key is None:
                continue
            if key in candidates:
                slot.target, slot.target_network = key, networks.pop(key)
                dialled.append(self._dialer.dial(key, candidates[key], now_ns))
            else:
                networks.pop(key, None)
                before = self._view.occupy(slot, PeerId(key))
                demoted += [before] if before is not None else []
        if dialled:
            self._look_again(now_ns + self._config.connect_timeout_ns, now_ns)
        return dialled, demoted

    def _wanting(self, now_ns: Nanoseconds) -> list[Slot]:
        """Open slots for which nobody is being dialled."""
        wanting: list[Slot] = []
        for slot in self._view.slots:
            if not slot.is_open:
                continue
            if slot.target is not None and self._dialer.is_dialling(slot.target, now_ns):
                self._look_again(self._dialer.due_ns(slot.target, now_ns), now_ns)
            else:
                wanting.append(slot)
        return wanting

    def _best(self, slot: Slot, networks: dict[bytes, bytes]) -> bytes | None:
        """Of the candidates, and of who has the slot; those of a fixed topology come first."""
        if slot.peer in self._wanted:
            return slot.peer
        for key in self._wanted:
            if key in networks:
                return key
        if slot.peer is not None:
            networks = {**networks, slot.peer: self._neighbors[slot.peer].network}
        return best(slot.seed, networks) if networks else None

    def _candidates(
        self, now_s: int, now_ns: Nanoseconds
    ) -> tuple[dict[bytes, Dialable], dict[bytes, bytes]]:
        """Whom to dial, by key; and the networks of these and of the guests.

        A peer of the bootstrap is in the book, too, as soon as others tell of it. It is not dialled
        as both: not at the same address at once, nor while an attempt at its key is under way.
        """
        taken = {neighbor.record.body.transport_key for neighbor in self._neighbors.values()}
        taken.add(self._own_key)
        missing = [a for a in self._bootstrap if a.transport_key not in taken]
        taken.update(key for _, key in missing if self._dialer.is_dialling(key, now_ns))
        missing_keys = {key for _, key in missing}
        listed: set[tuple[str, bytes]] = set()
        plans = self._dialer.plans
        candidates: dict[bytes, Dialable] = {}
        networks: dict[bytes, bytes] = {**self.guests()}
        for peer, entry in self._book.items():  # all of it, so nothing costly here
            body = entry.record.body
            key = body.transport_key
            if (
                key in taken
                or peer in self._neighbors
                or not body.addresses
                or body.expires_s <= now_s
            ):
                continue
            if key in missing_keys:
                listed.update((endpoint, key) for endpoint in body.addresses)
            network: bytes | None = entry.network
            if peer in plans:
                network = self._network_if_due(peer, body, now_ns)
            if network is not None:
                candidates[peer], networks[peer] = body, network
        for key, place in self._unlisted(missing, listed).items():
            network = self._network_if_due(key, place, now_ns)
            if network is not None:
                candidates[key], networks[key] = place, network
        return candidates, networks

    def _unlisted(
        self, missing: list[Address], listed: set[tuple[str, bytes]]
    ) -> dict[bytes, Place]:
        """Addresses of the bootstrap that are in no record, by key."""
        places: dict[bytes, Place] = {}
        for endpoint, key in missing:
            if (endpoint, key) not in listed:
                others = places.get(key, Place((), key)).addresses
                places[key] = Place((*others, endpoint), key)
        return places

    def _network_if_due(self, key: bytes, candidate: Dialable, now_ns: Nanoseconds) -> bytes | None:
        """Of the endpoint that would be dialled; None while it is not to be dialled."""
        due_ns = self._dialer.due_ns(key, now_ns)
        if due_ns > now_ns:
            self._look_again(due_ns, now_ns)
            return None
        return network_of(self._dialer.endpoint(key, candidate))

    def _look_again(self, at_ns: Nanoseconds, now_ns: Nanoseconds) -> None:
        self.next_ns = min(self.next_ns, max(at_ns, now_ns + self._config.retry_min_ns))
