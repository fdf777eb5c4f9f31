"""Two peers that nobody can dial talk through a relay that can do nothing but drop."""

from collections.abc import Callable
from typing import Any

import pytest
from protocol_pump import EPOCH_S, SECOND, SUITE, Link, Member, Pump, identity_of, record_of

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.effects import OpenTunnel, Refuse, Send
from gossipjax.protocol.events import Misbehaved, PeerConnected, PeerLost, Received
from gossipjax.protocol.tunnels import Outcome, Tunnels
from gossipjax.types import PeerId, RunId
from gossipjax.wire.codec import decode, encode
from gossipjax.wire.envelope import record_author
from gossipjax.wire.messages import Chunk, Hello, Message, Ping, Relay
from gossipjax.wire.tensors import manifest_of

BIG = manifest_of({"x": ((700_000,), "float32")})  # three chunks
RELAY = record_author(record_of(9).body)


class Hidden:
    """The tunnels of a peer that cannot be dialled, with what they say."""

    def __init__(self, number: int, life: int = 0, **record: Any):
        self.record = record_of(number, port=0, sequence=1 + life, **record)
        self.id = record_author(self.record.body)
        self._draws = iter(range(1000 * number + 100 * life, 10**6))
        self.tunnels = Tunnels(
            identity_of(number),
            RunId(self.record.body.run),
            SUITE,
            lambda: next(self._draws).to_bytes(32, "big"),
        )
        self.tunnels.introduce(self.record)

    def open(self, other: "Hidden") -> Send:
        return self.tunnels.open(OpenTunnel(RELAY, other.record))

    def say(self, other: "Hidden", message: Any, data: bytes | None = None) -> Send:
        packet = self.tunnels.send(Send(other.id, message, data))
        assert packet is not None
        return packet

    def take(self, packet: Outcome) -> list[Outcome]:
        assert isinstance(packet, Send)
        assert isinstance(packet.message, Relay)
        assert packet.peer == RELAY
        assert packet.data is not None
        return self.tunnels.take(RELAY, packet.message, packet.data, EPOCH_S)


def meet(one: Hidden, other: Hidden) -> list[Send]:
    """Open a tunnel; all the packets of it."""
    opening = one.open(other)
    (answer,) = other.take(opening)
    assert isinstance(answer, Send)
    confirmation, connected = one.take(answer)
    assert connected == PeerConnected(other.record, relay=RELAY)
    assert isinstance(confirmation, Send)
    assert other.take(confirmation) == [PeerConnected(one.record, relay=RELAY)]
    return [opening, answer, confirmation]


@pytest.fixture
def pair() -> tuple[Hidden, Hidden]:
    one, other = Hidden(1), Hidden(2)
    meet(one, other)
    return one, other


def test_messages_come_as_they_were_sent(pair):
    chunk = Chunk(bytes(32), 0, ())
    for sender, receiver in (pair, pair[::-1]):
        assert receiver.id in sender.tunnels
        packet = sender.say(receiver, Ping(1, 2, 1))
        assert packet.message == Relay(sender.id, receiver.id, False)
        assert receiver.take(packet) == [Received(sender.id, Ping(1, 2, 1), None)]
        packet = sender.say(receiver, chunk, b"data" * 9)
        assert packet.message == Relay(sender.id, receiver.id, True)
        assert receiver.take(packet) == [Received(sender.id, chunk, b"data" * 9)]


def test_both_may_open_at_once():
    one, other = Hidden(1), Hidden(2)
    openings = {one: one.open(other), other: other.open(one)}
    answers = {one: one.take(openings[other]), other: other.take(openings[one])}
    ends = {one: one.take(answers[other][0]), other: other.take(answers[one][0])}
    assert other.take(ends[one][0]) == [PeerConnected(one.record, relay=RELAY)]
    assert one.take(ends[other][0]) == [PeerConnected(other.record, relay=RELAY)]
    for sender, receiver in ((one, other), (other, one)):
        for _ in range(2):
            packet = sender.say(receiver, Ping(1, 2, 1))
            assert receiver.take(packet) == [Received(sender.id, Ping(1, 2, 1), None)]


def test_after_a_restart_the_new_tunnel_counts(pair):
    one, other = pair
    again = Hidden(1, life=1)
    old = one.say(other, Ping(1, 1, 1))
    opening = again.open(other)
    (answer,) = other.take(opening)
    assert other.take(old) == [Received(one.id, Ping(1, 1, 1), None)]  # not confirmed yet
    confirmation, _ = again.take(answer)
    assert other.take(confirmation) == [PeerConnected(again.record, relay=RELAY)]
    assert other.take(one.say(other, Ping(2, 2, 1))) == [Refuse(RELAY, "sealed")]
    assert other.take(again.say(other, Ping(3, 3, 1))) == [Received(one.id, Ping(3, 3, 1), None)]
    assert again.take(other.say(again, Ping(4, 4, 1))) == [Received(other.id, Ping(4, 4, 1), None)]


