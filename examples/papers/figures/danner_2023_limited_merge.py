"""Figure of danner_2023_limited_merge: accuracy of each merge."""

from drawing import accuracy_figure

accuracy_figure("danner_2023_limited_merge", lambda row: row["merge"])
