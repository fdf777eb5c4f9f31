"""How a late joiner gets the network's parameters, and that its own do not count before."""

from collections.abc import Sequence
from typing import Any

import pytest
from protocol_pump import (
    EPOCH_S,
    Member,
    Pump,
    Solo,
    id_of,
    record_of,
    refusals,
    update_of,
)

from gossipjax.protocol.catch_up import believed_version
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Deliver, Effect, Effects, Inspect, Send
from gossipjax.protocol.events import Inspected, Published
from gossipjax.types import PeerId
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import SealedUpdate
from gossipjax.wire.limits import CHUNK_BYTES
from gossipjax.wire.messages import (
    Chunk,
    Get,
    GetSnapshots,
    Missing,
    Offer,
    Ping,
    Sealed,
    Snapshot,
    Snapshots,
)
from gossipjax.wire.tensors import manifest_of

NOWHERE = Address("tcp://127.0.0.1:1", bytes(32))
CHUNKS = 40
LARGE = manifest_of({"x": ((CHUNKS, CHUNK_BYTES), "uint8")})


def network(size: int, version: int) -> tuple[Pump, list[Member]]:
    """A network whose members have published updates of about this version."""
    pump = Pump()
    first = pump.join(0, version=version)
    members = [first, *(pump.join(number, [first], version=version) for number in range(1, size))]
    pump.run(12)
    for member in members:
        member.publish(version + member.number)
    pump.run(1)
    return pump, members


# ---- whole networks ----------------------------------------------------------------------------


def test_a_late_joiner_adopts_once_and_offers_nothing_before():
    pump, members = network(4, version=5000)
    joiner = pump.join(9, [members[0]])
    assert not joiner.machine.has_caught_up
    joiner.publish(version=1)
    assert pump.run_until(lambda: bool(joiner.delivered), 5)
    assert joiner.machine.has_caught_up
    (adopted,) = joiner.delivered
    assert adopted.adopt
    assert adopted.header.body.version >= 5000
    assert joiner.sent[Offer] == 0
    for member in members:
        member.publish(5100 + member.number)
    pump.run(1)
    assert sum(delivery.adopt for delivery in joiner.delivered) == 1
    joiner.publish(version=5200)
    pump.run(1)
    assert any(d.header.body.author == joiner.id for m in members for d in m.delivered)


def test_fellow_joiners_wait_for_nobody():
    pump = Pump()
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in (1, 2))]
    pump.run(3)
    assert all(member.machine.has_caught_up for member in members)
    assert not any(member.delivered for member in members)


def test_a_peer_that_was_away_for_a_short_while_averages_instead():
    pump, members = network(3, version=5000)
    returned = pump.join(9, [members[0]], version=4950)
    pump.run(3)
    assert returned.machine.has_caught_up
    members[0].publish(5010)
    pump.run(1)
    assert [delivery.adopt for delivery in returned.delivered] == [False]


def test_many_joiners_use_many_donors():
    pump, members = network(6, version=5000)
    joiners = [pump.join(number, [members[0]]) for number in range(10, 30)]
    pump.run(10)
    assert all(joiner.machine.has_caught_up for joiner in joiners)
    served = [member.sent[Chunk] for member in members]
    assert sum(bool(count) for count in served) >= 3


def test_a_donor_that_dies_is_replaced_by_another():
    pump, members = network(3, version=5000)
    joiner = pump.join(9, [members[0]])
    assert pump.run_until(lambda: joiner.sent[Get] == 1, 5)
    donor = joiner.last_sent_to[Get]
    next(member for member in members if member.id == donor).kill()
    assert pump.run_until(lambda: joiner.machine.has_caught_up, 40)
    assert [delivery.adopt for delivery in joiner.delivered] == [True]


def test_one_that_has_caught_up_is_a_donor_itself():
    pump, members = network(2, version=5000)
    joiner = pump.join(9, [members[0]])
    pump.run(10)
    members[0].kill()
    members[1].kill()
    second = pump.join(10, [joiner])
    joiner.publish(version=5001)  # its version is known, too
    assert pump.run_until(lambda: bool(second.delivered), 20)
    assert second.delivered[0].adopt


# ---- one machine -------------------------------------------------------------------------------


def joiner(config: ProtocolConfig | None = None, **arguments: Any) -> Solo:
    solo = Solo(config, bootstrap=[NOWHERE], **arguments)
    assert not solo.machine.has_caught_up
    return solo


