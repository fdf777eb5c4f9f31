"""Rules of the source that no other tool holds."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import gossipjax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gossipjax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FUNCTION_LINES_MAX = 70


def modules() -> list[str]:
    found = pkgutil.walk_packages(gossipjax.__path__, "gossipjax.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public_members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions, classes and their methods that are defined here and not private."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        yield name, value
        if inspect.isclass(value):
            for inner, method in vars(value).items():
                if not inner.startswith("_") and (
                    inspect.isfunction(method) or isinstance(method, property)
                ):
                    yield f"{name}.{inner}", method


@pytest.mark.parametrize("name", modules())
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    missing = [
        member
        for member, value in public_members(module)
        if not (inspect.getdoc(value) or "").strip()  # an overridden method has its base's
    ]
    assert not missing, f"{name}: no docstring: {missing}"


def test_every_name_in_all_exists():
    for name in modules():
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", ()):
            assert hasattr(module, exported), f"{name}.__all__ has {exported}"
    for exported in gossipjax.__all__:
        assert getattr(gossipjax, exported) is not None


def test_no_function_is_too_long():
    long = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - (body[0].lineno if body else node.lineno) + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert not long, long


def test_the_protocol_never_iterates_a_set():
    """The order of a set of bytes differs from process to process; a dict's does not."""
    offenders = []
    for path in sorted((PACKAGE / "protocol").glob("*.py")):
        tree = parse(path)
        made = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and makes_set(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.For | ast.comprehension) and (
                makes_set(node.iter) or (isinstance(node.iter, ast.Name) and node.iter.id in made)
            ):
                offenders.append(f"{path.name}: iterates {ast.unparse(node.iter)}")
    assert not offenders, offenders


def makes_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in ("set", "frozenset")


def test_only_the_envelope_makes_verified_values():
    makers = [
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Verified"
    ]
    assert set(makers) == {"wire/envelope.py"}


def test_nothing_is_left_unfinished():
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, found


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("gossipjax", ("jax", "zmq", "nacl", "numpy")),
        ("gossipjax.protocol", ("jax", "zmq", "asyncio")),
        ("gossipjax.simulation", ("jax", "zmq", "asyncio")),
        ("gossipjax.peer", ("jax", "zmq")),
    ],
)
def test_light_imports_stay_light(imported, absent):
    script = f"import {imported}, sys; print(*[m for m in {absent} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
