"""Installs the package into clean environments and runs it from another folder.

    python tests/install_check.py            # Python 3.11 and 3.12, where they are at hand
    python tests/install_check.py 3.13       # others

For each: a new virtual environment, `pip install` of this checkout, imports of every module, and a
short demo of two real peers. Newer Pythons get the newest JAX, 3.11 the newest that it can have. A
Python that is not there is reported as skipped.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12")
IMPORT_ALL = """
import importlib, pkgutil, gossipjax, jax
for module in pkgutil.walk_packages(gossipjax.__path__, "gossipjax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("jax", jax.__version__)
"""


def find_python(version: str) -> str | None:
    """An interpreter of this version that really starts: pyenv's shims may be there without one."""
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in (shutil.which(f"python{version}"), *map(str, managed)):
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None


def check(python: str, folder: Path) -> str:
    """Install and run; returns what to report. Raises CalledProcessError with the output."""
    environment = folder / "environment"
    run([python, "-m", "venv", str(environment)], folder)
    own = str(environment / "bin" / "python")
    # Only what is imported gets compiled: half of an installation is compiling what nobody imports.
    quick = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    run([own, "-m", "pip", "install", *quick, str(ROOT)], folder)
    versions = run([own, "-W", "error::DeprecationWarning:gossipjax", "-c", IMPORT_ALL], folder)
    demo = ["demo", "--peers", "2", "--steps", "40", "--dir", str(folder / "demo")]
    run([own, "-m", "gossipjax.peer", *demo], folder)
    if not (folder / "demo" / "summary.json").exists():
        raise RuntimeError("the demo left no summary.json")
    return versions.strip()


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> int:
    passed = failed = skipped = 0
    for version in sys.argv[1:] or VERSIONS:
        python = find_python(version)
        if python is None:
            print(f"Python {version}: skipped, not on this machine")
            skipped += 1
            continue
        started_s = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                report = check(python, Path(folder))
            except RuntimeError as error:
                print(f"Python {version}: FAILED\n{error}")
                failed += 1
            else:
                print(f"Python {version}: {report}, {time.monotonic() - started_s:.0f} s")
                passed += 1
    print(f"install: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
