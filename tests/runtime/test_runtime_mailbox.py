"""Between the threads: newest out, newest per author in, bounded."""

import numpy as np

from gossipjax.runtime.mailbox import Arrival, Mailbox, Outgoing
from gossipjax.types import PeerId


def arrival(author: int, version: int = 0, *, adopt: bool = False) -> Arrival:
    return Arrival(PeerId(bytes([author]) * 32), [np.zeros(1)], version, 1, adopt)


def outgoing(version: int) -> Outgoing:
    return Outgoing(list, version, 1)


def test_arrivals_come_oldest_first_and_newest_per_author():
    mailbox = Mailbox(8)
    for author, version in ((1, 1), (2, 1), (3, 1), (1, 2)):
        mailbox.deliver(arrival(author, version))
    taken = mailbox.take(2)
    assert [(a.author[0], a.version) for a in taken] == [(2, 1), (3, 1)]
    assert [(a.author[0], a.version) for a in mailbox.take(2)] == [(1, 2)]
    assert mailbox.take(2) == []


def test_the_oldest_gives_way():
    mailbox = Mailbox(3)
    for author in range(5):
        mailbox.deliver(arrival(author))
    assert [a.author[0] for a in mailbox.take(9)] == [2, 3, 4]


def test_what_is_to_be_adopted_comes_alone_and_does_not_get_lost():
    mailbox = Mailbox(3)
    mailbox.deliver(arrival(1, 1, adopt=True))
    for author in (2, 3, 4, 5):
        mailbox.deliver(arrival(author))
    mailbox.deliver(arrival(1, 2))
    [adopted] = mailbox.take(9)
    assert (adopted.author[0], adopted.version, adopted.adopt) == (1, 2, True)
    assert [a.author[0] for a in mailbox.take(9)] == [4, 5]


def test_one_payload_is_sealed_at_a_time_and_the_newest_waits():
    mailbox = Mailbox(3)
    assert not mailbox.is_busy
    assert mailbox.next_outgoing() is None
    mailbox.put(outgoing(1))
    assert mailbox.is_busy
    taken = mailbox.next_outgoing()
    assert taken is not None
    assert taken.version == 1
    assert mailbox.is_busy
    mailbox.put(outgoing(2))
    mailbox.put(outgoing(3))
    assert mailbox.next_outgoing() is None
    mailbox.sealed()
    taken = mailbox.next_outgoing()
    assert taken is not None
    assert taken.version == 3
    mailbox.sealed()
    assert not mailbox.is_busy


def test_what_is_taken_together_is_in_the_order_of_the_authors():
    mailbox = Mailbox(8)
    for author in (3, 1, 2, 0):
        mailbox.deliver(arrival(author))
    assert [a.author[0] for a in mailbox.take(3)] == [1, 2, 3]
    assert [a.author[0] for a in mailbox.take(3)] == [0]
