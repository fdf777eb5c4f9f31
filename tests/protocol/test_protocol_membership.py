"""Joining, keep-alives, suspicion, peer exchange and coming back, with whole machines."""

import itertools
from collections.abc import Iterable

import pytest
from protocol_pump import (
    EPOCH_S,
    SECOND,
    SUITE,
    Member,
    Pump,
    Solo,
    id_of,
    machine_of,
    record_of,
    refusals,
    update_of,
)

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect, Disconnect, Effects, Forget, Learn, Send, SignRecord
from gossipjax.protocol.events import DeadlinePassed, Received, RecordSigned
from gossipjax.protocol.membership import MembershipMachine
from gossipjax.protocol.rng import SplitMix64
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import Verified
from gossipjax.wire.messages import (
    GetPeers,
    Hello,
    Leave,
    Offer,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    Sealed,
)


def everybody_knows_everybody(members: list[Member]) -> bool:
    numbers = {member.number for member in members}
    return all(member.neighbors == numbers - {member.number} for member in members)


def is_connected(members: list[Member]) -> bool:
    """Whether the graph of mutual neighbors is in one piece."""
    views = {member.number: member.neighbors for member in members}
    reached, frontier = set[int](), {members[0].number}
    while frontier:
        reached |= frontier
        frontier = {n for m in frontier for n in views[m] if n in views and m in views[n]} - reached
    return reached == set(views)


# ---- joining -----------------------------------------------------------------------------------


def test_three_joiners_find_each_other_through_the_first():
    pump = Pump()
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in (1, 2, 3))]
    assert pump.run_until(lambda: everybody_knows_everybody(members), 12)
    assert all(not member.refused for member in members)


def test_the_first_peer_dials_nobody():
    pump = Pump()
    first = pump.join(0)
    pump.run(60)
    assert first.dialled == []
    assert first.machine.has_caught_up


def test_a_joiner_that_is_alone_keeps_dialling_with_growing_waits():
    pump = Pump()
    gone = pump.join(0)
    gone.kill()
    joiner = pump.join(1, [gone])
    pump.run(300)
    assert 12 <= len(joiner.dialled) <= 25
    again = pump.join(0)
    assert again.address == gone.address
    assert pump.run_until(lambda: joiner.neighbors == {0}, 26)


def test_a_bootstrap_peer_with_another_key_at_the_same_address_is_not_believed():
    pump = Pump()
    gone = pump.join(0)
    gone.kill()
    joiner = pump.join(1, [gone])
    impostor = pump.join(7, port=20000)
    pump.run(100)
    assert joiner.neighbors == set()
    assert len(joiner.dialled) <= 12
    # It may come the other way, with its own key.
    pump.join(8, [impostor, joiner])
    assert pump.run_until(lambda: joiner.neighbors == {7, 8}, 40)


def test_a_bootstrap_peer_that_moved_is_found_through_others():
    pump = Pump()
    first = pump.join(0)
    others = [pump.join(number, [first]) for number in (1, 2)]
    pump.run(15)
    first.kill()
    pump.run(20)
    assert [member.neighbors for member in others] == [{2}, {1}]
    again = pump.join(0, [others[0]], port=30000, sequence=2)
    assert pump.run_until(lambda: everybody_knows_everybody([again, *others]), 12)


def test_a_peer_remembers_others_from_an_earlier_life():
    pump = Pump()
    first = pump.join(0)
    again = pump.join(1, book=[record_of(0)])
    assert pump.run_until(lambda: again.neighbors == {0}, 1)
    assert first.neighbors == {1}
    assert not again.machine.has_caught_up


def test_a_peer_never_dials_itself():
    own = record_of(0)
    address = Address(own.body.addresses[0], own.body.transport_key)
    solo = Solo(bootstrap=[address], book=[own])
    assert solo.first_effects + solo.wait(30) == []
    assert solo.machine.has_caught_up


