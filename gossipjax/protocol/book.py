"""The address book: peers that are known of, bounded so that nobody can fill it alone."""

from collections import Counter
from collections.abc import ItemsView
from typing import NamedTuple

from gossipjax.types import PeerId
from gossipjax.wire.address import network_of
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import PeerRecord

SHARES = 16
"""It takes so many networks, or tellers of so many networks, to fill a book."""

_SHARE_MIN = 4

Record = Verified[PeerRecord]


class Entry(NamedTuple):
    """A record; the network of its first address, empty without one; and that of its teller."""

    record: Record
    network: bytes
    teller: bytes | None


class Book:
    """Records by peer, at most `size`; of a full group the one put in longest ago gives way.

    A group has at most `size / 16` records: those whose first address is in one network, and
    those that peers of one network told. So a flood from few networks displaces itself, and what
    is known of all others stays (the buckets of Bitcoin Core's address manager, first in, first
    out; Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", USENIX Security 2015).

    Args:
        size: the most records.
    """

    def __init__(self, size: int):
        self._size = size
        self._share = min(size, max(size // SHARES, _SHARE_MIN))
        self._entries: dict[PeerId, Entry] = {}
        # Counts only, and a search when a network is full, which is rare: most networks have one
        # peer, and a dict for each takes five times the memory of a count.
        self._crowds = Counter[bytes]()
        self._tellers: dict[bytes, dict[PeerId, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, peer: object) -> bool:
        return peer in self._entries

    def __getitem__(self, peer: PeerId) -> Record:
        return self._entries[peer].record

    def get(self, peer: PeerId) -> Record | None:
        """The newest record of a peer."""
        entry = self._entries.get(peer)
        return entry.record if entry else None

    def peers(self) -> list[PeerId]:
        """Everybody in it, the one put in longest ago first."""
        return list(self._entries)

    def items(self) -> ItemsView[PeerId, Entry]:
        """What is kept of everybody in it, the one put in longest ago first."""
        return self._entries.items()

    def put(self, peer: PeerId, record: Record, teller: bytes | None) -> list[Record]:
        """Put in as the newest; returns what gives way.

        Args:
            peer: whom the record describes.
            record: it.
            teller: the network of whoever told; None when it was the peer itself, or the own disk.
        """
        self.remove(peer)
        addresses = record.body.addresses
        network = network_of(addresses[0]) if addresses else b""
        told = self._tellers.get(teller, {}) if teller is not None else {}
        gone: list[Record] = []
        if self._crowds[network] >= self._share:
            gone.append(self._pop(self._oldest_in(network)))
        if len(told) >= self._share:
            gone.append(self._pop(next(iter(told))))
        if len(self._entries) >= self._size:
            gone.append(self._pop(next(iter(self._entries))))
        self._entries[peer] = Entry(record, network, teller)
        self._crowds[network] += 1
        if teller is not None:
            self._tellers.setdefault(teller, {})[peer] = None
        return gone

    def remove(self, peer: PeerId) -> None:
        """Take a peer out, if it is in."""
        if peer in self._entries:
            self._pop(peer)

    def _pop(self, peer: PeerId) -> Record:
        entry = self._entries.pop(peer)
        self._crowds[entry.network] -= 1
        if not self._crowds[entry.network]:
            del self._crowds[entry.network]
        if entry.teller is not None:
            told = self._tellers[entry.teller]
            del told[peer]
            if not told:
                del self._tellers[entry.teller]
        return entry.record

    def _oldest_in(self, network: bytes) -> PeerId:
        return next(peer for peer, entry in self._entries.items() if entry.network == network)
