"""Byzantine peers in the views of honest ones: naive sampling, Brahms, BASALT, and this library.

A. Auvolat, Y.-D. Bromberg, D. Frey, D. Mvondo, F. Taïani: "BASALT: A Rock-Solid Byzantine-Tolerant
Peer Sampling for Very Large Decentralized Networks", Middleware 2023; against E. Bortnikov et al.:
"Brahms: Byzantine resilient random membership sampling", Computer Networks 53 (2009).

Claim: of 1,000 peers 300 are Byzantine and push ten times as much as honest ones. In views of 50,
BASALT (10 seeds replaced every 10 steps) comes near the optimum, which is their share of 30 %. In
the authors' words: "Basalt should succeed, Brahms should fail".

    python examples/papers/auvolat_2023_basalt.py [--quick]

About one minute on 2 CPU cores, seconds with --quick. Expected, as the mean of the last quarter:
- naive: 95 % or more of honest views are Byzantine; Brahms: 60 % or more; BASALT: 30 to 37 % (does
  not hold: 44 % in this model), and nobody isolated (only Byzantine neighbors); ours: 27 to 33 %,
  and with the 300 in 30 networks 3 to 6 %, nobody isolated.

The model: in each step a peer pulls the view of one random neighbor and is pushed that of another
honest peer (Brahms: ids, 45 % of a view each way), besides the flood. Byzantine peers tell only of
each other; everybody knows them all. Brahms does not stop when it is flooded, as that would be
for good. Ours: no pushes; in each step one slot chooses anew of all heard of, networks first. What
the real protocol machine does: `python -m gossipjax.simulation sybils`.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
from reproduction import Outcome, Result, Row, at_most, main


@dataclass(frozen=True)
class Config:
    """The reference setting."""

    peers: int = 1000
    byzantine: int = 300
    flood: int = 10
    view: int = 50
    reseeded: int = 10
    reseed_every: int = 10
    steps: int = 200
    byzantine_networks: int = 30
    seed: int = 2023

    @property
    def honest(self) -> int:
        return self.peers - self.byzantine


def mixed(values: np.ndarray) -> np.ndarray:
    """A 64-bit hash (the finalizer of SplitMix64)."""
    z = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Peers:
    """Naive sampling: views are random among all that is heard. Ids from `honest` on are liars."""

    def __init__(self, config: Config):
        self.config = config
        self.source = np.random.default_rng(config.seed)
        self.views = self.source.integers(0, config.peers, (config.honest, config.view))
        self.pressure = config.flood * config.byzantine / config.honest  # pushes per honest push

    def liars(self) -> np.ndarray:
        return self.source.integers(self.config.honest, self.config.peers, self.views.shape)

    def drawn(self, *shape: int) -> np.ndarray:
        return self.source.integers(0, 2**63, shape).astype(np.uint64)

    def pulled(self) -> np.ndarray:
        column = self.source.integers(0, self.config.view, (self.config.honest, 1))
        asked = np.take_along_axis(self.views, column, 1)
        told = self.views[np.minimum(asked[:, 0], self.config.honest - 1)]
        return np.where(asked < self.config.honest, told, self.liars())

    def step(self, number: int) -> None:
        told = [self.views, self.pulled(), self.source.permutation(self.views), self.liars()]
        weights = np.array([1, 1, 1, self.pressure]) / (3 + self.pressure)
        self.views = np.choose(self.source.choice(4, self.views.shape, p=weights), told)


class Brahms(Peers):
    """45 % pushed ids, 45 % pulled ids, 10 % of all ids ever heard, each with the same chance."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.known = np.tile(np.arange(config.peers) >= config.honest, (config.honest, 1))

    def step(self, number: int) -> None:
        config, part = self.config, round(0.45 * self.config.view)
        honest_pushes = np.mean(self.views < config.honest)
        honest = self.source.integers(0, config.honest, (config.honest, part))
        is_honest = self.source.random(honest.shape) < honest_pushes / (
            honest_pushes + self.pressure
        )
        pushed = np.where(is_honest, honest, self.liars()[:, :part])
        pulled = np.hstack([self.pulled()[:, :1] for _ in range(part)])
        np.put_along_axis(self.known, np.hstack([pushed, pulled]), True, 1)
        chances = self.source.random((config.view - 2 * part, *self.known.shape))
        self.views = np.hstack([pushed, pulled, (chances * self.known).argmax(2).T])


