"""The benchmarks of real peers run."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_benchmark_of_mix_runs():
    command = [sys.executable, str(BENCHMARKS / "bench_mix.py"), "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stderr
    for row in ("none", "2 healthy", "2 stopped", "2 killed", "copy", "mix of 8"):
        assert row in ended.stdout


@pytest.mark.slow
def test_the_benchmark_of_averaging_runs():
    command = [sys.executable, str(BENCHMARKS / "bench_averaging.py"), "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stderr
    for row in ("gossipjax", "CURVE"):
        assert row in ended.stdout


@pytest.mark.slow
def test_the_benchmark_of_slow_links_runs():
    command = [sys.executable, str(BENCHMARKS / "bench_wan.py"), "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Time to a loss" in ended.stdout