def snapshot_of(update: SealedUpdate, number: int, **record: Any) -> Snapshot:
    return Snapshot(record_of(number, **record).sealed, update.header.sealed)


def asked(solo: Solo, effects: Sequence[Effect]) -> list[int]:
    """Whom `GetSnapshots` is sent to."""
    peers = [e.peer for e in effects if isinstance(e, Send) and e.message == GetSnapshots()]
    return [number for number in range(30) if id_of(number, solo.manifest) in peers]


def gets(solo: Solo, effects: Sequence[Effect]) -> dict[int, list[int]]:
    """Which chunks are asked of whom."""
    wanted: dict[int, list[int]] = {}
    for number in range(1, 10):
        for message in solo.sent(number, effects):
            if isinstance(message, Get):
                chunks = range(message.first, message.first + message.count)
                wanted.setdefault(number, []).extend(chunks)
    return wanted


def give(solo: Solo, number: int, update: SealedUpdate, index: int = 0) -> Effects:
    chunk = Chunk(update.header.body.root, index, update.tree.proof(index))
    return solo.hear(number, chunk, update.chunk(index))


def meet_at(solo: Solo, versions: dict[int, int]) -> list[int]:
    """Meet peers that claim these versions; whom the joiner asks a second later."""
    for number, version in versions.items():
        solo.meet(number)
        solo.hear(number, Ping(1, version, 1))
    return asked(solo, solo.wait(1))


def test_a_joiner_listens_for_a_second_then_asks_whoever_is_ahead():
    solo = joiner()
    solo.wait(20)
    assert solo.meet(1) != []
    solo.meet(2)
    solo.hear(1, Ping(1, 100, 1))
    solo.hear(2, Ping(1, 101, 1))
    assert asked(solo, solo.wait(0.9)) == []
    assert asked(solo, solo.wait(0.1)) == [2]
    assert not solo.machine.has_caught_up


def test_a_joiner_waits_for_versions_before_it_decides():
    solo = joiner()
    solo.meet(1)
    for _ in range(5):
        solo.wait(1)
    assert not solo.machine.has_caught_up
    solo.hear(1, Ping(1, 7, 1))
    solo.wait(1)
    assert solo.machine.has_caught_up


def test_a_neighbor_that_has_fallen_silent_is_not_asked():
    solo = joiner()
    solo.meet(1)
    solo.hear(1, Ping(1, 500, 1))
    counts = [asked(solo, solo.wait(1)) for _ in range(9)]
    assert counts == [[1]] * 5 + [[]] * 4
    assert not solo.machine.has_caught_up


def test_the_update_is_pulled_inspected_and_adopted_and_what_is_offered_meanwhile_ignored():
    solo = joiner()
    update = update_of(3, 1, version=500)
    assert meet_at(solo, {1: 500, 2: 500}) == [1, 2]
    assert solo.hear(1, Offer(update_of(1, 1, version=900).header.sealed)) == []
    assert solo.hear(1, Snapshots(())) == []
    effects = solo.hear(2, Snapshots((snapshot_of(update, 3),)))
    assert gets(solo, effects) == {2: [0]}
    (inspect,) = give(solo, 2, update)
    assert inspect == Inspect(update.header, (update.chunk(0),))
    assert solo.hear(2, Snapshots((snapshot_of(update, 3),))) != []  # unsolicited
    assert not solo.machine.has_caught_up
    assert solo.inspected(update) == [Deliver(update.header, True)]
    assert solo.machine.has_caught_up
    # What it has adopted is no longer new, and it can give it to others.
    solo.meet(3)
    assert refusals(solo.hear(3, Offer(update.header.sealed))) == ["replay"]
    assert solo.sent(1, solo.hear(1, GetSnapshots())) == [Snapshots((snapshot_of(update, 3),))]


def test_it_does_not_adopt_what_is_not_ahead_any_more():
    solo = joiner()
    update = update_of(1, 1, version=500)
    meet_at(solo, {1: 500})
    solo.hear(1, Snapshots((snapshot_of(update, 1),)))
    give(solo, 1, update)
    assert solo.feed(Published(update_of(0, 1, version=450))) == []
    assert solo.inspected(update) == [Deliver(update.header, False)]
    assert solo.machine.has_caught_up


def test_a_peer_that_has_not_caught_up_claims_no_version():
    solo = joiner(version=70)
    assert [m.version for m in solo.sent(1, solo.meet(1)) if isinstance(m, Ping)] == [0]
    solo.hear(1, Ping(1, 80, 1))
    solo.wait(1)
    assert [m.version for m in solo.sent(2, solo.meet(2)) if isinstance(m, Ping)] == [70]


