"""Whole conversations, kept as text: `tests/protocol/transcripts/`, shown in the documentation.

After a change of the protocol, `pytest tests/protocol/test_protocol_transcripts.py
--regenerate-transcripts` writes them anew; their differences show what has changed for peers.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from protocol_pump import SECOND, id_of
from transcript import Transcript

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.events import Misbehaved
from gossipjax.wire.tensors import manifest_of

FOLDER = Path(__file__).parent / "transcripts"
TEN_CHUNKS = manifest_of({"x": ((10, 1 << 18), "float32")})
THREE_CHUNKS = manifest_of({"x": ((3, 1 << 18), "float32")})
CALM = ProtocolConfig(renew_interval_ns=3600 * SECOND)


def join() -> Transcript:
    """A peer joins with one address and finds the others."""
    t = Transcript(join.__doc__ or "", config=CALM)
    t.say("A starts the run. B is told A's address.")
    a = t.join(0)
    b = t.join(1, [a])
    t.run(1)
    t.say("C is told A's address, too. A tells it of B, and C dials B.")
    c = t.join(2, [a])
    assert t.run_until(lambda: c.neighbors == {0, 1} and b.neighbors == {0, 2}, 10)
    t.run(0.1)
    return t


def exchange() -> Transcript:
    """An update goes from one peer to another, with credit.

    Keep-alives are left out. The update has ten chunks; eight may be asked for at a time.
    """
    t = Transcript(exchange.__doc__ or "", config=CALM, manifest=TEN_CHUNKS)
    a = t.join(0)
    b = t.join(1, [a])
    assert t.run_until(lambda: b.machine.has_caught_up, 10)
    t.begin()
    t.say("B asks for eight chunks, then for one more with each that comes.")
    a.publish(version=10)
    assert t.run_until(lambda: bool(b.delivered), 10)
    return t


def refusal() -> Transcript:
    """Somebody breaks the rules until it is banned.

    Keep-alives are left out. Its shell sees that bytes are no messages, and tells the machine.
    """
    config = ProtocolConfig(renew_interval_ns=3600 * SECOND, faults_max=3, ban_ns=10 * SECOND)
    t = Transcript(refusal.__doc__ or "", config=config)
    a = t.join(0)
    b = t.join(1, [a])
    assert t.run_until(lambda: b.machine.has_caught_up, 10)
    t.begin()
    t.say("Two faults cost nothing. With the third A closes the connection.")
    for _ in range(3):
        t.run(0.1)
        a.feed(Misbehaved(id_of(1), "malformed"))
    t.run(1)
    assert not a.neighbors
    t.say("B comes back, but not before the ban is over.")
    assert t.run_until(lambda: a.neighbors == {1} == {0, 1} - b.neighbors, 60)
    return t


def catch_up() -> Transcript:
    """A peer that comes late adopts the others' parameters before its own count.

    Keep-alives are left out.
    """
    t = Transcript(catch_up.__doc__ or "", config=CALM, manifest=THREE_CHUNKS)
    a = t.join(0, version=1000)
    b = t.join(1, [a], version=1000)
    t.run(5)
    a.publish(version=1000)
    b.publish(version=1000, value=2.0)
    assert t.run_until(lambda: bool(a.delivered and b.delivered), 10)
    t.begin()
    t.say("C begins with version 0. It listens for a second, then asks who is far ahead.")
    c = t.join(2, [a])
    assert t.run_until(lambda: any(d.adopt for d in c.delivered), 20)
    t.say("What it trained before counts for nobody.")
    c.publish(version=5)
    t.run(0.1)
    t.say("What it trains from there on does.")
    c.publish(version=1001)
    assert t.run_until(lambda: any(d.header.body.author == c.id for d in a.delivered), 20)
    return t


def leave_and_return() -> Transcript:
    """A peer leaves and returns; another one dies, and is missed.

    Keep-alives are left out.
    """
    t = Transcript(leave_and_return.__doc__ or "", config=CALM)
    a = t.join(0)
    b = t.join(1, [a])
    c = t.join(2, [a])
    assert t.run_until(lambda: b.neighbors == {0, 2}, 20)
    t.begin()
    t.say("B says goodbye. Nobody waits for it.")
    b.stop()
    t.run(1)
    assert a.neighbors == {2}
    t.say("B starts again, at another port, with a newer record.")
    b = t.join(1, [a], port=21001, sequence=2)
    assert t.run_until(lambda: b.neighbors == {0, 2} and c.neighbors == {0, 1}, 30)
    t.run(1)
    t.say("C dies without a word. The others ask each other whether they hear it, then drop it.")
    c.kill()
    assert t.run_until(lambda: a.neighbors == {1} and b.neighbors == {0}, 60)
    return t


def relay() -> Transcript:
    """Two peers that nobody can dial exchange through a third, which sees boxes only.

    Keep-alives of direct neighbors are left out; those within boxes are not told apart.
    """
    t = Transcript(relay.__doc__ or "", config=CALM, manifest=THREE_CHUNKS)
    t.begin()
    a = t.join(0)
    b = t.join(1, [a], port=0)
    c = t.join(2, [a], port=0)
    t.say("A tells each of the other. One of them asks A to relay.")
    assert t.run_until(lambda: b.neighbors == {0, 2} and c.neighbors == {0, 1}, 20)
    t.run(3)
    t.say("C gets an update of B: chunks are paced by A's budget.")
    b.publish(version=10)
    assert t.run_until(lambda: any(d.header.body.author == b.id for d in c.delivered), 30)
    return t


SCENARIOS: dict[str, Callable[[], Transcript]] = {
    made.__name__: made for made in (join, exchange, refusal, catch_up, leave_and_return, relay)
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_conversation_is_the_one_that_was_written_down(name: str, pytestconfig: pytest.Config):
    path = FOLDER / f"{name}.txt"
    text = SCENARIOS[name]().text()
    if pytestconfig.getoption("regenerate_transcripts"):
        path.write_text(text, encoding="utf-8")
    written = path.read_text(encoding="utf-8")
    assert text == written, "see --regenerate-transcripts"


def test_every_transcript_has_a_scenario_and_a_place_in_the_documentation():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SCENARIOS)
    page = Path(__file__).parents[2] / "docs" / "specification" / "conversations.md"
    shown = page.read_text(encoding="utf-8")
    assert [name for name in SCENARIOS if f"transcripts/{name}.txt" not in shown] == []
