"""Runs one `PeerMachine` in the real world: an asyncio loop in a thread of its own."""

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gossipjax.crypto.identity import Identity
from gossipjax.crypto.suite import CryptoSuite, ed25519_suite
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.protocol.effects import (
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Inspect,
    Learn,
    Refuse,
    Send,
)
from gossipjax.protocol.events import (
    DeadlinePassed,
    Event,
    Inspected,
    Misbehaved,
    PeerConnected,
    PeerLost,
    Published,
    Received,
    Stopping,
)
from gossipjax.protocol.peer import PeerMachine
from gossipjax.runtime.config import PeerConfig
from gossipjax.runtime.metrics import Metrics
from gossipjax.runtime.store import Store, open_identity
from gossipjax.runtime.transport import Link, Transport
from gossipjax.types import PeerId, RunId, short
from gossipjax.wire.address import Address, format_join, parse_endpoint, parse_join
from gossipjax.wire.envelope import (
    Verified,
    open_record,
    peer_id,
    record_author,
    run_id,
    seal_record,
    seal_update,
)
from gossipjax.wire.limits import PROTOCOL_VERSION
from gossipjax.wire.messages import (
    AnyMessage,
    Chunk,
    Hello,
    Leave,
    PeerRecord,
    Sealed,
    UpdateHeader,
)
from gossipjax.wire.tensors import Manifest, check_values, pack, unpack

_logger = logging.getLogger("gossipjax")

_RECORD_LIFE_S = 30 * 24 * 3600
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0


class Outgoing(NamedTuple):
    """A payload to be sealed and offered: a function that gives its arrays, and its claims."""

    arrays: Callable[[], list[np.ndarray]]
    version: int
    samples: int


class Arrival(NamedTuple):
    """An update that has passed every check."""

    author: PeerId
    arrays: list[np.ndarray]
    version: int
    samples: int
    adopt: bool


class Status(NamedTuple):
    """What the network thread last saw, for display."""

    neighbors: int
    has_caught_up: bool


