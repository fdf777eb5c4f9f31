"""Offers, pulling with credit, serving, stalls: with one machine by hand, and with several."""

from collections.abc import Sequence

import pytest
from protocol_pump import (
    SECOND,
    SMALL,
    SUITE,
    Pump,
    Solo,
    id_of,
    identity_of,
    record_of,
    refusals,
    update_of,
)

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Deliver, Effect, Effects, Inspect, Send
from gossipjax.protocol.events import Published
from gossipjax.types import RunId
from gossipjax.wire import limits
from gossipjax.wire.envelope import SealedUpdate, seal_update
from gossipjax.wire.messages import (
    Chunk,
    Get,
    Leave,
    Missing,
    Offer,
    Ping,
    Sealed,
)
from gossipjax.wire.tensors import manifest_of

CHUNKS = 20
LARGE = manifest_of({"x": ((CHUNKS - 1, limits.CHUNK_BYTES), "uint8"), "y": ((5,), "int8")})
LARGE_UPDATE = update_of(1, 1, manifest=LARGE)


def offer_of(update: SealedUpdate) -> Offer:
    return Offer(update.header.sealed)


def chunk_of(update: SealedUpdate, index: int) -> tuple[Chunk, memoryview]:
    root = update.header.body.root
    return Chunk(root, index, update.tree.proof(index)), update.chunk(index)


def gets(solo: Solo, effects: Sequence[Effect], number: int = 1) -> list[tuple[int, int]]:
    return [(m.first, m.count) for m in solo.sent(number, effects) if isinstance(m, Get)]


def puller(config: ProtocolConfig | None = None, peers: int = 1) -> Solo:
    """A machine with large payloads and some neighbors."""
    solo = Solo(config, manifest=LARGE)
    for number in range(1, peers + 1):
        solo.meet(number)
    return solo


# ---- one transfer ------------------------------------------------------------------------------


def test_an_offered_update_is_pulled_with_credit_then_inspected_and_delivered():
    solo = puller()
    effects = solo.hear(1, offer_of(LARGE_UPDATE))
    assert gets(solo, effects) == [(0, 8)]
    for index in range(CHUNKS):
        effects = solo.hear(1, *chunk_of(LARGE_UPDATE, index))
        following = index + limits.CREDIT_CHUNKS
        assert gets(solo, effects) == ([(following, 1)] if following < CHUNKS else [])
    (inspect,) = effects
    assert isinstance(inspect, Inspect)
    assert b"".join(inspect.chunks) == LARGE_UPDATE.payload
    header = inspect.header
    assert header == LARGE_UPDATE.header
    assert solo.inspected(LARGE_UPDATE) == [Deliver(header, False)]
    assert solo.inspected(LARGE_UPDATE) == []


def test_an_offer_that_comes_again_meanwhile_is_not_pulled_twice():
    solo = Solo()
    solo.meet(1)
    update = update_of(1, 1)
    assert gets(solo, solo.hear(1, offer_of(update))) == [(0, 1)]
    assert solo.hear(1, offer_of(update)) == []
    solo.hear(1, *chunk_of(update, 0))
    assert solo.hear(1, offer_of(update)) == []
    assert solo.inspected(update) == [Deliver(update.header, False)]


def test_the_next_update_of_an_author_is_pulled_when_the_last_one_is_inspected():
    solo = Solo()
    solo.meet(1)
    first, second = update_of(1, 1), update_of(1, 2)
    solo.hear(1, offer_of(first))
    solo.hear(1, *chunk_of(first, 0))
    assert solo.hear(1, offer_of(second)) == []
    assert gets(solo, solo.inspected(first)) == [(0, 1)]


def test_chunks_may_come_in_any_order():
    solo = puller()
    effects = solo.hear(1, offer_of(LARGE_UPDATE))
    for first in range(0, CHUNKS, 8):
        for index in reversed(range(first, min(first + 8, CHUNKS))):
            effects = solo.hear(1, *chunk_of(LARGE_UPDATE, index))
            assert refusals(effects) == []
    (inspect,) = effects
    assert isinstance(inspect, Inspect)
    assert b"".join(inspect.chunks) == LARGE_UPDATE.payload


