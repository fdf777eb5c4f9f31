"""What the wires do, told by two ends that write down what arrives."""

import itertools
from typing import Any

from msgspec import structs

from gossipjax.simulation.network import MILLISECOND, SECOND, Link, LinkModel, Network
from gossipjax.simulation.schedule import Schedule
from gossipjax.simulation.trace import Trace
from gossipjax.wire.address import Address
from gossipjax.wire.messages import AnyMessage, Chunk, Ping

KEY = bytes(32)
ROOT = bytes(32)


class End:
    """A node that keeps what arrives."""

    def __init__(self, network: Network, index: int):
        self.index = index
        self.place: tuple[int, int] = (index * 100, 0)
        self.uplink_free_ns = 0
        self.network = network
        self.link: Link | None = None
        self.arrived: list[tuple[float, AnyMessage]] = []
        self.address = Address(f"tcp://127.0.0.1:{index + 1}", KEY)
        network.listeners[self.address.endpoint] = self

    def admits(self, address: Address) -> bool:
        return address == self.address

    def on_established(self, link: Link) -> None:
        self.link = link

    def on_arrival(self, link: Link, message: AnyMessage, data: bytes | memoryview | None) -> None:
        self.arrived.append((self.network.schedule.now_ns / SECOND, message))

    @property
    def nonces(self) -> list[int]:
        return [message.nonce for _, message in self.arrived if isinstance(message, Ping)]


def two_ends(**model: Any) -> tuple[End, End, Link]:
    """A dialler, who it dialled, and the dialler's end of the connection."""
    schedule = Schedule()
    network = Network(LinkModel(**model), schedule, Trace(), seed=1)
    near, far = End(network, 0), End(network, 1)
    network.dial(near, far.address)
    schedule.run_until(2 * SECOND)
    assert near.link is not None
    return near, far, near.link


def run(end: End, seconds: float) -> None:
    schedule = end.network.schedule
    schedule.run_until(schedule.now_ns + int(seconds * SECOND))


def send_many(near: End, link: Link, count: int) -> None:
    for nonce in range(count):
        assert near.network.send(link, Ping(nonce, 0, 1))
        run(near, 0.001)


def test_without_faults_everything_arrives_once_in_order_after_the_latency():
    near, far, link = two_ends(jitter_ns=80 * MILLISECOND)
    began = near.network.schedule.now_ns / SECOND
    send_many(near, link, 500)
    run(near, 1)
    assert far.nonces == list(range(500))
    assert 0.005 < far.arrived[0][0] - began < 0.1


def test_messages_travel_as_bytes_if_asked_for():
    near, far, link = two_ends(through_codec=True)
    ping = Ping(7, 8, 1)
    near.network.send(link, ping)
    run(near, 1)
    assert far.arrived[0][1] == ping
    assert far.arrived[0][1] is not ping


def test_harsher_than_tcp_loses_doubles_and_reorders_about_as_often_as_it_says():
    near, far, link = two_ends(loss_ppm=200_000)
    send_many(near, link, 2000)
    run(near, 2)
    assert 1500 < len(far.nonces) < 1700
    near, far, link = two_ends(duplicate_ppm=100_000)
    send_many(near, link, 2000)
    run(near, 2)
    assert 2100 < len(far.nonces) < 2300
    near, far, link = two_ends(reorder_ppm=100_000)
    send_many(near, link, 2000)
    run(near, 2)
    assert sorted(far.nonces) == list(range(2000))
    assert far.nonces != sorted(far.nonces)


def test_a_reset_breaks_both_ends():
    near, far, link = two_ends(reset_ppm=1_000_000)
    assert near.network.send(link, Ping(1, 1, 1))
    assert link.is_broken
    assert link.other.is_broken
    assert not near.network.send(link, Ping(2, 1, 1))
    run(near, 1)
    assert far.nonces == []


def test_chunks_share_the_uplink_and_small_messages_pass_them():
    near, far, link = two_ends(uplink_bytes_per_s=1_000_000, jitter_ns=0)
    for index in range(4):
        near.network.send(link, Chunk(ROOT, index, ()), bytes(500_000))
    near.network.send(link, Ping(1, 1, 1))
    run(near, 3)
    kinds = [type(message) for _, message in far.arrived]
    assert kinds == [Ping, Chunk, Chunk, Chunk, Chunk]
    times = [time for time, message in far.arrived if isinstance(message, Chunk)]
    assert all(0.49 < late - early < 0.52 for early, late in itertools.pairwise(times))


def test_a_full_queue_of_chunks_takes_no_more():
    near, _, link = two_ends()
    taken = [near.network.send(link, Chunk(ROOT, 0, ()), bytes(1000)) for _ in range(20)]
    assert taken == [True] * 16 + [False] * 4
    run(near, 1)
    assert near.network.send(link, Chunk(ROOT, 0, ()), bytes(1000))


def test_closing_is_noticed_at_the_next_attempt_to_send():
    near, far, link = two_ends()
    near.network.send(link, Ping(1, 1, 1))
    near.network.close(link)
    assert near.network.send(link.other, Ping(2, 1, 1))
    run(near, 1)
    assert far.nonces == [1]
    assert near.nonces == []
    assert not near.network.send(link.other, Ping(3, 1, 1))


def test_a_power_failure_is_noticed_late():
    near, _, link = two_ends(silence_ns=30 * SECOND)
    near.network.close(link, silently=True)
    run(near, 29)
    assert near.network.send(link.other, Ping(2, 1, 1))
    run(near, 2)
    assert not near.network.send(link.other, Ping(3, 1, 1))


def test_a_cut_in_one_direction_ends_a_connection_and_prevents_another():
    near, far, link = two_ends()
    near.network.cuts.append(lambda sender, receiver: (sender, receiver) == (0, 1))
    assert near.network.send(link, Ping(1, 1, 1))
    run(near, 1)
    near.network.cuts.clear()
    assert near.network.send(link.other, Ping(2, 1, 1))
    run(near, 1)
    assert far.nonces == near.nonces == []
    near.network.cuts.append(lambda sender, receiver: (sender, receiver) == (1, 0))
    near.link = None
    near.network.dial(near, far.address)
    run(near, 5)
    assert near.link is None


def test_the_wrong_key_or_endpoint_is_not_answered():
    near, far, _ = two_ends()
    near.link = None
    near.network.dial(near, far.address._replace(transport_key=bytes([1]) * 32))
    near.network.dial(near, far.address._replace(endpoint="tcp://127.0.0.1:99"))
    run(near, 5)
    assert near.link is None


def test_without_resets_the_rest_stays_as_it_is():
    model = LinkModel(reset_ppm=5, loss_ppm=7)
    assert model.without_resets() == structs.replace(model, reset_ppm=0)
