"""Figure of devos_2023_epidemic_learning: accuracy on each graph."""

from drawing import accuracy_figure

accuracy_figure("devos_2023_epidemic_learning", lambda row: row["graph"])
