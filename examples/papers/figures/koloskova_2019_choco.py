"""Figure of koloskova_2019_choco: error over iterations, and over bytes."""

from drawing import draw_lines, rows_of, save
from matplotlib.figure import Figure

NAME = "koloskova_2019_choco"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, x in ((left, "round"), (right, "bytes_per_peer")):
        draw_lines(axes, ROWS, lambda row: row["scheme"], x, "error_mean")
        axes.set_yscale("log")
        axes.set_xscale("log")
    left.set_ylim(1e-12, 10)
    left.set_ylabel("squared distance from the mean")


save(NAME, draw)
