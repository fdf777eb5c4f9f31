"""The protocol with one thing broken each: what the scenarios and checkers must notice."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from gossipjax.errors import RemoteProtocolError
from gossipjax.protocol import opening
from gossipjax.protocol.catch_up import CatchUpMachine
from gossipjax.protocol.dialing import Dialer
from gossipjax.protocol.dissemination import DisseminationMachine
from gossipjax.protocol.effects import Deliver, Effects
from gossipjax.protocol.membership import MembershipMachine
from gossipjax.protocol.peer import PeerMachine
from gossipjax.protocol.records import Records
from gossipjax.protocol.transfer import Transfer
from gossipjax.protocol.uploads import UploadMachine
from gossipjax.simulation.network import SECOND
from gossipjax.types import PeerId
from gossipjax.wire.merkle import leaf_hash

Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    """A defect, and the scenarios to look for it in: first those that found it before."""

    name: str
    apply: Callable[[Patch], None]
    seeds: tuple[int, ...]


def no_sequence_check(patch: Patch) -> None:
    patch.setattr(DisseminationMachine, "_check_sequence", lambda *_: None)


def no_duplicate_check(patch: Patch) -> None:
    """Only older numbers are refused; the last one again is not."""

    def check(self: DisseminationMachine, author: PeerId, sequence: int) -> None:
        if sequence < self._last_sequence.get(author, -1):
            raise RemoteProtocolError("sequence", "older")

    patch.setattr(DisseminationMachine, "_check_sequence", check)


def no_stall_timeout(patch: Patch) -> None:
    patch.setattr(Transfer, "tick", lambda *_: ([], []))
    patch.setattr(Transfer, "next_due_ns", None)


def wrong_credit(patch: Patch) -> None:
    """Two chunks are asked for with each that comes."""
    ask = Transfer._ask
    patch.setattr(
        Transfer,
        "_ask",
        lambda self, peer, source, n, now_ns: ask(self, peer, source, n + 1, now_ns),
    )


def no_redial(patch: Patch) -> None:
    """Each peer is dialled once."""
    due_ns = Dialer.due_ns

    def never_again(self: Any, key: bytes, now_ns: int) -> int:
        known_ns = due_ns(self, key, now_ns)
        return known_ns if key not in self._plans else max(known_ns, now_ns + 1000 * SECOND)

    patch.setattr(Dialer, "due_ns", never_again)


def no_waiting_between_dials(patch: Patch) -> None:
    patch.setattr(Dialer, "due_ns", lambda _, key, now_ns: now_ns)


def no_suspicion(patch: Patch) -> None:
    """Silence is never noticed."""
    probe = MembershipMachine._probe

    def probe_the_living(self: Any, version: int, now_ns: int) -> Effects:
        for neighbor in self.neighbors.values():
            neighbor.last_heard_ns = max(
                neighbor.last_heard_ns, now_ns - self._config.probe_interval_ns
            )
        return probe(self, version, now_ns)

    patch.setattr(MembershipMachine, "_probe", probe_the_living)


def accepts_unsigned(patch: Patch) -> None:
    open_header = opening.open_header

    def open_any(offer: Any, sender: Any, manifest: bytes, size: int, suite: Any) -> Any:
        return open_header(offer, sender, manifest, size, suite._replace(verify=lambda *_: True))

    patch.setattr(opening, "open_header", open_any)


def accepts_false_chunks(patch: Patch) -> None:
    patch.setattr(Transfer, "_checked_leaf", lambda self, chunk, data: leaf_hash(data))


def delivers_what_was_refused(patch: Patch) -> None:
    inspected = PeerMachine._inspected

    def pass_all(self: Any, event: Any, now_ns: int) -> Effects:
        return inspected(self, type(event)(event.author, event.root, None), now_ns)

    patch.setattr(PeerMachine, "_inspected", pass_all)


def offers_before_catching_up(patch: Patch) -> None:
    patch.setattr(CatchUpMachine, "may_offer", lambda *_: True)


def adopts_again_and_again(patch: Patch) -> None:
    inspected = PeerMachine._inspected

    def adopt_all(self: Any, event: Any, now_ns: int) -> Effects:
        effects = inspected(self, event, now_ns)
        return [Deliver(e.header, True) if isinstance(e, Deliver) else e for e in effects]

    patch.setattr(PeerMachine, "_inspected", adopt_all)


def never_catches_up(patch: Patch) -> None:
    """A joiner believes whoever claims to be ahead, without end."""
    patch.setattr(CatchUpMachine, "tick", lambda *_: [])


def deadline_in_the_past(patch: Patch) -> None:
    patch.setattr(MembershipMachine, "next_deadline_ns", 0)


def serves_nobody(patch: Patch) -> None:
    patch.setattr(UploadMachine, "on_get", lambda *_: [])


def serves_without_end(patch: Patch) -> None:
    """The same chunks again and again."""
    check = UploadMachine._check

    def forgetful(self: Any, peer: PeerId, get: Any, held: Any) -> None:
        held.served.clear()
        check(self, peer, get, held)

    patch.setattr(UploadMachine, "_check", forgetful)


def offers_to_one_only(patch: Patch) -> None:
    """Always to the neighbor with the lowest id: the rest of the network hears nothing."""
    patch.setattr(
        MembershipMachine, "partners", lambda self, _: sorted(self.trusted_neighbors())[:1]
    )


def forgets_what_it_dropped(patch: Patch) -> None:
    """Looks up the transfer of a chunk that may long be over."""
    on_chunk = DisseminationMachine.on_chunk

    def look_up_first(self: Any, peer: PeerId, *arguments: Any) -> Effects:
        assert self._downloads[peer].missing > 0
        return on_chunk(self, peer, *arguments)

    patch.setattr(DisseminationMachine, "on_chunk", look_up_first)


def unbounded_book(patch: Patch) -> None:
    """Records that nobody asked for are kept, as many as come."""
    init = Records.__init__
    on_peers = MembershipMachine.on_peers

    def start(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        self.book._size = self.book._share = self._signed_by._size_max = 1 << 30

    def take_all(self: Any, peer: PeerId, *arguments: Any) -> Effects:
        self.neighbors[peer].answers_due = 1
        return on_peers(self, peer, *arguments)

    patch.setattr(Records, "__init__", start)
    patch.setattr(MembershipMachine, "on_peers", take_all)


MUTANTS = (
    Mutant("no sequence check", no_sequence_check, (5,)),
    Mutant("no duplicate check", no_duplicate_check, (5,)),
    Mutant("no stall timeout", no_stall_timeout, (12,)),
    Mutant("wrong credit", wrong_credit, (4,)),
    Mutant("no redial", no_redial, (3,)),
    Mutant("no waiting between dials", no_waiting_between_dials, (22,)),
    Mutant("no suspicion", no_suspicion, (217,)),
    Mutant("accepts unsigned", accepts_unsigned, (13,)),
    Mutant("accepts false chunks", accepts_false_chunks, (15,)),
    Mutant("delivers what was refused", delivers_what_was_refused, (16,)),
    Mutant("offers before catching up", offers_before_catching_up, (1, 2)),
    Mutant("adopts again and again", adopts_again_and_again, (0, 2)),
    Mutant("never catches up", never_catches_up, (0, 2)),
    Mutant("deadline in the past", deadline_in_the_past, (0, 1)),
    Mutant("serves nobody", serves_nobody, (0, 1)),
    Mutant("serves without end", serves_without_end, (64,)),
    Mutant("offers to one only", offers_to_one_only, (0, 1)),
    Mutant("forgets what it dropped", forgets_what_it_dropped, (5, 8)),
    Mutant("unbounded book", unbounded_book, (53, 95)),
)
