"""Is a silent neighbor dead, or only the link to it? Indirect probes by way of others."""

from collections.abc import Mapping

from gossipjax.protocol.effects import Effects, Send
from gossipjax.protocol.neighbor import Neighbor
from gossipjax.types import Nanoseconds, PeerId
from gossipjax.wire.messages import Alive, Suspect


class Suspicions:
    """Asks witnesses about suspected neighbors, and is a witness for others.

    The indirect probes and incarnation numbers of SWIM (Das, Gupta, Motivala, DSN 2002), for peers
    that have connections: a suspicion goes to those who can refute it, not to everybody. A witness
    that knows a higher incarnation of its neighbor answers at once. Else it passes the suspicion
    on to the suspect, once per probe interval whoever asks, so that a question costs others at
    most one message; the suspect raises its incarnation, which refutes all suspicions so far.

    Args:
        own_id: this peer.
        incarnation: its first one in this life, above those of earlier lives.
        probe_interval_ns: as configured.
        neighbors: of the membership machine.

    Attributes:
        incarnation: of this peer, told in every keep-alive.
    """

    def __init__(
        self,
        own_id: PeerId,
        incarnation: int,
        probe_interval_ns: Nanoseconds,
        neighbors: Mapping[PeerId, Neighbor],
    ):
        self._own_id = own_id
        self.incarnation = incarnation
        self._interval_ns = probe_interval_ns
        self._neighbors = neighbors

    def question(self, peer: PeerId, witness: PeerId) -> Send:
        """Ask somebody about a suspected neighbor."""
        return Send(witness, Suspect(peer, self._neighbors[peer].incarnation))

    def on_suspect(self, asker: PeerId, suspect: Suspect, now_ns: Nanoseconds) -> Effects:
        """Refute a suspicion of this peer; answer for a neighbor, or pass the suspicion on."""
        peer = PeerId(suspect.peer)
        if peer == self._own_id:
            if suspect.incarnation == self.incarnation:
                self.incarnation += 1
            return [Send(asker, Alive(peer, self.incarnation))]
        neighbor = self._neighbors.get(peer)
        if neighbor is None or peer == asker:
            return []
        if neighbor.incarnation > suspect.incarnation:
            return [Send(asker, Alive(peer, neighbor.incarnation))]
        neighbor.asked_by[asker] = None
        if neighbor.asked_ns is not None and now_ns - neighbor.asked_ns < self._interval_ns:
            return []
        neighbor.asked_ns = now_ns
        return [Send(peer, Suspect(peer, neighbor.incarnation))]

    def on_alive(self, sender: PeerId, alive: Alive) -> tuple[Effects, PeerId | None]:
        """Pass a refutation on; returns also the neighbor to which the own link is broken, if any.

        What a witness says is believed so far that a silent link is made anew, no further: its
        numbers are not kept.
        """
        peer = PeerId(alive.peer)
        neighbor = self._neighbors.get(peer)
        if neighbor is None:
            return [], None
        if peer == sender:
            self.note(neighbor, alive.incarnation)
            askers, neighbor.asked_by = neighbor.asked_by, {}
            return [Send(asker, alive) for asker in askers if asker in self._neighbors], None
        if neighbor.suspected and alive.incarnation > neighbor.incarnation:
            return [], peer
        return [], None

    def note(self, neighbor: Neighbor, incarnation: int) -> None:
        """A neighbor has told its incarnation."""
        neighbor.incarnation = max(neighbor.incarnation, incarnation)