@pytest.mark.parametrize(
    ("claims", "version"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 0, 0, 500], 500),
        ([400, 500], 500),
        ([400, 500, 2**53], 500),
        ([1, 1, 500], 1),
        ([0, 1, 2, 3, 3], 3),
    ],
)
def test_of_three_claims_the_highest_does_not_count(claims: list[int], version: int):
    assert believed_version(claims) == version


def test_one_liar_among_three_neither_misleads_a_joiner_nor_starves_it():
    for seed in range(20):
        solo = joiner(seed=seed)
        assert meet_at(solo, {1: 2**53, 2: 500, 3: 510}) == [1, 2, 3]
        effects: Effects = []
        for number, version in ((1, 2**53), (2, 500), (3, 510)):
            update = update_of(number, 1, version=version, value=number)
            effects = solo.hear(number, Snapshots((snapshot_of(update, number),)))
        assert gets(solo, effects).keys() <= {2, 3}
        assert gets(solo, effects)
    solo = joiner()
    assert meet_at(solo, {1: 2**53, 2: 50, 3: 60}) == []
    assert solo.machine.has_caught_up


def test_an_update_that_many_hold_is_taken_first_and_then_the_newest():
    solo = joiner()
    old, new = update_of(1, 1, version=500), update_of(1, 2, version=510)
    meet_at(solo, {1: 520, 2: 520})
    solo.hear(1, Snapshots((snapshot_of(new, 1), snapshot_of(old, 1))))
    effects = solo.hear(2, Snapshots((snapshot_of(old, 1),)))
    assert solo.sent(1, effects) + solo.sent(2, effects) == [Get(old.header.body.root, 0, 1)]
    solo = joiner()
    meet_at(solo, {1: 520})
    effects = solo.hear(1, Snapshots((snapshot_of(new, 1), snapshot_of(old, 1))))
    assert solo.sent(1, effects) == [Get(new.header.body.root, 0, 1)]


def test_what_is_told_must_be_signed_and_asked_for():
    solo = joiner()
    meet_at(solo, {1: 500, 2: 500})
    update = update_of(3, 1, version=500)
    false = Snapshot(record_of(3).sealed, Sealed(update.header.sealed.body, bytes(64)))
    assert refusals(solo.hear(1, Snapshots((false,)))) == ["signature"]
    assert refusals(solo.hear(1, Snapshots(()))) == ["unsolicited"]
    expired = snapshot_of(update, 3, expires_s=EPOCH_S)
    assert solo.hear(2, Snapshots((expired,))) == []
    assert asked(solo, solo.wait(1)) == [1, 2]
    assert asked(solo, solo.wait(1)) == [1, 2]
    assert solo.hear(1, Snapshots(())) == []
    assert solo.hear(1, Snapshots(())) == []
    solo.hear(1, Ping(1, 2, 1))
    solo.hear(2, Ping(1, 2, 1))
    solo.wait(1)
    assert solo.machine.has_caught_up
    assert solo.hear(2, Snapshots(())) == []  # late, and no fault


def test_an_update_that_fails_inspection_costs_its_author_and_another_is_taken():
    solo = joiner()
    bad, good = update_of(1, 1, version=510), update_of(2, 2, version=500)
    meet_at(solo, {1: 510, 2: 510})
    solo.hear(1, Snapshots((snapshot_of(bad, 1), snapshot_of(good, 2))))
    solo.hear(2, Snapshots(()))
    give(solo, 1, bad)
    assert refusals(solo.inspected(bad, "norm")) == ["norm"]
    assert not solo.machine.has_caught_up
    assert gets(solo, solo.wait(1)) == {1: [0]}
    give(solo, 1, good)
    assert solo.inspected(good) == [Deliver(good.header, True)]


def test_an_update_of_a_banned_author_is_not_adopted():
    solo = joiner(ProtocolConfig(faults_max=1))
    update = update_of(3, 1, version=500)
    meet_at(solo, {1: 500, 3: 500})
    solo.hear(3, Snapshots(()))
    solo.hear(1, Snapshots((snapshot_of(update, 3),)))
    give(solo, 1, update)
    solo.hear(3, Offer(update_of(2, 1).header.sealed))  # not its own
    assert solo.inspected(update) == []
    assert gets(solo, solo.wait(1)) == {}
    assert not solo.machine.has_caught_up


# ---- several donors ----------------------------------------------------------------------------