def test_a_stranger_that_claims_the_own_transport_key_is_never_dialled():
    own_key = record_of(0).body.transport_key
    solo = Solo(book=[record_of(5, transport_key=own_key), record_of(6)])
    dialled = [e.address for e in solo.first_effects + solo.wait(60) if isinstance(e, Connect)]
    assert {address.endpoint for address in dialled} == {"tcp://127.0.0.1:20006"}


def test_a_second_process_with_the_same_key_is_turned_away():
    solo = Solo()
    assert solo.meet(0) == [Disconnect(id_of(0), "this is the peer itself")]
    assert solo.machine.neighbors == {}


def test_a_peer_without_an_address_is_never_dialled():
    solo = Solo(book=[record_of(1, port=0)])
    assert solo.first_effects + solo.wait(100) == []
    assert solo.meet(1, port=0)
    assert solo.machine.neighbors.keys() == {id_of(1)}


# ---- two connections, restarts -----------------------------------------------------------------


def test_both_dialling_at_once_makes_one_neighbor():
    pump = Pump()
    one, two = pump.join(1, book=[record_of(2)]), pump.join(2, book=[record_of(1)])
    pump.run(10)
    assert (len(one.dialled), len(two.dialled)) == (1, 1)
    assert (one.neighbors, two.neighbors) == ({2}, {1})
    assert len(one.links[two.id]) == 2
    two.stop()
    pump.run(1)
    assert one.neighbors == set()
    assert one.links == {}


def test_a_second_connection_keeps_what_is_known_of_a_neighbor():
    solo = Solo()
    solo.meet(1)
    solo.hear(1, Ping(5, 77, 1))
    assert solo.meet(1) == []
    assert solo.machine.neighbors[id_of(1)].version == 77


def test_a_restarted_peer_begins_anew_at_its_new_address():
    pump = Pump()
    first = pump.join(0)
    second = pump.join(1, [first])
    pump.run(5)
    second.kill()
    again = pump.join(1, [first], port=30001, sequence=2)
    assert pump.run_until(lambda: first.machine.neighbors[again.id].record == again.record, 3)
    assert again.neighbors == {0}
    third = pump.join(2, [first])
    assert pump.run_until(lambda: third.neighbors == {0, 1}, 12)
    assert [address for address in third.dialled if address == second.address] == []
    assert first.refused == {}


def test_an_older_record_replaces_no_newer_one():
    solo = Solo()
    solo.meet(1, sequence=5, port=5)
    assert solo.meet(1, sequence=4, port=4) == []
    assert solo.machine.neighbors[id_of(1)].record.body.sequence == 5
    solo.lose(1)
    assert [e.address.endpoint for e in solo.wait(2) if isinstance(e, Connect)] == [
        "tcp://127.0.0.1:5"
    ]


# ---- keep-alives -------------------------------------------------------------------------------


def test_neighbors_learn_each_others_versions():
    pump = Pump()
    first = pump.join(0, version=3)
    second = pump.join(1, [first], version=50)
    pump.run(1)
    assert first.machine.neighbors[second.id].version == 0  # it has not caught up
    pump.run(4)
    assert first.machine.neighbors[second.id].version == 50
    assert second.machine.neighbors[first.id].version == 3


def test_a_silent_neighbor_is_suspected_then_dropped_then_dialled_again():
    pump = Pump()
    first, second = pump.join(0), pump.join(1, book=[record_of(0)])
    pump.run(5)
    second.kill()
    neighbor = first.machine.neighbors[second.id]
    assert pump.run_until(lambda: neighbor.suspected, 9)
    assert first.neighbors == {1}
    assert pump.run_until(lambda: first.neighbors == set(), 11)
    assert second.address not in first.dialled
    pump.run(2)
    assert second.address in first.dialled


def test_a_suspected_neighbor_that_speaks_is_trusted_again():
    solo = Solo()
    solo.meet(1)
    for _ in range(4):
        solo.wait(2)
    neighbor = solo.machine.neighbors[id_of(1)]
    assert neighbor.suspected
    solo.hear(1, Pong(1, 2, 1))
    assert not neighbor.suspected


