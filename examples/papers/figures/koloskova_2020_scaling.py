"""Figure of koloskova_2020_scaling: costs of a target by size, and drift by spectral gap."""

from drawing import draw_lines, rows_of, save
from matplotlib.figure import Figure

NAME = "koloskova_2020_scaling"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    costs = [row for row in ROWS if row["part"] == "cost"]
    panels = figure.subplots(2, 2).flat
    for axes, quantity in zip(panels, ("rounds", "bytes", "seconds"), strict=False):
        draw_lines(axes, costs, lambda row: row["graph"], "peers", quantity)
        axes.set_ylabel(f"{quantity} to the target")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    last = figure.axes[-1]
    drift = [row for row in ROWS if row["part"] == "spread"]
    draw_lines(last, drift, lambda row: f"{row['graph']} differ", "1/gap", "distance")
    last.set_ylabel("consensus distance over η")
    last.set_xscale("log")
    last.set_yscale("log")


save(NAME, draw, height=7)
