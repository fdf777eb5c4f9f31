"""The rules of a run on verification: the same for all its peers, with their reasons."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gossipjax.errors import LocalProtocolError

Positive = Annotated[int, Meta(ge=1)]
Percent = Annotated[int, Meta(ge=1, le=100)]

AUDIT_PERCENT_MAX = 25
"""Of the shares that are found out; who wants more says so."""

Policy = Literal["off", "audit", "gate"]


class Rules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How updates of a run are verified; with other rules a peer counts other votes than the rest.

    The defaults suit hours of training and more; a run of minutes needs shorter epochs.
    """

    policy: Policy = "audit"
    """`off`: nobody verifies. `audit`: updates are mixed at once, and a share of them, drawn by a
    value that nobody could foresee, is audited afterwards. `gate`: an update is mixed only with a
    certificate that a committee has found it sound; so a peer shares one at a time, and each costs
    as many audits as a committee of judges has seats."""

    epoch_s: Positive = 120
    """Length of an epoch, by Unix time. Clocks may differ by a quarter of it; tickets need some
    twenty exchanges between neighbors to reach everybody."""

    honest_percent: Annotated[int, Meta(ge=55, le=100)] = 80
    """Share of weight that is assumed honest. Committees grow fast towards one half."""

    claims: bool = False
    """Whether updates that claim no round of training are refused: else whoever leaves the claim
    out is never audited. Then a peer that has ended its training listens, and shares no more. For
    runs on assigned data; others have nothing to claim."""

    audit_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    """Share of updates that is audited under `audit`; under `gate` all are. 0: what 5 % of the
    training compute and 8 % of the exchanged bytes afford, by the steps of a round and the size of
    the states (`gossipjax.verification.budget`); at most 25, which is also what a peer takes that
    has no rounds to reckon with."""

    audit_seats: Positive = 4
    """Expected auditors of one update. What they find anybody can check again, so that one honest
    auditor is enough: none is drawn with a chance of exp(-0.8 · 4), one in 25."""

    audit_votes: Positive = 2
    """Seats of auditors that must find an update sound before its work counts for its author. The
    adversary alone reaches two of four in 19 % of draws, without an honest auditor in 0.8 %."""

    half_life_epochs: Positive = 5040
    """After so many epochs verified work counts half: a week of epochs of 120 s."""

    founder_samples: Positive = 1 << 16
    """Work that each peer met in the first epochs of one's memory begins with; it decays as any."""

    founding_epochs: Positive = 5
    """So many epochs are the first: enough to hear of everybody. Nothing is audited in them."""

    ban_epochs: Positive = 5040
    """How long a ban for proven misbehavior lasts. Whoever comes back has no weight."""

    rumor_fanout: Positive = 3
    """Neighbors to which a case, a vote or evidence is passed on."""

    rumor_hops: Annotated[int, Meta(ge=1, le=16)] = 6
    """How often it is passed on, so that it reaches `rumor_fanout ^ rumor_hops` peers at most: 729,
    whatever the size of the network."""

    whole_swarm_peers: Positive = 32
    """With so many peers or fewer all vote, one vote each."""

    def __post_init__(self) -> None:
        """Refuse combinations that cannot work."""
        if self.audit_votes > self.audit_seats:
            raise LocalProtocolError(
                f"expected audit_votes ≤ audit_seats, got {self.audit_votes} > {self.audit_seats}"
            )

    @property
    def drawn_percent(self) -> int:
        """Share of updates that is audited."""
        if self.policy == "gate":
            return 100
        return self.audit_percent or AUDIT_PERCENT_MAX

    @property
    def reach(self) -> int:
        """Peers that a rumor reaches at most."""
        return self.rumor_fanout**self.rumor_hops


OFF = Rules(policy="off")
"""Nothing is verified."""