def altered(packet: Send, at: int) -> Send:
    data = bytearray(packet.data or b"")
    data[at] ^= 1
    return Send(packet.peer, packet.message, bytes(data))


def test_an_altered_or_replayed_packet_is_counted_and_without_effect(pair):
    one, other = pair
    packet = one.say(other, Ping(1, 2, 1))
    assert packet.data is not None
    refused: list[Outcome] = [Refuse(RELAY, "sealed")]
    for at in range(1, len(packet.data)):
        assert other.take(altered(packet, at)) == refused
    for kind in (b"\x04", b"\xff"):
        assert other.take(Send(RELAY, packet.message, kind + bytes(packet.data[1:]))) == refused
    assert other.take(packet) == [Received(one.id, Ping(1, 2, 1), None)]
    assert other.take(packet) == refused
    moved = Relay(one.id, other.id, True)  # to the other connection
    assert other.take(Send(RELAY, moved, one.say(other, Ping(1, 2, 1)).data)) == refused


def test_a_greeting_that_was_altered_or_is_somebody_elses_makes_no_tunnel():
    one, other, third = Hidden(1), Hidden(2), Hidden(3)
    opening = one.open(other)
    assert opening.data is not None
    for at in range(33, len(opening.data), 20):
        assert other.take(altered(opening, at)) == [Refuse(RELAY, "sealed")]
    said = Relay(third.id, other.id, False)
    assert other.take(Send(RELAY, said, opening.data)) == [Refuse(RELAY, "sealed")]
    newer = encode(Hello(99, False, one.record.sealed))
    packet = Send(RELAY, opening.message, bytes(opening.data[:33]) + newer)
    assert other.take(packet) == [Refuse(RELAY, "sealed")]
    # With another ephemeral key the answer cannot be read, so nothing comes of it.
    (answer,) = other.take(altered(opening, 5))
    assert one.take(answer) == [Refuse(RELAY, "sealed")]
    assert other.id not in one.tunnels
    assert one.id not in other.tunnels


def test_openings_through_one_relay_are_few():
    other = Hidden(2)
    answers = [other.take(Hidden(1, life=life).open(other))[0] for life in range(17)]
    assert all(isinstance(answer, Send) for answer in answers[:16])
    assert answers[16] == Refuse(RELAY, "rate")


def test_a_replayed_opening_leads_to_nothing(pair):
    one, other = pair
    packets = meet(Hidden(1, life=1), other)
    (answer,) = other.take(packets[0])
    assert isinstance(answer, Send)
    for packet in packets[1:]:
        assert other.take(packet) in ([], [Refuse(RELAY, "sealed")])
    assert one.take(answer) == []  # it has not asked


def test_who_only_claims_to_be_somebody_is_not_connected(pair):
    """Records are public: a thief has the victim's, but not the secret that belongs to it."""
    _, other = pair
    victim, thief = Hidden(5), Hidden(1)
    thief.tunnels.introduce(victim.record)
    thief.tunnels.own_id = victim.id
    (answer,) = other.take(thief.open(other))
    assert thief.take(answer) == [Refuse(RELAY, "sealed")]
    assert victim.id not in other.tunnels


def test_what_opens_and_is_no_message_is_charged_to_its_author(pair):
    one, other = pair
    nested = Relay(one.id, other.id, False)
    assert other.take(one.say(other, nested, b"x")) == [Misbehaved(one.id, "malformed")]
    assert other.take(one.say(other, Ping(1, 2, 1), b"x")) == [Misbehaved(one.id, "malformed")]


def test_tunnels_end_with_their_relay_or_one_by_one(pair):
    one, other = pair
    third = Hidden(3)
    meet(one, third)
    assert one.tunnels.relay_lost(PeerId(bytes(32))) == []
    assert one.tunnels.close(third.id)
    assert not one.tunnels.close(third.id)
    assert one.tunnels.send(Send(third.id, Ping(1, 2, 1))) is None
    packet = third.say(one, Ping(1, 2, 1))
    assert one.take(packet) == []
    assert one.tunnels.relay_lost(RELAY) == [PeerLost(other.id)]
    assert other.id not in one.tunnels


# ---- whole peers -------------------------------------------------------------------------------


def hidden_pair(**arguments: Any) -> tuple[Pump, Member, Member, Member]:
    """A relay, and two peers that only it is connected with at first."""
    pump = Pump(ProtocolConfig(**arguments.pop("config", {})), arguments.pop("manifest", BIG))
    relay = pump.join(0)
    return pump, relay, pump.join(1, [relay], port=0), pump.join(2, [relay], port=0)


def spied(member: Member, seen: list[bytes]) -> None:
    """Keep all that a member is sent."""
    arrive = member.arrive

    def noted(link: Link, raw: bytes, data: bytes | None) -> None:
        seen.append(raw + (data or b""))
        arrive(link, raw, data)

    member.arrive = noted