class Host:
    """The network side of a peer.

    Public methods are for the training thread; none but `start` and `stop` waits for the network.

    Args:
        config: settings.
        manifest: tensors of a payload.
        version: model version to begin with.
        metrics: counters to keep.
    """

    def __init__(
        self,
        config: PeerConfig,
        manifest: Manifest,
        *,
        version: int,
        metrics: Metrics,
    ):
        self._config = config
        self._manifest = manifest
        self._first_version = version
        self._metrics = metrics
        self._suite: CryptoSuite = ed25519_suite()
        self._run: RunId = run_id(config.run, manifest.digest)
        folder = Path(config.state_dir).expanduser() if config.state_dir else None
        self._store_folder = folder
        self._identity: Identity = open_identity(folder)
        self.id: PeerId = peer_id(self._run, self._identity.public.sign, self._identity.public.vrf)
        self._lock = threading.Lock()
        self._inbox: dict[PeerId, Arrival] = {}
        self._outbox: Outgoing | None = None
        self._sealing = False
        self._status = Status(0, False)
        self._thread = threading.Thread(target=self._run_loop, name="gossipjax", daemon=True)
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested: asyncio.Event | None = None
        self.join_string = ""

    # ---- called by the training thread -------------------------------------------------------

    def start(self) -> None:
        """Start the thread and wait until it listens.

        Raises:
            LocalProtocolError: the address is taken, or the state folder in use.
        """
        self._thread.start()
        self._ready.wait(_START_TIMEOUT_S)
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def publish(self, outgoing: Outgoing) -> None:
        """Seal and offer a payload in the background; one that still waits is replaced."""
        with self._lock:
            self._outbox = outgoing
        self._call(self._seal_next)

    @property
    def is_sealing(self) -> bool:
        """Whether an earlier payload is still being sealed, so that another would only wait."""
        return self._sealing or self._outbox is not None

    def take(self, count: int) -> list[Arrival]:
        """Up to `count` arrivals, newest per author, oldest arrival first; never waits."""
        with self._lock:
            adopted = [a for a in self._inbox.values() if a.adopt]
            authors = [a.author for a in adopted] or list(self._inbox)[:count]
            return [self._inbox.pop(author) for author in authors[:count]]

    @property
    def status(self) -> Status:
        """Number of neighbors, and whether this peer has caught up."""
        return self._status

    @property
    def is_alive(self) -> bool:
        """Whether the network thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Say goodbye, close everything, wait a few seconds at most. May be called twice."""
        stop_requested = self._stop_requested
        if stop_requested is not None:
            self._call(stop_requested.set)
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S)

    def _call(self, function: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None or self._stopped.is_set():
            return
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:  # closed in between
            self._stopped.set()

    # ---- the network thread ------------------------------------------------------------------

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                _logger.exception("the network thread ended; training goes on alone")
        finally:
            self._stopped.set()
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop_requested = asyncio.Event()
        self._links: dict[PeerId, list[Link]] = {}
        self._approved: dict[tuple[PeerId, bytes], list[np.ndarray]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="gossipjax-worker")
        self._store = Store(self._store_folder)
        self._transport = Transport(
            self._identity, self._config, self._metrics, self._on_message, self._on_malformed
        )
        try:
            await self._transport.start()
            self._start_machine()
            self._ready.set()
            await self._stop_requested.wait()
            self._feed(Stopping())
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            self._workers.shutdown(wait=True, cancel_futures=True)
            await self._transport.stop()
            self._store.close()

    def _start_machine(self) -> None:
        now_s = int(time.time())
        self._epoch_ns = time.monotonic_ns()
        self._record = self._make_record(now_s)
        endpoint = self._record.body.addresses[0]
        self.join_string = format_join(Address(endpoint, self._identity.public.transport))
        self._machine = PeerMachine(
            self._config.protocol,
            self._record,
            manifest_digest=self._manifest.digest,
            payload_bytes=self._manifest.nbytes,
            suite=self._suite,
            seed=secrets.randbits(64),
            bootstrap=[parse_join(text) for text in self._config.join],
            book=self._remembered_records(now_s),
            version=self._first_version,
            epoch_s=now_s,
        )
        self._feed(DeadlinePassed())

    def _make_record(self, now_s: int) -> Verified[PeerRecord]:
        public = self._identity.public
        record = PeerRecord(
            run=self._run,
            sign_key=public.sign,
            vrf_key=public.vrf,
            transport_key=public.transport,
            addresses=(advertised_endpoint(self._config, self._transport.endpoint),),
            sequence=time.time_ns() // 1_000_000,
            expires_s=now_s + _RECORD_LIFE_S,
        )
        return seal_record(record, self._identity, self._suite)

    def _remembered_records(self, now_s: int) -> list[Verified[PeerRecord]]:
        records: list[Verified[PeerRecord]] = []
        for sealed in self._store.book():
            try:
                records.append(open_record(sealed, self._run, self._suite, now_s))
            except RemoteProtocolError as error:
                _logger.debug("address book: %s", error)
        return records

    def _feed(self, event: Event) -> None:
        """Hand one event to the machine, carry out what it wants, arm the one timer."""
        for effect in self._machine.handle(event, self._now_ns()):
            self._carry_out(effect)
        if self._timer is not None:
            self._timer.cancel()
        wait_s = max(self._machine.next_deadline_ns - self._now_ns(), 0) / 1e9
        assert self._loop is not None
        self._timer = self._loop.call_later(wait_s, self._feed, DeadlinePassed())
        self._status = Status(len(self._machine.neighbors), self._machine.has_caught_up)

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._epoch_ns

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case Inspect():
                self._spawn(self._inspect(effect))
            case Deliver():
                self._deliver(effect)
            case Connect():
                self._spawn(self._dial(effect.address))
            case Disconnect():
                _logger.info("peer %s disconnected: %s", short(effect.peer), effect.reason)
                for link in self._links.pop(effect.peer, []):
                    self._transport.close(link)
            case Learn():
                self._store.remember(record_author(effect.record.body), effect.record.sealed)
            case Refuse():
                self._metrics.refused(effect.reason)
                _logger.info("peer %s: refused (%s)", short(effect.peer), effect.reason)

    def _send(self, effect: Send) -> None:
        for link in list(self._links.get(effect.peer, [])):
            if self._transport.send(link, effect.message, effect.data):
                return
            if not isinstance(effect.message, Chunk):
                self._drop_link(link)  # gone, or stuck for longer than a link may be

    def _drop_link(self, link: Link) -> None:
        self._transport.close(link)
        if link.peer is None:
            return
        links = self._links.get(link.peer, [])
        if link in links:
            links.remove(link)
            if not links:
                del self._links[link.peer]
                assert self._loop is not None
                self._loop.call_soon(self._feed, PeerLost(link.peer))

    # ---- greeting ----------------------------------------------------------------------------

    def _hello(self, bulk: bool) -> Hello:
        return Hello(PROTOCOL_VERSION, bulk, self._record.sealed)

    async def _dial(self, address: Address) -> None:
        link = self._transport.dial(address)
        try:
            async with asyncio.timeout(self._config.protocol.connect_timeout_ns / 1e9):
                await self._transport.greet(link, self._hello)
                while link.peer is None and link.is_open:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            _logger.info("no answer from %s", address.endpoint)
        finally:
            if link.peer is None:
                self._transport.close(link)

    def _on_message(self, link: Link, message: AnyMessage, data: memoryview | None) -> None:
        if isinstance(message, Hello):
            try:
                self._bind(link, message)
            except RemoteProtocolError as error:
                self._turn_away(link, error)
        elif link.peer is not None:
            self._feed(Received(link.peer, message, data))
        elif isinstance(message, Leave):
            _logger.warning("a peer refused this one: %s", message.reason)
            self._transport.close(link)
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
        if hello.bulk or link.peer is not None:
            return
        if not link.dialled:
            self._transport.send(link, self._hello(False))
        link.peer = record_author(record.body)
        links = self._links.setdefault(link.peer, [])
        links.append(link)
        self._feed(PeerConnected(record))

    def _turn_away(self, link: Link, error: RemoteProtocolError) -> None:
        _logger.warning("turned a connection away: %s", error)
        self._metrics.refused(error.reason)
        self._transport.send(link, Leave(str(error)[:100]))
        self._transport.close(link)

    # ---- heavy work, off the event loop ------------------------------------------------------

    def _seal_next(self) -> None:
        if self._sealing or self._outbox is None:
            return
        with self._lock:
            outgoing, self._outbox = self._outbox, None
            self._sealing = True
        self._spawn(self._seal(outgoing, self._store.next_sequence()))

    async def _seal(self, outgoing: Outgoing, sequence: int) -> None:
        def work():
            return seal_update(
                pack(self._manifest, outgoing.arrays()),
                run=self._run,
                sequence=sequence,
                version=outgoing.version,
                samples=outgoing.samples,
                manifest_digest=self._manifest.digest,
                identity=self._identity,
                suite=self._suite,
            )

        assert self._loop is not None
        try:
            update = await self._loop.run_in_executor(self._workers, work)
        finally:
            self._sealing = False
        self._feed(Published(update))
        self._seal_next()

    async def _inspect(self, effect: Inspect) -> None:
        header: UpdateHeader = effect.header.body
        author = PeerId(header.author)

        def work() -> list[np.ndarray]:
            arrays = unpack(self._manifest, b"".join(effect.chunks))
            check_values(self._manifest, arrays, self._config.norm_max)
            return arrays

        assert self._loop is not None
        refusal = None
        try:
            arrays = await self._loop.run_in_executor(self._workers, work)
            self._approved[author, header.root] = arrays
        except RemoteProtocolError as error:
            _logger.info("peer %s: %s", short(author), error)
            refusal = error.reason
        self._feed(Inspected(author, header.root, refusal))
        self._approved.pop((author, header.root), None)

    def _deliver(self, effect: Deliver) -> None:
        header = effect.header.body
        author = PeerId(header.author)
        arrays = self._approved.pop((author, header.root))
        arrival = Arrival(author, arrays, header.version, header.samples, effect.adopt)
        with self._lock:
            waiting = self._inbox.pop(author, None)
            if waiting is not None and waiting.adopt:
                arrival = arrival._replace(adopt=True)
            self._inbox[author] = arrival

    def _spawn(self, coroutine) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("defect in the network thread", exc_info=task.exception())


def advertised_endpoint(config: PeerConfig, bound: str) -> str:
    """What others should dial: the public address, or this machine's where it listens on all."""
    if config.public_address:
        return config.public_address
    host, port = parse_endpoint(bound)
    return f"tcp://{_own_address() if host == '0.0.0.0' else host}:{port}"


def _own_address() -> str:
    """The address of the interface towards the internet; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: never assigned
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


__all__ = ["Arrival", "Host", "LocalProtocolError", "Outgoing", "Sealed", "Status"]
