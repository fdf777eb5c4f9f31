"""Real peers over ZeroMQ whose processes and connections fail at random.

`python tests/runtime/runtime_chaos.py SEED PEERS SECONDS` runs it and prints what happened.

Every peer is a process behind a forwarder of its own, so that its connections can be cut like those
of a machine whose cable is pulled. The seed draws which fault comes when and befalls whom.
"""

import asyncio
import contextlib
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from peer_processes import QUICK, PeerProcess

from gossipjax.crypto.suite import ed25519_suite
from gossipjax.runtime.journal import replay

SIZE = 300_000  # two chunks
FAULTS = ("disconnect", "silence", "pause", "kill", "restart")
FAULT_EVERY_S = (0.5, 2.5)
FAULT_LASTS_S = (0.5, 6.0)
HEAL_S = 30.0
PROTOCOL = {"catch_up_settle_ns": 200_000_000, "retry_max_ns": 5_000_000_000}


class Report(NamedTuple):
    """What came of it.

    Attributes:
        faults: how many of each kind.
        mixed: updates mixed in by all peers in all their lives.
        mixed_per_window: the same in each window of 10 s.
        reachable_s: from the end of the faults, when the last peer has started again, until every
            peer had all others as neighbors.
        quiet_s: longest time for which a peer that ran did not say how it is.
        rss_start, rss_max, rss_end: MiB; of the largest peer at the beginning, ever, at the end.
        errors: what the peers wrote to standard error.
        journals: lives whose journals were replayed, and the events in them.
        divergences: what a replay did otherwise.
    """

    faults: dict[str, int]
    mixed: int
    mixed_per_window: list[int]
    reachable_s: float
    quiet_s: float
    rss_start: float
    rss_max: float
    rss_end: float
    errors: str
    journals: tuple[int, int]
    divergences: list[str]