def tampering(member: Member, change: Callable[[Relay, bytes], list[bytes]]) -> None:
    """Let a relay pass on something else."""
    transmit = member._transmit

    def changed(effect: Send) -> None:
        if isinstance(effect.message, Relay) and effect.message.source != member.id:
            for data in change(effect.message, bytes(effect.data or b"")):
                transmit(Send(effect.peer, effect.message, data))
        else:
            transmit(effect)

    member._transmit = changed


def test_a_peer_that_cannot_be_dialled_exchanges_in_both_directions():
    pump = Pump()
    first = pump.join(0)
    hidden = pump.join(1, [first], port=0)
    assert pump.run_until(lambda: hidden.neighbors == {0} and first.neighbors == {1}, 5)
    assert pump.run_until(lambda: hidden.machine.has_caught_up, 10)
    first.publish()
    hidden.publish()
    assert pump.run_until(lambda: bool(first.delivered and hidden.delivered), 5)


def test_two_such_peers_exchange_through_a_relay_that_sees_nothing():
    pump, relay, one, other = hidden_pair()
    seen: list[bytes] = []
    spied(relay, seen)
    assert pump.run_until(lambda: one.neighbors == {0, 2} and other.neighbors == {0, 1}, 20)
    assert relay.neighbors == {1, 2}
    pump.run(5)
    before = len(seen)
    update = one.publish()
    assert pump.run_until(lambda: bool(other.delivered), 30)
    assert other.delivered[0].header.body == update.header.body
    back = other.publish()
    assert pump.run_until(lambda: any(d.header.body == back.header.body for d in one.delivered), 30)
    # The relay is a neighbor itself and is offered the updates; what it passes on says nothing.
    relayed = [raw for raw in seen[before:] if isinstance(decode_first(raw), Relay)]
    assert sum(map(len, relayed)) > 2 * BIG.nbytes
    for payload in (update.payload, back.payload):
        for start in (0, 1 << 20, len(payload) - 64):
            piece = bytes(payload[start : start + 32])
            assert not any(piece in raw for raw in relayed)
    assert not (one.refused + other.refused + relay.refused)


def decode_first(raw: bytes) -> Message:
    """The message at the start of what was received; a `Relay` is followed by its packet."""
    head = encode(Relay(bytes(32), bytes(32), True))
    try:
        return decode(raw[: len(head)])
    except Exception:
        return Ping(0, 0, 1)


@pytest.mark.parametrize("attack", ["drop", "alter", "replay", "swap"])
def test_whatever_the_relay_does_only_what_was_sent_is_delivered(attack: str):
    pump, relay, one, other = hidden_pair()
    passed: list[bytes] = []
    assert pump.run_until(lambda: other.neighbors == {0, 1} and one.neighbors == {0, 2}, 20)
    pump.run(5)

    def change(message: Relay, data: bytes) -> list[bytes]:
        passed.append(data)
        match attack:
            case "drop":
                return []
            case "alter":
                return [data[:-1] + bytes([data[-1] ^ 1])]
            case "replay":
                return [data, data, passed[len(passed) // 2]]
            case _:
                return [passed[-2] if len(passed) > 1 else data]

    tampering(relay, change)
    update = one.publish()
    pump.run(20)
    through = [d for d in other.delivered if d.header.body.author == one.id]
    assert bool(through) == (attack == "replay")
    assert all(d.header.body == update.header.body for d in through)
    assert bool(other.refused["sealed"]) == (attack != "drop")
    assert set(one.refused + other.refused) <= {"sealed", "stalled"}
    assert one.machine.neighbors
    assert relay.neighbors == {1, 2}  # nobody is banned for what the relay did


def test_when_the_relay_goes_the_two_lose_each_other_and_find_another():
    pump, relay, one, other = hidden_pair()
    assert pump.run_until(lambda: other.neighbors == {0, 1}, 20)
    second = pump.join(3, [relay])
    assert pump.run_until(lambda: one.neighbors == other.neighbors ^ {1, 2} == {0, 2, 3}, 30)
    relay.stop()
    assert pump.run_until(lambda: not {0, 2} & one.neighbors, 5)
    assert pump.run_until(lambda: 2 in one.neighbors and 1 in other.neighbors, 60)
    assert second.neighbors == {1, 2}


def test_a_relay_that_serves_no_more_says_so():
    pump, relay, one, other = hidden_pair(config={"relay_bytes_per_s": 0})
    pump.run(30)
    assert one.neighbors == other.neighbors == {0}
    assert not (one.refused + other.refused + relay.refused)


def test_a_peer_that_leaves_is_missed_through_the_relay():
    pump, _, one, other = hidden_pair()
    assert pump.run_until(lambda: other.neighbors == {0, 1}, 20)
    one.stop()
    pump.run(1)
    assert other.neighbors == {0}
    assert pump.now_ns < 30 * SECOND
