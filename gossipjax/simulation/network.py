"""The network between simulated peers: connections, delays, faults of the wire.

Two models of what a connection does, chosen by the parameters of `LinkModel`:

- *As TCP does* (the default): within a live connection messages arrive in order, once, unchanged.
  Faults of the network show as connections that break or fall silent.
- *Harsher than TCP* (`loss_ppm`, `duplicate_ppm`, `reorder_ppm` above 0): single messages vanish,
  arrive twice or overtake each other. No real transport does this; a protocol that lives through it
  depends on no more of its transport than it should.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, structs

from gossipjax.simulation.draws import BlockDraws
from gossipjax.simulation.schedule import Schedule
from gossipjax.simulation.trace import Trace
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode_frames, encode
from gossipjax.wire.limits import CREDIT_CHUNKS
from gossipjax.wire.messages import AnyMessage, Hello, is_bulk

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

_BULK_QUEUE_MAX = 2 * CREDIT_CHUNKS  # as the real sockets' high-water mark
_HANDSHAKE_TRIPS = 3  # one-way trips of TCP and CURVE before the first greeting can leave


class LinkModel(Struct, frozen=True, kw_only=True):
    """What the wires are like.

    Attributes:
        latency_min_ns, latency_max_ns: one-way delay between the closest and the farthest places.
        jitter_ns: further delay of each message, even in `[0, jitter_ns]`.
        uplink_bytes_per_s: of each peer; its chunks wait for each other, small messages do not,
            because they have a connection of their own.
        silence_ns: how long a connection through which nothing passes is thought to be alive.
        loss_ppm, duplicate_ppm, reorder_ppm: messages per million that vanish, arrive twice,
            arrive up to `reorder_ns` late and out of order.
        reset_ppm: messages per million with which the whole connection breaks.
        through_codec: whether messages travel as bytes that are decoded again, or, for speed, as
            values. Their size is that of the bytes either way.
    """

    latency_min_ns: Nanoseconds = 5 * MILLISECOND
    latency_max_ns: Nanoseconds = 150 * MILLISECOND
    jitter_ns: Nanoseconds = 4 * MILLISECOND
    uplink_bytes_per_s: int = 12_500_000
    silence_ns: Nanoseconds = 30 * SECOND
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    reorder_ppm: int = 0
    reorder_ns: Nanoseconds = 500 * MILLISECOND
    reset_ppm: int = 0
    through_codec: bool = False

    @property
    def is_harsh(self) -> bool:
        """Whether it does to messages what TCP never does."""
        return bool(self.loss_ppm or self.duplicate_ppm or self.reorder_ppm)

    def without_resets(self) -> "LinkModel":
        """The same wires, on which no connection breaks."""
        return structs.replace(self, reset_ppm=0)


class Node(Protocol):
    """What the network needs of whoever sits at an end of a connection."""

    index: int
    address: Address
    place: tuple[int, int]
    uplink_free_ns: Nanoseconds

    def admits(self, address: Address) -> bool:
        """Whether a dialler that expects this key at this endpoint gets through."""
        ...

    def on_established(self, link: "Link") -> None:
        """A connection that this node dialled can carry the first greeting."""
        ...

    def on_arrival(
        self, link: "Link", message: AnyMessage, data: bytes | memoryview | None
    ) -> None:
        """A message has come over a connection."""
        ...


class Link:
    """One end of a connection.

    Attributes:
        owner: who holds this end.
        other: the other end.
        dialled: whether the owner opened the connection.
        peer: who is known to be at the other end, once a greeting has been verified.
        is_open: false when the owner has closed this end.
        is_broken: true when the owner's next attempt to send will fail.
        is_doomed: nothing passes any more, and nobody has noticed yet.
    """

    __slots__ = (
        "bulk_queued",
        "dialled",
        "free_ns",
        "is_broken",
        "is_doomed",
        "is_open",
        "latency_ns",
        "other",
        "owner",
        "peer",
    )

    def __init__(self, owner: Node, latency_ns: Nanoseconds, *, dialled: bool):
        self.owner = owner
        self.other: Link = self
        self.dialled = dialled
        self.latency_ns = latency_ns
        self.peer: PeerId | None = None
        self.is_open = True
        self.is_broken = False
        self.is_doomed = False
        self.free_ns: list[Nanoseconds] = [0, 0]  # last arrival at the other end: control, bulk
        self.bulk_queued = 0


class Network:
    """All connections, and the listeners that can be dialled.

    Attributes:
        model: what the wires are like; see `set_model`.
        cuts: while `cut(sender, receiver)` of any is true, nothing passes in that direction.
        listeners: who answers at which endpoint.
        messages, bytes_sent: totals, greetings included.
    """

    def __init__(self, model: LinkModel, schedule: Schedule, trace: Trace, seed: int):
        self.schedule = schedule
        self.trace = trace
        self.cuts: list[Callable[[int, int], bool]] = []
        self.listeners: dict[str, Node] = {}
        self.messages = 0
        self.bytes_sent = 0
        self._draws = BlockDraws(seed, "network")
        self.set_model(model)

    def set_model(self, model: LinkModel) -> None:
        """Change the wires under way."""
        self.model = model
        self._is_faulty = model.reset_ppm > 0 or model.is_harsh

    def passes(self, sender: int, receiver: int) -> bool:
        """Whether the network carries anything from one index to another."""
        return not any(cut(sender, receiver) for cut in self.cuts)

    def dial(self, dialler: Node, address: Address) -> None:
        """Try to connect; `on_established` follows when it worked, and nothing when it did not."""
        target = self.listeners.get(address.endpoint)
        if target is None or not self._both_ways(dialler, target):
            return
        latency_ns = self._latency_ns(dialler.place, target.place)
        self.schedule.after(
            _HANDSHAKE_TRIPS * latency_ns, self._establish, dialler, address, latency_ns
        )

    def send(self, link: Link, message: AnyMessage, data: bytes | memoryview | None = None) -> bool:
        """Put a message on a connection; false when the sender can tell that it cannot leave."""
        bulk = is_bulk(message)
        if link.is_broken or not link.is_open or (bulk and link.bulk_queued >= _BULK_QUEUE_MAX):
            return False
        raw = encode(message)
        size = len(raw) if data is None else len(raw) + len(data)
        self.messages += 1
        self.bytes_sent += size
        if link.is_doomed:
            return True
        arrival_ns = self._arrival_ns(link, size, bulk)
        if self._is_faulty or self.cuts:
            arrivals_ns = self._befallen(link, message, arrival_ns)
        else:
            arrivals_ns = (arrival_ns,)
        if self.model.through_codec:
            frames = [memoryview(raw)] if data is None else [memoryview(raw), memoryview(data)]
            message, data = decode_frames(frames)
        checksum = zlib.crc32(raw)
        for arrival_ns in arrivals_ns:
            link.bulk_queued += bulk
            self.schedule.at(arrival_ns, self._arrive, link, message, data, checksum, bulk)
        return True

    def close(self, link: Link, *, silently: bool = False) -> None:
        """Close one end. The other end learns of it after what was sent before, if it can.

        Args:
            link: the end.
            silently: as when the power fails: the other end is told nothing.
        """
        if not link.is_open:
            return
        link.is_open = False
        if silently:
            self._doom(link)
        elif not link.is_doomed and self.passes(link.owner.index, link.other.owner.index):
            arrival_ns = max(self.schedule.now_ns + link.latency_ns, *link.free_ns)
            self.schedule.at(arrival_ns, self._break, link.other)

    def _establish(self, dialler: Node, address: Address, latency_ns: Nanoseconds) -> None:
        target = self.listeners.get(address.endpoint)
        if target is None or not target.admits(address) or not self._both_ways(dialler, target):
            return
        near = Link(dialler, latency_ns, dialled=True)
        far = Link(target, latency_ns, dialled=False)
        near.other, far.other = far, near
        dialler.on_established(near)

    def _both_ways(self, one: Node, other: Node) -> bool:
        return self.passes(one.index, other.index) and self.passes(other.index, one.index)

    def _befallen(
        self, link: Link, message: AnyMessage, arrival_ns: Nanoseconds
    ) -> tuple[Nanoseconds, ...]:
        """When a message arrives on a bad network: perhaps never, twice, or after later ones."""
        model, draws = self.model, self._draws
        if not self.passes(link.owner.index, link.other.owner.index):
            self._doom(link)
            return ()
        if draws.chance(model.reset_ppm):
            self._break(link)
            self._break(link.other)
            return ()
        if isinstance(message, Hello):  # belongs to the handshake, which works or does not
            return (arrival_ns,)
        if draws.chance(model.loss_ppm):
            return ()
        if draws.chance(model.reorder_ppm):
            arrival_ns += draws.below(model.reorder_ns + 1)
        if draws.chance(model.duplicate_ppm):
            return (arrival_ns, arrival_ns + draws.below(model.reorder_ns + 1))
        return (arrival_ns,)

    def _doom(self, link: Link) -> None:
        """Nothing passes any more; both ends notice when they have waited long enough."""
        if not link.is_doomed:
            link.is_doomed = link.other.is_doomed = True
            self.schedule.after(self.model.silence_ns, self._break, link)
            self.schedule.after(self.model.silence_ns, self._break, link.other)

    @staticmethod
    def _break(link: Link) -> None:
        link.is_broken = True

    def _arrival_ns(self, link: Link, size: int, bulk: bool) -> Nanoseconds:
        """When a message arrives that is sent now: after all that was sent before it."""
        model, now_ns = self.model, self.schedule.now_ns
        arrival_ns = now_ns + size * SECOND // model.uplink_bytes_per_s
        if bulk:  # chunks of one peer leave one after the other
            arrival_ns += max(link.owner.uplink_free_ns - now_ns, 0)
            link.owner.uplink_free_ns = arrival_ns
        arrival_ns += link.latency_ns + (self._draws.next_u64() * model.jitter_ns >> 64)
        if arrival_ns <= link.free_ns[bulk]:
            arrival_ns = link.free_ns[bulk] + 1
        link.free_ns[bulk] = arrival_ns
        return arrival_ns

    def _arrive(
        self,
        link: Link,
        message: AnyMessage,
        data: bytes | memoryview | None,
        checksum: int,
        bulk: bool,
    ) -> None:
        link.bulk_queued -= bulk
        other = link.other
        if other.is_open and not link.is_doomed:
            self.trace.add(self.schedule.now_ns, other.owner.index, checksum)
            other.owner.on_arrival(other, message, data)

    def _latency_ns(self, one: tuple[int, int], other: tuple[int, int]) -> Nanoseconds:
        """By distance in a square that wraps around, side 1000: from the minimum to the maximum."""
        across = [min(abs(a - b), 1000 - abs(a - b)) for a, b in zip(one, other, strict=True)]
        span_ns = self.model.latency_max_ns - self.model.latency_min_ns
        return self.model.latency_min_ns + span_ns * sum(across) // 1000
