"""Who is on which committee: seats by sortition, under a value that nobody could foresee."""

import hashlib
from functools import lru_cache

from gossipjax.crypto.committee_size import Committee, committee_size, whole_swarm
from gossipjax.crypto.sortition import seats, uniform
from gossipjax.protocol.ledger import Electorate
from gossipjax.protocol.rules import Rules
from gossipjax.types import PeerId, RunId
from gossipjax.wire.messages import Role

_DOMAIN = b"gossipjax/v1/role\0"
_SAMPLE_DOMAIN = b"gossipjax/v1/sample\0"
_FORGED = 2e-7
"""One in a million over the five values between which an attacker may choose."""

_NO_RESULT = 1e-2
"""A vote without result is repeated with the author's next update that is audited."""


def case_of(header_body: bytes) -> bytes:
    """The digest by which an update's header is called in votes: SHA-256 of its signed bytes."""
    return hashlib.sha256(header_body).digest()


def role_input(run: RunId, role: Role, epoch: int, beacon: bytes, case: bytes) -> bytes:
    """What the verifiable random function of a member is asked: alpha."""
    return _DOMAIN + run + bytes((role,)) + epoch.to_bytes(8, "big") + beacon + case


def is_sampled(beacon: bytes, case: bytes, percent: int) -> bool:
    """Whether an update is audited: `SHA-512(domain ‖ E ‖ case) < 2^512 · percent / 100`.

    Everybody can tell, and nobody could when the author committed to the update.
    """
    drawn = int.from_bytes(hashlib.sha512(_SAMPLE_DOMAIN + beacon + case).digest(), "big")
    return drawn * 100 < percent << 512


def segment_of(draw: bytes, segments: int) -> int:
    """The segment of a round that a draw of 64 bytes picks: its first 8 bytes modulo the number."""
    return int.from_bytes(draw[:8], "big") % segments


def draw_of(segment: int) -> bytes:
    """A draw that picks this segment."""
    return segment.to_bytes(8, "big").ljust(64, b"\0")


def committee_of(rules: Rules, role: Role, electorate: Electorate) -> Committee:
    """Expected seats, and the votes with which a verdict stands.

    Under `gate` nothing is mixed that auditors have not found sound, and an honest one of them
    cannot undo what the others certify: so they are as many as judges.
    """
    if role is Role.AUDIT and rules.policy != "gate":
        return Committee(rules.audit_seats, rules.audit_votes)
    peers = len(electorate.weights)
    if 0 < peers <= rules.whole_swarm_peers:
        return whole_swarm(rules.honest_percent / 100, peers)
    return _judges(rules.honest_percent)


def seats_of(rules: Rules, role: Role, peer: PeerId, beta: bytes, electorate: Electorate) -> int:
    """Seats that an output of a peer's verifiable random function gives it, by one's own weights.

    In a small swarm every judge has one. A rumor reaches `rules.reach` peers at most: with more
    than that, seats are so much more likely that as many are filled among those who hear of it.
    """
    weight = electorate.of(peer)
    if not weight:
        return 0
    peers = len(electorate.weights)
    if peers <= rules.whole_swarm_peers and (role is Role.JUDGE or rules.policy == "gate"):
        return 1
    size = committee_of(rules, role, electorate).size
    drawn = uniform(beta, b"%d" % role)
    return seats(drawn, weight, size * max(peers, rules.reach), electorate.total * rules.reach)


@lru_cache
def _judges(honest_percent: int) -> Committee:
    return committee_size(honest_percent / 100, _FORGED, _NO_RESULT)