def test_updates_go_to_as_many_random_neighbors_as_the_fanout_says():
    solo = Solo(ProtocolConfig(fanout=3))
    for number in range(1, 9):
        solo.meet(number)
    told: set[bytes] = set()
    for sequence in range(1, 20):
        effects = solo.feed(Published(update_of(0, sequence)))
        peers = {effect.peer for effect in effects if isinstance(effect, Send)}
        assert len(peers) == len(effects) == 3
        told |= peers
    assert len(told) == 8


def test_suspected_neighbors_are_offered_nothing():
    solo = Solo()
    solo.meet(1)
    for _ in range(3):
        solo.wait(2)
    assert solo.feed(Published(update_of(0, 1))) == []
    solo.hear(1, Ping(1, 1, 1))
    assert len(solo.feed(Published(update_of(0, 2)))) == 1


def test_a_whole_network_exchanges_large_updates():
    pump = Pump(manifest=LARGE)
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in (1, 2, 3))]
    pump.run(12)
    for member in members:
        member.publish()
    pump.run(5)
    for member in members:
        assert len(member.delivered) == 3
        assert not member.refused


# ---- serving -----------------------------------------------------------------------------------


def server(config: ProtocolConfig | None = None) -> Solo:
    solo = puller(config, peers=2)
    solo.feed(Published(update_of(0, 1, manifest=LARGE)))
    return solo


def test_chunks_are_served_as_asked():
    solo, update = server(), update_of(0, 1, manifest=LARGE)
    effects = solo.hear(1, Get(update.header.body.root, 12, 8))
    assert [(e.message, e.data) for e in effects if isinstance(e, Send)] == [
        chunk_of(update, index) for index in range(12, 20)
    ]


@pytest.mark.parametrize(("first", "count"), [(13, 8), (20, 1), (65535, 8)])
def test_asking_for_chunks_that_are_not_there_is_refused(first: int, count: int):
    solo, update = server(), update_of(0, 1, manifest=LARGE)
    effects = solo.hear(1, Get(update.header.body.root, first, count))
    assert refusals(effects) == ["credit"]


def test_an_update_that_is_gone_is_missing():
    solo = server()
    effects = solo.hear(1, Get(bytes(32), 0, 1))
    assert solo.sent(1, effects) == [Missing(bytes(32))]
    assert refusals(effects) == []


def test_an_update_that_somebody_pulls_is_kept_and_the_idle_ones_give_way():
    solo, slow = server(ProtocolConfig(own_updates_max=3)), update_of(0, 1, manifest=LARGE)
    for sequence in range(2, 10):
        get = Get(slow.header.body.root, sequence, 1)
        assert isinstance(solo.sent(1, solo.hear(1, get))[0], Chunk)
        solo.feed(Published(update_of(0, sequence, manifest=LARGE)))
    kept: list[int] = []
    for sequence in range(1, 10):
        solo.now_ns += SECOND
        get = Get(update_of(0, sequence, manifest=LARGE).header.body.root, 0, 1)
        (answer,) = solo.sent(2, solo.hear(2, get))
        kept += [sequence] * isinstance(answer, Chunk)
    assert kept == [1, 8, 9]


# ---- what is refused ---------------------------------------------------------------------------


def test_a_chunk_that_nobody_asked_for_is_refused():
    solo = puller()
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 0))) == ["unsolicited"]
    solo.hear(1, offer_of(LARGE_UPDATE))
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 8))) == ["unsolicited"]
    other = update_of(1, 2, manifest=LARGE)
    assert refusals(solo.hear(1, *chunk_of(other, 0))) == ["unsolicited"]
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 0))) == []
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 0))) == ["unsolicited"]


@pytest.mark.parametrize("reason", ["size", "root", "root of another place"])
def test_a_wrong_chunk_ends_the_transfer(reason: str):
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    chunk, data = chunk_of(LARGE_UPDATE, 0)
    if reason == "size":
        data = data[:-1]
    elif reason == "root":
        data = memoryview(bytes([data[0] ^ 1]) + bytes(data[1:]))
    else:
        chunk = Chunk(chunk.root, 1, chunk.proof)
    assert refusals(solo.hear(1, chunk, data)) == [reason.split()[0]]
    # What was under way is forgiven, and the next update is taken.
    for index in range(1, 8):
        assert solo.hear(1, *chunk_of(LARGE_UPDATE, index)) == []
    assert gets(solo, solo.hear(1, offer_of(update_of(1, 2, manifest=LARGE)))) == [(0, 8)]


