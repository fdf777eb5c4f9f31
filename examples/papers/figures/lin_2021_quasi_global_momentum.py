"""Figure of lin_2021_quasi_global_momentum: accuracy of each method, for each alpha."""

from drawing import accuracy_figure

accuracy_figure(
    "lin_2021_quasi_global_momentum", lambda row: f"{row['method']}, α = {row['alpha']}"
)
