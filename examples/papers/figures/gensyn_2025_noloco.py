"""Figure of gensyn_2025_noloco: spread and loss over outer steps."""

from drawing import draw_lines, rows_of, save
from matplotlib.figure import Figure

NAME = "gensyn_2025_noloco"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    for axes, column in ((left, "consensus_distance"), (right, "loss_mean")):
        draw_lines(axes, ROWS, lambda row: row["method"], "round", column)
        axes.set_ylabel(column.replace("_", " "))
    left.set_yscale("symlog", linthresh=1e-3)


save(NAME, draw)
