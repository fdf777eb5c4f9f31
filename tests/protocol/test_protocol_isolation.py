"""The pure rooms stay pure: no JAX, no sockets, and nothing that differs between two processes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from protocol_pump import network_trace


def run_python(program: str, hash_seed: str = "0") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_the_pure_rooms_import_neither_jax_nor_zmq():
    heavy = ["asyncio", "flax", "jax", "numpy", "optax", "zmq"]
    program = (
        "import sys, gossipjax, gossipjax.crypto, gossipjax.protocol, gossipjax.wire\n"
        "import gossipjax.wire.envelope, gossipjax.wire.codec\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run_python(program) == "[]"


def test_tensors_need_numpy_but_not_jax():
    program = (
        "import sys, gossipjax.wire.tensors as tensors\n"
        "tensors.numpy_dtype('bfloat16')\n"
        "print([name for name in ('jax', 'zmq', 'numpy') if name in sys.modules])"
    )
    assert run_python(program) == "['numpy']"


def test_the_same_happens_whatever_the_order_of_sets():
    program = (
        "import hashlib, protocol_pump\n"
        "print(hashlib.sha256(protocol_pump.network_trace().encode()).hexdigest())"
    )
    here = hashlib.sha256(network_trace().encode()).hexdigest()
    assert run_python(program, "1") == run_python(program, "2") == here
