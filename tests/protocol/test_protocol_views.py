"""Ranks, slots and guests: what pushing and making up peers gains."""

from collections import Counter

from gossipjax.protocol.allowance import Allowance
from gossipjax.protocol.views import RankedView, best
from gossipjax.types import PeerId

SECOND = 1_000_000_000


def keys(prefix: bytes, count: int) -> list[bytes]:
    return [prefix + number.to_bytes(4, "big") for number in range(count)]


def test_a_slot_goes_to_networks_evenly_however_many_peers_are_in_one():
    honest = {key: key[:5] for key in keys(b"h", 30)}
    sybils = dict.fromkeys(keys(b"s", 300), b"one network")
    seeds = [number.to_bytes(16, "big") for number in range(2000)]
    won = sum(best(seed, {**honest, **sybils}) in sybils for seed in seeds)
    assert 0.6 * 2000 / 31 < won < 1.5 * 2000 / 31


def test_within_a_network_peers_are_drawn_evenly():
    peers = dict.fromkeys(keys(b"p", 4), b"here")
    seeds = [number.to_bytes(16, "big") for number in range(2000)]
    won = Counter(best(seed, peers) for seed in seeds)
    assert len(won) == 4
    assert min(won.values()) > 400


def test_the_order_of_candidates_and_repetition_change_nothing():
    peers = {key: key[1:3] for key in keys(b"p", 50)}
    backwards = dict(reversed(peers.items()))
    assert best(b"seed", peers) == best(b"seed", backwards)


def test_who_is_ranked_lower_leaving_changes_no_slot():
    peers = {key: key for key in keys(b"p", 50)}
    first = best(b"seed", peers)
    for key in list(peers):
        if key != first:
            del peers[key]
            assert best(b"seed", peers) == first


def test_slots_are_taken_given_up_and_reseeded_in_turn():
    view = RankedView(3, b"secret")
    one, two = map(PeerId, keys(b"p", 2))
    slot = view.slots[0]
    assert view.occupy(slot, one) is None
    assert view.occupy(slot, one) is None
    assert view.occupy(slot, two) == one
    assert list(view.chosen) == [two]
    seeds = [s.seed for s in view.slots]
    for index in (0, 1, 2, 0):
        view.reseed_next()
        assert view.slots[index].is_open
        assert view.slots[index].seed != seeds[index]
        assert [s.seed for s in view.slots] != seeds
    view.vacate(two)
    view.vacate(one)
    assert view.chosen == {}
    assert slot.peer is None


def test_other_secrets_are_other_ranks():
    assert RankedView(1, b"a").slots[0].seed != RankedView(1, b"b").slots[0].seed


def test_of_guests_the_second_of_a_network_gives_way_before_the_first_of_any():
    view = RankedView(2, b"secret")
    crowd = {PeerId(key): b"crowded" for key in keys(b"s", 5)}
    guests = {**{PeerId(key): key for key in keys(b"h", 9)}, **crowd}
    for _ in range(4):
        worst = view.worst_guest(guests)
        assert worst in crowd
        del guests[worst], crowd[worst]
    backwards = dict(reversed(guests.items()))
    assert view.worst_guest(guests) == view.worst_guest(backwards)


def test_an_allowance_is_a_burst_and_then_a_rate():
    allowance = Allowance()
    assert [allowance.takes(3, SECOND, 0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not allowance.takes(3, SECOND, SECOND - 1)
    assert allowance.takes(3, SECOND, SECOND)
    assert not allowance.takes(3, SECOND, SECOND)
    taken = sum(allowance.takes(3, SECOND, now_s * SECOND // 10) for now_s in range(100, 1100))
    assert 100 <= taken <= 103