def test_a_pause_of_this_process_is_not_the_silence_of_others():
    pump = Pump(ProtocolConfig(dead_after_ns=60 * SECOND))
    first = pump.join(0)
    patient = [pump.join(number, [first]) for number in (1, 2)]
    pump.run(15)
    hasty = pump.join(3, [first], config=ProtocolConfig())
    pump.run(15)
    hasty.pause()
    pump.run(20)
    hasty.resume()
    pump.run(1)
    assert hasty.neighbors == {0, 1, 2}
    assert hasty.disconnected == []
    # Those who are really gone are still found out.
    patient[0].kill()
    pump.run(18)
    assert hasty.neighbors == {0, 2}


def test_a_neighbor_that_has_just_been_heard_is_not_probed():
    solo = Solo()
    solo.meet(1)
    solo.meet(2)
    solo.now_ns = int(1.5 * SECOND)
    solo.hear(1, Ping(5, 0, 1))
    effects = solo.wait(0.5)
    assert not any(isinstance(message, Ping) for message in solo.sent(1, effects))
    assert any(isinstance(message, Ping) for message in solo.sent(2, effects))


def test_a_silent_neighbor_is_given_as_long_after_a_pause_as_it_had_before():
    solo = Solo()
    solo.meet(1)
    for _ in range(5):
        solo.wait(2)
    assert solo.wait(40) != []  # 12 s of silence, and 38 s in which nobody listened
    assert solo.machine.neighbors.keys() == {id_of(1)}
    solo.wait(2)
    assert solo.machine.neighbors.keys() == {id_of(1)}
    assert Disconnect(id_of(1), "silent for 16.0 s") in solo.wait(2)


def test_a_keep_alive_that_is_a_little_late_excuses_nobody():
    solo = Solo()
    solo.meet(1)
    effects = []
    for _ in range(5):
        effects += solo.wait(3.5)
    assert Disconnect(id_of(1), "silent for 17.5 s") in effects


# ---- leaving -----------------------------------------------------------------------------------


def test_whoever_leaves_says_so_and_is_left_alone_for_a_while():
    pump = Pump()
    first = pump.join(0)
    second = pump.join(1, [first])
    pump.run(5)
    second.stop()
    pump.run(0.1)
    assert first.neighbors == set()
    pump.run(11)
    assert first.dialled == []
    pump.run(2)
    assert first.dialled == [second.address]


def test_a_lost_connection_is_made_again_soon():
    pump = Pump()
    first = pump.join(0)
    second = pump.join(1, [first])
    pump.run(5)
    (link,) = first.links[second.id]
    first.lose(link)
    second.lose(link)
    assert first.neighbors == second.neighbors == set()
    assert pump.run_until(lambda: first.neighbors == {1}, 2)


def test_losing_a_peer_that_was_no_neighbor_changes_nothing():
    solo = Solo()
    assert solo.lose(1) == []
    assert [e for e in solo.wait(60) if isinstance(e, Connect)] == []


def test_a_message_of_a_peer_that_is_no_neighbor_ends_the_connection():
    solo = Solo()
    assert solo.hear(1, Ping(1, 1, 1)) == [Disconnect(id_of(1), "not a neighbor")]


# ---- full views --------------------------------------------------------------------------------

TINY = ProtocolConfig(view_size=4, neighbors_max=8, renew_interval_ns=10 * SECOND)


def test_many_peers_with_small_views_become_one_network_through_one_bootstrap_peer():
    pump = Pump(TINY)
    first = pump.join(0)
    members = [first]
    for number in range(1, 30):
        members.append(pump.join(number, [first]))
        pump.run(0.2)
    pump.run(30)
    assert is_connected(members)
    sizes = [len(member.neighbors) for member in members]
    assert min(sizes) >= 2
    assert max(sizes) <= TINY.neighbors_max


def meet_until_turned_away(solo: Solo, numbers: Iterable[int]) -> tuple[int, Effects]:
    """The first newcomer that finds no room, and what it is told."""
    for number in numbers:
        effects = solo.meet(number)
        if id_of(number) not in solo.machine.neighbors:
            return number, effects
    raise AssertionError("there is room for everybody")


