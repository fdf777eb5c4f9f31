"""What a simulation ends with, as plain columns, CSV and a plot."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy.typing as npt

from gossipjax.types import Params

Row = dict[str, float]
"""One evaluation: column name to number, with the columns in the same order in each."""


class SimulationResult(NamedTuple):
    """Where the peers ended, and how they came there.

    Attributes:
        params: of all peers: a pytree of arrays `[N, …]`.
        version: float32 `[N]`: local steps that each peer's parameters have absorbed.
        rows: one for each evaluation; see `simulate` for the columns.
    """

    params: Params
    version: npt.NDArray[Any]
    rows: list[Row]

    def column(self, name: str) -> list[float]:
        """The numbers of one column.

        Raises:
            KeyError: there is no such column; the text names those there are.
        """
        if self.rows and name not in self.rows[0]:
            raise KeyError(f"there is no column {name!r}; there are {', '.join(self.rows[0])}")
        return [row[name] for row in self.rows]

    def peer(self, index: int) -> Params:
        """Parameters of one peer."""
        return jax.tree.map(lambda leaf: leaf[index], self.params)

    def write_csv(self, path: str | Path) -> None:
        """Write the rows, with their names in the first line."""
        write_rows(Path(path), self.rows)

    def plot(self, path: str | Path, *names: str, over: str = "round") -> None:
        """Draw columns over another one into a file, in the format of its suffix (png, svg, pdf).

        Args:
            path: of the picture.
            *names: columns to draw.
            over: column of the horizontal axis.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for name in names:
            axes.plot(self.column(over), self.column(name), label=name)
        axes.set_xlabel(over)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV; the file appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(path.suffix + ".tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else [])
        table.writeheader()
        table.writerows(rows)
    unfinished.replace(path)


def read_rows(path: Path) -> list[Row]:
    """The rows that `write_rows` has written; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]
