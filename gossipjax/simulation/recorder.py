"""Records what the simulated protocol delivers, for the vectorized learner."""

from typing import NamedTuple

from gossipjax.protocol.effects import Deliver, Effects
from gossipjax.protocol.events import Event, Published
from gossipjax.simulation.deliveries import SLOTS, DeliveryTrace, Inboxes
from gossipjax.simulation.host import SimulatedHost
from gossipjax.types import Nanoseconds, PeerId


class _Arrival(NamedTuple):
    author: int
    tick: int
    adopt: bool


class DeliveryRecorder:
    """Watches a `Cluster` and writes down who got whose update, in which of its rounds.

    A tick is as long as a round. A peer that is quicker than that (its clock runs fast, or it has
    been started anew) ends its next round in the next tick. What arrives at a peer while no round
    of its own follows, because it crashes, is lost; a peer that has joined late adopts.

    Example:
        ```python
        recorder = DeliveryRecorder(peers=32, ticks=60)
        cluster = Cluster(ClusterConfig(peers=32, seed=1), recorder)
        cluster.run_for(60 * cluster.config.round_ns)
        trace = recorder.trace()
        ```

    Args:
        peers: N: honest peers of the cluster.
        ticks: T: rounds to record; what comes later is left out.
        slots: K.
    """

    def __init__(self, peers: int, ticks: int, *, slots: int = SLOTS):
        self._inboxes = Inboxes(ticks, peers, slots)
        self._ticks = ticks
        self._next_tick = [0] * peers
        self._peer_of: dict[PeerId, int] = {}
        self._shared_in: dict[tuple[bytes, int], int] = {}
        self._arrivals: list[list[_Arrival]] = [[] for _ in range(peers)]

    def trace(self) -> DeliveryTrace:
        """What was recorded so far."""
        return self._inboxes.trace()

    def joined(self, host: SimulatedHost) -> None:
        """A life of a peer begins: what its last one had not mixed is gone."""
        self._peer_of[host.id] = host.index
        self._arrivals[host.index].clear()
        self._inboxes.empty(host.index)

    def handled(self, host: SimulatedHost, event: Event, effects: Effects) -> None:
        """Note deliveries, and rounds that end."""
        for effect in effects:
            if type(effect) is Deliver:
                header = effect.header.body
                tick = self._shared_in.get((header.author, header.sequence))
                if tick is not None:  # else of an attacker, or after the last recorded round
                    author = self._peer_of[PeerId(header.author)]
                    self._arrivals[host.index].append(_Arrival(author, tick, effect.adopt))
        if type(event) is Published:
            self._end_round(host, event)

    def raised(self, host: SimulatedHost, event: Event, error: Exception) -> None:
        """A defect of the protocol: the recording is worth nothing."""
        raise error

    def spins(self, host: SimulatedHost, due_ns: Nanoseconds) -> None:
        """The host raises an error itself."""

    def _end_round(self, host: SimulatedHost, event: Published) -> None:
        peer = host.index
        tick = max(host.world.schedule.now_ns // host.world.round_ns, self._next_tick[peer])
        if tick >= self._ticks:
            return
        self._next_tick[peer] = tick + 1
        self._shared_in[host.id, event.update.header.body.sequence] = tick
        # An author that is ahead by some ticks may have shared in one that is still to come here.
        ready = [arrival for arrival in self._arrivals[peer] if arrival.tick <= tick]
        self._arrivals[peer] = [arrival for arrival in self._arrivals[peer] if arrival.tick > tick]
        adopted = [arrival for arrival in ready if arrival.adopt]
        if adopted:
            self._inboxes.empty(peer)
        for arrival in adopted or ready:
            self._inboxes.deliver(peer, arrival.author, arrival.tick, 1.0)
        self._inboxes.mix(peer, tick, 0.0 if adopted else 1.0)
