"""What reaches whom, and when: true staleness, loss and churn for the vectorized learner.

Time is cut into ticks. In each tick some peers end a round: they share, then mix what has arrived.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gossipjax.topology import Topology

SLOTS = 8
"""Arrivals that are mixed at once: the default of `PeerConfig.slots`."""


class DeliveryTrace(NamedTuple):
    """The payloads that each of N peers mixes in each of T ticks, in K slots.

    Made by `asynchronous` from a topology, or by `DeliveryRecorder` from the simulated protocol.

    Attributes:
        author: int32 `[T, N, K]`: whose payload it is.
        age: int32 `[T, N, K]`, ≥ 0: ticks since the author shared it; 0 is this very tick.
        weight: float32 `[T, N, K]`, ≥ 0; 0 marks an empty slot.
        self_weight: float32 `[T, N]`; 0 where a joiner adopts what it is given.
        is_active: bool `[T, N]`: the peer ends a round: it trains, shares and mixes.
    """

    author: npt.NDArray[np.int32]
    age: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    self_weight: npt.NDArray[np.float32]
    is_active: npt.NDArray[np.bool_]

    @property
    def ticks(self) -> int:
        """T."""
        return len(self.author)

    @property
    def peers(self) -> int:
        """N."""
        return self.author.shape[1]

    @property
    def window(self) -> int:
        """Ticks of payloads that must be kept: one more than the greatest age."""
        return 1 + int(np.max(self.age, where=self.weight > 0, initial=0))


def clock(speeds: npt.ArrayLike, ticks: int, *, seed: int = 0) -> npt.NDArray[np.bool_]:
    """When peers of unlike speeds end their rounds: bool `[ticks, N]`.

    Peer i ends its m-th round in the tick in which `speed_i · t + phase_i` passes m, with a random
    phase in [0, 1).

    Args:
        speeds: `[N]`, rounds per tick, above 0 and at most 1.
        ticks: T.
        seed: decides the phases.

    Raises:
        ValueError: a speed out of its range.
    """
    rates = np.asarray(speeds, float)
    if rates.ndim != 1 or not ((rates > 0) & (rates <= 1)).all():
        raise ValueError(
            "speeds are rounds per tick of each peer, above 0 and at most 1; divide by the fastest"
        )
    phase = _random(seed).random(len(rates))
    done = np.floor(np.arange(ticks + 1)[:, None] * rates + phase)
    return np.diff(done, axis=0) > 0


def asynchronous(
    topology: Topology,
    is_active: npt.ArrayLike,
    *,
    is_online: npt.ArrayLike | None = None,
    delay: npt.ArrayLike = 0,
    loss: float = 0.0,
    slots: int = SLOTS,
    seed: int = 0,
) -> DeliveryTrace:
    """Peers push what they share along a topology's links; who is slow mixes what has waited.

    In tick t each active peer shares, and those that hear it in round t of the topology get it
    `delay` ticks later, with the topology's weight. A receiver keeps the newest payload of each
    author until its own next round, in which it mixes the `slots` oldest.

    Args:
        topology: who hears whom; with own weights, which count beside what has arrived.
        is_active: bool `[T, N]`: who ends a round; see `clock`.
        is_online: bool `[T, N]`: what arrives while a peer is not online is lost, and so is its
            round. By default all are, always.
        delay: ticks in transit, ≥ 0: a number, or one for each author `[N]`.
        loss: probability, below 1, that a payload is lost on its way.
        slots: K.
        seed: decides what is lost.

    Raises:
        ValueError: shapes that do not fit, a negative delay, a loss that is no probability.
    """
    active = np.asarray(is_active, bool)
    online = np.ones_like(active) if is_online is None else np.asarray(is_online, bool)
    delays = np.broadcast_to(np.asarray(delay, int), (topology.peers,))
    if active.shape != online.shape or active.shape[1:] != (topology.peers,):
        raise ValueError(
            f"is_active and is_online are [ticks, {topology.peers}] for this topology, "
            f"got {active.shape} and {online.shape}"
        )
    if delays.min() < 0 or not 0 <= loss < 1 or slots < 1:
        raise ValueError(
            f"expected delay ≥ 0, loss from 0 to below 1, slots ≥ 1; got {delay}, {loss}, {slots}"
        )
    active = active & online
    inboxes = Inboxes(len(active), topology.peers, slots)
    on_the_way: dict[int, list[tuple[int, int, int, float]]] = {}
    random = _random(seed)
    for tick in range(len(active)):
        step = tick % topology.period
        senders, weights = topology.neighbors[step], topology.weight[step]
        is_sent = (weights > 0) & active[tick][senders] & (random.random(weights.shape) >= loss)
        for receiver, slot in np.argwhere(is_sent).tolist():
            author = int(senders[receiver, slot])
            message = (receiver, author, tick, float(weights[receiver, slot]))
            on_the_way.setdefault(tick + int(delays[author]), []).append(message)
        for receiver, author, shared, weight in on_the_way.pop(tick, ()):
            if online[tick, receiver]:
                inboxes.deliver(receiver, author, shared, weight)
        for receiver in np.flatnonzero(active[tick]).tolist():
            inboxes.mix(receiver, tick, topology.self_weight[step, receiver])
    return inboxes.trace()


class Inboxes:
    """One inbox per peer, with the rules of `gossipjax.runtime.mailbox`; writes a trace."""

    def __init__(self, ticks: int, peers: int, slots: int):
        shape = (ticks, peers, slots)
        own = np.broadcast_to(np.arange(peers, dtype=np.int32)[:, None], shape)
        self._trace = DeliveryTrace(
            author=own.copy(),
            age=np.zeros(shape, np.int32),
            weight=np.zeros(shape, np.float32),
            self_weight=np.ones(shape[:2], np.float32),
            is_active=np.zeros(shape[:2], bool),
        )
        self._waiting: list[dict[int, tuple[int, float]]] = [{} for _ in range(peers)]
        self._slots = slots

    def deliver(self, receiver: int, author: int, shared: int, weight: float) -> None:
        """A payload of tick `shared` arrives; an older one of its author gives way."""
        self._waiting[receiver].pop(author, None)
        self._waiting[receiver][author] = (shared, weight)

    def empty(self, receiver: int) -> None:
        """What has arrived is lost."""
        self._waiting[receiver].clear()

    def mix(self, receiver: int, tick: int, self_weight: float) -> None:
        """A peer ends its round: it takes the oldest arrivals, as many as it has slots."""
        waiting, trace = self._waiting[receiver], self._trace
        for slot, author in enumerate(sorted(list(waiting)[: self._slots])):
            shared, weight = waiting.pop(author)
            trace.author[tick, receiver, slot] = author
            trace.age[tick, receiver, slot] = tick - shared
            trace.weight[tick, receiver, slot] = weight
        trace.self_weight[tick, receiver] = self_weight
        trace.is_active[tick, receiver] = True

    def trace(self) -> DeliveryTrace:
        """What was mixed so far."""
        return self._trace


def _random(seed: int) -> np.random.RandomState:
    # Not `Generator`, whose streams NumPy may change.
    return np.random.RandomState(np.random.PCG64(seed))
