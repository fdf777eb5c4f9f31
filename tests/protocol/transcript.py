"""Conversations between machines as text that people can read.

A scenario is a function that lets things happen and says in between what to look at. Identities,
numbers and digests appear under short names: `A` is the first peer, `A1` its first update.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from protocol_pump import SECOND, Member, Pump, update_of

from gossipjax.protocol.effects import (
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Inspect,
    OpenTunnel,
    Refuse,
    Send,
)
from gossipjax.protocol.events import Event, PeerConnected, PeerLost, Published
from gossipjax.wire.envelope import SealedUpdate, record_author
from gossipjax.wire.messages import GetPeers, Message, Peers, Ping, Pong, Relay, RoundClaim, Sealed

KEEP_ALIVES = (Ping, Pong, GetPeers, Peers)
_PACKETS = ("opening", "answer", "data of the opener", "data of the other one")
_WIDTH = 96


class TalkingMember(Member):
    """A member that writes down what it does."""

    pump: "Transcript"

    def feed(self, event: Event) -> None:
        if self.is_running:
            self.pump.noted(self, event)
        super().feed(event)

    def publish(
        self, version: int = 0, value: float = 1.0, claim: RoundClaim | None = None
    ) -> SealedUpdate:
        self.sequence += 1
        update = update_of(
            self.number,
            self.sequence,
            version=version,
            manifest=self.pump.manifest,
            value=value,
            claim=claim,
        )
        self.pump.name_update(update, f"{self.letter}{self.sequence}")
        self.pump.write(self, f"publishes {self.letter}{self.sequence}, version {version}")
        self.feed(Published(update))
        return update

    @property
    def letter(self) -> str:
        return chr(ord("A") + self.number)

    def _carry_out(self, effect: Effect) -> None:
        self.pump.did(self, effect)
        super()._carry_out(effect)


class Transcript(Pump):
    """A pump whose members write down what they do.

    Attributes:
        hidden: kinds of messages that are left out.
        lines: what has been written.
    """

    member_class = TalkingMember

    def __init__(self, title: str, **arguments: Any):
        super().__init__(**arguments)
        self.hidden: tuple[type[Message], ...] = ()
        self.lines = [f"# {line}".rstrip() for line in inspect.cleandoc(title).splitlines()]
        self._title_lines = len(self.lines)
        self._names: dict[bytes, str] = {}

    def begin(self) -> None:
        """Forget how it came so far; leave keep-alives out from here on."""
        self.lines = self.lines[: self._title_lines]
        self.hidden = KEEP_ALIVES

    def say(self, text: str) -> None:
        """A comment."""
        self.lines += ["", f"# {text}"]

    def write(self, who: Member, what: str) -> None:
        """A line of what somebody does now."""
        assert isinstance(who, TalkingMember)
        line = f"{self.now_ns / SECOND:8.3f}  {who.letter}  {what}"
        self.lines.append(line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…")

    def noted(self, member: TalkingMember, event: Event) -> None:
        """Something happens to a member."""
        self._name(member)
        match event:
            case PeerConnected():
                other = self._letter_of(event.record.body.sign_key)
                how = "dialled" if event.dialled else "was dialled"
                how = how if event.relay is None else f"through {self._of(event.relay)}"
                self.write(member, f"is connected with {other} ({how})")
            case PeerLost():
                self.write(member, f"has lost {self._of(event.peer)}")
            case _:
                pass

    def did(self, member: TalkingMember, effect: Effect) -> None:
        """A member wants something done."""
        match effect:
            case Send() if not isinstance(effect.message, self.hidden):
                self.write(member, f"→ {self._of(effect.peer)}  {self._message(effect)}")
            case Connect():
                self.write(member, f"dials {self._letter_at(effect.address.transport_key)}")
            case OpenTunnel():
                target = self._of(record_author(effect.record.body))
                self.write(member, f"asks {self._of(effect.relay)} to relay to {target}")
            case Disconnect():
                self.write(member, f"disconnects {self._of(effect.peer)}: {effect.reason}")
            case Refuse():
                self.write(member, f"refuses that of {self._of(effect.peer)}: {effect.reason}")
            case Inspect():
                self.write(member, f"inspects {self._of(effect.header.body.root)}")
            case Deliver():
                how = "adopts" if effect.adopt else "delivers"
                self.write(member, f"{how} {self._of(effect.header.body.root)}")
            case _:
                pass

    def text(self) -> str:
        """All of it."""
        return "\n".join([*self.lines, ""])

    def _message(self, send: Send) -> str:
        message = send.message
        if isinstance(message, Relay) and send.data is not None:
            ends = f"from {self._of(message.source)} to {self._of(message.target)}"
            lane = "bulk" if message.bulk else "control"
            return f"Relay {ends} on {lane}: {_PACKETS[send.data[0]]}, {len(send.data)} B"
        said = [f"{type(message).__name__:8}", *self._fields(message)]
        if send.data is not None:
            said.append(f"{len(send.data)} B")
        return "  ".join(said).strip()

    def _fields(self, value: Any) -> Iterator[str]:
        """What a message says; nonces and proofs tell a reader nothing."""
        for field in value.__struct_fields__:
            content = getattr(value, field)
            if field not in ("nonce", "proof"):
                yield f"{field} {self._of(content)}"

    def _of(self, value: Any) -> str:
        if isinstance(value, Sealed):
            return self._names.get(value.signature, "unknown")
        if isinstance(value, bytes):
            return self._names.get(value, value[:3].hex())
        if isinstance(value, tuple):
            return ", ".join(map(self._of, value)) or "none"
        if isinstance(value, msgspec.Struct):
            return " ".join(self._fields(value))
        return str(value)

    def _name(self, member: TalkingMember) -> None:
        letter = member.letter
        self._names[member.id] = letter
        self._names[member.record.sealed.signature] = f"of {letter}"

    def _letter_of(self, sign_key: bytes) -> str:
        return self._letters(m for m in self.members if m.record.body.sign_key == sign_key)

    def _letter_at(self, transport_key: bytes) -> str:
        return self._letters(m for m in self.members if m.address.transport_key == transport_key)

    def _letters(self, members: Iterable[Member]) -> str:
        return next(member.letter for member in members if isinstance(member, TalkingMember))

    def name_update(self, update: SealedUpdate, name: str) -> None:
        """Let an update appear under a name."""
        self._names[update.header.body.root] = name
        self._names[update.header.sealed.signature] = name
