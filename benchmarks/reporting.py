"""What every benchmark reports: a table on the screen, and a JSON file that says where it ran."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("jax", "jaxlib", "numpy", "pyzmq", "pynacl", "msgspec")

Row = Mapping[str, Any]


def report(name: str, tables: Mapping[str, Sequence[Row]], **facts: Any) -> None:
    """Print tables and write them to `benchmarks/results/NAME.json`.

    Args:
        name: of the file.
        tables: title to rows, each row a mapping with the same keys; numbers are printed with four
            digits and written in full.
        **facts: further entries of the file, such as options and conclusions.
    """
    print_tables(tables)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"machine": machine(), **facts, "tables": tables}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Console().print(f"[dim]{path}")


def print_tables(tables: Mapping[str, Sequence[Row]]) -> None:
    """Print what `report` would."""
    for title, rows in tables.items():
        table = Table(title=title, title_justify="left")
        for column, value in rows[0].items():
            justify = "left" if isinstance(value, str) else "right"
            table.add_column(column.replace("_", " "), justify=justify)
        for row in rows:
            table.add_row(*(_cell(value) for value in row.values()))
        Console(width=110).print(table)


def machine() -> dict[str, Any]:
    """Processor, cores, load, scheduling, versions and commit."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "scheduling": _scheduling(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _scheduling() -> str:
    """Whether other processes could delay this one; `chrt -r 1 python …` sees to it."""
    if not hasattr(os, "sched_getscheduler"):
        return "normal"
    names = {os.SCHED_FIFO: "real time", os.SCHED_RR: "real time"}
    return names.get(os.sched_getscheduler(0), "normal")


def _commit() -> str:
    folder = Path(__file__).parent
    described = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
