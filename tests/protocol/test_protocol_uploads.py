"""What a peer serves, to whom, and how fast."""

from collections.abc import Sequence
from typing import Any

import pytest
from protocol_pump import SECOND, Solo, record_of, refusals, update_of

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import Effect, Send
from gossipjax.protocol.events import Published
from gossipjax.wire.limits import CHUNK_BYTES
from gossipjax.wire.messages import (
    Chunk,
    Get,
    GetSnapshots,
    Missing,
    Offer,
    Snapshot,
    Snapshots,
)
from gossipjax.wire.tensors import manifest_of

CHUNKS = 20
LARGE = manifest_of({"x": ((CHUNKS, CHUNK_BYTES), "uint8")})
UPDATE = update_of(0, 1, manifest=LARGE)
ROOT = UPDATE.header.body.root
MIB_PER_S = CHUNK_BYTES


def server(peers: int, **config: Any) -> Solo:
    """A peer that has offered an update to some neighbors, after a rest."""
    config = {"fanout": peers, "upload_bytes_per_s": MIB_PER_S, **config}
    solo = Solo(ProtocolConfig(**config), manifest=LARGE)
    for number in range(1, peers + 1):
        solo.meet(number)
    solo.feed(Published(UPDATE))
    return solo


def chunks(solo: Solo, effects: Sequence[Effect]) -> list[tuple[int, int]]:
    """Who gets which chunk, in order."""
    numbers = {record.body.sign_key: n for n in range(9) if (record := record_of(n, LARGE))}
    peers = {peer: numbers[n.record.body.sign_key] for peer, n in solo.machine.neighbors.items()}
    return [
        (peers[effect.peer], effect.message.index)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, Chunk)
    ]


def drain(solo: Solo, seconds: int) -> list[tuple[int, int]]:
    """What leaves while time passes; the neighbors stay alive."""
    left: list[tuple[int, int]] = []
    for _ in range(4 * seconds):
        for number in range(1, 9):
            solo.hear(number, Missing(bytes(32)))
        left += chunks(solo, solo.wait(0.25))
    return left


def test_a_credit_leaves_at_once_and_the_rest_at_the_rate():
    solo = server(2)
    assert len(chunks(solo, solo.hear(1, Get(ROOT, 0, 8)))) == 8
    assert chunks(solo, solo.hear(2, Get(ROOT, 0, 8))) == [(2, 0)]
    assert solo.machine.next_deadline_ns <= SECOND
    assert drain(solo, 4) == [(2, 1), (2, 2), (2, 3), (2, 4)]
    assert drain(solo, 4) == [(2, 5), (2, 6), (2, 7)]
    # After a rest as long as the burst the whole credit may leave again.
    drain(solo, 8)
    assert len(chunks(solo, solo.hear(1, Get(ROOT, 8, 8)))) == 8


def test_a_greedy_neighbor_gets_the_share_of_one():
    solo = server(3)
    solo.hear(1, Get(ROOT, 0, 8))
    solo.hear(1, Get(ROOT, 0, 8))
    solo.hear(1, Get(ROOT, 8, 8))
    for number in (2, 3):
        solo.hear(number, Get(ROOT, 0, 4))
    served = [number for number, _ in drain(solo, 12)]
    assert served.count(2) == served.count(3) == 4
    assert served[:9] in ([1, 2, 3] * 3, [2, 1, 3] * 3, [1, 1, 2, 3, 1, 2, 3, 1, 2])


def test_more_than_two_credits_in_line_are_refused():
    solo = server(1)
    assert [refusals(solo.hear(1, Get(ROOT, 0, 8))) for _ in range(4)] == [[], [], [], ["credit"]]


