"""What all participants of a simulation share."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effects
from gossipjax.protocol.events import Event
from gossipjax.protocol.rules import Rules
from gossipjax.simulation.conduct import HONEST, Conduct
from gossipjax.simulation.network import MILLISECOND, SECOND, Network
from gossipjax.simulation.schedule import Schedule
from gossipjax.simulation.trace import Trace
from gossipjax.types import Nanoseconds, PeerId, RunId
from gossipjax.wire.messages import Verdict
from gossipjax.wire.tensors import Manifest

if TYPE_CHECKING:
    from gossipjax.simulation.host import SimulatedHost

EPOCH_S = 1_800_000_000
"""Unix time at virtual time 0."""


class Watcher(Protocol):
    """Sees every step of every honest peer; see `gossipjax.simulation.checkers`."""

    def joined(self, host: "SimulatedHost") -> None:
        """A life of an honest peer begins."""
        ...

    def handled(self, host: "SimulatedHost", event: Event, effects: Effects) -> None:
        """A machine has taken an event and asked for these effects."""
        ...

    def raised(self, host: "SimulatedHost", event: Event, error: Exception) -> None:
        """A machine has let an exception escape."""
        ...

    def spins(self, host: "SimulatedHost", due_ns: Nanoseconds) -> None:
        """A machine's deadline does not move although it passes again and again."""
        ...


@dataclass
class World:
    """What all participants share.

    Attributes:
        schedule: virtual time.
        network: the wires.
        trace: digest of what happens.
        suite: signatures and digests.
        manifest: tensors of a payload.
        run: id of the run.
        protocol: parameters of every machine.
        rules: of the run, on verification.
        seed: of every random choice.
        round_ns: between two shares of a peer.
        steps_per_round: local steps by which a model's version grows in a round.
        inspect_ns_max: the longest time that the check of a payload's values takes.
        norm_max: payloads with a larger norm are refused.
        audit_ns_max: the longest time that an audit takes.
        conducts: of peers that do not behave, by index.
        gang: their ids.
        cases: digests of the updates of each peer that were drawn for an audit.
        watcher: sees every step, when there is one.
        refused: what honest peers have refused so far, by reason.
    """

    schedule: Schedule
    network: Network
    trace: Trace
    suite: CryptoSuite
    manifest: Manifest
    run: RunId
    protocol: ProtocolConfig
    rules: Rules
    seed: int
    round_ns: Nanoseconds = 10 * SECOND
    steps_per_round: int = 50
    inspect_ns_max: Nanoseconds = 50 * MILLISECOND
    norm_max: float = 1e6
    audit_ns_max: Nanoseconds = 2 * SECOND
    conducts: dict[int, Conduct] = field(default_factory=dict)
    gang: dict[PeerId, Conduct] = field(default_factory=dict)
    cases: defaultdict[PeerId, dict[bytes, None]] = field(default_factory=lambda: defaultdict(dict))
    watcher: Watcher | None = None
    refused: Counter[str] = field(default_factory=Counter)
    manifest_digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.manifest_digest = self.manifest.digest

    def conduct_of(self, author: PeerId) -> Conduct:
        """How a peer behaves on the level of verification."""
        return self.gang.get(author, HONEST)

    def says(self, own: PeerId, author: PeerId) -> Verdict | None:
        """What one peer says of the updates of another."""
        found, of_gang = self.conduct_of(author).updates, author in self.gang
        return self.conduct_of(own).says(found, of_gang)
