import ast
from collections.abc import Iterator
from pathlib import Path

import gossipjax
from gossipjax.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from gossipjax.wire import limits

PACKAGE = Path(gossipjax.__file__).parent


def reasons_in(path: Path) -> Iterator[str]:
    """Literal reasons of `RemoteProtocolError(reason, …)` and `Refuse(peer, reason)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        place = {"RemoteProtocolError": 0, "Refuse": 1}.get(node.func.id)
        if place is not None and isinstance(node.args[place], ast.Constant):
            yield str(ast.literal_eval(node.args[place]))


def test_every_reason_is_declared_and_every_declared_one_is_used():
    used = {reason for path in PACKAGE.rglob("*.py") for reason in reasons_in(path)}
    assert used == set(limits.REASONS)


def test_an_error_says_its_reason_first():
    error = RemoteProtocolError("size", "expected 3 B, got 4")
    assert str(error) == "size: expected 3 B, got 4"
    assert error.reason == "size"


def test_the_two_sides_of_an_error_are_never_mixed_up():
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert issubclass(LocalProtocolError, ProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


def test_the_largest_payload_has_a_proof_that_fits():
    assert 2**limits.PROOF_HASHES_MAX == limits.CHUNKS_MAX
    assert max(limits.CHUNK_BYTES, limits.MESSAGE_BYTES_MAX) <= limits.FRAME_BYTES_MAX
