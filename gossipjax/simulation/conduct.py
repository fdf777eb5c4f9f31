"""How simulated peers behave on the level of verification: what they publish, what they say.

A cheat of this kind runs the very `PeerMachine` of the honest, as a real one would, and lies where
the machine asks its shell: it publishes what no training has made, and answers `Audit` as it likes.
What an audit would find of an update is known to the simulation, not computed.
"""

from collections.abc import Callable
from typing import NamedTuple

from gossipjax.wire.messages import Verdict

Says = Callable[[Verdict, bool], Verdict | None]
"""What a committee member says, given what it has found and whether the author is of its gang."""


class Conduct(NamedTuple):
    """Behavior of one peer.

    Attributes:
        updates: what an honest audit of its updates finds.
        says: what it says of an update.
        gang: whether it belongs to the adversary.
    """

    updates: Verdict
    says: Says
    gang: bool = True


def _truth(found: Verdict, of_gang: bool) -> Verdict:
    return found


def _accuse(verdict: Verdict) -> Says:
    def says(found: Verdict, of_gang: bool) -> Verdict:
        return Verdict.SOUND if of_gang else verdict

    return says


def _cover(found: Verdict, of_gang: bool) -> Verdict:
    return Verdict.SOUND if of_gang else found


HONEST = Conduct(Verdict.SOUND, _truth, gang=False)

CONDUCTS: dict[str, Conduct] = {
    "cheat": Conduct(Verdict.FAULT, _truth),
    "harmful": Conduct(Verdict.HARMFUL, _truth),
    "abandoned commits": Conduct(Verdict.WITHHELD, _truth),
    "colluding cheats": Conduct(Verdict.FAULT, _cover),
    "false accusation of faults": Conduct(Verdict.SOUND, _accuse(Verdict.FAULT)),
    "false accusation of harm": Conduct(Verdict.SOUND, _accuse(Verdict.HARMFUL)),
}
"""Attacks by name."""