def test_a_full_peer_tells_of_others_before_it_sends_somebody_away():
    """Six guests have room, and two slots are kept for those whom the peer chooses itself."""
    solo = Solo(TINY)
    number, effects = meet_until_turned_away(solo, range(1, 40))
    peers, leave = solo.sent(number, effects)
    assert isinstance(peers, Peers)
    assert len(peers.records) >= 6
    assert leave == Leave("no room for another neighbor")
    assert effects[-1] == Disconnect(id_of(number), "no room for another neighbor")
    assert len(solo.machine.neighbors) == 6
    stayed = next(n for n in range(1, 40) if id_of(n) in solo.machine.neighbors)
    assert solo.meet(stayed) == []  # a neighbor may connect again
    solo.wait(2)  # two of them get slots
    assert solo.meet(50)
    assert solo.meet(51)
    assert len(solo.machine.neighbors) == 8


def test_a_guest_that_makes_room_for_a_better_one_is_told_nothing_unasked():
    solo = Solo(TINY)
    for number in range(1, 7):
        solo.meet(number)
    for number in range(7, 40):
        before = set(solo.machine.neighbors)
        effects = solo.meet(number)
        gone = [effect.peer for effect in effects if isinstance(effect, Disconnect)]
        assert len(gone) == 1
        if gone[0] in before:
            told = [e.message for e in effects if isinstance(e, Send) and e.peer == gone[0]]
            assert told == [Leave("no room for another neighbor")]
            return
    raise AssertionError("no newcomer was better than a guest")


def test_who_comes_again_and_again_wins_no_place():
    """Which guests stay follows from a secret hash, not from who was last."""
    solo = Solo(TINY)
    for _ in range(5):
        for number in range(1, 20):
            solo.meet(number)
    first = set(solo.machine.neighbors)
    for number in (*range(1, 20), *range(1, 20)):
        solo.meet(number)
    assert set(solo.machine.neighbors) == first


def test_guests_of_one_network_give_way_to_one_of_another():
    solo = Solo(TINY)
    for number in range(1, 60):
        solo.meet(number, host="203.0.113.7")
    for number, host in ((60, "192.0.2.1"), (61, "198.51.100.1")):
        solo.meet(number, host=host)
        assert id_of(number) in solo.machine.neighbors
    assert len(solo.machine.neighbors) == 6


def test_a_full_view_exchanges_one_chosen_neighbor_now_and_then():
    solo = Solo(TINY, book=[record_of(number) for number in range(1, 40)])
    chosen: list[frozenset[int]] = []
    for _ in range(60):
        for effect in solo.wait(2):
            if isinstance(effect, Connect):
                number = int(effect.address.endpoint.rpartition(":")[2]) - 20000
                solo.meet(number, dialled=True)
        for peer in solo.machine.neighbors:
            solo.feed(Received(peer, Pong(1, 1, 1)))
        numbers = [number for number in range(1, 40) if id_of(number) in solo.machine.neighbors]
        chosen.append(frozenset(numbers))
    assert {len(numbers) for numbers in chosen[5:]} == {2}
    changes = sum(before != after for before, after in itertools.pairwise(chosen[5:]))
    assert 8 <= changes <= 22  # about one in 5 to 10 s of 110 s
    assert all(len(before & after) >= 1 for before, after in itertools.pairwise(chosen[5:]))


def test_two_networks_with_full_views_merge_once_somebody_knows_both():
    pump = Pump(TINY)
    groups: list[list[Member]] = []
    for start in (0, 10):
        first = pump.join(start)
        groups.append([first, *(pump.join(start + i, [first]) for i in range(1, 7))])
    pump.run(30)
    assert all(is_connected(group) for group in groups)
    assert not is_connected(groups[0] + groups[1])
    pump.join(20, [groups[0][0], groups[1][0]])
    assert pump.run_until(lambda: is_connected(groups[0] + groups[1]), 120)


