"""Committee machines of a few peers in one process: what one spreads all others hear at once."""

from collections import deque
from collections.abc import Callable, Iterable

from protocol_pump import SUITE, id_of, identity_of, record_of, update_of

from gossipjax.protocol.committee import CommitteeMachine, Consequence, Spread
from gossipjax.protocol.credentials import case_of
from gossipjax.protocol.effects import Audit, Ban, Pardon
from gossipjax.protocol.ledger import Ledger
from gossipjax.protocol.rules import Rules
from gossipjax.types import PeerId, RunId
from gossipjax.wire.codec import decode_body
from gossipjax.wire.messages import Ballot, Certificate, Sealed, Verdict, Vote

EPOCH = 50
BEACON = bytes(range(64))
AUTHOR = 1
RULES = Rules(audit_percent=100)
RUN = RunId(record_of(0).body.run)
UPDATE = update_of(AUTHOR, 5)
CASE = case_of(UPDATE.header.sealed.body)

Finds = Callable[[int, Audit], Verdict | None]


def ledger_of(count: int) -> Ledger:
    """The memory of somebody who has met the first peers at the same time."""
    ledger = Ledger(EPOCH - 5, half_life=5000, founder_work=1000, ban_epochs=100)
    for number in range(count):
        ledger.meet(record_of(number).body, EPOCH - 5)
    return ledger


class Swarm:
    """Some peers that know each other, all with the same weight."""

    def __init__(self, count: int = 8, rules: Rules = RULES):
        self.ledgers = [ledger_of(count) for _ in range(count)]
        self.machines = [
            CommitteeMachine(RUN, id_of(n), identity_of(n), SUITE, self.ledgers[n], rules)
            for n in range(count)
        ]
        self.audits: list[tuple[int, Audit]] = []
        self.bans: list[tuple[int, Ban]] = []
        self.pardons: list[tuple[int, PeerId]] = []
        self.certificates: list[Certificate] = []
        self.votes: dict[Sealed, Vote] = {}

    def open(self, finds: Finds, *, beacon: bytes = BEACON, is_committed: bool = True) -> None:
        """Bring the update before everybody, and let everything happen that follows."""
        for number, machine in enumerate(self.machines):
            found = machine.open(
                record_of(AUTHOR), UPDATE.header, EPOCH, beacon, is_committed=is_committed
            )
            self.audits += [(number, one) for one in found if isinstance(one, Audit)]
        self.settle(finds)

    def settle(self, finds: Finds) -> None:
        """Carry out audits and pass on votes until nothing is left."""
        while self.audits:
            number, audit = self.audits.pop(0)
            case = case_of(audit.header.sealed.body)
            found = self.machines[number].on_audited(case, audit.draw, finds(number, audit))
            self.happen(number, found)

    def happen(self, number: int, found: Iterable[Consequence]) -> None:
        """What follows at once from what one machine has found."""
        pending = deque((number, one) for one in found)
        while pending:
            at, one = pending.popleft()
            match one:
                case Audit():
                    self.audits.append((at, one))
                case Ban():
                    self.bans.append((at, one))
                case Pardon():
                    self.pardons.append((at, one.peer))
                case Spread(message=Certificate() as certificate):
                    self.certificates.append(certificate)
                case Spread(message=Ballot() as ballot):
                    if ballot.vote in self.votes:
                        continue
                    self.votes[ballot.vote] = decode_body(Vote, ballot.vote.body)
                    for other, machine in enumerate(self.machines):
                        if other != at:
                            pending += [(other, then) for then in machine.on_vote(ballot.vote)]

    def banned(self) -> dict[PeerId, int]:
        """How many have banned whom."""
        counted: dict[PeerId, int] = {}
        for _, ban in self.bans:
            counted[ban.peer] = counted.get(ban.peer, 0) + 1
        return counted


def truth(verdict: Verdict) -> Finds:
    """Everybody finds the same."""
    return lambda number, audit: verdict