def test_an_offer_of_somebody_elses_update_is_refused():
    solo = Solo()
    solo.meet(1)
    assert refusals(solo.hear(1, offer_of(update_of(2, 1)))) == ["author"]


def test_an_unsigned_offer_is_refused():
    solo = Solo()
    solo.meet(1)
    body = update_of(1, 1).header.sealed.body
    assert refusals(solo.hear(1, Offer(Sealed(body, bytes(64))))) == ["signature"]


def test_an_offer_of_another_form_is_refused():
    # The run id commits to the manifest, so this takes a peer that lies about one of them.
    small = manifest_of({"x": ((2,), "float32")})
    solo = Solo()
    solo.meet(1)
    run = record_of(0).body.run
    assert refusals(solo.hear(1, offer_of(update_of(1, 1, manifest=small, run=run)))) == ["shape"]
    shorter = seal_update(
        bytes(SMALL.nbytes - 1),
        run=RunId(run),
        sequence=1,
        version=0,
        samples=1,
        manifest_digest=SMALL.digest,
        identity=identity_of(1),
        suite=SUITE,
    )
    assert refusals(solo.hear(1, offer_of(shorter))) == ["size"]


@pytest.mark.parametrize(
    ("sequence", "reasons"), [(4, ["sequence"]), (5, ["replay"]), (6, []), (2**53, [])]
)
def test_sequence_numbers_increase(sequence: int, reasons: list[str]):
    solo = Solo()
    solo.meet(1)
    take(solo, update_of(1, 5))
    assert refusals(solo.hear(1, offer_of(update_of(1, sequence)))) == reasons


def take(solo: Solo, update: SealedUpdate, refusal: str | None = None) -> Effects:
    """Go through the transfer of a small update."""
    author = update.header.body.author
    number = next(n for n in range(100) if id_of(n) == author)
    assert gets(solo, solo.hear(number, offer_of(update)), number) == [(0, 1)]
    (inspect, *_) = solo.hear(number, *chunk_of(update, 0))
    assert isinstance(inspect, Inspect)
    return solo.inspected(update, refusal)


def test_a_refused_update_is_not_delivered_and_not_taken_again():
    solo = Solo()
    solo.meet(1)
    effects = take(solo, update_of(1, 5), "norm")
    assert refusals(effects) == ["norm"]
    assert not any(isinstance(effect, Deliver) for effect in effects)
    assert refusals(solo.hear(1, offer_of(update_of(1, 5)))) == ["replay"]


@pytest.mark.parametrize(("value", "reason"), [(float("nan"), "nonfinite"), (1e9, "norm")])
def test_poison_is_refused_by_everybody(value: float, reason: str):
    pump = Pump()
    first = pump.join(0)
    members = [first, pump.join(1, [first]), pump.join(2, [first])]
    pump.run(12)
    members[1].publish(value=value)
    pump.run(1)
    for member in (members[0], members[2]):
        assert member.refused == {reason: 1}
        assert member.delivered == []


# ---- stalls and losses -------------------------------------------------------------------------


def test_a_transfer_without_progress_is_dropped_and_what_comes_late_is_forgiven():
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    solo.hear(1, *chunk_of(LARGE_UPDATE, 0))
    reasons: list[str] = []
    probes: list[tuple[int, int]] = []
    for _ in range(9):
        solo.hear(1, Missing(bytes(32)))  # alive, but of no help
        effects = solo.wait(2)
        reasons += refusals(effects)
        probes += gets(solo, effects)
    assert reasons == ["stalled"]
    assert probes == [(8, 1)] * 3
    for index in (*range(1, 9), 8, 8, 8):
        assert solo.hear(1, *chunk_of(LARGE_UPDATE, index)) == []
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 9))) == ["unsolicited"]


def test_what_got_lost_is_asked_for_again_when_the_last_one_comes_first():
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    solo.hear(1, *chunk_of(LARGE_UPDATE, 2))
    assert gets(solo, solo.wait(4)) == [(8, 1)]
    assert gets(solo, solo.hear(1, *chunk_of(LARGE_UPDATE, 8))) == [(0, 2), (3, 5), (9, 1)]
    for index in (0, 1, *range(3, 8), *range(9, CHUNKS)):
        assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, index))) == []
    # The answers to the first questions may still come; then it is enough.
    for index in (0, 1, *range(3, 9)):
        assert solo.hear(1, *chunk_of(LARGE_UPDATE, index)) == []
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 0))) == ["unsolicited"]


