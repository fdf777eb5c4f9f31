"""Figure of takezawa_2023_base_graph: accuracy on each graph."""

from drawing import accuracy_figure

accuracy_figure("takezawa_2023_base_graph", lambda row: row["graph"])
