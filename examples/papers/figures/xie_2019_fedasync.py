"""Figure of xie_2019_fedasync: accuracy of each discount."""

from drawing import accuracy_figure

accuracy_figure("xie_2019_fedasync", lambda row: f"{row['case']}, {row['decay']}")
