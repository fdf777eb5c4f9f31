"""How long peers take to average their parameters, beside hivemind and a bare encrypted transfer.

    python benchmarks/bench_averaging.py [--hivemind PYTHON] [--quick]

One process per peer on one machine, 20 equal float32 tensors, everything encrypted. The time of a
round is that of the slowest peer, from parameters that are ready to mixed ones that are ready, and
the result is checked against the true mean. The systems take turns, round by round, so that what
else the machine does hits all alike; medians are compared.

`CURVE` is what pyzmq needs for the same bytes both ways at once in messages of 1 MiB, with nothing
around it: no hashes, no signatures, no checks, no averaging.

hivemind needs an environment of its own: `python -m venv V; V/bin/pip install torch hivemind
"numpy<2.4"` (its 8-bit codec fails with newer ones), then `--hivemind V/bin/python`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zmq
from reporting import print_tables, report

TENSORS = 20
CHUNK_BYTES = 1 << 20
Row = dict[str, Any]


class Case(NamedTuple):
    """What is averaged among how many."""

    peers: int
    parameters: int
    compression: str


class Peer:
    """A process that says what it measures, a line of JSON at a time."""

    def __init__(self, command: Sequence[str]):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def hear(self) -> Row:
        """Wait for its next line."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a peer ended with status {self._process.wait()}")

    def say(self, word: str) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    @property
    def processor_s(self) -> float:
        """Processor time of its process and of all that it has started."""
        return sum(processor_s_of(process) for process in tree_of(self._process.pid))

    def end(self) -> None:
        """Let it go, or kill it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class System:
    """All peers of one system in one case."""

    def __init__(self, stack: ExitStack, command: Sequence[str], case: Case):
        self.seconds: list[float] = []
        self.processor_s: list[float] = []
        self.bytes_sent: list[float] = []
        self.errors: list[float] = []
        self._peers: list[Peer] = []
        arguments = [str(case.peers), str(case.parameters), case.compression]
        addresses: list[str] = []
        for index in range(case.peers):
            peer = Peer([*command, str(index), *arguments, *addresses])
            stack.callback(peer.end)
            self._peers.append(peer)
            if index == 0:
                addresses = peer.hear()["addresses"]
        for peer in self._peers[1:]:
            peer.hear()

    def round(self) -> None:
        """Let all average once."""
        before = loopback_bytes()
        for peer in self._peers:
            peer.say("round")
        for peer in self._peers:
            peer.hear()
        processor_s = sum(peer.processor_s for peer in self._peers)
        for peer in self._peers:
            peer.say("go")
        heard = [peer.hear() for peer in self._peers]
        self.seconds.append(max(row["seconds"] for row in heard))
        self.errors.append(max(row["error"] for row in heard))
        processor_s = sum(peer.processor_s for peer in self._peers) - processor_s
        self.processor_s.append(processor_s / len(self._peers))
        self.bytes_sent.append((loopback_bytes() - before) / len(self._peers))


def tree_of(process: int) -> list[int]:
    """A process and its descendants."""
    found = [process]
    for parent in found:
        for listing in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in listing.read_text(encoding="ascii").split()]
    return found


def processor_s_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loopback_bytes() -> int:
    """Bytes ever sent over the loopback interface."""
    for line in Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    return 0


def values_of(index: int, parameters: int) -> np.ndarray:
    return np.random.default_rng(index).standard_normal(parameters, np.float32)


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def be_peer(
    index: int, peers: int, parameters: int, compression: str, addresses: list[str]
) -> None:
    import jax

    import gossipjax as gj

    jax.config.update("jax_platforms", "cpu")
    mean = np.mean([values_of(i, parameters) for i in range(peers)], axis=0)
    own = values_of(index, parameters).reshape(TENSORS, -1)
    params = {f"layer_{i:02}": jax.numpy.asarray(part) for i, part in enumerate(own)}
    settings: dict[str, Any] = {
        "listen": "tcp://127.0.0.1:0",
        "join": addresses,
        "protocol.fanout": peers - 1,
        "slots": peers - 1,
    }
    if compression != "none":
        settings["compression"] = compression
        settings["compression_options"] = {"block": 512}  # 8.03 bits; hivemind: 8
    with gj.join({}, params, **settings) as swarm:
        say(addresses=[swarm.join_string])
        for line in sys.stdin:
            if line.strip() != "round":
                break
            while swarm.neighbors < peers - 1:
                time.sleep(0.01)
            jax.block_until_ready(params)
            say(matched=True)
            sys.stdin.readline()
            started_s = time.perf_counter()
            swarm.share(params)
            while swarm.waiting < peers - 1:
                time.sleep(0.001)
            mixed = jax.block_until_ready(swarm.fold_in(params))
            ended_s = time.perf_counter()
            flat = np.concatenate([np.asarray(leaf) for leaf in mixed.values()])
            say(
                seconds=ended_s - started_s,
                error=float(np.abs(flat - mean).max()),
            )


def curve_seconds(nbytes: int) -> float:
    """Both of two processes send so many bytes to each other, in messages of 1 MiB."""
    command = [sys.executable, __file__, "--curve", str(nbytes)]
    first = Peer(command)
    second = Peer([*command, str(first.hear()["port"])])
    second.hear()
    for peer in (first, second):
        peer.say("go")
    seconds = max(peer.hear()["seconds"] for peer in (first, second))
    first.end()
    second.end()
    return seconds


def be_curve(nbytes: int, port: str) -> None:
    context = zmq.Context()
    public, secret = zmq.curve_keypair()
    server_secret = b"JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
    server_public = zmq.curve_public(server_secret)
    pair = context.socket(zmq.PAIR)
    pair.setsockopt(zmq.LINGER, 5000)
    if port:
        pair.curve_secretkey, pair.curve_publickey = secret, public
        pair.curve_serverkey = server_public
        pair.connect(f"tcp://127.0.0.1:{port}")
        pair.send(b"")
        pair.recv()
    else:
        pair.curve_secretkey, pair.curve_server = server_secret, True
        say(port=pair.bind_to_random_port("tcp://127.0.0.1"))
        pair.recv()
        pair.send(b"")
    data = memoryview(np.random.default_rng(0).bytes(nbytes))
    if port:
        say(ready=True)
    sys.stdin.readline()
    started_s = time.perf_counter()
    starts = range(0, nbytes, CHUNK_BYTES)
    poller = zmq.Poller()
    left, position = len(starts), 0
    while left or position < nbytes:
        events = zmq.POLLIN | (zmq.POLLOUT if position < nbytes else 0)
        poller.register(pair, events)
        ready = dict(poller.poll())[pair]
        if ready & zmq.POLLOUT and position < nbytes:
            pair.send(data[position : position + CHUNK_BYTES], copy=False)
            position += CHUNK_BYTES
        if ready & zmq.POLLIN:
            pair.recv(copy=False)
            left -= 1
    say(seconds=time.perf_counter() - started_s)
    sys.stdin.readline()
    pair.close()
    context.term()


def rows_of(case: Case, options: argparse.Namespace) -> list[Row]:
    commands = {"gossipjax": [sys.executable, __file__, "--peer"]}
    if options.hivemind:
        other = str(Path(__file__).with_name("hivemind_averaging.py"))
        commands["hivemind"] = [options.hivemind, other]
    curve: list[float] = []
    with ExitStack() as stack:
        systems = {name: System(stack, command, case) for name, command in commands.items()}
        for _ in range(options.rounds + 1):
            for system in systems.values():
                system.round()
            if case.peers == 2 and case.compression == "none":
                curve.append(curve_seconds(4 * case.parameters))
    medians = {name: statistics.median(system.seconds[1:]) for name, system in systems.items()}
    if curve:
        medians["CURVE"] = statistics.median(curve[1:])
    return [
        {
            "system": name,
            "peers": case.peers,
            "parameters": case.parameters,
            "compression": case.compression,
            "seconds": seconds,
            "processor_s": statistics.median(systems[name].processor_s[1:])
            if name in systems
            else None,
            "MB_per_s": 4 * case.parameters / seconds / 1e6,
            "MB_sent": statistics.median(systems[name].bytes_sent) / 1e6
            if name in systems
            else None,
            "error": max(systems[name].errors[1:]) if name in systems else None,
            "gossipjax_faster": seconds / medians["gossipjax"],
        }
        for name, seconds in medians.items()
    ]


CASES = (
    Case(2, 10_000_000, "none"),
    Case(2, 50_000_000, "none"),
    Case(4, 10_000_000, "none"),
    Case(2, 10_000_000, "int8"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Averaging, beside hivemind and bare CURVE.")
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs")
    parser.add_argument("--hivemind", help="the Python of an environment with hivemind")
    parser.add_argument(
        "--rounds", type=int, default=7, help="of each system, after one to warm up"
    )
    parser.add_argument("--cases", type=int, nargs="*", help="which rows, from 0")
    parser.add_argument("--peer", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--curve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        index, peers, parameters, compression, *addresses = options.peer
        return be_peer(int(index), int(peers), int(parameters), compression, addresses)
    if options.curve:
        nbytes, *port = options.curve
        return be_curve(int(nbytes), "".join(port))
    cases = [CASES[i] for i in options.cases] if options.cases else list(CASES)
    if options.quick:
        cases, options.rounds = [Case(2, 200_000, "none")], 2
    rows = [row for case in cases for row in rows_of(case, options)]
    tables = {"Averaging on one machine": rows}
    if options.quick:
        print_tables(tables)
    else:
        report("averaging", tables, rounds=options.rounds)
    return None


if __name__ == "__main__":
    main()
