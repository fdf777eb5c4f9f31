"""Figure of he_2022_clipped_gossip: accuracy of every rule under every attack."""

from drawing import rows_of, save
from matplotlib.figure import Figure

NAME = "he_2022_clipped_gossip"
ROWS = rows_of(NAME)


def draw(figure: Figure) -> None:
    axes = figure.subplots()
    rules = list(dict.fromkeys(row["rule"] for row in ROWS))
    attacks = list(dict.fromkeys(row["attack"] for row in ROWS))
    width = 0.8 / len(rules)
    for index, rule in enumerate(rules):
        bars = {row["attack"]: float(row["accuracy"]) for row in ROWS if row["rule"] == rule}
        places = [attacks.index(attack) + index * width for attack in bars]
        axes.bar(places, list(bars.values()), width, label=rule)
    axes.set_xticks(range(len(attacks)), attacks)
    axes.set_ylabel("accuracy of honest peers, %")
    axes.legend(fontsize="small")


save(NAME, draw)
