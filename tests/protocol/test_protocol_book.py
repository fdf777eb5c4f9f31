"""The address book: who gives way, and that neither one network nor one teller can fill it."""

from hypothesis import given
from hypothesis import strategies as st
from protocol_pump import id_of, record_of

from gossipjax.protocol.book import Book
from gossipjax.wire.envelope import record_author

SIZE = 64
SHARE = 4


def put(book: Book, number: int, host: str, teller: bytes | None = None) -> list[int]:
    """Numbers of those who give way."""
    gone = book.put(id_of(number), record_of(number, host=host), teller)
    return [next(n for n in range(200) if id_of(n) == record_author(r.body)) for r in gone]


def test_the_oldest_of_a_network_gives_way_to_a_newer_one_of_it():
    book = Book(SIZE)
    assert [put(book, number, "203.0.113.7") for number in range(SHARE)] == [[]] * SHARE
    assert put(book, 10, "203.0.77.1") == [0]  # the same /16
    assert put(book, 11, "198.51.100.1") == []
    assert put(book, 1, "203.0.113.7") == []  # again, so it is the newest now
    assert put(book, 12, "203.0.113.7") == [2]


def test_what_peers_of_one_network_tell_displaces_what_they_told():
    book = Book(SIZE)
    put(book, 0, "192.0.2.1")
    for number in range(1, SHARE + 1):
        assert put(book, number, f"10.{number}.0.1", b"there") == []
    assert put(book, 50, "10.50.0.1", b"there") == [1]
    assert put(book, 51, "10.51.0.1", b"elsewhere") == []
    assert id_of(0) in book


def test_of_a_full_book_the_oldest_gives_way():
    book = Book(SIZE)
    for number in range(SIZE):
        put(book, number, f"10.{number}.0.1")
    assert put(book, 100, "10.100.0.1") == [0]
    assert len(book) == SIZE


def test_a_record_replaces_the_one_of_the_same_peer_wherever_that_was():
    book = Book(SIZE)
    put(book, 1, "192.0.2.1", b"teller")
    put(book, 1, "198.51.100.1")
    assert book[id_of(1)].body.addresses == ("tcp://198.51.100.1:20001",)
    assert book.get(id_of(2)) is None
    assert book.peers() == [id_of(1)]


def test_a_peer_without_an_address_has_a_place_too():
    book = Book(SIZE)
    assert book.put(id_of(1), record_of(1, port=0), None) == []
    assert id_of(1) in book


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 5), st.sampled_from([None, b"a", b"b"])),
        max_size=150,
    )
)
def test_no_bound_is_ever_passed_and_what_gives_way_is_gone(puts):
    book = Book(20)
    told: dict[int, tuple[int, bytes | None]] = {}
    for number, network, teller in puts:
        gone = put(book, number, f"10.{network}.0.1", teller)
        for other in gone:
            del told[other]
        told[number] = (network, teller)
        assert set(book.peers()) == {id_of(n) for n in told}
        assert len(told) <= 20
        networks = [network for network, _ in told.values()]
        tellers = [teller for _, teller in told.values() if teller is not None]
        assert all(networks.count(network) <= SHARE for network in networks)
        assert all(tellers.count(teller) <= SHARE for teller in tellers)
