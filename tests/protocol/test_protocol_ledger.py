import math

from hypothesis import given
from hypothesis import strategies as st
from protocol_pump import id_of, record_of

from gossipjax.crypto.sortition import MAX_WEIGHT
from gossipjax.protocol.ledger import Ledger

FIRST, HALF_LIFE, FOUNDER = 100, 10, 1000


def ledger_of(*founders: int, size_max: int = 4096, ban_epochs: int = 5) -> Ledger:
    ledger = Ledger(
        FIRST, half_life=HALF_LIFE, founder_work=FOUNDER, ban_epochs=ban_epochs, size_max=size_max
    )
    for number in founders:
        ledger.meet(record_of(number).body, FIRST)
    return ledger


def weights(ledger: Ledger, epoch: int, count: int) -> list[int]:
    electorate = ledger.electorate(epoch)
    found = [electorate.of(id_of(number)) for number in range(count)]
    assert electorate.total == sum(electorate.weights.values())
    return found


def test_founders_begin_equal_and_strangers_with_nothing():
    ledger = ledger_of(0, 1)
    ledger.meet(record_of(2).body, FIRST + 1)
    assert weights(ledger, FIRST, 4) == [32, 32, 0, 0]
    assert weights(ledger, FIRST + 9, 4) == [32, 32, 0, 0]
    assert ledger.electorate(FIRST).of(id_of(9)) == 0


def test_work_counts_from_the_next_epoch_on():
    ledger = ledger_of(0, 1)
    ledger.credit(id_of(0), 2 * FOUNDER, FIRST)
    assert weights(ledger, FIRST, 2) == [32, 32]
    assert weights(ledger, FIRST + 1, 2) == [48, 16]


def test_an_identity_counts_two_epochs_after_it_was_first_seen():
    ledger = ledger_of(0)
    ledger.meet(record_of(1).body, FIRST + 3)
    ledger.meet(record_of(1).body, FIRST + 5)
    ledger.credit(id_of(1), FOUNDER, FIRST + 3)
    assert [weights(ledger, FIRST + 3 + e, 2)[1] > 0 for e in range(3)] == [False, False, True]


def test_work_of_the_unknown_or_none_is_no_work():
    ledger = ledger_of(0)
    ledger.credit(id_of(5), 100, FIRST)
    ledger.meet(record_of(1).body, FIRST + 1)
    ledger.credit(id_of(1), 0, FIRST + 1)
    assert weights(ledger, FIRST + 9, 6) == [32, 0, 0, 0, 0, 0]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**9), st.integers(0, 40)), max_size=20)
)
def test_weights_follow_the_formula(credits: list[tuple[int, int, int]]):
    ledger, now = ledger_of(0, 1, 2, 3), FIRST + 60
    work = [FOUNDER * 0.5 ** (60 / HALF_LIFE)] * 4
    for number, samples, epoch in sorted(credits, key=lambda credit: credit[2]):
        ledger.credit(id_of(number), samples, FIRST + epoch)
        work[number] += samples * 0.5 ** ((60 - epoch) / HALF_LIFE)
    unit = sum(work) / 128
    for found, one in zip(weights(ledger, now, 4), work, strict=True):
        # Decay moves in 64ths of a half-life: 1.1 % at most.
        assert math.floor(one / unit * 0.985) - 1 <= found <= one / unit * 1.015 + 1


@given(st.integers(1, 40), st.integers(1, 10**6))
def test_splitting_work_over_identities_gains_nothing(identities: int, samples: int):
    def share(parts: int) -> float:
        ledger = ledger_of(0)
        for number in range(1, parts + 1):
            ledger.meet(record_of(number).body, FIRST + 1)
            ledger.credit(id_of(number), samples * 40 // parts, FIRST + 1)
        found = weights(ledger, FIRST + 4, parts + 1)
        return sum(found[1:]) / max(1, sum(found))

    assert share(identities) <= share(1) * (1 + 1 / 32) + 0.01


def test_no_weight_is_above_the_bound_of_sortition():
    ledger = ledger_of(*range(80))
    ledger.credit(id_of(0), 10**12, FIRST)
    assert weights(ledger, FIRST + 1, 1) == [MAX_WEIGHT]


def test_a_ban_takes_weight_at_once_and_ends_with_nothing():
    ledger = ledger_of(0, 1)
    ledger.electorate(FIRST)
    ledger.ban(id_of(0), FIRST)
    assert weights(ledger, FIRST, 2) == [0, 32]
    assert weights(ledger, FIRST + 1, 2) == [0, 32]
    ledger.credit(id_of(0), 100, FIRST + 4)
    assert ledger.is_banned(id_of(0), FIRST + 4)
    assert not ledger.is_banned(id_of(0), FIRST + 5)
    assert weights(ledger, FIRST + 9, 2) == [0, 32]
    ledger.credit(id_of(0), FOUNDER, FIRST + 9)
    assert weights(ledger, FIRST + 10, 2)[0] > 0


def test_a_pardon_gives_back_what_the_ban_took():
    ledger = ledger_of(0, 1)
    for number in (0, 7):  # one that has work, one that is not even known
        ledger.ban(id_of(number), FIRST)
        ledger.pardon(id_of(number))
        ledger.pardon(id_of(number))
        assert not ledger.is_banned(id_of(number), FIRST)
    assert weights(ledger, FIRST + 1, 2) == [32, 32]


def test_memory_is_bounded_and_the_least_work_gives_way():
    ledger = ledger_of(0, 1, size_max=2)
    for number in range(2, 9):
        ledger.meet(record_of(number).body, FIRST + 1)
    assert [number for number in range(9) if ledger.standing(id_of(number))] == [0, 1, 7, 8]
    ledger.credit(id_of(8), 10**6, FIRST + 1)
    assert ledger.standing(id_of(8)) is not None
    assert sum(ledger.standing(id_of(number)) is not None for number in (0, 1)) == 1


def test_a_ledger_goes_on_in_its_next_life():
    ledger = ledger_of(0, 1, 2, ban_epochs=6)
    ledger.meet(record_of(3).body, FIRST + 2)
    ledger.credit(id_of(0), 700, FIRST + 3)
    ledger.ban(id_of(1), FIRST + 4)
    again = Ledger(FIRST + 4, half_life=HALF_LIFE, founder_work=FOUNDER, ban_epochs=6)
    again.restore(ledger.memory())
    assert again.memory() == ledger.memory()
    assert weights(again, FIRST + 5, 5) == weights(ledger, FIRST + 5, 5)
    assert again.banned(FIRST + 9) == {id_of(1): FIRST + 10}
    assert again.banned(FIRST + 10) == {}
    again.meet(record_of(4).body, FIRST + 5)
    assert weights(again, FIRST + 9, 5)[4] == 0, "its founders are those of its first life"
    again.pardon(id_of(1))
    assert weights(again, FIRST + 11, 5)[1] > 0
