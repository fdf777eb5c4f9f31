"""How much smaller each compressor makes a payload, at what error, and how fast.

    python benchmarks/bench_compression.py [--quick]

Prints a table and, unless quick, writes benchmarks/results/compression.json.

*Speed*, in GB/s of float32 input, on one core: this process confines itself to one (Linux), and the
best of some repetitions counts, since others may use the machine. *encode* is `compress` under jit,
*decode* `decompress`; what they need to read and write at least, over the rate of a copy of the
same array, is the time below which nothing can go: *encode of roofline* is that time over the one
measured. *Ratio*: bytes of float32 over bytes of the payload. *Error*: `‖x - D(Q(x))‖ / ‖x‖` of
normal numbers in a matrix `[n / 1024, 1024]`, the hardest case for all that look for structure, and
of a matrix with structure: singular values `1, 1/2, 1/3, …`, with columns that vary smoothly.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
if hasattr(os, "sched_setaffinity"):  # before XLA counts the cores
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from reporting import print_tables, report

from gossipjax import compression
from gossipjax.compression import Compressor

WIDTH = 1024
GOALS = {"bf16": 1.0, "int8": 1.0, "int4": 1.0, "top_k": 0.3}
CASES: dict[str, Callable[[], Compressor]] = {
    **{name: getattr(compression, name) for name in compression.NAMES},
    "top_k, no chunks": partial(compression.top_k, 0.01, None),
    "top_k 5 %": partial(compression.top_k, 0.05),
    "error_feedback(int4)": lambda: compression.error_feedback(compression.int4()),
    "error_feedback(sign)": lambda: compression.error_feedback(compression.sign()),
}
Row = dict[str, Any]


def best_s(run: Callable[[], Any], repeats: int) -> float:
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - started_s)
    return min(times)


def structured(rows: int) -> np.ndarray:
    """A matrix whose singular values fall as 1 / i, and whose columns vary smoothly."""
    rank = 16
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((rows, rank)))
    phases = np.arange(1, rank + 1)[:, None] * np.arange(WIDTH) / WIDTH
    right = np.cos(2 * np.pi * phases) * np.sqrt(2 / WIDTH)
    matrix = (left / np.arange(1, rank + 1)) @ right
    noise = rng.standard_normal(matrix.shape) * np.abs(matrix).mean() / 4
    return (matrix + noise).astype(np.float32)


def relative_error(compressor: Compressor, matrix: jax.Array) -> float:
    """After three payloads of the same matrix, for those that learn from one to the next."""
    compress, decompress = jax.jit(compressor.compress), jax.jit(compressor.decompress)
    state, payload = compressor.init(matrix), ()
    for seed in range(3):
        payload, state = compress(state, matrix, jax.random.key(seed))
        if isinstance(state, tuple) and state and compressor.retell is None:
            break  # with error feedback the first says what the code does
    left = matrix - decompress(payload, matrix)
    return float(jnp.linalg.norm(left) / jnp.linalg.norm(matrix))


def row_of(name: str, options: argparse.Namespace, copy_GB_per_s: float) -> Row:
    compressor = CASES[name]()
    normal = np.random.default_rng(0).standard_normal((options.numbers // WIDTH, WIDTH))
    matrix = jnp.asarray(normal, jnp.float32)
    state = compressor.init(matrix)
    encode, decode = jax.jit(compressor.compress), jax.jit(compressor.decompress)
    payload, _ = encode(state, matrix, jax.random.key(0))
    told = sum(leaf.nbytes for leaf in jax.tree.leaves(payload))
    encode_s = best_s(lambda: encode(state, matrix, jax.random.key(0)), options.repeats)
    decode_s = best_s(lambda: decode(payload, matrix), options.repeats)
    least_s = (matrix.nbytes + told) / (copy_GB_per_s * 1e9)
    return {
        "compressor": name,
        "ratio": matrix.nbytes / told,
        "bits": 8 * told / matrix.size,
        "error": relative_error(compressor, matrix),
        "error_structured": relative_error(compressor, jnp.asarray(structured(len(matrix)))),
        "encode_GB_per_s": matrix.nbytes / encode_s / 1e9,
        "decode_GB_per_s": matrix.nbytes / decode_s / 1e9,
        "encode_of_roofline": least_s / encode_s,
        "decode_of_roofline": least_s / decode_s,
    }


def copy_rate(options: argparse.Namespace) -> float:
    """Bytes read and written per second by a copy, in GB/s."""
    array = jnp.zeros((options.numbers // WIDTH, WIDTH), jnp.float32)
    return 2 * array.nbytes / best_s(lambda: jnp.copy(array), 5 * options.repeats) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratio, error and speed of each compressor.")
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs")
    parser.add_argument("--numbers", type=int, default=1 << 22)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    if options.quick:
        options.numbers, options.repeats = 1 << 16, 2
    copy_GB_per_s = copy_rate(options)
    rows = [row_of(name, options, copy_GB_per_s) for name in CASES]
    rates = {row["compressor"]: min(row["encode_GB_per_s"], row["decode_GB_per_s"]) for row in rows}
    missed = {name: rates[name] for name, goal in GOALS.items() if rates[name] < goal}
    title = f"{options.numbers / 1e6:.3g} million float32 numbers, one core"
    tables = {title: rows}
    print(f"a copy reads and writes {copy_GB_per_s:.1f} GB/s; goals missed: {missed or 'none'}")
    if options.quick:
        print_tables(tables)
    else:
        facts = {"copy_GB_per_s": copy_GB_per_s, "goals_GB_per_s": GOALS, "missed": missed}
        report("compression", tables, options=vars(options), **facts)


if __name__ == "__main__":
    main()
