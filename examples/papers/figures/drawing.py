"""Draws lines from the rows of a paper example, in the folder that it was started in."""

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

FOLDER = Path("runs/papers")
Row = Mapping[str, str]


def rows_of(name: str) -> list[Row]:
    """The rows that the example `name` has written."""
    path = FOLDER / f"{name}_rows.csv"
    if not path.exists():
        sys.exit(f"there is no {path}: run examples/papers/{name}.py first")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw_lines(
    axes: Axes, rows: list[Row], label: Callable[[Row], str], x: str, y: str, factor: float = 1.0
) -> None:
    """One line per label: the mean of column y over runs, against column x."""
    lines: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        lines[label(row)][float(row[x])].append(factor * float(row[y]))
    for name, points in lines.items():
        values = [sum(each) / len(each) for each in points.values()]
        axes.plot(list(points), values, label=name)
    axes.set_xlabel(x)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def rules_figure(name: str) -> None:
    """Accuracy of every mixing rule under every attack."""
    rows = rows_of(name)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rules = list(dict.fromkeys(row["rule"] for row in rows))
        attacks = list(dict.fromkeys(row["attack"] for row in rows))
        width = 0.8 / len(rules)
        for index, rule in enumerate(rules):
            bars = {row["attack"]: float(row["accuracy"]) for row in rows if row["rule"] == rule}
            places = [attacks.index(attack) + index * width for attack in bars]
            axes.bar(places, list(bars.values()), width, label=rule)
        axes.set_xticks(range(len(attacks)), attacks)
        axes.set_ylabel("accuracy of honest peers, %")
        axes.legend(fontsize="small")

    save(name, draw)


def save(name: str, draw: Callable[[Figure], None], height: float = 4) -> None:
    """Draw a figure into `runs/papers/NAME.png`."""
    figure = Figure(figsize=(8, height), layout="constrained")
    draw(figure)
    figure.savefig(FOLDER / f"{name}.png", dpi=120)


def accuracy_figure(name: str, label: Callable[[Row], str]) -> None:
    """Mean local accuracy, in percent, over rounds and over bytes."""
    rows = [row for row in rows_of(name) if row.get("accuracy_mean")]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        draw_lines(left, rows, label, "round", "accuracy_mean", 100)
        draw_lines(right, rows, label, "bytes_per_peer", "accuracy_mean", 100)
        left.set_ylabel("mean local accuracy, %")

    save(name, draw)
