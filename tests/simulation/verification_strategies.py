"""What verification makes of cheats.

    python tests/simulation/verification_strategies.py --seeds 98
    python tests/simulation/verification_strategies.py --peers 200 --epochs 10 --seeds 7

Prints the tables of docs/decisions/verification-review.md: each seed is one run of one attack, in
turn. One peer in five misbehaves. `--seconds` begins no further run after so long.
"""

import argparse
import statistics
import time

from gossipjax.protocol.rules import Rules
from gossipjax.simulation.conduct import CONDUCTS
from gossipjax.simulation.convictions import Convictions, run_attack

RULES = Rules(epoch_s=20, founding_epochs=2)
LARGE = Rules(epoch_s=60, audit_percent=25, founding_epochs=3)
"""For more than a hundred peers, which take longer to hear of each other."""

ATTACKS: list[str | None] = [None, *CONDUCTS]


def attack_of(seed: int) -> str | None:
    """The attack of a seed, in turn."""
    return ATTACKS[seed % len(ATTACKS)]


def run_seed(seed: int, *, peers: int = 20, epochs: int = 14) -> Convictions:
    """One run."""
    rules = LARGE if peers > 100 else RULES
    return run_attack(attack_of(seed), peers=peers, seed=seed, epochs=epochs, rules=rules)


def reproduce(seed: int) -> str:
    """The command that runs one seed again."""
    return f"python tests/simulation/verification_strategies.py --first {seed} --seeds 1"


def row(name: str | None, runs: list[Convictions]) -> str:
    """One line of the table."""
    before = [count for run in runs for count in run.audited_before]
    cells = [
        name or "none",
        len(runs),
        f"{sum(run.convicted for run in runs)} of {sum(run.gang for run in runs)}",
        f"{statistics.mean(run.share for run in runs):.2f}",
        f"{statistics.median(before):g}, {max(before)}" if before else "",
        sum(run.wrong for run in runs),
        f"{statistics.mean(run.audits for run in runs):.1f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=14)
    parser.add_argument("--peers", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    started_s = time.monotonic()
    runs: dict[str | None, list[Convictions]] = {}
    for seed in range(options.first, options.first + options.seeds):
        if time.monotonic() - started_s > options.seconds:
            break
        run = run_seed(seed, peers=options.peers, epochs=options.epochs)
        runs.setdefault(attack_of(seed), []).append(run)
    print("| attack | runs | convicted | pairs | audited before | honest banned | audits |")
    print("|---|---|---|---|---|---|---|")
    for name, ended in runs.items():
        print(row(name, ended))


if __name__ == "__main__":
    main()
