"""What a person sees: one table per screen, a row per peer."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

Record = Mapping[str, Any]

# Eleven columns that fit a screen of 80 characters.
_COLUMNS = (
    "peer",
    "peers",
    "round",
    "version",
    "loss",
    "acc %",
    "in",
    "out",
    "stale",
    "mixed",
    "refused",
)
_PLAIN_INTERVAL_S = 15.0


def peer_table(rows: Sequence[tuple[str, Record | None, str]], title: str) -> Table:
    """A row per peer: its label, its newest record (None before the first), a remark."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "peer" else "right", no_wrap=True)
    for label, record, remark in rows:
        cells = ["…"] * (len(_COLUMNS) - 1) if record is None else _cells(record)
        table.add_row(f"{label} {remark}".strip(), *cells)
    return table


def _cells(record: Record) -> list[str]:
    accuracy = record.get("test_accuracy")
    loss = record.get("loss", record.get("test_loss"))
    return [
        str(record["neighbors"]),
        str(record["round"]),
        str(record["version"]),
        "" if loss is None else f"{loss:.3f}",
        "" if accuracy is None else f"{100 * accuracy:.1f}",
        format_bytes(record["bytes_in"]),
        format_bytes(record["bytes_out"]),
        f"{record['staleness_p50']:.0f}",
        str(record["updates_mixed"]),
        str(sum(record["updates_refused"].values())),
    ]


def format_bytes(count: float) -> str:
    """Three digits and a decimal unit: `1_520 → 1.52k`, `14_100_000 → 14.1M`."""
    for unit in ("", "k", "M", "G"):
        if count < 999.5:
            return f"{count:.0f}" if unit == "" else f"{count:#.3g}{unit}".replace(f".{unit}", unit)
        count /= 1000
    return f"{count:.3g}T"


class Screen(AbstractContextManager["Screen"]):
    """Shows one renderable, live on a terminal; every few seconds where output is no terminal."""

    def __init__(self) -> None:
        self.console = Console()
        self._live = Live(console=self.console, refresh_per_second=4) if _is_terminal() else None
        self._next_plain_s = 0.0

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*exception)

    def show(self, renderable: RenderableType, *, last: bool = False) -> None:
        """Replace what is shown; `last` always appears."""
        if self._live is not None:
            self._live.update(renderable, refresh=last)
        elif last or time.monotonic() >= self._next_plain_s:
            self.console.print(renderable)
            self._next_plain_s = time.monotonic() + _PLAIN_INTERVAL_S


def _is_terminal() -> bool:
    return sys.stdout.isatty()
