"""Runs one `PeerMachine` in virtual time: the counterpart of `gossipjax.runtime.host`."""

import hashlib
import struct
from collections.abc import Callable, Iterable
from typing import Any

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.credentials import case_of
from gossipjax.protocol.effects import (
    Audit,
    Ban,
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Forget,
    Inspect,
    Learn,
    OpenTunnel,
    Pardon,
    Refuse,
    Send,
    SignRecord,
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
    RecordSigned,
    Stopping,
)
from gossipjax.protocol.peer import PeerMachine
from gossipjax.protocol.tunnels import Outcome, Tunnels
from gossipjax.simulation.disk import Disk
from gossipjax.simulation.draws import MILLION, Draws
from gossipjax.simulation.network import Link
from gossipjax.simulation.participant import Participant
from gossipjax.simulation.world import EPOCH_S, World
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified, open_record, record_author, seal_update
from gossipjax.wire.messages import AnyMessage, PeerRecord, Relay
from gossipjax.wire.tensors import Manifest, check_values, unpack

_NEVER_NS: Nanoseconds = 1 << 62
_IDLE_TICKS_MAX = 1000
_TICK, _ROUND = -1, -2  # in the trace, beside the checksums of messages


class Clock:
    """A monotonic clock that starts with a life and may run fast or slow.

    Args:
        start_ns: virtual time at which the clock shows 0.
        drift_ppm: millionths by which it runs fast; negative: slow.
    """

    __slots__ = ("_drift_ppm", "_start_ns")

    def __init__(self, start_ns: Nanoseconds, drift_ppm: int = 0):
        self._start_ns = start_ns
        self._drift_ppm = drift_ppm

    def read(self, now_ns: Nanoseconds) -> Nanoseconds:
        """What the clock shows at a virtual time."""
        elapsed_ns = now_ns - self._start_ns
        return (
            elapsed_ns + elapsed_ns * self._drift_ppm // MILLION if self._drift_ppm else elapsed_ns
        )

    def when(self, reading_ns: Nanoseconds) -> Nanoseconds:
        """The first virtual time at which the clock shows at least this."""
        if not self._drift_ppm:
            return self._start_ns + reading_ns
        guess_ns = self._start_ns + reading_ns * MILLION // (MILLION + self._drift_ppm)
        while self.read(guess_ns) < reading_ns:
            guess_ns += 1
        return guess_ns