class Basalt(Peers):
    """Every slot keeps the id with the lowest hash under its seed; some seeds are replaced."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.hashes = mixed(self.drawn(config.peers))
        self.seeds = self.drawn(config.honest, config.view)
        for first in range(0, config.view, config.reseeded):
            self.reseed(np.arange(first, first + config.reseeded))

    def step(self, number: int) -> None:
        for told in (self.pulled(), self.source.permutation(self.views)):
            self.offer(told, np.arange(self.config.view))
        if number % self.config.reseed_every == 0:
            self.seeds = np.roll(self.seeds, self.config.reseeded, 1)
            self.views = np.roll(self.views, self.config.reseeded, 1)
            self.reseed(np.arange(self.config.reseeded))

    def reseed(self, columns: np.ndarray) -> None:
        self.seeds[:, columns] = self.drawn(self.config.honest, len(columns))
        self.offer(self.views.copy(), columns)
        liars = range(self.config.honest, self.config.peers)
        self.offer(np.tile(liars, (self.config.honest, 1)), columns)

    def offer(self, ids: np.ndarray, columns: np.ndarray) -> None:
        seeds, views = self.seeds[:, columns], self.views[:, columns]
        ranks = mixed(seeds[:, :, None] ^ self.hashes[ids][:, None, :])
        best = np.take_along_axis(ids, ranks.argmin(2), 1)
        is_better = ranks.min(2) < mixed(seeds ^ self.hashes[views])
        self.views[:, columns] = np.where(is_better, best, views)


class Ours(Peers):
    """One slot per step takes a peer of the network that a new seed ranks first of all heard of."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.hashes = mixed(self.drawn(config.honest + config.byzantine_networks))
        self.known = np.tile(np.arange(len(self.hashes)) >= config.honest, (config.honest, 1))

    def step(self, number: int) -> None:
        config = self.config
        heard = np.minimum(np.hstack([self.views, self.pulled()]), config.honest)
        np.put_along_axis(self.known, heard, True, 1)
        ranks = mixed(self.drawn(config.honest, 1) ^ self.hashes)
        best = np.where(self.known, ranks, np.uint64(2**64 - 1)).argmin(1)
        self.views[:, number % config.view] = np.where(
            best < config.honest, best, self.liars()[:, 0]
        )


def reproduce(config: Config) -> Outcome:
    """Every method's views over time."""
    bounds: dict[str, tuple[Peers, float, float]] = {
        "naive": (Peers(config), 0.95, 1),
        "Brahms": (Brahms(config), 0.6, 1),
        "BASALT": (Basalt(config), 0.3, 0.37),
        "ours": (Ours(replace(config, byzantine_networks=config.byzantine)), 0.27, 0.33),
        "ours, few networks": (Ours(config), 0.03, 0.06),
    }
    results: list[Result] = []
    rows: list[Row] = []
    for name, (peers, low, high) in bounds.items():
        shares: list[float] = []
        for number in range(config.steps):
            peers.step(number)
            shares.append(float(np.mean(peers.views >= config.honest)))
        late = float(np.mean(shares[-config.steps // 4 :]))
        note = "(in a model where everybody knows all Byzantine peers)" if name == "BASALT" else ""
        results.append(Result(f"{name}, Byzantine share of honest views", low, late, high, note))
        if high < 0.5:
            isolated = float(np.mean(peers.views.min(1) >= config.honest))
            results.append(at_most(f"{name}, isolated honest peers", 0, isolated))
        rows += [{"method": name, "step": i, "share": share} for i, share in enumerate(shares)]
    return Outcome(results, rows)


if __name__ == "__main__":
    quick = {"peers": 330, "byzantine": 99, "byzantine_networks": 10}
    sys.exit(main(__file__, Config(), quick, reproduce))
