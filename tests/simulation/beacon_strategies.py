"""What an adversary can do to the beacon, measured: `python tests/simulation/beacon_strategies.py`.

Prints the table of docs/decisions/beacon-review.md, one line per strategy and share f of weight:
how often honest peers have the same E, how often they accept each other's draws, how often E is a
ticket of the adversary, and how often it has the property that the adversary wants (an even last
bit of SHA-512(E): one half without any influence).
"""

import argparse
import hashlib
import statistics
from collections.abc import Callable
from typing import NamedTuple

from gossipjax.simulation.beacon import BeaconSwarm, Epoch

WARM_UP = 2
Strategy = Callable[[BeaconSwarm, int, int], None]


def nothing(swarm: BeaconSwarm, epoch: int, tick: int) -> None:
    """Draw no tickets at all."""


def as_honest(swarm: BeaconSwarm, epoch: int, tick: int) -> None:
    """Show the lowest ticket under the most frequent parent, in time."""
    if tick == 0:
        show(swarm, epoch, swarm.parents(epoch - 1)[:1], everybody(swarm))


def three_parents(swarm: BeaconSwarm, epoch: int, tick: int) -> None:
    """Draw under every value that some honest peer has, or at least remembers."""
    if tick == 0:
        known = dict.fromkeys(swarm.parents(epoch - 1))
        known |= dict.fromkeys(swarm.peers[0].candidates(epoch - 1))
        show(swarm, epoch, list(known), everybody(swarm))


def late(percent: int) -> Strategy:
    """Show the lowest ticket in the last tick only, and to a part of the peers only."""

    def act(swarm: BeaconSwarm, epoch: int, tick: int) -> None:
        if tick == swarm.ticks - 1:
            some = swarm.draws.sample(everybody(swarm), swarm.honest * percent // 100)
            show(swarm, epoch, swarm.parents(epoch - 1)[:1], some)

    return act


def withhold(swarm: BeaconSwarm, epoch: int, tick: int) -> None:
    """Show a winning ticket only when it, and not the honest one, has the wanted property."""
    if tick != swarm.ticks // 2:
        return
    draws = swarm.adversarial_draws(epoch, swarm.parents(epoch - 1)[0])
    honest = swarm.lowest_honest(epoch)
    for draw in draws:
        if draw.value < honest.value and is_wanted(draw.beta) and not is_wanted(honest.beta):
            for index in everybody(swarm):
                swarm.tell(index, (draw.ticket,))


def everybody(swarm: BeaconSwarm) -> list[int]:
    """Indices of all honest peers."""
    return list(range(swarm.honest))


def show(swarm: BeaconSwarm, epoch: int, parents: list[bytes], peers: list[int]) -> None:
    """Tell some peers of the lowest ticket under each of some parents."""
    for parent in parents:
        draws = swarm.adversarial_draws(epoch, parent)
        for index in peers:
            swarm.tell(index, tuple(draw.ticket for draw in draws[:1]))


def is_wanted(value: bytes) -> bool:
    """The property by which influence is measured."""
    return hashlib.sha512(value).digest()[-1] % 2 == 0


class Row(NamedTuple):
    """Means over epochs."""

    agreement: float
    acceptance: float
    adversarial: float
    wanted: float


def play(
    strategy: Strategy, *, honest: int, adversarial: int, epochs: int, seed: int, skew_s: int = 0
) -> Row:
    """Let an adversary play for some epochs."""
    swarm = BeaconSwarm(honest, adversarial, seed, skew_s=skew_s)
    rows: list[Epoch] = []
    wanted = 0
    for _ in range(WARM_UP + epochs):
        swarm.run_epoch(lambda tick: strategy(swarm, swarm.peers[0].epoch, tick))
        ended = max(peer.epoch for peer in swarm.peers) - 2
        rows.append(swarm.measure(ended))
        wanted += len(rows) > WARM_UP and is_wanted(swarm.parents(ended)[0])
    counted = rows[WARM_UP:]
    return Row(
        agreement=statistics.mean(row.agreement for row in counted),
        acceptance=statistics.mean(row.acceptance for row in counted),
        adversarial=statistics.mean(row.adversarial for row in counted),
        wanted=wanted / epochs,
    )


STRATEGIES: dict[str, Strategy] = {
    "none": nothing,
    "as the honest": as_honest,
    "three parents": three_parents,
    "late, to 2 %": late(2),
    "late, to 10 %": late(10),
    "late, to 50 %": late(50),
    "withhold": withhold,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--shares", type=int, nargs="*", default=[10, 20, 33])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| strategy | f | same E | accepted | E of the adversary | wanted E |")
    print("|---|---|---|---|---|---|")
    for name, strategy in STRATEGIES.items():
        for share in options.shares:
            bad = options.peers * share // 100
            row = play(
                strategy,
                honest=options.peers - bad,
                adversarial=bad,
                epochs=options.epochs,
                seed=options.seed,
            )
            print(
                f"| {name} | .{share:02d} | " + " | ".join(f"{value:.3f}" for value in row) + " |"
            )


if __name__ == "__main__":
    main()
