"""Fixtures for every folder of tests."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-transcripts",
        action="store_true",
        help="write tests/protocol/transcripts/ anew instead of comparing with it",
    )


@pytest.fixture
def count_compilations() -> Callable[[], AbstractContextManager[list[str]]]:
    """`with count_compilations() as compiled:` collects an entry per program that XLA compiles."""
    import jax

    @contextmanager
    def count() -> Iterator[list[str]]:
        compiled: list[str] = []

        def listen(event: str, duration_secs: float, **details: str | int) -> None:
            if event == "/jax/core/compile/backend_compile_duration":
                compiled.append(str(details.get("fun_name", event)))

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield compiled
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    return count
