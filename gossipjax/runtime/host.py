"""Runs one `PeerMachine` in the real world: an asyncio loop in a thread of its own."""

import asyncio
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import msgspec
import numpy as np

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite, ed25519_suite
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.protocol.bounded import BoundedDict
from gossipjax.protocol.credentials import case_of
from gossipjax.protocol.effects import (
    Audit,
    Ban,
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Effects,
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
    Published,
    Received,
    RecordSigned,
    Stopping,
)
from gossipjax.protocol.ledger import LedgerMemory
from gossipjax.runtime.address import advertised_endpoint, describe_reachability
from gossipjax.runtime.audits import Archive, AuditDesk, Faults
from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.journal import Beginning, Journal
from gossipjax.runtime.links import Links
from gossipjax.runtime.mailbox import Arrival, Mailbox, Outgoing
from gossipjax.runtime.metrics import Conviction, Metrics
from gossipjax.runtime.store import Store, open_identity
from gossipjax.runtime.work import inspect, seal
from gossipjax.types import PeerId, RunId, short
from gossipjax.verification.auditor import Auditor
from gossipjax.verification.rounds import NOT_DRAWN, Drawn
from gossipjax.wire.address import Address, format_join, parse_join
from gossipjax.wire.envelope import (
    Verified,
    peer_id,
    record_author,
    run_id,
    seal_record,
)
from gossipjax.wire.messages import PeerRecord, Role, UpdateHeader, Verdict
from gossipjax.wire.tensors import Manifest

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger("gossipjax")

_reachability_logger = logging.getLogger("gossipjax.reachability")  # shown by `run`

_RECORD_LIFE_S = 30 * 24 * 3600
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0


class _Remembered(msgspec.Struct, array_like=True, frozen=True):
    """What is kept on disk of the other peers of a run."""

    ledger: LedgerMemory
    convictions: dict[bytes, Conviction]


class Status(NamedTuple):
    """What the network thread last saw, for display.

    Attributes:
        versions: model version of each neighbor, as of its last keep-alive; -1 before the first.
        has_caught_up: whether this peer's own parameters count.
        is_reachable: whether others can open connections to it; None while that is not known.
        drawn: the last value of the beacon.
    """

    versions: dict[PeerId, int]
    has_caught_up: bool
    is_reachable: bool | None
    drawn: Drawn = NOT_DRAWN


