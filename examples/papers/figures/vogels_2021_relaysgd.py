"""Figure of vogels_2021_relaysgd: accuracy of each method, for each alpha."""

from drawing import accuracy_figure

accuracy_figure("vogels_2021_relaysgd", lambda row: f"{row['method']}, α = {row['alpha']}")
