"""What goes wrong, and when: values that can be printed, begun and ended."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from gossipjax.simulation.cluster import Cluster
from gossipjax.simulation.draws import Draws
from gossipjax.simulation.network import SECOND
from gossipjax.types import Nanoseconds

_NEVER_NS: Nanoseconds = 1 << 62


class Partition(Struct, frozen=True, kw_only=True, tag=True):
    """The network falls into groups between which nothing passes.

    Attributes:
        group_of: group of each peer, by index.
        bridges: peers that reach, and are reached by, everybody.
        one_way: messages still pass from a higher to a lower group. A TCP connection dies of it all
            the same, since nothing is acknowledged.
    """

    at_ns: Nanoseconds
    until_ns: Nanoseconds
    group_of: tuple[int, ...]
    bridges: tuple[int, ...] = ()
    one_way: bool = False

    def begin(self, cluster: Cluster) -> Callable[[], None]:
        """Cut; returns what heals it."""
        cuts = cluster.world.network.cuts
        cuts.append(self._cut)
        return lambda: cuts.remove(self._cut)

    def _cut(self, sender: int, receiver: int) -> bool:
        known = len(self.group_of)
        if sender >= known or receiver >= known:  # attackers are everywhere
            return False
        if sender in self.bridges or receiver in self.bridges:
            return False
        gap = self.group_of[sender] - self.group_of[receiver]
        return gap < 0 if self.one_way else gap != 0


class Outage(Struct, frozen=True, kw_only=True, tag=True):
    """Peers stop and start again.

    Attributes:
        peers: which, by index.
        politely: they say goodbye, as when a program is asked to end.
        silently: the power fails, and what was not yet synced to disk is lost, or torn; else their
            systems close the connections.
        keeps_disk: whether keys, sequence numbers and address book survive.
        corrupts_disk: some records of the address book do not survive unharmed.
        moves: they come back with another network address.
    """

    at_ns: Nanoseconds
    until_ns: Nanoseconds
    peers: tuple[int, ...]
    politely: bool = False
    silently: bool = False
    keeps_disk: bool = True
    corrupts_disk: bool = False
    moves: bool = False

    def begin(self, cluster: Cluster) -> Callable[[], None]:
        """Stop them; returns what starts them."""
        for peer in self.peers:
            cluster.stop(peer, politely=self.politely, silently=self.silently)
            if self.corrupts_disk:
                cluster.corrupt_book(peer)
        return lambda: self._end(cluster)

    def _end(self, cluster: Cluster) -> None:
        for peer in self.peers:
            cluster.start(peer, keeps_disk=self.keeps_disk, moves=self.moves)


class Pause(Struct, frozen=True, kw_only=True, tag=True):
    """Peers stand still, as under SIGSTOP or on a laptop that sleeps; connections stay."""

    at_ns: Nanoseconds
    until_ns: Nanoseconds
    peers: tuple[int, ...]

    def begin(self, cluster: Cluster) -> Callable[[], None]:
        """Stop them; returns what lets them go on."""
        hosts = [cluster.hosts[peer] for peer in self.peers if peer in cluster.hosts]
        for host in hosts:
            host.pause()

        def resume() -> None:
            for host in hosts:
                host.resume()

        return resume


Fault = Partition | Outage | Pause


class FaultRun:
    """Begins and ends faults at their times, and can end all of them at once."""

    def __init__(self, cluster: Cluster, faults: list[Fault]):
        self._cluster = cluster
        self._active: dict[int, Callable[[], None]] = {}
        for number, fault in enumerate(faults):
            cluster.world.schedule.at(fault.at_ns, self._begin, number, fault)

    def heal(self) -> None:
        """End every fault that is still going on."""
        for number in list(self._active):
            self._end(number)

    def _begin(self, number: int, fault: Fault) -> None:
        self._active[number] = fault.begin(self._cluster)
        self._cluster.world.schedule.at(fault.until_ns, self._end, number)

    def _end(self, number: int) -> None:
        end = self._active.pop(number, None)
        if end is not None:
            end()


def draw_partition(
    draws: Draws, peers: int, at_ns: Nanoseconds, until_ns: Nanoseconds
) -> Partition:
    """Halves, one isolated, a bridge between two halves, or groups of random sizes."""
    kind = draws.choice(("halves", "isolate one", "bridge", "groups"))
    order = draws.sample(range(peers), peers)
    groups = [0] * peers
    if kind == "isolate one":
        groups[order[0]] = draws.choice((-1, 1))
    elif kind == "groups":
        count = draws.between(2, max(2, min(4, peers // 2)))
        groups = [draws.below(count) for _ in range(peers)]
    else:
        for peer in order[: peers // 2]:
            groups[peer] = 1
    return Partition(
        at_ns=at_ns,
        until_ns=until_ns,
        group_of=tuple(groups),
        bridges=(order[-1],) if kind == "bridge" else (),
        one_way=draws.below(3) == 0,
    )


def draw_outage(draws: Draws, peers: int, at_ns: Nanoseconds, until_ns: Nanoseconds) -> Outage:
    """One peer, or up to a third of all at once.

    The first peer stays who and where it is, since its join string is the one that all have.
    """
    count = draws.choice((1, 1, draws.between(1, max(1, peers // 3))))
    chosen = tuple(draws.sample(range(peers), count))
    politely = draws.below(4) == 0
    keeps_disk = 0 in chosen or draws.below(3) != 0
    return Outage(
        at_ns=at_ns,
        until_ns=until_ns,
        peers=chosen,
        politely=politely,
        silently=not politely and draws.below(2) == 0,
        keeps_disk=keeps_disk,
        corrupts_disk=keeps_disk and draws.below(4) == 0,
        moves=0 not in chosen and draws.below(3) == 0,
    )


def draw_pause(draws: Draws, peers: int, at_ns: Nanoseconds, until_ns: Nanoseconds) -> Pause:
    """One peer, or up to a third of all."""
    count = draws.choice((1, draws.between(1, max(1, peers // 3))))
    return Pause(at_ns=at_ns, until_ns=until_ns, peers=tuple(draws.sample(range(peers), count)))


def churn_of(rows: Iterable[tuple[float, int, bool]]) -> list[Fault]:
    """Outages as a trace tells of them.

    Args:
        rows: time in seconds, index of a peer, and whether it comes up or goes down then; in order
            of time. A peer whose first row is an up has been down from the start; one whose last
            row is a down stays down.
    """
    down_ns: dict[int, Nanoseconds] = {}
    seen: set[int] = set()
    outages: list[Fault] = []
    for seconds, peer, is_up in rows:
        at_ns = int(seconds * SECOND)
        if not is_up:
            down_ns.setdefault(peer, at_ns)
        elif peer in down_ns or peer not in seen:
            began_ns = down_ns.pop(peer, 0)
            outages.append(Outage(at_ns=began_ns, until_ns=at_ns, peers=(peer,), silently=True))
        seen.add(peer)
    outages += [
        Outage(at_ns=at_ns, until_ns=_NEVER_NS, peers=(peer,), silently=True)
        for peer, at_ns in down_ns.items()
    ]
    return sorted(outages, key=lambda outage: outage.at_ns)


def draw_churn(draws: Draws, peers: int, end_ns: Nanoseconds) -> list[Fault]:
    """A trace of volatile peers: some of them, never the first, are up and down in turn."""
    volatile = draws.sample(range(1, peers), max(1, peers // 3))
    up_ns = draws.log_between(10, 60) * SECOND
    down_ns = draws.log_between(1, 30) * SECOND
    outages: list[Fault] = []
    for peer in volatile:
        now_ns = draws.exponential(up_ns)
        while now_ns < end_ns:
            until_ns = now_ns + draws.exponential(down_ns) + SECOND
            silently = draws.below(2) == 0
            outages.append(
                Outage(at_ns=now_ns, until_ns=until_ns, peers=(peer,), silently=silently)
            )
            now_ns = until_ns + draws.exponential(up_ns) + SECOND
    return outages