def test_who_asks_again_and_again_is_refused_until_the_next_update():
    solo = server(1, upload_bytes_per_s=1 << 40)
    reasons: list[str] = []
    for _ in range(4 * CHUNKS // 4 + 4 + 1):
        solo.now_ns += SECOND
        reasons += refusals(solo.hear(1, Get(ROOT, 0, 4)))
    assert reasons == ["quota"]
    solo.feed(Published(update_of(0, 1, manifest=LARGE)))  # training has changed nothing
    assert len(chunks(solo, solo.hear(1, Get(ROOT, 0, 4)))) == 4


def test_what_a_lost_peer_has_asked_for_does_not_leave():
    solo = server(2)
    solo.hear(1, Get(ROOT, 0, 8))
    solo.hear(1, Get(ROOT, 8, 8))
    solo.hear(2, Get(ROOT, 0, 1))
    solo.lose(1)
    assert drain(solo, 4) == [(2, 0)]


def test_an_update_that_gives_way_while_somebody_waits_for_it_is_missing():
    solo = server(1, own_updates_max=1)
    solo.hear(1, Get(ROOT, 0, 8))
    solo.hear(1, Get(ROOT, 8, 8))
    solo.feed(Published(update_of(0, 2, manifest=LARGE)))
    solo.hear(1, Missing(bytes(32)))
    assert Missing(ROOT) in solo.sent(1, solo.wait(1))
    assert drain(solo, 10) == []


# ---- joiners -----------------------------------------------------------------------------------


def donor(**config: Any) -> Solo:
    """A peer whose update was offered to nobody, and its neighbors."""
    config = {"upload_bytes_per_s": 1 << 40, **config}
    solo = Solo(ProtocolConfig(**config), manifest=LARGE)
    solo.feed(Published(UPDATE))
    for number in range(1, 6):
        solo.meet(number)
    return solo


def test_joiners_are_told_of_the_newest_own_update_and_of_those_received():
    solo = donor(received_updates_max=2)
    own = Snapshot(record_of(0, LARGE).sealed, UPDATE.header.sealed)
    assert solo.sent(1, solo.hear(1, GetSnapshots())) == [Snapshots((own,))]
    for number in (1, 2, 3):
        update = update_of(number, 4 + number, manifest=LARGE)
        solo.hear(number, Offer(update.header.sealed))
        for index in range(CHUNKS):
            chunk = Chunk(update.header.body.root, index, update.tree.proof(index))
            solo.hear(number, chunk, update.chunk(index))
        solo.inspected(update)
    (told,) = solo.sent(4, solo.hear(4, GetSnapshots()))
    received = [
        Snapshot(record_of(n, LARGE).sealed, update_of(n, 4 + n, manifest=LARGE).header.sealed)
        for n in (3, 2)
    ]
    assert told == Snapshots((own, *received))
    update = update_of(2, 6, manifest=LARGE)
    effects = solo.hear(4, Get(update.header.body.root, 5, 1))
    assert solo.sent(4, effects) == [
        Chunk(update.header.body.root, 5, update.tree.proof(5)),
    ]
    assert isinstance(effects[0], Send)
    assert effects[0].data == update.chunk(5)
    gone = update_of(1, 5, manifest=LARGE).header.body.root
    assert solo.sent(4, solo.hear(4, Get(gone, 0, 1))) == [Missing(gone)]


def test_one_that_has_nothing_says_so():
    solo = Solo()
    solo.meet(1)
    assert solo.sent(1, solo.hear(1, GetSnapshots())) == [Snapshots(())]


@pytest.mark.parametrize("way", ["idle", "done", "lost"])
def test_only_so_many_joiners_have_a_place(way: str):
    solo = donor(snapshot_uploads_max=2)
    get = Get(ROOT, 0, 8)
    for number in (1, 2, 1):
        solo.now_ns += SECOND // 1000
        assert len(chunks(solo, solo.hear(number, get))) == 8
    assert solo.sent(3, solo.hear(3, get)) == [Missing(ROOT)]
    if way == "idle":
        solo.now_ns += 4 * SECOND
    elif way == "lost":
        solo.lose(2)
    else:
        solo.hear(2, Get(ROOT, 8, 8))
        solo.hear(2, Get(ROOT, 16, 4))
    solo.now_ns += SECOND
    assert (3, 0) in chunks(solo, solo.hear(3, get))
    if way != "idle":
        assert solo.sent(4, solo.hear(4, get)) == [Missing(ROOT)]


def test_who_was_offered_an_update_needs_no_place():
    solo = donor(snapshot_uploads_max=1, fanout=8)
    solo.hear(1, Get(ROOT, 0, 1))
    newer = update_of(0, 2, manifest=LARGE)
    solo.feed(Published(newer))
    for number in (2, 3, 4):
        solo.now_ns += SECOND
        assert len(chunks(solo, solo.hear(number, Get(newer.header.body.root, 0, 8)))) == 8
