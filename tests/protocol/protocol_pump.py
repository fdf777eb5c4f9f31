"""Several `PeerMachine`s in one process, joined by a queue with virtual time.

Whatever a test does with it, the pump checks what always has to hold: no timer that fires without
end, no offer before having caught up, no more chunks asked for than the credit, increasing sequence
numbers per author.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from gossipjax.crypto.identity import Identity, identity_from_root
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.credentials import case_of
from gossipjax.protocol.effects import (
    Audit,
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Effects,
    Inspect,
    OpenTunnel,
    Refuse,
    Send,
)
from gossipjax.protocol.events import (
    Audited,
    DeadlinePassed,
    Event,
    Inspected,
    PeerConnected,
    PeerLost,
    Published,
    Received,
    Stopping,
)
from gossipjax.protocol.peer import PeerMachine
from gossipjax.protocol.rng import SplitMix64
from gossipjax.protocol.tunnels import Outcome, Tunnels
from gossipjax.types import PeerId, RunId
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.codec import decode, encode
from gossipjax.wire.envelope import (
    SealedUpdate,
    Verified,
    record_author,
    run_id,
    seal_record,
    seal_update,
)
from gossipjax.wire.messages import (
    AnyMessage,
    Chunk,
    Get,
    Offer,
    PeerRecord,
    Relay,
    RoundClaim,
    Verdict,
)
from gossipjax.wire.tensors import Manifest, check_values, manifest_of, pack, unpack

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
EPOCH_S = 1_700_000_000
SUITE = ed25519_suite()
SMALL = manifest_of({"x": ((4,), "float32")})


@cache
def identity_of(number: int) -> Identity:
    """One of many fixed identities."""
    return identity_from_root(number.to_bytes(32, "little"))


@cache
def record_of(
    number: int,
    manifest: Manifest = SMALL,
    *,
    port: int | None = None,
    sequence: int = 1,
    expires_s: int = EPOCH_S + 10**6,
    run: bytes | None = None,
    transport_key: bytes | None = None,
    host: str = "127.0.0.1",
) -> Verified[PeerRecord]:
    """The signed record of a fixed identity; port 0 for a peer that cannot be dialled."""
    public = identity_of(number).public
    port = 20000 + number if port is None else port
    record = PeerRecord(
        run=run or run_id("test", manifest.digest),
        sign_key=public.sign,
        vrf_key=public.vrf,
        transport_key=transport_key or public.transport,
        addresses=(f"tcp://{host}:{port}",) if port else (),
        sequence=sequence,
        expires_s=expires_s,
    )
    return seal_record(record, identity_of(number), SUITE)


@cache
def update_of(
    number: int,
    sequence: int,
    *,
    version: int = 0,
    manifest: Manifest = SMALL,
    value: float = 1.0,
    run: bytes | None = None,
    claim: RoundClaim | None = None,
) -> SealedUpdate:
    """A signed update whose elements are about `value + sequence`, different in every row."""
    arrays = [np.full(spec.shape, value + sequence, spec.dtype) for spec in manifest.tensors]
    for array in arrays:
        array.T[...] += np.arange(len(array)).astype(array.dtype)
    return seal_update(
        pack(manifest, arrays),
        run=RunId(run or run_id("test", manifest.digest)),
        sequence=sequence,
        version=version,
        samples=1,
        manifest_digest=manifest.digest,
        identity=identity_of(number),
        suite=SUITE,
        claim=claim,
    )


def machine_of(
    number: int,
    config: ProtocolConfig | None = None,
    *,
    manifest: Manifest = SMALL,
    record: Verified[PeerRecord] | None = None,
    **arguments: Any,
) -> PeerMachine:
    """The machine of a fixed identity."""
    return PeerMachine(
        config or ProtocolConfig(),
        record or record_of(number, manifest),
        manifest_digest=manifest.digest,
        payload_bytes=manifest.nbytes,
        suite=SUITE,
        seed=arguments.pop("seed", number),
        identity=arguments.pop("identity", identity_of(number)),
        epoch_s=EPOCH_S,
        **arguments,
    )


class Link:
    """A connection between two members; each end closes on its own."""

    def __init__(self, one: "Member", two: "Member"):
        self._ends = (one, two)

    def other(self, member: "Member") -> "Member":
        """The far end."""
        return self._ends[self._ends[0] is member]


class Member:
    """One life of a peer: its machine, its links, and what came out of it."""

    def __init__(
        self, pump: "Pump", number: int, machine: PeerMachine, record: Verified[PeerRecord]
    ):
        self.pump = pump
        self.number = number
        self.machine = machine
        self.record = record
        endpoint = "".join(record.body.addresses)
        self.address = Address(endpoint, record.body.transport_key)
        self.id = machine.id
        self.is_running = True
        self.backlog: list[Event] | None = None
        self.links: dict[PeerId, list[Link]] = {}
        self.delivered: list[Deliver] = []
        self.refused: Counter[str] = Counter()
        self.sent: Counter[type] = Counter()
        self.last_sent_to: dict[type, PeerId] = {}
        self.trace: list[Effect] = []
        self.dialled: list[Address] = []
        self.disconnected: list[Disconnect] = []
        self.asked: defaultdict[tuple[PeerId, bytes], set[int]] = defaultdict(set)
        self.sequence = 0
        identity, run = identity_of(number), RunId(record.body.run)
        secrets = SplitMix64(number)
        self.tunnels = Tunnels(
            identity, run, SUITE, lambda: secrets.next_u64().to_bytes(8, "little") * 4
        )
        self.tunnels.introduce(record)

    @property
    def neighbors(self) -> set[int]:
        """Numbers of the neighbors."""
        return {self.pump.numbers[peer] for peer in self.machine.neighbors}

    def feed(self, event: Event) -> None:
        """Hand in an event and do what the machine wants."""
        if not self.is_running:
            return
        if self.backlog is not None:
            self.backlog.append(event)
            return
        now_ns = self.pump.now_ns
        if isinstance(event, Received) and isinstance(event.message, Chunk):
            self.asked[event.sender, event.message.root].discard(event.message.index)
        for effect in self.machine.handle(event, now_ns):
            self.trace.append(effect)
            self._carry_out(effect)
        if isinstance(event, DeadlinePassed):
            assert self.machine.next_deadline_ns > now_ns, "a real peer would spin"
        self.pump.at(max(self.machine.next_deadline_ns, now_ns), self._wake)

    def publish(
        self, version: int = 0, value: float = 1.0, claim: RoundClaim | None = None
    ) -> SealedUpdate:
        """Seal and hand in the next update."""
        self.sequence += 1
        update = update_of(
            self.number,
            self.sequence,
            version=version,
            manifest=self.pump.manifest,
            value=value,
            claim=claim,
        )
        self.feed(Published(update))
        return update

    def stop(self) -> None:
        """End as a program does that is asked to."""
        self.feed(Stopping())
        self.is_running = False

    def kill(self) -> None:
        """End without a word."""
        self.is_running = False

    def pause(self) -> None:
        """Stop as under SIGSTOP."""
        self.backlog = []

    def resume(self) -> None:
        """Go on, with what has come in between."""
        backlog, self.backlog = self.backlog, None
        for event in backlog or ():
            self.feed(event)
        self._wake()

    def lose(self, link: Link) -> None:
        """The far end has closed a link."""
        peer = link.other(self).id
        links = self.links.get(peer, [])
        if link in links:
            links.remove(link)
            if not links:
                del self.links[peer]
                self.feed(PeerLost(peer))
                self.report(self.tunnels.relay_lost(peer))

    def arrive(self, link: Link, raw: bytes, data: bytes | None) -> None:
        """Bytes have come in over a link."""
        peer = link.other(self).id
        if link in self.links.get(peer, []):
            message = decode(raw)
            if isinstance(message, Relay) and message.target == self.id and data:
                self.report(self.tunnels.take(peer, message, data, EPOCH_S))
            else:
                self.feed(Received(peer, message, data))

    def report(self, outcomes: Iterable[Outcome]) -> None:
        """Pass on what has come of a packet, or of the end of a relay."""
        for outcome in outcomes:
            match outcome:
                case Send() | Refuse():
                    self._carry_out(outcome)
                case _:
                    self.feed(outcome)

    def _wake(self) -> None:
        if self.backlog is None and self.machine.next_deadline_ns <= self.pump.now_ns:
            self.feed(DeadlinePassed())

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send() if isinstance(effect.message, Relay):
                self._transmit(effect)
            case Send():
                self._send(effect)
            case Connect():
                self.dialled.append(effect.address)
                self.pump.after(self.pump.latency_ns, self.pump.establish, self, effect.address)
            case Disconnect():
                self.disconnected.append(effect)
                self.tunnels.close(effect.peer)
                for link in self.links.pop(effect.peer, []):
                    other = link.other(self)
                    if self.pump.reaches(self, other):
                        self.pump.after(self.pump.latency_ns, other.lose, link)
                self.report(self.tunnels.relay_lost(effect.peer))
            case OpenTunnel():
                self._transmit(self.tunnels.open(effect))
            case Inspect():
                self.pump.after(self.pump.inspect_ns, self._inspect, effect)
            case Deliver():
                author = effect.header.body.author
                earlier = [d for d in self.delivered if d.header.body.author == author]
                if earlier:
                    last = earlier[-1].header.body.sequence
                    assert effect.header.body.sequence > last, "delivered out of order"
                self.delivered.append(effect)
            case Refuse():
                self.refused[effect.reason] += 1
            case Audit():
                verdict = self.pump.verdicts.get(effect.header.body.author, Verdict.SOUND)
                case = case_of(effect.header.sealed.body)
                self.pump.after(
                    self.pump.inspect_ns, self.feed, Audited(case, effect.draw, verdict)
                )
            case _:
                pass

    def _send(self, effect: Send) -> None:
        self.sent[type(effect.message)] += 1
        self.last_sent_to[type(effect.message)] = effect.peer
        if isinstance(effect.message, Offer):
            assert self.machine.has_caught_up, "offers before it has caught up"
        if isinstance(effect.message, Get):
            first, count = effect.message.first, effect.message.count
            asked = self.asked[effect.peer, effect.message.root]
            asked.update(range(first, first + count))
            assert len(asked) <= limits.CREDIT_CHUNKS, "more asked for than the credit"
        packet = None if effect.peer in self.links else self.tunnels.send(effect)
        self._transmit(packet or effect)

    def _transmit(self, effect: Send) -> None:
        data = None if effect.data is None else bytes(effect.data)
        for link in self.links.get(effect.peer, [])[:1]:
            if self.pump.reaches(self, link.other(self)):
                raw = encode(effect.message)
                self.pump.after(self.pump.latency_ns, link.other(self).arrive, link, raw, data)

    def _inspect(self, effect: Inspect) -> None:
        header = effect.header.body
        refusal = None
        try:
            arrays = unpack(self.pump.manifest, b"".join(effect.chunks))
            check_values(self.pump.manifest, arrays, norm_max=1e9)
        except RemoteProtocolError as error:
            refusal = error.reason
        self.feed(Inspected(PeerId(header.author), header.root, refusal))


class Pump:
    """The network, and its clock."""

    member_class = Member

    def __init__(self, config: ProtocolConfig | None = None, manifest: Manifest = SMALL):
        self.config = config or ProtocolConfig()
        self.manifest = manifest
        self.now_ns = 0
        self.latency_ns = 5 * MILLISECOND
        self.inspect_ns = 5 * MILLISECOND
        self.members: list[Member] = []
        self.numbers: dict[PeerId, int] = {}
        self.parts: list[set[int]] | None = None
        self.verdicts: dict[bytes, Verdict] = {}
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def join(
        self,
        number: int,
        bootstrap: Iterable[Member] = (),
        *,
        port: int | None = None,
        sequence: int = 1,
        config: ProtocolConfig | None = None,
        **arguments: Any,
    ) -> Member:
        """Start a peer."""
        record = record_of(number, self.manifest, port=port, sequence=sequence)
        machine = machine_of(
            number,
            config or self.config,
            manifest=self.manifest,
            record=record,
            bootstrap=[member.address for member in bootstrap],
            **arguments,
        )
        member = self.member_class(self, number, machine, record)
        self.numbers[member.id] = number
        self.members.append(member)
        member.feed(DeadlinePassed())
        return member

    def reaches(self, one: Member, other: Member) -> bool:
        """Whether packets get through; a paused process still receives."""
        if not (one.is_running and other.is_running):
            return False
        return self.parts is None or any({one.number, other.number} <= part for part in self.parts)

    def at(self, time_ns: int, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function at a time."""
        self._count += 1
        heapq.heappush(self._queue, (time_ns, self._count, function, arguments))

    def after(self, wait_ns: int, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function later."""
        self.at(self.now_ns + wait_ns, function, *arguments)

    def establish(self, dialler: Member, address: Address) -> None:
        """A dial ends: connect both, or nothing."""
        for target in self.members:
            if (
                target.address == address
                and target.backlog is None
                and self.reaches(dialler, target)
            ):
                self.connect(dialler, target)
                return

    def connect(self, one: Member, other: Member) -> None:
        """Open a link between two members."""
        link = Link(one, other)
        for member, far in ((other, one), (one, other)):
            member.links.setdefault(far.id, []).append(link)
        for member, far in ((other, one), (one, other)):
            member.feed(PeerConnected(far.record, far.address.endpoint, member is one))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, is_enough: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until something holds; whether it does."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while self._queue and self._queue[0][0] <= end_ns:
            time_ns, _, function, arguments = heapq.heappop(self._queue)
            self.now_ns = max(self.now_ns, time_ns)
            function(*arguments)
            if is_enough():
                return True
        self.now_ns = end_ns
        return is_enough()


class Solo:
    """One machine, fed by hand: the methods return its effects."""

    def __init__(self, config: ProtocolConfig | None = None, **arguments: Any):
        self.machine = machine_of(0, config, **arguments)
        self.manifest: Manifest = arguments.get("manifest", SMALL)
        self.now_ns = 0
        self.first_effects = self.feed(DeadlinePassed())

    def feed(self, event: Event) -> Effects:
        """Hand in an event now."""
        return self.machine.handle(event, self.now_ns)

    def wait(self, seconds: float) -> Effects:
        """Let time pass, then report the deadline if it has passed."""
        self.now_ns += int(seconds * SECOND)
        if self.machine.next_deadline_ns > self.now_ns:
            return []
        return self.feed(DeadlinePassed())

    def meet(
        self, number: int, *, endpoint: str = "", dialled: bool = False, **fields: Any
    ) -> Effects:
        """Connect with a peer, by default one that has dialled from where it says that it is."""
        record = record_of(number, self.manifest, **fields)
        endpoint = endpoint or (*record.body.addresses, "tcp://127.0.0.1:0")[0]
        return self.feed(PeerConnected(record, endpoint, dialled))

    def lose(self, number: int) -> Effects:
        """The last connection with a peer is gone."""
        return self.feed(PeerLost(id_of(number, self.manifest)))

    def hear(
        self, number: int, message: AnyMessage, data: bytes | memoryview | None = None
    ) -> Effects:
        """Receive a message."""
        return self.feed(Received(id_of(number, self.manifest), message, data))

    def inspected(self, update: SealedUpdate, refusal: str | None = None) -> Effects:
        """Report the end of an inspection."""
        header = update.header.body
        return self.feed(Inspected(PeerId(header.author), header.root, refusal))

    def sent(self, number: int, effects: Sequence[Effect]) -> list[AnyMessage]:
        """What is sent to a peer, in order."""
        peer = id_of(number, self.manifest)
        return [e.message for e in effects if isinstance(e, Send) and e.peer == peer]


@cache
def id_of(number: int, manifest: Manifest = SMALL) -> PeerId:
    """The peer id of a fixed identity."""
    return record_author(record_of(number, manifest).body)


def refusals(effects: Sequence[Effect]) -> list[str]:
    """Reasons of the refusals, in order."""
    return [effect.reason for effect in effects if isinstance(effect, Refuse)]


def network_trace() -> str:
    """What happens to six peers in twenty seconds, as text."""
    pump = Pump()
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in range(1, 6))]
    for _ in range(10):
        pump.run(2)
        for member in members:
            member.publish()
    lives = [(list(member.machine.neighbors), member.trace) for member in members]
    return re.sub(r"<memory at \w+>", "…", repr(lives))
