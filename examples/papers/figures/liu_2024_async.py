"""Figure of liu_2024_async: loss over simulated time."""

from drawing import draw_lines, rows_of, save
from matplotlib.figure import Figure

NAME = "liu_2024_async"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    axes = figure.subplots()
    draw_lines(axes, ROWS, lambda row: row["method"], "seconds", "loss")
    axes.set_xlabel("simulated seconds")
    axes.set_ylabel("test loss")


save(NAME, draw)
