"""Figure of ying_2021_exponential_graph: consensus errors, and accuracy on both graphs."""

from drawing import draw_lines, rows_of, save
from matplotlib.figure import Figure

NAME = "ying_2021_exponential_graph"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    mixing = [row for row in ROWS if row["part"] == "consensus"]
    draw_lines(left, mixing, lambda row: row["graph"], "round", "error_mean")
    left.set_yscale("log")
    left.set_ylim(1e-12, 2)
    left.set_ylabel("squared distance from the mean")
    trained = [row for row in ROWS if row["part"] == "training"]
    draw_lines(right, trained, lambda row: row["graph"], "bytes_per_peer", "accuracy_mean", 100)
    right.set_ylabel("mean local accuracy, %")


save(NAME, draw)
