"""Conversations of two peers through a relay, which can neither read nor alter them.

A tunnel is a connection like any other for the machines: `PeerConnected` when it is up, `Received`
for what comes. Both shells hold the tunnels of a peer in one object of this module, because they
need its transport secret, which the machines do not.

A packet is the frame that goes with a `Relay`:

    opening    0x00 ‖ ephemeral key ‖ Hello
    answer     0x01 ‖ ephemeral key ‖ box(Hello)
    data       0x02 ‖ box(message)         from the one who opened; his first one is his Hello
    data       0x03 ‖ box(message)         from the other one

with boxes of `gossipjax.crypto.channel`, and in a box: length of the message (uint16,
little-endian) ‖ message ‖ data of a chunk. Nobody counts as connected before a box of his has
opened, so a relay that replays an old opening gets an answer that it cannot use.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gossipjax.crypto.channel import Channel, InvalidBox, make_channel
from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import KEY_BYTES, CryptoSuite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.effects import OpenTunnel, Refuse, Send
from gossipjax.protocol.events import Event, Misbehaved, PeerConnected, PeerLost, Received
from gossipjax.types import PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.codec import decode_frames, encode
from gossipjax.wire.envelope import Verified, open_record, peer_id, record_author
from gossipjax.wire.messages import AnyMessage, Hello, PeerRecord, Relay, is_bulk

_OPENING, _ANSWER, _FROM_OPENER, _FROM_ANSWERER = range(4)
_UNFINISHED_MAX = 64
_OPENINGS_PER_SECOND = 16  # through one relay: each costs three exchanges and a signature
_LENGTH_BYTES = 2

Outcome = Send | Refuse | Event
"""What a packet leads to: an answer, a refusal to count, or an event for the machine."""


class _Opening(NamedTuple):
    """An opening that has not been answered yet."""

    relay: PeerId
    record: Verified[PeerRecord]
    secret: bytes


class _Tunnel(NamedTuple):
    """One encrypted conversation; `kind` is that of the own data packets."""

    relay: PeerId
    record: Verified[PeerRecord]
    channel: Channel
    kind: int


class Tunnels:
    """All tunnels of one peer.

    Args:
        identity: whose transport secret is used.
        run: what records must belong to.
        suite: the exchange, and signatures of records.
        draw_secret: 32 new random bytes at each call.
    """

    def __init__(
        self,
        identity: Identity,
        run: RunId,
        suite: CryptoSuite,
        draw_secret: Callable[[], bytes],
    ):
        self._record: Verified[PeerRecord] | None = None
        self._identity = identity
        self._run = run
        self._suite = suite
        self._draw_secret = draw_secret
        self._openings = BoundedDict[PeerId, _Opening](_UNFINISHED_MAX)
        self._answered = BoundedDict[PeerId, _Tunnel](_UNFINISHED_MAX)
        self._openings_taken = BoundedDict[tuple[PeerId, int], int](_UNFINISHED_MAX)
        # By peer and by the kind of the own packets: two, when both have opened one.
        self._tunnels: dict[PeerId, dict[int, _Tunnel]] = {}
        public = identity.public
        self.own_id = peer_id(run, public.sign, public.vrf)

    def introduce(self, record: Verified[PeerRecord]) -> None:
        """Set the own record, which opens every tunnel."""
        self._record = record

    def __contains__(self, peer: PeerId) -> bool:
        """Whether there is a tunnel to a peer."""
        return peer in self._tunnels

    def open(self, effect: OpenTunnel) -> Send:
        """The first packet of a tunnel."""
        target = record_author(effect.record.body)
        secret = self._draw_secret()
        self._openings[target] = _Opening(effect.relay, effect.record, secret)
        packet = bytes([_OPENING]) + self._suite.exchange_key(secret) + encode(self._hello())
        return self._to(target, effect.relay, packet)

    def send(self, effect: Send) -> Send | None:
        """The packet that carries a message; None when there is no tunnel to its receiver."""
        for tunnel in self._tunnels.get(effect.peer, {}).values():
            return self._sealed(tunnel, effect.peer, effect.message, effect.data)
        return None

    def take(
        self, relay: PeerId, message: Relay, packet: bytes | memoryview, now_s: int
    ) -> list[Outcome]:
        """A packet has come whose target is this peer.

        What does not open is counted, and charged to nobody: the source cannot be told from the
        relay. What opens and is no message is charged to the source.
        """
        source, packet = PeerId(message.source), bytes(packet)
        kind, body = packet[0], packet[1:]
        try:
            if kind == _OPENING:
                return self._on_opening(source, relay, body, now_s)
            if kind == _ANSWER:
                return self._on_answer(source, body, now_s)
            if kind in (_FROM_OPENER, _FROM_ANSWERER):
                return self._on_data(source, kind, message.bulk, body)
            return [Refuse(relay, "sealed")]
        except (InvalidBox, RemoteProtocolError):
            return [Refuse(relay, "sealed")]

    def close(self, peer: PeerId) -> bool:
        """End every tunnel to a peer; whether there was one."""
        self._openings.pop(peer, None)
        self._answered.pop(peer, None)
        return self._tunnels.pop(peer, None) is not None

    def relay_lost(self, relay: PeerId) -> list[PeerLost]:
        """A relay is gone: end the tunnels through it; whom that cuts off."""
        for peer, tunnels in list(self._tunnels.items()):
            kept = {kind: t for kind, t in tunnels.items() if t.relay != relay}
            self._tunnels[peer] = kept
        lost = [peer for peer, tunnels in self._tunnels.items() if not tunnels]
        for peer in lost:
            del self._tunnels[peer]
        return [PeerLost(peer) for peer in lost]

    def _on_opening(self, source: PeerId, relay: PeerId, body: bytes, now_s: int) -> list[Outcome]:
        taken = self._openings_taken.get((relay, now_s), 0)
        if taken == _OPENINGS_PER_SECOND:
            return [Refuse(relay, "rate")]
        self._openings_taken[relay, now_s] = taken + 1
        record = self._greeted(source, body[KEY_BYTES:], now_s)
        secret = self._draw_secret()
        channel = self._channel(
            source, record, secret, body[:KEY_BYTES], opens=False, binding=source + self.own_id
        )
        self._answered[source] = _Tunnel(relay, record, channel, _FROM_ANSWERER)
        box = channel.seal(False, _framed(self._hello()))
        packet = bytes([_ANSWER]) + self._suite.exchange_key(secret) + box
        return [self._to(source, relay, packet)]

    def _on_answer(self, source: PeerId, body: bytes, now_s: int) -> list[Outcome]:
        opening = self._openings.get(source)
        if opening is None:
            return []
        channel = self._channel(
            source,
            opening.record,
            opening.secret,
            body[:KEY_BYTES],
            opens=True,
            binding=self.own_id + source,
        )
        greeting = channel.open(False, body[KEY_BYTES:])
        record = self._greeted(source, greeting[_LENGTH_BYTES:], now_s)
        del self._openings[source]
        tunnel = _Tunnel(opening.relay, record, channel, _FROM_OPENER)
        confirmation = self._sealed(tunnel, source, self._hello(), None)
        return [confirmation, *self._bind(source, tunnel)]

    def _on_data(self, source: PeerId, kind: int, bulk: bool, box: bytes) -> list[Outcome]:
        own_kind = _FROM_ANSWERER if kind == _FROM_OPENER else _FROM_OPENER
        waiting = self._answered.get(source) if own_kind == _FROM_ANSWERER else None
        if waiting is not None:
            try:
                waiting.channel.open(bulk, box)
            except InvalidBox:
                pass  # of the tunnel that this one is to replace, if at all
            else:
                del self._answered[source]
                return self._bind(source, waiting)
        tunnel = self._tunnels.get(source, {}).get(own_kind)
        if tunnel is None:
            return []
        return list(_opened(source, tunnel.channel.open(bulk, box)))

    def _bind(self, peer: PeerId, tunnel: _Tunnel) -> list[Outcome]:
        self._tunnels.setdefault(peer, {})[tunnel.kind] = tunnel
        return [PeerConnected(tunnel.record, relay=tunnel.relay)]

    def _channel(
        self,
        peer: PeerId,
        record: Verified[PeerRecord],
        secret: bytes,
        ephemeral: bytes,
        *,
        opens: bool,
        binding: bytes,
    ) -> Channel:
        return make_channel(
            self._suite,
            opens=opens,
            static_secret=self._identity.transport_secret,
            ephemeral_secret=secret,
            other_static=record.body.transport_key,
            other_ephemeral=ephemeral,
            binding=binding,
        )

    def _greeted(self, source: PeerId, raw: bytes, now_s: int) -> Verified[PeerRecord]:
        """The record in a `Hello`, if it is that of whom the packet is said to be from."""
        hello, _ = decode_frames([memoryview(raw)])
        if not isinstance(hello, Hello) or hello.protocol != limits.PROTOCOL_VERSION:
            raise RemoteProtocolError("protocol", "expected a greeting of this protocol version")
        record = open_record(hello.record, self._run, self._suite, now_s)
        if record_author(record.body) != source:
            raise RemoteProtocolError("author", "the record of another peer")
        return record

    def _sealed(
        self,
        tunnel: _Tunnel,
        peer: PeerId,
        message: AnyMessage,
        data: bytes | memoryview | None,
    ) -> Send:
        bulk = is_bulk(message)
        packet = bytes([tunnel.kind]) + tunnel.channel.seal(bulk, _framed(message, data))
        return self._to(peer, tunnel.relay, packet, bulk=bulk)

    def _to(self, target: PeerId, relay: PeerId, packet: bytes, *, bulk: bool = False) -> Send:
        return Send(relay, Relay(self.own_id, target, bulk), packet)

    def _hello(self) -> Hello:
        assert self._record is not None
        return Hello(limits.PROTOCOL_VERSION, False, self._record.sealed)


def _framed(message: AnyMessage, data: bytes | memoryview | None = None) -> bytes:
    raw = encode(message)
    return b"".join((len(raw).to_bytes(_LENGTH_BYTES, "little"), raw, data or b""))


def _opened(source: PeerId, plaintext: bytes) -> Iterator[Outcome]:
    """What was in a box; no packets within packets."""
    end = _LENGTH_BYTES + int.from_bytes(plaintext[:_LENGTH_BYTES], "little")
    frames = [memoryview(plaintext)[_LENGTH_BYTES:end]]
    if end < len(plaintext):
        frames.append(memoryview(plaintext)[end:])
    try:
        message, data = decode_frames(frames)
        if isinstance(message, Relay):
            raise RemoteProtocolError("malformed", "a packet within a packet")
    except RemoteProtocolError as error:
        yield Misbehaved(source, error.reason)
    else:
        yield Received(source, message, data)
