"""Figure of he_2022_clipped_gossip: accuracy of every rule under every attack."""

from drawing import rules_figure

rules_figure("he_2022_clipped_gossip")