class Host:
    """The network side of a peer.

    Public methods are for the training thread; none but `start` and `stop` waits for the network.
    A process that was forked off has no network thread: `is_here` tells.

    Attributes:
        id: of the peer.
        join_string: where others reach it; empty before `start`, and when nobody can dial it.
        mailbox: takes what is published, holds what has arrived.

    Args:
        config: settings.
        manifest: tensors of a payload.
        version: model version to begin with.
        metrics: counters to keep.
        auditor: of the run, where updates can be audited.
    """

    def __init__(
        self,
        config: PeerConfig,
        manifest: Manifest,
        *,
        version: int,
        metrics: Metrics,
        auditor: Auditor | None = None,
    ):
        self._config = config
        self._manifest = manifest
        self._first_version = version
        self._metrics = metrics
        self._auditor = auditor
        self._archive = Archive(config.archive_bytes_max)
        self._suite: CryptoSuite = ed25519_suite()
        self._run: RunId = run_id(config.run, manifest.digest)
        folder = Path(config.state_dir).expanduser() if config.state_dir else None
        self._store_folder = folder
        self._identity: Identity = open_identity(folder)
        self.id: PeerId = peer_id(self._run, self._identity.public.sign, self._identity.public.vrf)
        self.join_string = ""
        self._endpoint = ""
        self._process = os.getpid()
        self.mailbox = Mailbox(config.protocol.view_size)
        self._lock = threading.Lock()  # of the next two
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested: asyncio.Event | None = None
        self._status = Status({}, False, None)
        self._thread = threading.Thread(target=self._run_loop, name="gossipjax", daemon=True)
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    # ---- called by the training thread -------------------------------------------------------

    def start(self) -> None:
        """Start the thread and wait until it listens.

        Raises:
            LocalProtocolError: the address is taken, or the state folder in use.
        """
        self._thread.start()
        is_ready = self._ready.wait(_START_TIMEOUT_S)
        if self._failure is not None:
            self._thread.join(_STOP_TIMEOUT_S)
            raise self._failure
        if not is_ready:
            self.stop()
            raise LocalProtocolError(
                f"the network thread did not start within {_START_TIMEOUT_S:.0f} s; "
                "is the disk of state_dir, or this machine, overloaded?"
            )

    def publish(self, outgoing: Outgoing) -> None:
        """Seal and offer a payload in the background; one that still waits is replaced."""
        with self._lock:
            if self._loop is not None:
                self.mailbox.put(outgoing)
                self._loop.call_soon_threadsafe(self._seal_next)

    def next_sequence(self) -> int:
        """Reserve a number for an update that will be published; between `start` and `stop`."""
        return self._store.next_sequence()

    def audit(self, peer: PeerId) -> bool | None:
        """Redo a random segment of the last update that was taken from a neighbor; waits for it.

        Returns:
            See `AuditDesk.audit`; None also when nothing was taken yet.
        """
        with self._lock:
            loop = self._loop
        if loop is None:
            return None

        async def audit() -> bool | None:
            header = self._taken.get(peer)
            if header is None:
                return None
            return await self._desk.audit(header, secrets.token_bytes(64), [*self._status.versions])

        return asyncio.run_coroutine_threadsafe(audit(), loop).result()

    @property
    def is_here(self) -> bool:
        """Whether this is the process that started it, not one forked off."""
        return self._process == os.getpid()

    @property
    def status(self) -> Status:
        """What the network thread last saw."""
        return self._status

    def stop(self) -> None:
        """Say goodbye, close everything, wait a few seconds at most. May be called twice."""
        if not self.is_here:
            return
        with self._lock:
            if self._loop is not None and self._stop_requested is not None:
                self._loop.call_soon_threadsafe(self._stop_requested.set)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_STOP_TIMEOUT_S)

    # ---- the network thread ------------------------------------------------------------------

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                _logger.exception("the network thread ended; training goes on alone")
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._events: deque[Event] = deque()
        self._is_feeding = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._approved: dict[tuple[PeerId, bytes], list[np.ndarray]] = {}
        self._taken = BoundedDict[PeerId, UpdateHeader](self._config.protocol.view_size)
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="gossipjax-worker")
        self._store = Store(self._store_folder, self._config.protocol.book_size)
        self._journal: Journal | None = None
        try:
            self._links = Links(
                self._identity, self._config, self._metrics, self._run, self._suite, self._arrived
            )
            faults = Faults(self._config.archive_bytes_max)
            self._desk = AuditDesk(
                self.id,
                self._archive,
                faults,
                self._auditor,
                self._links.send,
                self._in_worker,
            )
            try:
                await self._serve()
            finally:
                for task in self._tasks:
                    task.cancel()
                self._links.transport.stop()
        finally:
            with self._lock:
                self._loop = None
            if self._timer is not None:
                self._timer.cancel()
            self._workers.shutdown(wait=False, cancel_futures=True)
            self._store.close()
            if self._journal is not None:
                self._journal.close()

    async def _serve(self) -> None:
        self._links.transport.listen()
        self._start_machine()
        stop_requested = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._stop_requested = stop_requested
        serving = asyncio.create_task(self._links.transport.serve())
        stopping = asyncio.create_task(stop_requested.wait())
        self._feed(DeadlinePassed())
        self._ready.set()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            self._feed(Stopping())
            self._keep_ledger()
            serving.cancel()
            await asyncio.wait({serving})
        else:
            stopping.cancel()
            serving.result()  # raises what ended it

    def _start_machine(self) -> None:
        now_s = int(time.time())
        self._epoch_ns = time.monotonic_ns()
        record = self._make_record(now_s)
        self._links.introduce(record)
        for endpoint in record.body.addresses[:1]:
            self._endpoint = endpoint
            self.join_string = format_join(Address(endpoint, self._identity.public.transport))
        beginning = Beginning(
            run=self._run,
            config=self._config.protocol,
            record=record.sealed,
            manifest_digest=self._manifest.digest,
            payload_bytes=self._manifest.nbytes,
            seed=secrets.randbits(64),
            bootstrap=tuple(parse_join(text) for text in self._config.join),
            book=tuple(self._store.book()),
            version=self._first_version,
            epoch_s=now_s,
        )
        kept = self._store.ledger(self._run)
        remembered = None if kept is None else msgspec.msgpack.decode(kept, type=_Remembered)
        self._machine = beginning.machine(
            self._suite,
            identity=self._identity,
            rules=self._config.rules,
            memory=None if remembered is None else remembered.ledger,
        )
        if remembered is not None and self._machine.verification is not None:
            in_force = self._machine.verification.ledger.banned(now_s // self._config.rules.epoch_s)
            for peer, conviction in remembered.convictions.items():
                if peer in in_force:
                    self._metrics.banned(PeerId(peer), conviction)
        self._kept_epoch = 0
        if self._config.journal_file:
            path = Path(self._config.journal_file).expanduser()
            self._journal = Journal(path, self._config.journal_bytes_max, beginning)

    def _make_record(self, now_s: int) -> Verified[PeerRecord]:
        public = self._identity.public
        endpoint = advertised_endpoint(self._config, self._links.transport.endpoint)
        record = PeerRecord(
            run=self._run,
            sign_key=public.sign,
            vrf_key=public.vrf,
            transport_key=public.transport,
            addresses=() if endpoint is None else (endpoint,),
            sequence=time.time_ns() // 1_000_000,
            expires_s=now_s + _RECORD_LIFE_S,
        )
        return seal_record(record, self._identity, self._suite)

    def _arrived(self, event: Event) -> None:
        """What the connections report: messages of audits are not the machine's."""
        if not (isinstance(event, Received) and self._desk.takes(event)):
            self._feed(event)

    def _feed(self, event: Event) -> None:
        """Hand an event to the machine and carry out what it wants, then arm the one timer.

        An event that comes of carrying out an effect waits in line.
        """
        self._events.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        while self._events:
            self._handle(self._events.popleft())
        self._is_feeding = False
        if self._timer is not None:
            self._timer.cancel()
        wait_s = max(self._machine.next_deadline_ns - self._now_ns(), 0) / 1e9
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait_s, self._feed, DeadlinePassed())
        versions = {
            peer: -1 if neighbor.version is None else neighbor.version
            for peer, neighbor in self._machine.neighbors.items()
        }
        is_reachable = self._machine.is_reachable
        if is_reachable is not None and is_reachable != self._status.is_reachable:
            level = logging.INFO if is_reachable else logging.WARNING
            _reachability_logger.log(level, describe_reachability(is_reachable, self._endpoint))
        verification = self._machine.verification
        drawn = NOT_DRAWN if verification is None else Drawn(*verification.last_value())
        self._status = Status(versions, self._machine.has_caught_up, is_reachable, drawn)
        if verification is not None and verification.beacon.epoch != self._kept_epoch:
            self._keep_ledger()

    def _keep_ledger(self) -> None:
        """Write down who has done what, and who is banned: once per epoch, and at each ban."""
        verification = self._machine.verification
        if verification is None:
            return
        self._kept_epoch = verification.beacon.epoch
        convictions = self._metrics.snapshot().banned
        remembered = _Remembered(verification.ledger.memory(), {**convictions})
        self._store.keep_ledger(self._run, msgspec.msgpack.encode(remembered))

    def _handle(self, event: Event) -> None:
        # Whatever goes wrong here is a defect, or a full disk. It must not end the network thread:
        # somebody may be able to provoke it.
        now_ns = self._now_ns()
        outcome: Effects | Exception
        try:
            outcome = self._machine.handle(event, now_ns)
        except Exception as error:
            _logger.exception("defect: handling %s", type(event).__name__)
            outcome = error
        if self._journal is not None:
            self._journal.note(event, now_ns, outcome)
        effects = [] if isinstance(outcome, Exception) else outcome
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception:
                _logger.exception("defect: carrying out %s", type(effect).__name__)

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._epoch_ns

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._links.send(effect)
            case Inspect():
                self._spawn(self._inspect(effect))
            case Deliver():
                self._deliver(effect)
            case Connect():
                self._spawn(self._links.dial(effect.address))
            case OpenTunnel():
                self._links.open_tunnel(effect)
            case Disconnect():
                _logger.info("peer %s disconnected: %s", short(effect.peer), effect.reason)
                self._links.disconnect(effect.peer)
            case Learn():
                self._store.remember(record_author(effect.record.body), effect.record.sealed)
            case Forget():
                self._store.forget(record_author(effect.record.body))
            case SignRecord():
                record = self._make_record(int(time.time()))
                self._links.introduce(record)
                self._feed(RecordSigned(record))
            case Audit():
                self._spawn(self._audit(effect))
            case Ban():
                self._metrics.banned(
                    effect.peer, Conviction(effect.reason, effect.evidence, effect.sequence)
                )
                _logger.warning("peer %s banned: %s", short(effect.peer), effect.reason)
                self._keep_ledger()
            case Pardon():
                self._metrics.pardoned(effect.peer)
                self._keep_ledger()
            case Refuse():
                self._metrics.refused(effect.reason)
                _logger.info("peer %s: refused (%s)", short(effect.peer), effect.reason)

    # ---- heavy work, off the event loop ------------------------------------------------------

    def _seal_next(self) -> None:
        outgoing = self.mailbox.next_outgoing()
        if outgoing is not None:
            self._spawn(self._seal(outgoing))

    async def _seal(self, outgoing: Outgoing) -> None:
        try:
            sequence = outgoing.sequence or self._store.next_sequence()
            update, states = await self._in_worker(
                seal,
                outgoing,
                sequence,
                manifest=self._manifest,
                norm_max=self._config.norm_max,
                run=self._run,
                identity=self._identity,
                suite=self._suite,
                auditor=self._auditor,
            )
            if states:
                self._archive.keep(sequence, states)
            self._feed(Published(update))
        except RemoteProtocolError as error:
            _logger.warning("own parameters not shared, every peer would refuse them: %s", error)
        finally:
            self.mailbox.sealed()
            self._seal_next()

    async def _inspect(self, effect: Inspect) -> None:
        header: UpdateHeader = effect.header.body
        author = PeerId(header.author)
        refusal = None
        try:
            self._approved[author, header.root] = await self._in_worker(
                inspect, effect.chunks, self._manifest, self._config.norm_max
            )
        except RemoteProtocolError as error:
            _logger.info("peer %s: %s", short(author), error)
            refusal = error.reason
        except Exception:  # out of memory: nothing that the author did, and nothing to deliver
            _logger.exception("inspecting an update of peer %s", short(author))
        self._feed(Inspected(author, header.root, refusal))
        self._approved.pop((author, header.root), None)

    async def _audit(self, effect: Audit) -> None:
        """Redo the segment that was drawn, as far as this peer can; judges abstain."""
        found, header = None, effect.header.body
        started_s = time.monotonic()
        if effect.role is Role.AUDIT:
            found = await self._desk.audit(header, effect.draw, [*self._machine.neighbors])
        took_s = time.monotonic() - started_s
        name = short(PeerId(header.author))
        _logger.info(
            "audit of update %d of peer %s: %s (%.1f s)", header.sequence, name, found, took_s
        )
        verdict = {True: Verdict.SOUND, False: Verdict.FAULT, None: None}[found]
        self._feed(Audited(case_of(effect.header.sealed.body), effect.draw, verdict))

    def _deliver(self, effect: Deliver) -> None:
        header = effect.header.body
        author = PeerId(header.author)
        arrays = self._approved.pop((author, header.root), None)
        self._taken[author] = header
        if arrays is not None:
            self.mailbox.deliver(
                Arrival(author, arrays, header.version, header.samples, effect.adopt)
            )

    async def _in_worker(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._workers, partial(work, *args, **kwargs))
        except RuntimeError:  # the program is ending without `close`: no threads any more
            raise asyncio.CancelledError from None
        return await future

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("defect in the network thread", exc_info=task.exception())
