"""Whoever takes part in a simulated network: greetings and connections, as the real shell has them.

The rules are those of `gossipjax.runtime`: a connection belongs to the peer whose record names the
key that the connection is encrypted with; a connection that is gone is noticed when something is to
be sent over it; a peer is lost with its last connection.
"""

import hashlib

from gossipjax.crypto.identity import Identity, PublicKeys
from gossipjax.errors import RemoteProtocolError
from gossipjax.simulation.network import Link
from gossipjax.simulation.world import EPOCH_S, World
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, open_record, peer_id, record_author, seal_record
from gossipjax.wire.limits import PROTOCOL_VERSION
from gossipjax.wire.messages import AnyMessage, Hello, Leave, PeerRecord, is_bulk

_RECORD_LIFE_S = 30 * 24 * 3600


def simulated_identity(seed: int, *labels: str | int) -> Identity:
    """Keys for `insecure_suite`, whose signing seed and public key are the same bytes."""
    sign, vrf, transport = (
        hashlib.sha256(repr((seed, purpose, *labels)).encode()).digest()
        for purpose in ("sign", "vrf", "transport")
    )
    return Identity(sign, vrf, transport, PublicKeys(sign, vrf, transport))


class Participant:
    """One end of many connections, known by one identity.

    Subclasses decide what to do in `connected`, `received` and `lost`.

    Args:
        world: what all participants share.
        index: position in the cluster; the same for every life of a peer.
        identity: keys.
        endpoint: where it can be dialled.
        place: where it is, for latencies; see `Network`.
        sequence: of its peer record.
        is_dialable: whether others can open connections to it.
    """

    def __init__(
        self,
        world: World,
        index: int,
        identity: Identity,
        endpoint: str,
        place: tuple[int, int],
        sequence: int,
        *,
        is_dialable: bool = True,
    ):
        self.world = world
        self.index = index
        self.identity = identity
        self.place = place
        self.uplink_free_ns: Nanoseconds = 0
        self.is_running = True
        self._ended_silently = False
        self.links: dict[PeerId, list[Link]] = {}
        self.address = Address(endpoint, identity.public.transport)
        self.id = peer_id(world.run, identity.public.sign, identity.public.vrf)
        self.record = self._seal_record(sequence, (endpoint,) if is_dialable else ())
        if is_dialable:
            world.network.listeners[endpoint] = self

    # ---- for subclasses ----------------------------------------------------------------------

    def connected(self, record: Verified[PeerRecord], link: Link) -> None:
        """A connection with this peer is up."""

    def received(self, peer: PeerId, message: AnyMessage, data: bytes | memoryview | None) -> None:
        """A peer has sent a message."""

    def lost(self, peer: PeerId) -> None:
        """The last connection with this peer is gone."""

    def now_s(self) -> int:
        """This participant's idea of Unix time, for the expiry of records."""
        return EPOCH_S + self.world.schedule.now_ns // 1_000_000_000

    def dial(self, address: Address) -> None:
        """Try to connect."""
        self.world.network.dial(self, address)

    def send(
        self, peer: PeerId, message: AnyMessage, data: bytes | memoryview | None = None
    ) -> None:
        """Send over the first connection that takes it; drop those that are gone."""
        links = self.links.get(peer)
        if not links or self.world.network.send(links[0], message, data):
            return
        for link in list(links):
            if self.world.network.send(link, message, data):
                return
            if link.is_broken or not is_bulk(message):
                self._drop(link)

    def disconnect(self, peer: PeerId) -> None:
        """Close every connection with a peer."""
        for link in self.links.pop(peer, ()):
            self.world.network.close(link)

    def stop(self, *, silently: bool = False) -> None:
        """End this life: close everything; `silently` when the power fails."""
        self.is_running = False
        self._ended_silently = silently
        listeners = self.world.network.listeners
        if listeners.get(self.address.endpoint) is self:
            del listeners[self.address.endpoint]
        for links in self.links.values():
            for link in links:
                self.world.network.close(link, silently=silently)
        self.links.clear()

    # ---- called by the network ---------------------------------------------------------------

    def admits(self, address: Address) -> bool:
        """Whether a dialler that expects this address gets through."""
        return self.is_running and address == self.address

    def on_established(self, link: Link) -> None:
        """Greet first; give up when no greeting comes back in time."""
        if not self.is_running:
            self.world.network.close(link)
            return
        self.world.network.send(link, self._hello())
        timeout_ns = self.world.protocol.connect_timeout_ns
        self.world.schedule.after(timeout_ns, self._give_up, link)

    def on_arrival(self, link: Link, message: AnyMessage, data: bytes | memoryview | None) -> None:
        """Bind a connection with its greeting; pass on everything after that."""
        if not self.is_running:  # the connection was being made when this life ended
            self.world.network.close(link, silently=self._ended_silently)
        elif link.peer is not None:
            self.received(link.peer, message, data)
        elif isinstance(message, Hello):
            self._bind(link, message)
        else:
            self.world.network.close(link)

    # ---- details -----------------------------------------------------------------------------

    def _bind(self, link: Link, hello: Hello) -> None:
        try:
            record = open_record(hello.record, self.world.run, self.world.suite, self.now_s())
        except RemoteProtocolError as error:
            self.world.network.send(link, Leave(error.reason))
            self.world.network.close(link)
            return
        if not link.dialled:
            self.world.network.send(link, self._hello())
        link.peer = peer = record_author(record.body)
        links = self.links.setdefault(peer, [])
        if not link.dialled:  # the older one is likely a half-open one of an earlier life
            for old in [
                old for old in links if not old.dialled and old.owner is not old.other.owner
            ]:
                links.remove(old)
                self.world.network.close(old)
        links.append(link)
        self.connected(record, link)

    def _give_up(self, link: Link) -> None:
        if link.peer is None:
            self.world.network.close(link)

    def _drop(self, link: Link) -> None:
        self.world.network.close(link)
        peer = link.peer
        links = self.links.get(peer, []) if peer is not None else []
        if peer is not None and link in links:
            links.remove(link)
            if not links:
                del self.links[peer]
                self.world.schedule.after(0, self._report_lost, peer)

    def _report_lost(self, peer: PeerId) -> None:
        if self.is_running:
            self.lost(peer)

    def _hello(self) -> Hello:
        return Hello(PROTOCOL_VERSION, False, self.record.sealed)

    def _seal_record(self, sequence: int, addresses: tuple[str, ...]) -> Verified[PeerRecord]:
        public = self.identity.public
        record = PeerRecord(
            run=self.world.run,
            sign_key=public.sign,
            vrf_key=public.vrf,
            transport_key=public.transport,
            addresses=addresses,
            sequence=sequence,
            expires_s=self.now_s() + _RECORD_LIFE_S,
        )
        return seal_record(record, self.identity, self.world.suite)