def test_what_is_only_slow_is_not_asked_for_again():
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    assert gets(solo, solo.wait(4)) == [(7, 1)]
    for index in range(8):
        assert gets(solo, solo.hear(1, *chunk_of(LARGE_UPDATE, index))) == [(8 + index, 1)]


def test_a_transfer_that_drips_makes_place_when_others_wait():
    solo = puller(ProtocolConfig(downloads_max=1), peers=2)
    solo.hear(1, offer_of(LARGE_UPDATE))
    effects: Effects = []
    for second in range(64):
        if second == 20:
            solo.hear(2, offer_of(update_of(2, 1, manifest=LARGE)))
        if second % 4 == 0:
            solo.hear(1, *chunk_of(LARGE_UPDATE, second // 4))
        solo.hear(2, Missing(bytes(32)))
        effects += solo.wait(1)
    assert refusals(effects) == ["stalled"]
    assert 2 in gets_of(effects)


def test_a_slow_transfer_with_progress_goes_on():
    solo = puller()
    effects = solo.hear(1, offer_of(LARGE_UPDATE))
    for index in range(CHUNKS):
        for _ in range(4):
            assert refusals(solo.wait(2)) == []
        effects = solo.hear(1, *chunk_of(LARGE_UPDATE, index))
    assert isinstance(effects[0], Inspect)


def test_a_pause_of_this_process_stalls_nobody():
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    solo.wait(1)
    assert refusals(solo.wait(30)) == []
    assert solo.hear(1, *chunk_of(LARGE_UPDATE, 0)) != []


def test_a_transfer_of_a_lost_peer_makes_place_for_another():
    solo = puller(ProtocolConfig(downloads_max=1), peers=3)
    updates = {number: update_of(number, 1, manifest=LARGE) for number in (1, 2, 3)}
    assert gets(solo, solo.hear(1, offer_of(updates[1])), 1) == [(0, 8)]
    for number in (2, 3):
        assert solo.hear(number, offer_of(updates[number])) == []
    assert gets_of(solo.lose(1)) == {2}
    assert gets_of(solo.lose(2)) == {3}
    assert solo.lose(3) == []
    # An offer that waits goes with its author, too.
    for number in (1, 2, 3):
        solo.meet(number)
        solo.hear(number, offer_of(update_of(number, 2, manifest=LARGE)))
    assert solo.lose(2) == []
    assert gets_of(solo.lose(1)) == {3}


def test_the_offer_of_a_peer_that_leaves_is_forgotten():
    solo = puller(ProtocolConfig(downloads_max=1), peers=2)
    solo.hear(1, offer_of(LARGE_UPDATE))
    solo.hear(2, offer_of(update_of(2, 1, manifest=LARGE)))
    solo.hear(2, Leave("stopping"))
    assert gets_of(solo.hear(1, Missing(LARGE_UPDATE.header.body.root))) == set()


def test_the_offer_of_a_peer_that_falls_silent_is_forgotten():
    solo = puller(ProtocolConfig(downloads_max=1), peers=2)
    solo.hear(1, offer_of(LARGE_UPDATE))
    solo.hear(2, offer_of(update_of(2, 1, manifest=LARGE)))
    for index in range(8):
        solo.hear(1, *chunk_of(LARGE_UPDATE, index))
        solo.wait(2)
    assert solo.machine.neighbors.keys() == {id_of(1, LARGE)}
    assert gets_of(solo.hear(1, Missing(LARGE_UPDATE.header.body.root))) == set()


def gets_of(effects: Effects) -> set[int]:
    """Whom something is asked of."""
    peers = {e.peer for e in effects if isinstance(e, Send) and isinstance(e.message, Get)}
    return {number for number in range(10) if id_of(number, LARGE) in peers}


def test_a_missing_update_ends_the_transfer_and_the_next_offer_is_taken():
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    newer = update_of(1, 2, manifest=LARGE)
    assert solo.hear(1, offer_of(newer)) == []
    assert solo.hear(1, Missing(newer.header.body.root)) == []  # not the one under way
    effects = solo.hear(1, Missing(LARGE_UPDATE.header.body.root))
    (get,) = solo.sent(1, effects)
    assert get == Get(newer.header.body.root, 0, 8)
    # Chunks that `Missing` has overtaken, since they travel on a connection of their own.
    for index in range(8):
        assert solo.hear(1, *chunk_of(LARGE_UPDATE, index)) == []
    assert solo.hear(1, Missing(newer.header.body.root)) == []
    assert solo.hear(1, Missing(newer.header.body.root)) == []


def test_the_same_update_pulled_again_forgives_the_late_chunks_of_the_earlier_times():
    solo = puller()
    for _ in range(3):
        assert gets(solo, solo.hear(1, offer_of(LARGE_UPDATE))) == [(0, 8)]
        solo.hear(1, Missing(LARGE_UPDATE.header.body.root))
    solo.hear(1, offer_of(LARGE_UPDATE))
    for index in [*range(8)] * 4:
        assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, index))) == []
    assert refusals(solo.hear(1, *chunk_of(LARGE_UPDATE, 0))) == ["unsolicited"]


