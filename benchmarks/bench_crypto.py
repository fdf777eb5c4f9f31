"""What the committee's cryptography costs, and how much of it is Python.

`prove` and `verify` next to the bare libsodium calls that they need: the calls of each run are
recorded once, then replayed turn by turn with the real thing, so that a busy machine slows both.
`ratio_c` is to the C functions alone, `ratio_bindings` to the same calls through PyNaCl's public
bindings: what lies between the two is PyNaCl's. Aim: ratio of medians at most 1.15. A busy machine
raises `ratio_c` above what a quiet one shows, since interpreted code suffers more from cold caches.

    python benchmarks/bench_crypto.py [--quick]

Prints a table and writes benchmarks/results/crypto.json.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from nacl import _sodium, bindings  # pyright: ignore[reportAttributeAccessIssue]  # C module
from nacl.exceptions import RuntimeError as LibraryRefusal

from gossipjax.crypto import ecvrf
from gossipjax.crypto.sortition import seats, uniform

RESULTS = Path(__file__).parent / "results" / "crypto.json"
Row = dict[str, Any]


class Call(NamedTuple):
    """One call of libsodium: through PyNaCl's binding, and as the C function itself."""

    binding: Callable[..., bytes]
    bare: Callable[..., int]
    arguments: tuple[bytes, ...]
    bare_arguments: tuple[object, ...]


def recorded(function: Callable[[], bytes]) -> list[Call]:
    """The libsodium calls of one run of `function`, in order, with their arguments."""
    calls: list[Call] = []

    def recorder(binding: Callable[..., Any]) -> Callable[..., bytes]:
        bare = getattr(_sodium.lib, binding.__name__)

        def record(*arguments: bytes) -> bytes:
            out = _sodium.ffi.new("unsigned char[]", 64)
            calls.append(Call(binding, bare, arguments, (out, *arguments)))
            return binding(*arguments)

        return record

    with ExitStack() as patches:
        for name in dir(bindings):
            if name.startswith(("crypto_core_ed25519_", "crypto_scalarmult_ed25519")):
                binding = getattr(bindings, name)
                if callable(binding):
                    patches.enter_context(mock.patch.object(bindings, name, recorder(binding)))
        function()
    return calls


def replay_bare(calls: list[Call]) -> None:
    for call in calls:
        call.bare(*call.bare_arguments)


def replay_bindings(calls: list[Call]) -> None:
    for call in calls:
        # A hash that is no point is refused: part of the search for one.
        with suppress(LibraryRefusal):
            call.binding(*call.arguments)


def microseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    function()
    return (time.perf_counter_ns() - start) / 1e3


def beside_libsodium(name: str, functions: list[Callable[[], bytes]]) -> Row:
    ours, bare, bound = [], [], []
    for function in functions:
        calls = recorded(function)
        for _ in range(3):
            ours.append(microseconds(function))
            bare.append(microseconds(lambda calls=calls: replay_bare(calls)))
            bound.append(microseconds(lambda calls=calls: replay_bindings(calls)))
    medians = [statistics.median(samples) for samples in (ours, bare, bound)]
    return {
        "case": name,
        "median_us": medians[0],
        "c_us": medians[1],
        "bindings_us": medians[2],
        "ratio_c": medians[0] / medians[1],
        "ratio_bindings": medians[0] / medians[2],
    }


def curve_rows(repeats: int) -> list[Row]:
    secret_key, public_key = ecvrf.keypair(bytes(range(32)))
    alphas = [index.to_bytes(40, "big") for index in range(repeats)]
    proofs = [ecvrf.prove(secret_key, alpha) for alpha in alphas]
    proving = [lambda alpha=alpha: ecvrf.prove(secret_key, alpha) for alpha in alphas]
    verifying = [
        lambda alpha=alpha, proof=proof: ecvrf.verify(public_key, alpha, proof)
        for alpha, proof in zip(alphas, proofs, strict=True)
    ]
    return [beside_libsodium("prove", proving), beside_libsodium("verify", verifying)]


def sortition_rows(repeats: int) -> list[Row]:
    rows: list[Row] = []
    draws = [uniform(index.to_bytes(64, "big"), b"bench") for index in range(repeats)]
    hashing = [microseconds(lambda u=u: uniform(u.to_bytes(64, "big"), b"bench")) for u in draws]
    rows.append({"case": "uniform", "median_us": statistics.median(hashing)})
    for weight in (1, 16, 100, 1000):
        # A committee of 80 over a hundred such peers.
        total = 100 * weight
        costs = [
            microseconds(lambda u=u, w=weight, total=total: seats(u, w, 80, total)) for u in draws
        ]
        rows.append({"case": f"seats, weight {weight}", "median_us": statistics.median(costs)})
    return rows


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    repeats = 50 if parser.parse_args().quick else 500
    rows = curve_rows(repeats) + sortition_rows(repeats)
    columns = ("median_us", "c_us", "bindings_us", "ratio_c", "ratio_bindings")
    print(f"{'case':<20}" + "".join(f"{column:>15}" for column in columns))
    for row in rows:
        values = (f"{row[column]:15.2f}" for column in columns if column in row)
        print(f"{row['case']:<20}" + "".join(values))
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.processor()}
    RESULTS.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