class Forwarder:
    """Passes the bytes of connections on to a port of this machine, unless it is cut."""

    def __init__(self, target: int):
        self.port = free_port()
        self._target = target
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    async def serve(self) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        await server.serve_forever()

    async def cut(self, *, silently: bool) -> None:
        """Reset all connections and refuse new ones; silently: pass nothing on, say nothing."""
        if silently:
            self._flows.clear()
            return
        self._is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    async def heal(self) -> None:
        self._is_cut = False
        self._flows.set()

    async def _accepted(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        if self._is_cut:
            near_out.transport.abort()
            return
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near_out.transport.abort()
            return
        ends = {near_out, far_out}
        self._open |= ends
        try:
            await asyncio.gather(self._pump(near, far_out), self._pump(far, near_out))
        except OSError:
            pass
        finally:
            self._open -= ends
            for writer in ends:
                writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await self._flows.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # one side has closed: close the other


class Chaos:
    """Some peers, and what befalls them."""

    def __init__(self, seed: int, peers: int, folder: Path, loop: asyncio.AbstractEventLoop):
        self._draws = random.Random(seed)
        self._folder = folder
        self._loop = loop
        self._ports = [free_port() for _ in range(peers)]
        self._forwarders = [Forwarder(port) for port in self._ports]
        for forwarder in self._forwarders:
            asyncio.run_coroutine_threadsafe(forwarder.serve(), loop)
        self._lives = 0
        self._paused: dict[int, bool] = {}
        self._since_s = [0.0] * peers
        self._due: list[tuple[float, str, int]] = []
        self._errors = (folder / "errors.txt").open("ab")
        self._mixed_before = 0
        self.started_s = time.monotonic()
        self.faults: Counter[str] = Counter()
        self.quiet_s = 0.0
        self.rss_max = 0.0
        self.peers: list[PeerProcess] = []
        self._join: list[str] = []
        self.peers.append(self._start(0))
        self._join = [self.peers[0].join_string]
        self.peers += [self._start(number) for number in range(1, peers)]

    def close(self) -> None:
        for peer in self.peers:
            peer.kill()
        self._errors.close()

    @property
    def mixed(self) -> int:
        """Updates mixed in by all in all their lives."""
        return self._mixed_before + sum(peer.last.get("mixed", 0) for peer in self.peers)

    @property
    def rss(self) -> float:
        """Resident memory of the largest peer, MiB."""
        return max(resident_mib(peer.process.pid) for peer in self.peers)

    @property
    def is_whole(self) -> bool:
        """Whether every peer has all others as neighbors."""
        ids = {peer.first.get("id") for peer in self.peers}
        return None not in ids and all(
            {*peer.last.get("ids", ()), peer.first["id"]} == ids for peer in self.peers
        )

    @property
    def views(self) -> list[list[int]]:
        """Numbers of the neighbors of each peer."""
        numbers = {peer.first.get("id"): number for number, peer in enumerate(self.peers)}
        return [
            sorted(numbers[peer] for peer in one.last.get("ids", ()) if peer in numbers)
            for one in self.peers
        ]

    def until_whole(self, seconds: float) -> float:
        """Seconds until `is_whole`; infinite when that takes longer than allowed."""
        started_s = time.monotonic()
        while not self.is_whole:
            if time.monotonic() - started_s > seconds:
                return float("inf")
            self._look()
        return time.monotonic() - started_s

    def rage(self, seconds: float) -> list[int]:
        """Let faults happen; updates mixed in each window of 10 s."""
        end_s = time.monotonic() + seconds
        next_fault_s = window_s = time.monotonic()
        windows, mixed = [], self.mixed
        while (now_s := time.monotonic()) < end_s:
            if now_s >= next_fault_s:
                self._befall(now_s)
                next_fault_s = now_s + self._draws.uniform(*FAULT_EVERY_S)
            self._end_what_is_due(now_s)
            self._look()
            if now_s - window_s >= 10:
                windows.append(self.mixed - mixed)
                window_s, mixed = now_s, self.mixed
        self._end_what_is_due(float("inf"))
        return windows

    def end(self) -> None:
        """Let all close properly."""
        for peer in self.peers:
            peer.end()

    def _befall(self, now_s: float) -> None:
        number = self._draws.randrange(len(self.peers))
        kind = self._draws.choice(FAULTS)
        lasts_s = self._draws.uniform(*FAULT_LASTS_S)
        if any(number == other for _, _, other in self._due) or not self.peers[number].last:
            return  # one at a time per peer, and none while it starts
        self.faults[kind] += 1
        at_s = now_s - self.started_s
        print(f"{at_s:6.1f} s: {kind} of peer {number} for {lasts_s:.1f} s", flush=True)
        match kind:
            case "disconnect" | "silence":
                self._call(self._forwarders[number].cut(silently=kind == "silence"))
            case "pause":
                self.peers[number].pause()
                self._paused[number] = True
            case "kill":
                self.peers[number].kill()
            case _:
                self.peers[number].end()
        self._due.append((now_s + lasts_s, kind, number))

    def _end_what_is_due(self, now_s: float) -> None:
        for entry in [entry for entry in self._due if entry[0] <= now_s]:
            self._due.remove(entry)
            _, kind, number = entry
            match kind:
                case "disconnect" | "silence":
                    self._call(self._forwarders[number].heal())
                case "pause":
                    self.peers[number].unpause()
                    del self._paused[number]
                    self._since_s[number] = time.monotonic()
                case _:
                    self._mixed_before += self.peers[number].last.get("mixed", 0)
                    self.peers[number].kill()
                    self.peers[number] = self._start(number)

    def _start(self, number: int) -> PeerProcess:
        self._lives += 1
        config = {
            "listen": f"tcp://127.0.0.1:{self._ports[number]}",
            "public_address": f"tcp://127.0.0.1:{self._forwarders[number].port}",
            "state_dir": str(self._folder / f"peer-{number}"),
            "journal_file": str(self._folder / f"peer-{number}-{self._lives}.journal"),
            "round_seconds": 0.5,
            "protocol": {**QUICK["protocol"], **PROTOCOL},
        }
        return PeerProcess(
            *(self._join if number else ()),
            value=float(number),
            errors=self._errors,
            size=SIZE,
            steps=1,
            config=config,
        )

    def _look(self) -> None:
        """Wait a moment; note who is silent, and how large they are."""
        time.sleep(0.1)
        now_s = time.monotonic()
        for number, peer in enumerate(self.peers):
            runs = peer.last and peer.process.poll() is None and number not in self._paused
            if runs and not peer.last.get("closed"):
                heard_s = max(peer.heard_s, self._since_s[number])
                self.quiet_s = max(self.quiet_s, now_s - heard_s)
            self.rss_max = max(self.rss_max, resident_mib(peer.process.pid))

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


def run_chaos(seed: int, peers: int, seconds: float, folder: Path) -> Report:
    """Start the peers, let faults happen, wait until they are whole again, and end them."""
    print(f"reproduce: python tests/runtime/runtime_chaos.py {seed} {peers} {seconds:g}")
    with _loop_in_thread() as loop:
        chaos = Chaos(seed, peers, folder, loop)
        try:
            assert chaos.until_whole(60 + HEAL_S) < float("inf"), "the peers do not find each other"
            rss_start = chaos.rss
            windows = chaos.rage(seconds)
            for peer in chaos.peers:
                assert peer.join_string  # it has started again
            reachable_s = chaos.until_whole(HEAL_S)
            print(f"neighbors: {chaos.views}")
            rss_end = chaos.rss
            mixed = chaos.mixed
            chaos.end()
        finally:
            chaos.close()
    errors = (folder / "errors.txt").read_text(encoding="utf-8")
    replays = [replay(path, ed25519_suite()) for path in sorted(folder.glob("*.journal"))]
    return Report(
        dict(chaos.faults),
        mixed,
        windows,
        reachable_s,
        chaos.quiet_s,
        rss_start,
        chaos.rss_max,
        rss_end,
        errors,
        (len(replays), sum(ended.events for ended in replays)),
        [ended.divergence for ended in replays if ended.divergence],
    )


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection takes (Linux: 32768 on)."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def resident_mib(pid: int) -> float:
    """Resident memory of a process; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * 4096 / 2**20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        report = run_chaos(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(name))
    for field, value in report._asdict().items():
        print(f"{field}: {value}")
