"""Figure of farhadkhani_2023_monna: accuracy of every rule under every attack."""

from drawing import rules_figure

rules_figure("farhadkhani_2023_monna")