UPDATE = update_of(9, 1, version=500, manifest=LARGE)
HELD = Snapshots((Snapshot(record_of(9, LARGE).sealed, UPDATE.header.sealed),))
ROOT = UPDATE.header.body.root


def fetching(
    donors: int, config: ProtocolConfig | None = None
) -> tuple[Solo, dict[int, list[int]]]:
    """A joiner that has just begun, and what it has asked of whom."""
    solo = joiner(config, manifest=LARGE)
    meet_at(solo, dict.fromkeys(range(1, donors + 1), 500))
    effects: Effects = []
    for number in range(1, donors + 1):
        effects = solo.hear(number, HELD)
    return solo, gets(solo, effects)


def finish(solo: Solo, wanted: dict[int, list[int]]) -> dict[int, list[int]]:
    """Answer everything, first of the donor with the lowest number; what each has given."""
    given: dict[int, list[int]] = {}
    while wanted:
        number = min(wanted)
        index = wanted[number].pop(0)
        wanted = {peer: chunks for peer, chunks in wanted.items() if chunks}
        effects = give(solo, number, UPDATE, index)
        given.setdefault(number, []).append(index)
        for peer, chunks in gets(solo, effects).items():
            wanted.setdefault(peer, []).extend(chunks)
        if any(isinstance(effect, Inspect) for effect in effects):
            assert solo.feed(Inspected(PeerId(UPDATE.header.body.author), ROOT, None)) == [
                Deliver(UPDATE.header, True)
            ]
    return given


def test_several_donors_give_disjoint_parts():
    solo, wanted = fetching(4)
    assert sorted(map(len, wanted.values())) == [8] * 4
    given = finish(solo, wanted)
    assert sorted(index for part in given.values() for index in part) == list(range(CHUNKS))
    assert solo.machine.has_caught_up


def test_no_more_donors_than_there_are_places_and_others_are_drawn_by_other_joiners():
    drawn = set()
    for seed in range(12):
        solo = joiner(ProtocolConfig(catch_up_donors_max=2), manifest=LARGE, seed=seed)
        meet_at(solo, dict.fromkeys(range(1, 6), 500))
        effects: Effects = []
        for number in range(1, 6):
            effects = solo.hear(number, HELD)
        assert len(gets(solo, effects)) == 2
        drawn |= gets(solo, effects).keys()
        assert asked(solo, solo.wait(1)) == []  # no place for another
    assert drawn == {1, 2, 3, 4, 5}


def test_a_donor_that_is_lost_gives_back_what_it_owed_and_nothing_comes_twice():
    solo, wanted = fetching(2)
    give(solo, 1, UPDATE, wanted[1].pop(0))
    solo.lose(1)
    owed = wanted.pop(1)
    given = finish(solo, wanted)
    assert set(owed) <= set(given[2])
    assert sorted(given[2]) == [index for index in range(CHUNKS) if index != 0 or 0 in given[2]]
    assert solo.machine.has_caught_up


def test_without_a_donor_left_it_goes_on_where_it_was_with_the_next():
    solo, wanted = fetching(1)
    for index in list(wanted[1]):
        give(solo, 1, UPDATE, index)
    solo.lose(1)
    solo.meet(2)
    solo.hear(2, Ping(1, 500, 1))
    solo.wait(1)
    effects = solo.hear(2, HELD)
    assert gets(solo, effects) == {2: list(range(8, 16))}
    assert sorted(finish(solo, gets(solo, effects))[2]) == list(range(8, CHUNKS))
    assert solo.machine.has_caught_up


def test_a_new_neighbor_that_has_it_helps():
    solo, _ = fetching(1)
    assert asked(solo, solo.meet(2)) == [2]
    assert gets(solo, solo.hear(2, HELD)) == {2: list(range(8, 16))}
    solo.meet(3)
    solo.hear(3, Snapshots(()))
    solo.hear(3, Ping(1, 500, 1))
    assert asked(solo, solo.wait(1)) == [3]  # it may have it by now


def test_missing_ends_a_donor_and_a_false_chunk_is_charged():
    solo, wanted = fetching(3)
    assert solo.hear(1, Missing(bytes(32))) == []
    effects = solo.hear(1, Missing(ROOT))
    assert gets(solo, effects) == {}  # the others have spent their credit
    for index in wanted[1][:2]:
        assert give(solo, 1, UPDATE, index) == []  # was on its way
    bad = Chunk(ROOT, wanted[2][0], ())
    assert refusals(solo.hear(2, bad, UPDATE.chunk(wanted[2][0]))) == ["root"]
    given = finish(solo, {3: wanted[3]})
    assert sorted(given[3]) == list(range(CHUNKS))
    assert solo.machine.has_caught_up


