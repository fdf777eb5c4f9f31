"""`docs/specification/state_machines.md` names every machine, and what it takes and emits."""

import inspect
import re
import typing
from typing import Any

import pytest
from specification_pages import FOLDER

from gossipjax.protocol.catch_up import CatchUpMachine
from gossipjax.protocol.dissemination import DisseminationMachine
from gossipjax.protocol.effects import Effect
from gossipjax.protocol.membership import MembershipMachine
from gossipjax.protocol.peer import PeerMachine
from gossipjax.protocol.reachability import ReachabilityMachine
from gossipjax.protocol.relay import RelayMachine
from gossipjax.protocol.uploads import UploadMachine
from gossipjax.protocol.verification import VerificationMachine
from gossipjax.wire.messages import AnyMessage

PAGE = (FOLDER / "state_machines.md").read_text(encoding="utf-8")
MACHINES: dict[str, type[Any]] = {
    "Membership": MembershipMachine,
    "Dissemination": DisseminationMachine,
    "Uploads": UploadMachine,
    "Catching up": CatchUpMachine,
    "Relays": RelayMachine,
    "Reachability": ReachabilityMachine,
    "Verification": VerificationMachine,
}
MESSAGES = {kind.__name__: kind for kind in typing.get_args(AnyMessage)}
EFFECTS = {kind.__name__ for kind in typing.get_args(Effect)}


def section(name: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {name}\n")[1], flags=re.M)[0]


def listed(name: str, what: str) -> set[str]:
    """The names after `Takes:` or `Emits:`."""
    line = re.findall(rf"^{what}: (.*)\.$", section(name), re.M)
    return set(re.findall(r"`(\w+)`", line[0]))


def handled(machine: type[Any]) -> set[str]:
    """Messages for which a machine has a method: by its name, or by what it takes."""
    found: set[str] = set()
    for name, method in inspect.getmembers(machine, inspect.isfunction):
        if not name.startswith("on_"):
            continue
        camel = name.removeprefix("on_").title().replace("_", "")
        hints = typing.get_type_hints(method).values()
        kinds = {kind.__name__ for hint in hints for kind in typing.get_args(hint) or (hint,)
                 if kind in MESSAGES.values()}  # fmt: skip
        found |= kinds or ({camel} & set(MESSAGES))
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_the_page_says_what_a_machine_takes_and_emits(name: str):
    machine = MACHINES[name]
    assert listed(name, "Takes") == handled(machine)
    documentation = inspect.getdoc(machine) or ""
    (emits,) = re.findall(r"Emits: (.*?)\.\n", documentation, re.S)
    named = set(re.findall(r"`(\w+)", emits)) & EFFECTS
    assert listed(name, "Emits") == named | {"Send"}


def test_every_machine_and_every_message_is_on_the_page():
    made = set(re.findall(r"= (\w+Machine)\(", inspect.getsource(PeerMachine)))
    assert made == {machine.__name__ for machine in MACHINES.values()}
    of_the_shell = {"GetRound", "Round", "DataPort"}  # states of audited rounds; connections
    taken = set().union(*(listed(name, "Takes") for name in MACHINES))
    assert taken == set(MESSAGES) - of_the_shell
