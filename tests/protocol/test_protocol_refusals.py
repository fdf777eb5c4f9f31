"""Every reason for a refusal can happen, and changes nothing but the count."""

from collections.abc import Callable

import pytest
from protocol_pump import (
    EPOCH_S,
    SECOND,
    SUITE,
    Solo,
    id_of,
    identity_of,
    record_of,
    refusals,
    update_of,
)

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Deliver, Effects, Refuse
from gossipjax.protocol.events import Misbehaved, Published
from gossipjax.protocol.rules import Rules
from gossipjax.protocol.tunnels import Tunnels
from gossipjax.types import RunId
from gossipjax.wire import limits
from gossipjax.wire.envelope import SealedUpdate, open_record
from gossipjax.wire.messages import (
    Chunk,
    Evidence,
    Get,
    Hello,
    Offer,
    Peers,
    Ping,
    Relay,
    Sealed,
    Ticket,
    Tickets,
)
from gossipjax.wire.tensors import check_values, manifest_of, unpack

UPDATE = update_of(1, 5)
ROOT = UPDATE.header.body.root
RUN = record_of(1).body.run
RULES = Rules()
OTHER_FORM = manifest_of({"y": ((4,), "float32")})


def offered(solo: Solo, update: SealedUpdate) -> Effects:
    return solo.hear(1, Offer(update.header.sealed))


def taken(solo: Solo, update: SealedUpdate) -> Effects:
    """Offer, pull and inspect as a host does."""
    offered(solo, update)
    solo.hear(1, Chunk(update.header.body.root, 0, ()), update.chunk(0))
    refusal = None
    try:
        check_values(solo.manifest, unpack(solo.manifest, update.payload), norm_max=1000.0)
    except RemoteProtocolError as error:
        refusal = error.reason
    return solo.inspected(update, refusal)


def after(update: SealedUpdate, following: SealedUpdate) -> Callable[[Solo], Effects]:
    def play(solo: Solo) -> Effects:
        taken(solo, update)
        return offered(solo, following)

    return play


def asked_of_own(solo: Solo) -> Effects:
    solo.feed(Published(update_of(0, 1)))
    return solo.hear(1, Get(update_of(0, 1).header.body.root, 1, 1))


def asked_again_and_again(solo: Solo) -> Effects:
    solo.feed(Published(update_of(0, 1)))
    get = Get(update_of(0, 1).header.body.root, 0, 1)
    for _ in range(4 + 16):
        assert refusals(solo.hear(1, get)) == []
    return solo.hear(1, get)


def pulled_wrongly(solo: Solo) -> Effects:
    offered(solo, UPDATE)
    return solo.hear(1, Chunk(ROOT, 0, ()), bytes(len(UPDATE.payload)))


def pulled_too_short(solo: Solo) -> Effects:
    offered(solo, UPDATE)
    return solo.hear(1, Chunk(ROOT, 0, ()), UPDATE.chunk(0)[:-1])


def never_answered(solo: Solo) -> Effects:
    offered(solo, UPDATE)
    effects: Effects = []
    for _ in range(8):
        solo.hear(1, Get(bytes(32), 0, 1))
        effects += solo.wait(2)
    return effects


def asked_too_often(solo: Solo) -> Effects:
    effects: Effects = []
    for nonce in range(ProtocolConfig().questions_max + 1):
        effects += solo.hear(1, Ping(nonce, 0, 1))
    return effects


def expired_greeting(solo: Solo) -> Effects:
    """The shell opens records before the machine sees them, and reports what it refuses."""
    with pytest.raises(RemoteProtocolError) as caught:
        open_record(record_of(2, expires_s=EPOCH_S).sealed, RunId(RUN), SUITE, EPOCH_S)
    return solo.feed(Misbehaved(id_of(1), caught.value.reason))


def forged_packet(solo: Solo) -> Effects:
    """The shell opens packets before the machine sees what is in them."""
    tunnels = Tunnels(identity_of(0), RunId(RUN), SUITE, lambda: bytes(32))
    tunnels.introduce(record_of(0))
    packet = b"\0" + bytes(100)
    outcomes = tunnels.take(id_of(1), Relay(id_of(2), id_of(0), False), packet, EPOCH_S)
    return [outcome for outcome in outcomes if isinstance(outcome, Refuse)]


def false_ticket(solo: Solo) -> Effects:
    ticket = Ticket(EPOCH_S // RULES.epoch_s, id_of(1), bytes(64), bytes(80))
    return solo.hear(1, Tickets((ticket,)))


WAYS: dict[str, Callable[[Solo], Effects]] = {
    "malformed": lambda solo: solo.hear(1, Hello(1, False, record_of(1).sealed)),
    "protocol": lambda solo: offered(solo, update_of(1, 5, run=bytes(32))),
    "signature": lambda solo: solo.hear(1, Peers((Sealed(record_of(5).sealed.body, bytes(64)),))),
    "author": lambda solo: offered(solo, update_of(2, 5)),
    "expired": expired_greeting,
    "shape": lambda solo: offered(solo, update_of(1, 5, manifest=OTHER_FORM, run=RUN)),
    "size": pulled_too_short,
    "sequence": after(UPDATE, update_of(1, 4)),
    "replay": after(UPDATE, UPDATE),
    "root": pulled_wrongly,
    "unsolicited": lambda solo: solo.hear(1, Chunk(ROOT, 0, ()), UPDATE.chunk(0)),
    "credit": asked_of_own,
    "quota": asked_again_and_again,
    "rate": asked_too_often,
    "stalled": never_answered,
    "sealed": forged_packet,
    "nonfinite": lambda solo: taken(solo, update_of(1, 5, value=float("nan"))),
    "norm": lambda solo: taken(solo, update_of(1, 5, value=1e6)),
    # The shell checks claims; see test_runtime_audits.
    "claim": lambda solo: solo.feed(Misbehaved(id_of(1), "claim")),
    "proof": false_ticket,
    "evidence": lambda solo: solo.hear(
        1, Evidence(1, record_of(1).sealed, (UPDATE.header.sealed,))
    ),
}


@pytest.mark.parametrize("reason", limits.REASONS)
def test_every_reason_has_a_way_to_happen(reason: str):
    solo = Solo(rules=RULES)
    solo.meet(1)
    effects = WAYS[reason](solo)
    assert refusals(effects) == [reason]
    assert not any(isinstance(effect, Deliver) for effect in effects)
    assert len(solo.machine.neighbors) == 1
    # One fault is forgiven: the next good update is taken; after a stall, when it has rested.
    solo.now_ns += 15 * SECOND
    assert [type(effect) for effect in taken(solo, update_of(1, 9))] == [Deliver]
