"""Figure of douillard_2023_diloco: loss over local steps, and over bytes."""

from drawing import draw_lines, rows_of, save
from matplotlib.figure import Figure

NAME = "douillard_2023_diloco"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    draw_lines(left, ROWS, lambda row: row["method"], "version", "loss_mean")
    told = [row for row in ROWS if float(row["bytes_per_peer"])]
    draw_lines(right, told, lambda row: row["method"], "bytes_per_peer", "loss_mean")
    right.set_xscale("log")
    left.set_ylabel("test loss")


save(NAME, draw)
