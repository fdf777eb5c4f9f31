"""`PeerMachine` as a whole: bans, goodbyes, any history of events, determinism."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_pump import (
    MILLISECOND,
    SECOND,
    Solo,
    id_of,
    record_of,
    refusals,
    update_of,
)

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Connect, Deliver, Disconnect, Effects, Refuse, Send
from gossipjax.protocol.events import (
    DeadlinePassed,
    Event,
    Inspected,
    Misbehaved,
    PeerConnected,
    PeerLost,
    Published,
    Received,
    Stopping,
)
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.messages import (
    Chunk,
    DataPort,
    Get,
    GetPeers,
    GetSnapshots,
    Hello,
    Leave,
    Missing,
    Offer,
    Peers,
    Ping,
    Pong,
    Round,
    Sealed,
    Snapshot,
    Snapshots,
)

BANNED = "banned for a while"


def misbehave(solo: Solo, number: int, times: int) -> Effects:
    effects: Effects = []
    for _ in range(times):
        effects += solo.feed(Misbehaved(id_of(number), "malformed"))
    return effects


# ---- bans --------------------------------------------------------------------------------------


def test_a_peer_is_banned_with_its_eighth_fault():
    solo = Solo()
    solo.meet(1)
    assert misbehave(solo, 1, 7) == [Refuse(id_of(1), "malformed")] * 7
    assert misbehave(solo, 1, 1) == [
        Refuse(id_of(1), "malformed"),
        Send(id_of(1), Leave(BANNED)),
        Disconnect(id_of(1), BANNED),
    ]
    assert solo.machine.neighbors == {}


def test_a_banned_peer_is_turned_away_and_not_dialled_until_the_ban_is_over():
    solo = Solo()
    solo.meet(1)
    misbehave(solo, 1, 8)
    dialled = 0
    for _ in range(29):
        dialled += sum(isinstance(effect, Connect) for effect in solo.wait(2))
        assert solo.meet(1) == [Send(id_of(1), Leave(BANNED)), Disconnect(id_of(1), BANNED)]
    assert dialled == 0
    effects = solo.wait(2) + solo.wait(1)
    assert [e.address.endpoint for e in effects if isinstance(e, Connect)] == [
        "tcp://127.0.0.1:20001"
    ]
    assert solo.meet(1) != []
    assert solo.machine.neighbors.keys() == {id_of(1)}
    assert misbehave(solo, 1, 7) == [Refuse(id_of(1), "malformed")] * 7  # counted from zero


def test_old_faults_are_forgotten():
    solo = Solo()
    solo.meet(1)
    for _ in range(10):
        assert Disconnect(id_of(1), BANNED) not in misbehave(solo, 1, 7)
        solo.hear(1, Pong(1, 1, 1))
        solo.now_ns += 600 * SECOND


def test_a_good_update_makes_up_for_one_fault():
    solo = Solo()
    solo.meet(1)

    def deliver(sequence: int) -> None:
        for _, event in transfer(1, sequence)[1:]:
            solo.feed(event)

    misbehave(solo, 1, 2)
    for sequence in (1, 2, 3):  # the third has nothing to make up for
        deliver(sequence)
    misbehave(solo, 1, 7)
    deliver(4)
    assert misbehave(solo, 1, 1) == [Refuse(id_of(1), "malformed")]
    assert Disconnect(id_of(1), BANNED) in misbehave(solo, 1, 1)


def test_faults_survive_a_reconnection():
    solo = Solo()
    solo.meet(1)
    misbehave(solo, 1, 7)
    solo.lose(1)
    solo.meet(1)
    assert Disconnect(id_of(1), BANNED) in misbehave(solo, 1, 1)


def test_faults_of_a_peer_that_has_gone_ban_it_too():
    solo = Solo()
    solo.meet(1)
    solo.lose(1)
    assert misbehave(solo, 1, 8) == [Refuse(id_of(1), "malformed")] * 8
    assert Disconnect(id_of(1), BANNED) in solo.meet(1)


def test_several_faults_in_one_message_count_one_by_one():
    solo = Solo()
    solo.meet(1)
    false = Sealed(record_of(5).sealed.body, bytes(64))
    effects = solo.hear(1, Peers((false,) * 10))
    assert refusals(effects) == ["signature"] * 10
    assert effects.count(Disconnect(id_of(1), BANNED)) == 1


def test_an_update_of_a_peer_that_was_banned_meanwhile_is_not_delivered():
    solo = Solo()
    solo.meet(1)
    update = update_of(1, 1)
    solo.hear(1, Offer(update.header.sealed))
    solo.hear(1, Chunk(update.header.body.root, 0, ()), update.chunk(0))
    misbehave(solo, 1, 8)
    assert solo.inspected(update) == []


def test_whoever_stalls_again_and_again_is_left_alone_for_longer_but_never_banned():
    solo = Solo()
    solo.meet(1)
    believed: list[int] = []
    effects: Effects = []
    for sequence in range(1, 200):
        offered = solo.hear(1, Offer(update_of(1, sequence).header.sealed))
        believed += [solo.now_ns // SECOND] * bool(offered)
        for _ in range(5):
            solo.hear(1, Pong(1, 1, 1))
            effects += solo.wait(2)
    assert refusals(effects) == ["stalled"] * len(believed)
    assert believed == [0, 40, 90, 170, 310, 570, 830, 1090, 1350, 1610, 1870]
    assert not any(isinstance(effect, Disconnect) for effect in effects)


# ---- out of place ------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [Hello(1, False, record_of(1).sealed), Chunk(bytes(32), 0, ())])
def test_a_message_out_of_place_is_refused(message: Any):
    solo = Solo()
    solo.meet(1)
    assert refusals(solo.hear(1, message)) == ["malformed"]


@pytest.mark.parametrize("message", [Round(bytes(32), 1, ()), DataPort(1, bytes(32), bytes(32))])
def test_what_the_shell_takes_is_ignored_where_it_makes_no_sense(message: Any):
    solo = Solo()
    solo.meet(1)
    assert solo.hear(1, message) == []


def test_goodbye_to_every_neighbor():
    solo = Solo()
    solo.meet(1)
    solo.meet(2)
    assert solo.feed(Stopping()) == [
        Send(id_of(1), Leave("stopping")),
        Disconnect(id_of(1), "stopping"),
        Send(id_of(2), Leave("stopping")),
        Disconnect(id_of(2), "stopping"),
    ]


def test_the_result_of_an_inspection_that_nobody_asked_for_is_ignored():
    solo = Solo()
    assert solo.inspected(update_of(1, 1)) == []
    solo.meet(1)
    first = update_of(1, 1)
    solo.hear(1, Offer(first.header.sealed))
    solo.hear(1, Chunk(first.header.body.root, 0, ()), first.chunk(0))
    assert solo.inspected(update_of(1, 2)) == []
    assert solo.inspected(first) == [Deliver(first.header, False)]


# ---- any history -------------------------------------------------------------------------------

NUMBERS = st.integers(1, 4)
digests = st.sampled_from([update_of(n, s).header.body.root for n in (0, 1, 2) for s in (1, 2)])
counters = st.integers(0, limits.INTEGER_MAX)
sealed = st.one_of(
    st.builds(lambda n, s: record_of(n, sequence=s).sealed, st.integers(0, 8), st.integers(1, 3)),
    st.builds(
        lambda n, s: update_of(n, s, version=50 * s).header.sealed, NUMBERS, st.integers(1, 6)
    ),
    st.builds(Sealed, st.binary(max_size=40), st.binary(min_size=64, max_size=64)),
)
any_message = st.one_of(
    st.builds(Ping, counters, counters),
    st.builds(Pong, counters, counters),
    st.just(GetPeers()),
    st.builds(Peers, st.lists(sealed, max_size=4).map(tuple)),
    st.builds(Offer, sealed),
    st.just(GetSnapshots()),
    st.builds(Get, digests, st.integers(0, 3), st.integers(1, 8)),
    st.builds(Chunk, digests, st.integers(0, 3), st.lists(digests, max_size=2).map(tuple)),
    st.builds(Missing, digests),
    st.builds(Leave, st.text(max_size=5)),
    st.builds(Hello, counters, st.booleans(), sealed),
    st.builds(Snapshots, st.lists(st.builds(Snapshot, sealed, sealed), max_size=2).map(tuple)),
)
Timed = tuple[int, Event]  # after so many ns


def right_chunk(number: int, sequence: int) -> Event:
    update = update_of(number, sequence, version=50 * sequence)
    return Received(id_of(number), Chunk(update.header.body.root, 0, ()), update.chunk(0))


def inspection(number: int, sequence: int, refusal: str | None) -> Event:
    root = update_of(number, sequence, version=50 * sequence).header.body.root
    return Inspected(id_of(number), root, refusal)


events: st.SearchStrategy[Event] = st.one_of(
    st.just(DeadlinePassed()),
    st.builds(
        lambda n, s, d: PeerConnected(record_of(n, sequence=s), "tcp://10.0.0.1:1", d),
        st.integers(0, 4),
        st.integers(1, 3),
        st.booleans(),
    ),
    st.builds(PeerLost, NUMBERS.map(id_of)),
    st.builds(Received, NUMBERS.map(id_of), any_message, st.none() | st.binary(max_size=20)),
    st.builds(right_chunk, NUMBERS, st.integers(1, 6)),
    st.builds(inspection, NUMBERS, st.integers(1, 6), st.sampled_from([None, "norm"])),
    st.builds(Misbehaved, NUMBERS.map(id_of), st.sampled_from(sorted(limits.REASONS))),
    st.builds(lambda s, v: Published(update_of(0, s, version=v)), st.integers(1, 9), counters),
)
steps = st.integers(0, 5000).map(lambda milliseconds: milliseconds * MILLISECOND)


def transfer(number: int, sequence: int) -> list[Timed]:
    """A good update from its offer to its inspection."""
    update = update_of(number, sequence, version=50 * sequence)
    return [
        (0, PeerConnected(record_of(number), "tcp://10.0.0.1:1", False)),
        (0, Received(id_of(number), Offer(update.header.sealed))),
        (0, right_chunk(number, sequence)),
        (0, inspection(number, sequence, None)),
    ]


def catching_up(number: int, teller: int, sequence: int) -> list[Timed]:
    """An update of one peer that another tells of, asks to be pulled, and gives."""
    update = update_of(number, sequence, version=50 * sequence)
    snapshot = Snapshot(record_of(number).sealed, update.header.sealed)
    chunk = Chunk(update.header.body.root, 0, ())
    return [
        (0, PeerConnected(record_of(teller), "tcp://10.0.0.1:1", False)),
        (0, Received(id_of(teller), Ping(1, 50 * sequence, 1))),
        (1500 * MILLISECOND, Received(id_of(teller), Snapshots((snapshot,)))),
        (0, Received(id_of(teller), chunk, update.chunk(0))),
        (0, inspection(number, sequence, None)),
    ]


episodes: st.SearchStrategy[list[Timed]] = st.one_of(
    st.builds(lambda step, event: [(step, event)], steps, events),
    st.builds(lambda step, event: [(step, event)], steps, events),
    st.builds(transfer, NUMBERS, st.integers(1, 6)),
    st.builds(catching_up, NUMBERS, NUMBERS, st.integers(3, 6)),
)
histories = st.lists(episodes, max_size=30).map(
    lambda parts: [timed for part in parts for timed in part]
)
BUSY = ProtocolConfig(
    view_size=2,
    neighbors_max=4,
    downloads_max=1,
    faults_max=6,
    book_size=3,
    own_updates_max=1,
    received_updates_max=1,
    snapshot_uploads_max=1,
    upload_bytes_per_s=20,
)


def play(history: list[Timed], seed: int) -> list[Effects]:
    """Feed a history to a fresh machine, with its deadlines, and check what always holds.

    With an even seed it is a joiner.
    """
    bootstrap = Address("tcp://127.0.0.1:20001", record_of(1).body.transport_key)
    solo = Solo(BUSY, seed=seed, bootstrap=[] if seed % 2 else [bootstrap])
    played = [solo.first_effects]
    for wait_ns, event in history:
        end_ns = solo.now_ns + wait_ns
        while solo.machine.next_deadline_ns <= end_ns:
            solo.now_ns = max(solo.now_ns, solo.machine.next_deadline_ns)
            played.append(solo.feed(DeadlinePassed()))
            assert solo.machine.next_deadline_ns > solo.now_ns
        solo.now_ns = end_ns
        played.append(solo.feed(event))
        assert len(solo.machine.neighbors) <= BUSY.neighbors_max
        assert id_of(0) not in solo.machine.neighbors
    return played


@given(histories, st.integers(0, 2**64 - 1))
@settings(max_examples=200)
def test_no_history_of_events_raises_and_equal_ones_have_equal_effects(
    history: list[Timed], seed: int
):
    assert play(history, seed) == play(history, seed)


@given(histories, st.integers(0, 1))
@settings(max_examples=100)
def test_an_update_is_delivered_once_after_it_was_asked_for(history: list[Timed], seed: int):
    asked: set[bytes] = set()
    sequences: dict[bytes, int] = {}
    for effect in (effect for effects in play(history, seed) for effect in effects):
        match effect:
            case Send(message=Get(root=root)):
                asked.add(root)
            case Deliver():
                header = effect.header.body
                assert header.root in asked
                assert header.sequence > sequences.get(header.author, 0)
                sequences[header.author] = header.sequence
            case Refuse():
                assert effect.reason in limits.REASONS
            case _:
                pass


def test_such_histories_deliver_and_serve():
    history = [timed for sequence in (1, 2, 3) for timed in transfer(1, sequence)]
    assert adoptions(play(history, 1)) == [False] * 3
    assert adoptions(play(history, 2)) == []
    history = catching_up(1, 2, 3) + transfer(1, 4) + transfer(1, 3)
    history += [
        (0, PeerConnected(record_of(3), "tcp://10.0.0.1:1", False)),
        (0, Received(id_of(3), GetSnapshots())),
    ]
    history += [(0, Received(id_of(3), Get(update_of(1, 4, version=200).header.body.root, 0, 1)))]
    effects = play(history, 2)
    assert adoptions(effects) == [True, False]
    assert refusals([effect for step in effects for effect in step]) == ["sequence", "unsolicited"]
    sent = [effect for effect in effects[-1] if isinstance(effect, Send)]
    assert [(send.peer, type(send.message)) for send in sent] == [(id_of(3), Chunk)]


def adoptions(played: list[Effects]) -> list[bool]:
    return [effect.adopt for step in played for effect in step if isinstance(effect, Deliver)]


def test_another_seed_makes_other_choices():
    def choices(seed: int) -> list[Effects]:
        solo = Solo(ProtocolConfig(fanout=1), seed=seed)
        for number in range(1, 9):
            solo.meet(number)
        return [solo.feed(Published(update_of(0, sequence))) for sequence in range(1, 9)]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)