def payload_of(author: PeerId, sequence: int, manifest: Manifest) -> bytes:
    """The payload that an honest author publishes under a number: small floats that depend on both.

    So whoever watches can tell what was signed without asking the author.
    """
    digest = hashlib.sha256(author + sequence.to_bytes(8, "little")).digest()
    block = struct.pack("<32f", *digest)
    return (block * (manifest.nbytes // len(block) + 1))[: manifest.nbytes]


class SimulatedHost(Participant):
    """One life of an honest peer: a `PeerMachine`, and what it asks for carried out.

    Args:
        world: what all participants share.
        index: position in the cluster.
        disk: what this life inherits and leaves behind.
        endpoint: where it can be dialled.
        place: for latencies.
        bootstrap: addresses to join by.
        life: 0 for the first life of a peer, then 1, …
        is_dialable: whether others can open connections to it.
        drift_ppm: by how much its monotonic clock runs fast.
        skew_s: by how much its wall clock is ahead.
        version: model version to begin with.
    """

    def __init__(
        self,
        world: World,
        index: int,
        disk: Disk,
        endpoint: str,
        place: tuple[int, int],
        bootstrap: list[Address],
        *,
        life: int = 0,
        is_dialable: bool = True,
        drift_ppm: int = 0,
        skew_s: int = 0,
        version: int = 0,
    ):
        self._skew_s = skew_s
        now_ns = world.schedule.now_ns
        sequence = EPOCH_S * 1000 + now_ns // MILLION
        super().__init__(
            world, index, disk.identity, endpoint, place, sequence, is_dialable=is_dialable
        )
        self.disk = disk
        disk.begin_life()
        self.version = version
        self.round = 0
        self.delivered = 0
        self.audits = 0
        self.bans: dict[PeerId, Ban] = {}
        if index in world.conducts:
            world.gang[self.id] = world.conducts[index]
        self._life = life
        self._clock = Clock(now_ns, drift_ppm)
        self._draws = Draws(world.seed, "host", index, life)
        self._tunnels = Tunnels(disk.identity, world.run, world.suite, self._draw_secret)
        self._tunnels.introduce(self.record)
        self._armed_reading_ns = _NEVER_NS
        self._idle_ticks = 0
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None
        self._approved: dict[tuple[PeerId, bytes], bytes] = {}
        self._arrived_versions: list[int] = []
        self.machine = PeerMachine(
            world.protocol,
            self.record,
            manifest_digest=world.manifest_digest,
            payload_bytes=world.manifest.nbytes,
            suite=world.suite,
            seed=self._draws.next_u64(),
            identity=disk.identity,
            rules=world.rules,
            bootstrap=bootstrap,
            book=self._remembered_records(),
            version=version,
            epoch_s=self.now_s(),
        )
        if world.watcher is not None:
            world.watcher.joined(self)
        self._feed(DeadlinePassed())
        world.schedule.after(self._draws.below(world.round_ns), self._end_round)

    def now_s(self) -> int:
        return super().now_s() + self._skew_s

    def approved_payload(self, author: PeerId, root: bytes) -> bytes | None:
        """An inspected payload that the machine may ask to deliver right now."""
        return self._approved.get((author, root))

    # ---- what may happen to a host -----------------------------------------------------------

    def leave(self) -> None:
        """End as a program does that is asked to."""
        self._feed(Stopping())
        self.stop()

    def pause(self) -> None:
        """Stop as under SIGSTOP: connections stay, nothing is done."""
        if self._backlog is None:
            self._backlog = []

    def resume(self) -> None:
        """Go on after a pause, with everything that has come in between."""
        backlog, self._backlog = self._backlog, None
        if backlog is None or not self.is_running:
            return
        for function, arguments in backlog:
            function(*arguments)
        self._arm(self.machine.next_deadline_ns)

    @property
    def is_paused(self) -> bool:
        """Whether it is stopped for the moment."""
        return self._backlog is not None

    # ---- events ------------------------------------------------------------------------------

    def on_arrival(self, link: Link, message: AnyMessage, data: bytes | memoryview | None) -> None:
        if self._backlog is not None:
            self._backlog.append((self.on_arrival, (link, message, data)))
        elif link.peer is None:
            super().on_arrival(link, message, data)
        elif link.is_open:
            if isinstance(message, Relay) and message.target == self.id and data:
                self._report(self._tunnels.take(link.peer, message, data, self.now_s()))
            else:
                self._feed(Received(link.peer, message, data))

    def connected(self, record: Verified[PeerRecord], link: Link) -> None:
        self._tunnels.close(record_author(record.body))
        self._feed(PeerConnected(record, link.other.owner.address.endpoint, link.dialled))

    def lost(self, peer: PeerId) -> None:
        self._feed(PeerLost(peer))
        self._report(self._tunnels.relay_lost(peer))

    def send(
        self, peer: PeerId, message: AnyMessage, data: bytes | memoryview | None = None
    ) -> None:
        if peer in self.links:
            super().send(peer, message, data)
            return
        packet = self._tunnels.send(Send(peer, message, data))
        if packet is not None:
            super().send(packet.peer, packet.message, packet.data)

    def disconnect(self, peer: PeerId) -> None:
        self._tunnels.close(peer)
        super().disconnect(peer)
        for lost in self._tunnels.relay_lost(peer):
            self.world.schedule.after(0, self._report_lost, lost.peer)

    def _report(self, outcomes: Iterable[Outcome]) -> None:
        """Pass on what has come of a packet, or of the end of a relay."""
        for outcome in outcomes:
            match outcome:
                case Send():
                    self.send(outcome.peer, outcome.message, outcome.data)
                case Refuse():
                    self.world.refused[outcome.reason] += 1
                case PeerConnected() if record_author(outcome.record.body) in self.links:
                    self._tunnels.close(record_author(outcome.record.body))
                case _:
                    self._feed(outcome)

    def _draw_secret(self) -> bytes:
        return b"".join(self._draws.next_u64().to_bytes(8, "little") for _ in range(4))

    def _feed(self, event: Event) -> None:
        """Hand one event to the machine, carry out what it wants, arm the one timer."""
        world = self.world
        try:
            effects = self.machine.handle(event, self._clock.read(world.schedule.now_ns))
        except Exception as error:
            if world.watcher is None:
                raise
            world.watcher.raised(self, event, error)
            return
        if world.watcher is not None:
            world.watcher.handled(self, event, effects)
        for effect in effects:
            if type(effect) is Send:
                self.send(effect.peer, effect.message, effect.data)
            else:
                self._carry_out(effect)
        due_ns = self.machine.next_deadline_ns
        if due_ns < self._armed_reading_ns:
            self._arm(due_ns)

    def _arm(self, due_ns: Nanoseconds) -> None:
        """Set the timer for the machine's next deadline; one that is set for later does nothing."""
        self._armed_reading_ns = due_ns
        self.world.schedule.at(self._clock.when(due_ns), self._ring, due_ns)

    def _ring(self, reading_ns: Nanoseconds) -> None:
        if reading_ns != self._armed_reading_ns or not self.is_running or self.is_paused:
            return
        due_ns = self.machine.next_deadline_ns
        if due_ns > reading_ns:  # it has moved since
            self._arm(due_ns)
            return
        self._armed_reading_ns = _NEVER_NS
        self.world.trace.add(self.world.schedule.now_ns, self.index, _TICK)
        self._feed(DeadlinePassed())
        self._check_progress()

    def _check_progress(self) -> None:
        """Refuse to go on when a real shell would spin."""
        due_ns = self._armed_reading_ns
        is_due = due_ns <= self._clock.read(self.world.schedule.now_ns)
        self._idle_ticks = self._idle_ticks + 1 if is_due else 0
        if self._idle_ticks > _IDLE_TICKS_MAX:
            if self.world.watcher is not None:
                self.world.watcher.spins(self, due_ns)
            raise RuntimeError(f"peer {self.index} spins: its next deadline stays at {due_ns} ns")

    # ---- effects -----------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:  # most frequent first
            case Learn():
                self.disk.remember(effect.record.sealed, effect.record.body.sign_key)
            case Forget():
                self.disk.forget(effect.record.body.sign_key)
            case Inspect():
                wait_ns = self._draws.below(self.world.inspect_ns_max)
                self.world.schedule.after(wait_ns, self._inspect, effect)
            case Deliver():
                self._deliver(effect)
            case Connect():
                self.dial(effect.address)
            case OpenTunnel():
                packet = self._tunnels.open(effect)
                self.send(packet.peer, packet.message, packet.data)
            case Disconnect():
                self.disconnect(effect.peer)
            case SignRecord():
                sequence = EPOCH_S * 1000 + self.world.schedule.now_ns // MILLION
                self.record = self._seal_record(sequence, self.record.body.addresses)
                self._tunnels.introduce(self.record)
                self.world.schedule.after(0, self._feed, RecordSigned(self.record))
            case Refuse():
                self.world.refused[effect.reason] += 1
            case Send():
                self.send(effect.peer, effect.message, effect.data)
            case Audit():
                self.audits += 1
                case = case_of(effect.header.sealed.body)
                self.world.cases[PeerId(effect.header.body.author)][case] = None
                wait_ns = self._draws.below(self.world.audit_ns_max)
                self.world.schedule.after(wait_ns, self._audit, effect)
            case Ban():
                self.bans[effect.peer] = effect
            case Pardon():
                self.bans.pop(effect.peer, None)

    def _audit(self, effect: Audit) -> None:
        if self._backlog is not None:
            self._backlog.append((self._audit, (effect,)))
        elif self.is_running:
            verdict = self.world.says(self.id, PeerId(effect.header.body.author))
            self._feed(Audited(case_of(effect.header.sealed.body), effect.draw, verdict))

    def _inspect(self, effect: Inspect) -> None:
        if self._backlog is not None:
            self._backlog.append((self._inspect, (effect,)))
        if self._backlog is not None or not self.is_running:
            return
        header = effect.header.body
        author = PeerId(header.author)
        payload = b"".join(effect.chunks)
        refusal = None
        try:
            manifest = self.world.manifest
            check_values(manifest, unpack(manifest, payload), self.world.norm_max)
            self._approved[author, header.root] = payload
        except RemoteProtocolError as error:
            refusal = error.reason
        self._feed(Inspected(author, header.root, refusal))
        self._approved.pop((author, header.root), None)

    def _deliver(self, effect: Deliver) -> None:
        header = effect.header.body
        del self._approved[PeerId(header.author), header.root]
        self.delivered += 1
        if effect.adopt:
            self.version = header.version
            self._arrived_versions.clear()
        else:
            self._arrived_versions.append(header.version)

    # ---- training, as far as the protocol notices --------------------------------------------

    def _end_round(self) -> None:
        """Mix versions as parameters are mixed, then publish."""
        if not self.is_running:
            return
        self.world.schedule.after(self.world.round_ns, self._end_round)
        if self._backlog is not None:
            return
        arrived, self._arrived_versions = self._arrived_versions, []
        self.version = (self.version + sum(arrived)) // (1 + len(arrived))
        self.version += self.world.steps_per_round
        self.round += 1
        sequence = self.disk.next_sequence()
        update = seal_update(
            payload_of(self.id, sequence, self.world.manifest),
            run=self.world.run,
            sequence=sequence,
            version=self.version,
            samples=self.world.steps_per_round,
            manifest_digest=self.world.manifest_digest,
            identity=self.identity,
            suite=self.world.suite,
        )
        self.world.trace.add(self.world.schedule.now_ns, self.index, _ROUND)
        self._feed(Published(update))

    def _remembered_records(self) -> list[Verified[PeerRecord]]:
        records: list[Verified[PeerRecord]] = []
        for sealed in self.disk.book.values():
            try:
                records.append(open_record(sealed, self.world.run, self.world.suite, self.now_s()))
            except RemoteProtocolError:
                continue
        return records
