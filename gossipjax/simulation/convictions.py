"""What verification comes to in a simulated network: who was banned, by whom, how soon."""

from collections import Counter
from typing import NamedTuple

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Ban, Deliver, Effects
from gossipjax.protocol.events import Event
from gossipjax.protocol.rules import Rules
from gossipjax.simulation.cluster import Cluster, ClusterConfig
from gossipjax.simulation.conduct import CONDUCTS, HONEST
from gossipjax.simulation.host import SimulatedHost
from gossipjax.simulation.network import SECOND
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.messages import Verdict

_MAJORITY = 2  # one of so many of the honest


class Convictions(NamedTuple):
    """The end of a run.

    Attributes:
        honest: peers that behave.
        gang: peers that do not.
        wrong: bans of honest peers by honest peers.
        convicted: members of the gang that most honest peers have banned.
        share: of the pairs of an honest peer and one of the gang, those with a ban.
        reasons: of these bans.
        audited_before: per convicted peer, how many of its updates were drawn for an audit until
            most honest peers had banned it, the last one included.
        audits: of an honest peer, on average.
        mixed: updates that honest peers have mixed, and how many of them an audit would have
            found other than sound.
    """

    honest: int
    gang: int
    wrong: int
    convicted: int
    share: float
    reasons: Counter[str]
    audited_before: list[int]
    audits: float
    mixed: tuple[int, int]


class _Watcher:
    """Counts cases and bans as they come."""

    def __init__(self):
        self.cluster: Cluster | None = None
        self.bans: dict[PeerId, int] = {}
        self.before: dict[PeerId, int] = {}
        self.mixed = self.mixed_bad = 0

    def joined(self, host: SimulatedHost) -> None:
        """Nothing to note."""

    def raised(self, host: SimulatedHost, event: Event, error: Exception) -> None:
        """A machine never raises."""
        raise error

    def spins(self, host: SimulatedHost, due_ns: Nanoseconds) -> None:
        """The host raises."""

    def handled(self, host: SimulatedHost, event: Event, effects: Effects) -> None:
        """Note who is banned by an honest peer."""
        cluster = self.cluster
        if cluster is None or host.id in cluster.world.gang:
            return
        for effect in effects:
            if isinstance(effect, Deliver):
                conduct = cluster.world.gang.get(PeerId(effect.header.body.author), HONEST)
                self.mixed += 1
                self.mixed_bad += conduct.updates is not Verdict.SOUND
            if isinstance(effect, Ban) and effect.peer in cluster.world.gang:
                self.bans[effect.peer] = self.bans.get(effect.peer, 0) + 1
                honest = cluster.config.peers - len(cluster.world.conducts)
                if self.bans[effect.peer] * _MAJORITY > honest:
                    self.before.setdefault(effect.peer, len(cluster.world.cases[effect.peer]))


def run_attack(
    conduct: str | None,
    *,
    peers: int,
    seed: int,
    epochs: int,
    rules: Rules,
    share_percent: int = 20,
) -> Convictions:
    """Let the last peers of a cluster misbehave for some epochs.

    Args:
        conduct: a name of `CONDUCTS`; None for a network of honest peers.
        peers: all of them.
        seed: of every random choice.
        epochs: how long.
        rules: of the run.
        share_percent: of the peers that misbehave.
    """
    watcher = _Watcher()
    config = ClusterConfig(
        peers=peers,
        seed=seed,
        rules=rules,
        protocol=ProtocolConfig(book_size=max(64, 2 * peers)),
        round_ns=rules.epoch_s * SECOND // 2,
        start_ns=rules.epoch_s * SECOND // 4,
        skew_s_max=rules.epoch_s // 10,
    )
    cluster = watcher.cluster = Cluster(config, watcher)
    if conduct is not None:
        for index in range(peers - peers * share_percent // 100, peers):
            cluster.world.conducts[index] = CONDUCTS[conduct]
    cluster.run_for(epochs * rules.epoch_s * SECOND)
    return _count(cluster, watcher)


def _count(cluster: Cluster, watcher: _Watcher) -> Convictions:
    gang = cluster.world.gang
    honest = [host for host in cluster.hosts.values() if host.id not in gang]
    bans = [ban for host in honest for ban in host.bans.values()]
    return Convictions(
        honest=len(honest),
        gang=len(gang),
        wrong=sum(ban.peer not in gang for ban in bans),
        convicted=len(watcher.before),
        share=sum(ban.peer in gang for ban in bans) / max(1, len(honest) * len(gang)),
        reasons=Counter(ban.reason for ban in bans if ban.peer in gang),
        audited_before=sorted(watcher.before.values()),
        audits=sum(host.audits for host in honest) / len(honest),
        mixed=(watcher.mixed, watcher.mixed_bad),
    )