def test_a_silent_donor_is_probed_then_replaced_and_after_three_times_not_asked_again():
    solo, wanted = fetching(2)
    reasons: list[str] = []
    for second in range(300):
        effects = solo.wait(1)
        reasons += refusals(effects)
        for number in asked(solo, effects):
            effects += solo.hear(number, HELD)
        for index in gets(solo, effects).get(2, []):  # only what is asked for anew
            wanted[2].append(index)
        solo.hear(1, Ping(1, 500, 1))
        solo.hear(2, Ping(1, 500, 1))
        if second % 8 == 0:  # slow, but alive
            for index in gets(solo, give(solo, 2, UPDATE, wanted[2].pop(0))).get(2, []):
                wanted[2].append(index)
    assert reasons == ["stalled"] * 3
    assert solo.machine.donors == [id_of(2, LARGE)]


def test_an_update_that_nobody_has_any_more_gives_way_to_a_newer_one():
    solo, _ = fetching(1)
    newer = update_of(9, 2, version=520, manifest=LARGE)
    told = Snapshots((Snapshot(record_of(9, LARGE).sealed, newer.header.sealed),))
    solo.hear(1, Missing(ROOT))
    roots = []
    for _ in range(10):
        for number in asked(solo, solo.wait(1)):
            solo.hear(1, Ping(1, 500, 1))
            for message in solo.sent(number, solo.hear(number, told)):
                if isinstance(message, Get):
                    roots.append(message.root)
    assert roots == [newer.header.body.root]


def test_a_pause_of_this_process_stalls_no_donor():
    solo, wanted = fetching(1)
    solo.wait(1)
    assert refusals(solo.wait(60)) == []
    assert give(solo, 1, UPDATE, wanted[1][0]) != []


# ---- the end -----------------------------------------------------------------------------------


def test_an_update_sealed_before_adoption_is_not_offered_after_it():
    solo = joiner()
    assert meet_at(solo, {1: 500}) == [1]
    assert solo.feed(Published(update_of(0, 1, version=5))) == []
    update = update_of(1, 1, version=500)
    solo.hear(1, Snapshots((snapshot_of(update, 1),)))
    give(solo, 1, update)
    assert solo.inspected(update) == [Deliver(update.header, True)]
    assert solo.feed(Published(update_of(0, 2, version=6))) == []
    fresh = update_of(0, 3, version=505)
    assert solo.sent(1, solo.feed(Published(fresh))) == [Offer(fresh.header.sealed)]
    # From then on versions may fall: mixing with others does that.
    later = update_of(0, 4, version=400)
    assert solo.sent(1, solo.feed(Published(later))) == [Offer(later.header.sealed)]


def test_a_neighbor_that_lies_about_its_version_holds_a_joiner_up_for_a_minute():
    solo = joiner()
    solo.meet(1)
    count = seconds = 0
    while not solo.machine.has_caught_up:
        solo.hear(1, Ping(1, 2**53, 1))
        count += len(asked(solo, solo.wait(1)))
        seconds += 1
        assert seconds < 100
    assert count == 60
    assert seconds == 61
    fresh = update_of(0, 1, version=5)
    assert solo.sent(1, solo.feed(Published(fresh))) == [Offer(fresh.header.sealed)]


def test_a_transfer_under_way_is_waited_for():
    solo, wanted = fetching(1)
    for index in range(8):
        for _ in range(9):
            solo.hear(1, Ping(1, 500, 1))
            solo.wait(1)
        wanted[1] += gets(solo, give(solo, 1, UPDATE, index))[1]
        assert not solo.machine.has_caught_up
    finish(solo, {1: wanted[1][8:]})
    assert solo.machine.has_caught_up


@pytest.mark.parametrize("own_version", [0, 1000])
def test_only_neighbors_far_ahead_are_asked(own_version: int):
    gap = ProtocolConfig().catch_up_gap
    for lead, peers in ((gap, []), (gap + 1, [2])):
        solo = joiner(version=own_version)
        assert meet_at(solo, {1: 1, 2: own_version + lead}) == peers
        assert solo.machine.has_caught_up == (not peers)


def test_whoever_joins_nobody_has_caught_up():
    solo = Solo()
    assert solo.machine.has_caught_up
    assert meet_at(solo, {1: 500}) == []
    assert solo.machine.donors == []
