"""Honest peers as operating system processes, run by the tests of this folder."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
START_S = 60.0
QUICK: dict[str, Any] = {
    "listen": "tcp://127.0.0.1:0",
    "round_seconds": 0.02,
    "protocol": {"catch_up_settle_ns": 50_000_000, "retry_min_ns": 100_000_000},
}


class PeerProcess:
    """A `process_peer.py`, and the last thing that it said.

    Args:
        others: join strings.
        value: of all its parameters at the start.
        errors: takes its standard error; by default that of this process.
        settings: further ones of `process_peer.py`; those of the peer itself under `config`.
    """

    def __init__(
        self, *others: str, value: float, errors: IO[bytes] | None = None, **settings: Any
    ):
        config = {**QUICK, **settings.pop("config", {}), "join": list(others)}
        arguments = json.dumps({"config": config, "value": value, **settings})
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "process_peer.py"), arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        self.first: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.heard_s = time.monotonic()
        self._has_started = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def join_string(self) -> str:
        """Where others reach it; waits until it listens."""
        assert self._has_started.wait(START_S)
        assert self.first, "the peer has ended before it listened"
        return self.first["join"]

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):  # killed in the middle of it
                break
            record = json.loads(line)
            self.heard_s = time.monotonic()
            if "join" in record:
                self.first = record
                self._has_started.set()
            else:
                self.last = {**self.last, **record}
        self._has_started.set()

    def end(self) -> None:
        """Let it close properly."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        self.process.kill()
        with self.process:  # closes the pipes
            self._listener.join(10)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def peer_process(*others: str, value: float = 0.0, **settings: Any) -> Iterator[PeerProcess]:
    peer = PeerProcess(*others, value=value, **settings)
    try:
        assert peer.join_string or settings.get("config", {}).get("public_address")
        yield peer
    finally:
        peer.kill()