def test_an_update_inspected_after_its_author_has_left_still_counts():
    solo = puller()
    solo.hear(1, offer_of(LARGE_UPDATE))
    for index in range(CHUNKS):
        solo.hear(1, *chunk_of(LARGE_UPDATE, index))
    solo.lose(1)
    effects = solo.inspected(LARGE_UPDATE)
    assert effects == [Deliver(LARGE_UPDATE.header, False)]


def test_a_restarted_author_begins_its_transfers_anew():
    solo = Solo()
    solo.meet(1)
    solo.hear(1, offer_of(update_of(1, 1)))
    solo.meet(1, sequence=2)
    assert solo.hear(1, offer_of(update_of(1, 2))) != []
    solo.meet(1, sequence=2)  # a second connection changes nothing
    (inspect,) = solo.hear(1, *chunk_of(update_of(1, 2), 0))
    assert isinstance(inspect, Inspect)


# ---- memory ------------------------------------------------------------------------------------


def test_only_the_newest_offer_of_an_author_waits():
    solo = puller(ProtocolConfig(downloads_max=1), peers=2)
    solo.hear(1, offer_of(LARGE_UPDATE))
    for sequence in (1, 2, 3):
        solo.hear(2, offer_of(update_of(2, sequence, manifest=LARGE)))
    assert solo.hear(2, offer_of(update_of(2, 1, manifest=LARGE))) == []
    effects = solo.hear(1, Missing(LARGE_UPDATE.header.body.root))
    (get,) = solo.sent(2, effects)
    assert isinstance(get, Get)
    assert get.root == update_of(2, 3, manifest=LARGE).header.body.root


def test_no_more_payloads_are_held_than_allowed():
    config = ProtocolConfig(downloads_max=2)
    solo = Solo(config)
    for number in range(1, 11):
        solo.meet(number)
    inspecting: list[int] = []
    pulling: list[int] = []
    for number in range(1, 11):
        pulling += [number] * bool(
            gets(solo, solo.hear(number, offer_of(update_of(number, 1))), number)
        )
    while pulling:
        number = pulling.pop(0)
        effects = solo.hear(number, *chunk_of(update_of(number, 1), 0))
        inspecting.append(number)
        pulling += [n for n in range(1, 11) if gets(solo, effects, n)]
        assert len(pulling) + len(inspecting) < 2 * config.downloads_max
    assert len(inspecting) == 3
    delivered = 0
    while inspecting:
        number = inspecting.pop(0)
        effects = solo.inspected(update_of(number, 1))
        delivered += 1
        for following in [n for n in range(1, 11) if gets(solo, effects, n)]:
            solo.hear(following, *chunk_of(update_of(following, 1), 0))
            inspecting.append(following)
    assert delivered == 10


def test_a_transfer_that_takes_many_rounds_ends():
    pump = Pump(manifest=LARGE)
    pump.latency_ns = SECOND // 2
    first = pump.join(0)
    second = pump.join(1, [first])
    pump.run(6)
    for _ in range(12):  # a round trip takes a second, a transfer at least three
        first.publish()
        pump.run(1)
    assert len(second.delivered) >= 2
    assert second.refused == {}