def test_the_parts_of_a_split_network_find_each_other_again():
    pump = Pump(ProtocolConfig(view_size=4, renew_interval_ns=10 * SECOND))
    first = pump.join(0)
    members = [first, *(pump.join(number, [first]) for number in range(1, 12))]
    pump.run(30)
    pump.parts = [set(range(6)), set(range(6, 12))]
    pump.run(120)
    assert all(
        (neighbor < 6) == (member.number < 6) for member in members for neighbor in member.neighbors
    )
    pump.parts = None
    assert pump.run_until(lambda: is_connected(members), 60)


# ---- peer exchange -----------------------------------------------------------------------------


def test_a_few_chosen_neighbors_are_told_of_and_a_sample_of_everybody_known():
    book = {record_of(number).body.transport_key: number for number in range(10, 40)}
    solo = Solo(book=[record_of(number) for number in book.values()])
    dialled = [e.address.transport_key for e in solo.first_effects if isinstance(e, Connect)]
    dialled += [e.address.transport_key for e in solo.wait(1) if isinstance(e, Connect)]
    for key in dialled:
        solo.meet(book[key], dialled=True)
    for number in range(1, 10):
        solo.meet(number)
    chosen = {record_of(book[key]).sealed for key in dialled}
    told: set[Sealed] = set()
    for _ in range(10):
        (peers,) = solo.sent(1, solo.hear(1, GetPeers()))
        assert isinstance(peers, Peers)
        assert len(set(peers.records)) == limits.RECORDS_PER_MESSAGE_MAX
        assert chosen >= set(peers.records[:4])
        told |= set(peers.records)
    assert told == {record_of(number).sealed for number in (*range(2, 10), *range(10, 40))}


def test_whoever_knows_nobody_says_so():
    solo = Solo()
    solo.meet(1)
    assert solo.sent(1, solo.hear(1, GetPeers())) == [Peers(())]


def test_the_newest_record_of_a_neighbor_is_passed_on():
    solo = Solo()
    solo.meet(1)
    solo.meet(2, sequence=1)
    newer = record_of(2, sequence=3, port=3)
    solo.hear(1, Peers((newer.sealed,)))
    assert solo.sent(1, solo.hear(1, GetPeers())) == [Peers((newer.sealed,))]


def test_a_flood_of_strangers_does_not_make_a_peer_forget_its_neighbors():
    solo = Solo(ProtocolConfig(book_size=64))
    solo.meet(1)
    forgotten = 0
    for start in range(100, 300, 10):
        solo.meet(2, sequence=start, host="203.0.113.7")
        told = tuple(record_of(start + i, host=f"10.{start + i - 100}.0.1") for i in range(10))
        effects = solo.hear(2, Peers(tuple(record.sealed for record in told)))
        forgotten += sum(isinstance(effect, Forget) for effect in effects)
    assert forgotten == 200 - 4  # those told from one network: a sixteenth of the book
    solo.lose(1)
    dialled = {e.address for e in solo.wait(1) if isinstance(e, Connect)}
    assert Address("tcp://127.0.0.1:20001", record_of(1).body.transport_key) in dialled


def test_records_are_learned_once_and_dialled():
    solo = Solo()
    solo.meet(1)
    strangers = (record_of(5), record_of(6, port=0), record_of(0, sequence=9))
    effects = solo.hear(1, Peers(tuple(record.sealed for record in strangers)))
    assert effects == [Learn(record_of(5)), Learn(record_of(6, port=0))]
    assert [e.address.endpoint for e in solo.wait(0.25) if isinstance(e, Connect)] == [
        "tcp://127.0.0.1:20005"
    ]
    solo.meet(1, sequence=2)
    assert solo.hear(1, Peers(tuple(record.sealed for record in strangers))) == []


