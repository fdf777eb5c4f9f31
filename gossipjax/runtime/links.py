"""Which links lead to which peer: dialling, greeting, turning away."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import KEY_BYTES, CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.effects import OpenTunnel, Refuse, Send
from gossipjax.protocol.events import Event, Misbehaved, PeerConnected, PeerLost, Received
from gossipjax.protocol.tunnels import Outcome, Tunnels
from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.metrics import Metrics
from gossipjax.runtime.transport import Link, Listeners, Transport
from gossipjax.types import PeerId, RunId, short
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, open_record, record_author
from gossipjax.wire.limits import PROTOCOL_VERSION
from gossipjax.wire.messages import AnyMessage, DataPort, Hello, Leave, PeerRecord, Relay, is_bulk

_logger = logging.getLogger("gossipjax")


class Links:
    """The connections of one peer, by peer.

    Two peers that dial each other at the same time have two links; the older one is used, the other
    takes over when it breaks.

    Args:
        identity, config, metrics: of the own peer.
        run, suite: with what records are verified.
        feed: takes the events that come of it.
    """

    def __init__(
        self,
        identity: Identity,
        config: PeerConfig,
        metrics: Metrics,
        run: RunId,
        suite: CryptoSuite,
        feed: Callable[[Event], None],
    ):
        listeners = Listeners(self._on_message, self._on_malformed, self._drop)
        self.transport = Transport(identity, config, metrics, listeners)
        self._connect_timeout_s = config.protocol.connect_timeout_ns / 1e9
        self._metrics = metrics
        self._run = run
        self._suite = suite
        self._feed = feed
        self._links: dict[PeerId, list[Link]] = {}
        self._tunnels = Tunnels(identity, run, suite, lambda: secrets.token_bytes(KEY_BYTES))
        self._dialling: set[bytes] = set()
        self._record: Verified[PeerRecord] | None = None

    def introduce(self, record: Verified[PeerRecord]) -> None:
        """Set the own record, which opens every conversation."""
        self._record = record
        self._tunnels.introduce(record)

    async def dial(self, address: Address) -> None:
        """Open a link to a peer, unless one is being opened; closed when nobody answers."""
        key = address.transport_key
        if key in self._dialling:  # a peer with two addresses: two links would replace each other
            return
        self._dialling.add(key)
        link = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                link = await self.transport.dial(address, self._hello)
                await link.settled.wait()
        except (TimeoutError, OSError) as error:
            _logger.info("no answer from %s: %s", address.endpoint, str(error) or "timeout")
            if link is not None:
                self.transport.close(link)
        finally:
            self._dialling.discard(key)

    def open_tunnel(self, effect: OpenTunnel) -> None:
        """Ask a neighbor to relay to another peer."""
        self.send(self._tunnels.open(effect))

    def send(self, effect: Send) -> None:
        """Send over the first link that takes it; one that is gone, or stuck, is dropped.

        Without a link it goes through a relay, if there is a tunnel.
        """
        if effect.peer not in self._links:
            packet = self._tunnels.send(effect)
            if packet is not None:
                self.send(packet)
            return
        for link in self.links_with(effect.peer):
            if self.transport.send(link, effect.message, effect.data):
                return
            if not is_bulk(effect.message):
                self._drop(link)

    def links_with(self, peer: PeerId) -> list[Link]:
        """The open links with a peer; the first is used."""
        return list(self._links.get(peer, []))

    def disconnect(self, peer: PeerId) -> None:
        """Close every link with a peer, and the tunnels to it and through it."""
        self._tunnels.close(peer)
        for link in self._links.pop(peer, []):
            self.transport.close(link)
        self._report(self._tunnels.relay_lost(peer))

    def _drop(self, link: Link) -> None:
        self.transport.close(link)
        links = self._links.get(link.peer, []) if link.peer is not None else []
        if link in links:
            links.remove(link)
            if not links and link.peer is not None:
                del self._links[link.peer]
                self._feed(PeerLost(link.peer))
                self._report(self._tunnels.relay_lost(link.peer))

    def _hello(self, bulk: bool) -> Hello:
        assert self._record is not None
        return Hello(PROTOCOL_VERSION, bulk, self._record.sealed)

    def _on_message(self, link: Link, message: AnyMessage, data: memoryview | None) -> None:
        if link.peer is not None:
            if isinstance(message, Relay) and message.target == self._tunnels.own_id and data:
                now_s = int(time.time())
                self._report(self._tunnels.take(link.peer, message, data, now_s))
            elif isinstance(message, DataPort):
                self.transport.dial_data_port(link, message)
            else:
                self._feed(Received(link.peer, message, data))
        elif isinstance(message, Hello):
            try:
                self._bind(link, message)
            except RemoteProtocolError as error:
                self._turn_away(link, error)
        elif isinstance(message, Leave):
            _logger.warning("a peer refused this one: %r", message.reason)
            self.transport.close(link)
        else:
            self._turn_away(link, RemoteProtocolError("malformed", "expected a greeting first"))

    def _on_malformed(self, link: Link, error: RemoteProtocolError) -> None:
        if link.peer is None:
            self._turn_away(link, error)
        else:
            _logger.info("peer %s: %s", short(link.peer), error)
            self._feed(Misbehaved(link.peer, error.reason))

    def _bind(self, link: Link, hello: Hello) -> None:
        """Tie a link to the peer whose record names the key that the link is encrypted with."""
        if hello.protocol != PROTOCOL_VERSION:
            raise RemoteProtocolError(
                "protocol", f"this peer speaks version {PROTOCOL_VERSION}, not {hello.protocol}"
            )
        record = open_record(hello.record, self._run, self._suite, int(time.time()))
        if record.body.transport_key != link.key:
            raise RemoteProtocolError("signature", "the record names another transport key")
        if not link.is_complete:  # the greeting on the other connection will do it
            return
        if not link.dialled:
            self.transport.send(link, self._hello(False))
            self.transport.offer_data_port(link)
        peer = record_author(record.body)
        link.bind(peer)
        self._links.setdefault(peer, []).append(link)
        self._tunnels.close(peer)
        self._feed(PeerConnected(record, link.endpoint, link.dialled))

    def _report(self, outcomes: Iterable[Outcome]) -> None:
        """Pass on what has come of a packet, or of the end of a relay."""
        for outcome in outcomes:
            match outcome:
                case Send():
                    self.send(outcome)
                case Refuse():
                    self._metrics.refused(outcome.reason)
                case PeerConnected() if record_author(outcome.record.body) in self._links:
                    self._tunnels.close(record_author(outcome.record.body))  # direct is better
                case _:
                    self._feed(outcome)

    def _turn_away(self, link: Link, error: RemoteProtocolError) -> None:
        _logger.info("turned a connection away: %s", error)
        self._metrics.refused(error.reason)
        self.transport.send(link, Leave(str(error)[:100]))
        self.transport.close(link)