def test_a_record_in_the_book_is_not_verified_again():
    verified = []

    def verify(key: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
        verified.append(message)
        return SUITE.verify(key, domain, message, signature)

    membership = MembershipMachine(
        ProtocolConfig(),
        record_of(0),
        SUITE._replace(verify=verify),
        SplitMix64(0),
        secret=b"",
        epoch_s=EPOCH_S,
    )
    membership.connected(
        record_of(1), version=0, now_ns=0, endpoint="tcp://127.0.0.1:1", dialled=False
    )
    old, new = record_of(5).sealed, record_of(5, sequence=2).sealed
    for sealed in (old, new, old, new):
        membership.neighbors[id_of(1)].answers_due = 1
        membership.on_peers(id_of(1), Peers((sealed,)), now_ns=0)
    assert verified == [old.body, new.body]


@pytest.mark.parametrize(
    ("reason", "sealed"),
    [
        ("signature", Sealed(record_of(5).sealed.body, bytes(64))),
        ("protocol", record_of(5, run=bytes(32)).sealed),
        ("malformed", Sealed(b"", bytes(64))),
    ],
)
def test_a_false_record_is_charged_to_whoever_sent_it(reason: str, sealed: Sealed):
    solo = Solo()
    solo.meet(1)
    effects = solo.hear(1, Peers((sealed, record_of(6).sealed)))
    assert refusals(effects) == [reason]
    assert Learn(record_of(6)) in effects


def test_an_expired_record_is_dropped_without_a_charge():
    solo = Solo()
    solo.meet(1)
    solo.wait(5)
    assert solo.hear(1, Peers((record_of(5, expires_s=EPOCH_S + 5).sealed,))) == []
    assert solo.hear(1, Peers((record_of(6, expires_s=EPOCH_S + 6).sealed,))) != []


def test_peer_records_that_nobody_asked_for_are_refused():
    """One answer was asked for, and one comes unasked from a newcomer that has no room."""
    solo = Solo()
    solo.meet(1)
    assert solo.hear(1, Peers(())) == []
    assert solo.hear(1, Peers(())) == []
    effects = solo.hear(1, Peers((record_of(5).sealed,)))
    assert refusals(effects) == ["unsolicited"]
    assert not any(isinstance(effect, Learn) for effect in effects)


def test_a_random_neighbor_is_asked_for_others_every_ten_seconds():
    solo = Solo()
    for number in (1, 2, 3):
        solo.meet(number)
    asked = 0
    for _ in range(50):
        effects = solo.wait(2)
        for number in (1, 2, 3):
            asked += GetPeers() in solo.sent(number, effects)
            solo.hear(number, Pong(1, 1, 1))
    assert asked == 10


def test_an_offer_tells_how_far_its_author_is():
    """A link that is busy with offers is never probed, and its version must not grow old."""
    solo = Solo()
    solo.meet(1)
    solo.hear(1, Pong(1, 5, 1))
    solo.hear(1, Offer(update_of(1, 1, version=250).header.sealed))
    assert solo.machine.neighbors[id_of(1)].version == 250


# ---- the own record ----------------------------------------------------------------------------

DAY = 24 * 3600


def test_a_new_own_record_is_asked_for_at_half_time_and_until_it_comes():
    machine = machine_of(0, record=record_of(0, expires_s=EPOCH_S + 30 * DAY))
    asked: list[float] = []
    for hours in range(0, 30 * 24, 6):
        effects = machine.handle(DeadlinePassed(), hours * 3600 * SECOND)
        asked += [hours / 24 for effect in effects if isinstance(effect, SignRecord)]
    assert asked[:3] == [15, 22.5, 26.25]
    newer = record_of(0, sequence=2, expires_s=EPOCH_S + 60 * DAY)
    machine.handle(RecordSigned(newer), 30 * DAY * SECOND)
    for day, expected in ((44, []), (45, [SignRecord()])):
        effects = machine.handle(DeadlinePassed(), day * DAY * SECOND)
        assert [effect for effect in effects if isinstance(effect, SignRecord)] == expected


def test_a_new_own_record_is_told_to_the_neighbors_who_tell_others():
    pump = Pump()
    first = pump.join(0)
    second = pump.join(1, [first])
    pump.run(3)
    newer = record_of(1, sequence=2, port=30001)
    second.feed(RecordSigned(newer))
    pump.run(1)
    assert first.machine.neighbors[second.id].record == newer
    assert Learn(newer) in first.trace
    third = pump.join(2, [first])
    pump.run(1)
    assert Address("tcp://127.0.0.1:30001", newer.body.transport_key) in third.dialled
    assert not first.refused


@pytest.mark.parametrize(
    "record",
    [
        record_of(1),
        record_of(2, sequence=2),
        record_of(1, sequence=2, transport_key=bytes(32)),
    ],
)
def test_a_greeting_in_mid_conversation_must_bring_a_newer_record(record: Verified[PeerRecord]):
    solo = Solo()
    solo.meet(1)
    effects = solo.hear(1, Hello(limits.PROTOCOL_VERSION, False, record.sealed))
    assert refusals(effects) == ["malformed"]
    assert solo.machine.neighbors[id_of(1)].record == record_of(1)


def test_a_record_that_has_expired_is_neither_told_nor_dialled():
    solo = Solo(book=[record_of(5, expires_s=EPOCH_S + 30)])
    solo.meet(1)
    (peers,) = solo.sent(1, solo.hear(1, GetPeers()))
    assert peers == Peers((record_of(5, expires_s=EPOCH_S + 30).sealed,))
    dialled = 0
    for _ in range(30):
        solo.hear(1, Pong(1, 1, 1))
        dialled += sum(isinstance(effect, Connect) for effect in solo.wait(2))
    assert dialled >= 2
    assert solo.sent(1, solo.hear(1, GetPeers())) == [Peers(())]
    for _ in range(30):
        solo.hear(1, Pong(1, 1, 1))
        assert not any(isinstance(effect, Connect) for effect in solo.wait(2))


# ---- whom to exchange with ---------------------------------------------------------------------


def test_partners_are_chosen_neighbors_two_times_in_three():
    solo = Solo(TINY)
    for number in range(1, 7):
        solo.meet(number)
    solo.wait(2)
    membership = solo.machine._membership
    chosen = [peer for peer in solo.machine.neighbors if membership.is_chosen(peer)]
    assert len(chosen) == 2
    drawn = [membership.partners(1)[0] for _ in range(900)]
    assert 540 < sum(peer in chosen for peer in drawn) < 660
    assert set(drawn) == set(solo.machine.neighbors)
    assert sorted(membership.partners(99)) == sorted(solo.machine.neighbors)


def test_where_one_kind_of_partner_is_missing_the_other_takes_its_turn():
    solo = Solo()
    assert solo.machine._membership.partners(3) == []
    solo.meet(1)
    assert solo.machine._membership.partners(3) == [id_of(1)]
    solo.wait(2)
    assert solo.machine._membership.is_chosen(id_of(1))
    assert solo.machine._membership.partners(3) == [id_of(1)]


# ---- false claims ------------------------------------------------------------------------------


def test_who_is_found_elsewhere_than_it_claims_gets_no_slot_by_the_claim():
    """Its first address is in a rare network and answers to nobody; the second one does."""
    solo = Solo()
    claimed = record_of(5, host="192.0.2.1")
    solo.meet(1)
    solo.hear(1, Peers((claimed.sealed,)))
    (connect,) = [effect for effect in solo.wait(1) if isinstance(effect, Connect)]
    assert connect.address.endpoint.startswith("tcp://192.0.2.1")
    solo.meet(5, host="192.0.2.1", endpoint="tcp://203.0.113.9:1")
    assert not solo.machine._membership.is_chosen(id_of(5))
    assert solo.machine.neighbors[id_of(5)].network == bytes([203, 0])


def test_a_silent_neighbor_is_looked_for_even_with_a_full_view():
    solo = Solo(TINY)
    for number in range(1, 6):
        solo.meet(number, host=f"10.{number}.0.1")
    dialled: set[str] = set()
    for _ in range(60):
        effects = solo.wait(2)
        dialled |= {e.address.endpoint for e in effects if isinstance(e, Connect)}
        for number in range(1, 5):
            solo.hear(number, Pong(1, 1, 1))
    assert len(solo.machine.neighbors) == 4
    assert record_of(5, host="10.5.0.1").body.addresses[0] in dialled
