"""Peers as operating system processes on 127.0.0.1: attacks, kills, pauses, restarts."""

import subprocess
import sys
import time
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest
from peer_processes import HERE, QUICK, PeerProcess, peer_process
from runtime_peers import wait_until

import gossipjax as gj
from gossipjax.runtime.mailbox import Arrival
from gossipjax.runtime.swarm import Swarm

SIZE = 600_000  # three chunks

REASONS = {
    "not_a_number": "nonfinite",
    "infinity": "nonfinite",
    "huge": "norm",
    "other_shape": "shape",
    "other_size": "size",
    "other_run": "protocol",
    "of_somebody_else": "author",
    "replayed": "replay",
    "out_of_sequence": "sequence",
    "unsigned": "signature",
    "signed_with_another_key": "signature",
    "signed_for_another_purpose": "signature",
    "other_chunks_than_announced": "root",
    "short_chunks": "size",
    "chunks_that_nobody_asked_for": "unsolicited",
    "asking_for_chunks_that_are_not": "credit",
    "garbage": "malformed",
    "greeting_again": "malformed",
}


class Attackers:
    """A victim with an honest neighbor, and a process that attacks it on demand."""

    def __init__(self, victim: Swarm, friend: PeerProcess, attacker: "subprocess.Popen[str]"):
        self.victim = victim
        self.friend = friend
        self.attacker = attacker
        self.params = {"w": jnp.zeros(SIZE)}

    def launch(self, name: str) -> None:
        assert self.attacker.stdin is not None
        assert self.attacker.stdout is not None
        self.attacker.stdin.write(f"{name}\n")
        self.attacker.stdin.flush()
        if name:
            assert self.attacker.stdout.readline().strip() == name

    def mix(self) -> None:
        self.params = self.victim.mix(self.params, steps=0, samples=1)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def attackers() -> Iterator[Attackers]:
    params = {"w": jnp.zeros(SIZE)}
    with (
        gj.join(QUICK, params) as victim,
        peer_process(victim.join_string, size=SIZE) as friend,
        subprocess.Popen(
            [sys.executable, str(HERE / "process_attacker.py"), victim.join_string, str(SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as attacker,
    ):
        try:
            yield Attackers(victim, friend, attacker)
        finally:
            attacker.kill()


def test_what_the_attacker_sends_when_it_is_honest_is_mixed(attackers, monkeypatch):
    mailbox, authors = attackers.victim._host.mailbox, set()
    take = mailbox.take

    def noted(count: int) -> list[Arrival]:
        arrivals = take(count)
        authors.update(arrival.author for arrival in arrivals)
        return arrivals

    monkeypatch.setattr(mailbox, "take", noted)
    attackers.launch("honest")

    def from_both() -> bool:
        attackers.mix()
        return len(authors) == 2

    wait_until(from_both, 30)
    assert attackers.victim.metrics().updates_refused == {}
    attackers.launch("")
    wait_until(lambda: attackers.victim.neighbors == 1)


@pytest.mark.parametrize("name", REASONS)
def test_an_attack_is_refused_counted_and_without_effect(attackers, name):
    victim, reason = attackers.victim, REASONS[name]
    before, mixed_before = victim.metrics().updates_refused, victim.metrics().updates_mixed
    friend_before = attackers.friend.last["mixed"]
    attackers.launch(name)

    def refused() -> bool:
        attackers.mix()
        return victim.metrics().updates_refused.get(reason, 0) > before.get(reason, 0)

    wait_until(refused, 30)
    attackers.launch("")

    def goes_on() -> bool:
        attackers.mix()
        return (
            victim.metrics().updates_mixed > mixed_before + 2
            and attackers.friend.last["mixed"] > friend_before
            and victim.neighbors == 1
        )

    wait_until(goes_on, 30)
    after = victim.metrics().updates_refused
    assert {key for key in after if after[key] != before.get(key, 0)} == {reason}
    # All that is honest here is zeros, and all that is not is not.
    assert np.asarray(attackers.params["w"]).tobytes() == bytes(4 * SIZE)
    assert attackers.friend.last["value"] == 0.0


def test_a_killed_peer_comes_back_as_itself(tmp_path):
    params = {"w": jnp.zeros(10)}
    config = {"state_dir": str(tmp_path)}
    with gj.join(QUICK, params) as swarm:

        def mixed_more() -> bool:
            nonlocal params
            params = swarm.mix(params, steps=1)
            return swarm.metrics().updates_mixed > mixed + 3

        identities = []
        for _ in range(2):
            mixed = swarm.metrics().updates_mixed
            with peer_process(swarm.join_string, value=1.0, config=config):
                wait_until(mixed_more, 30)
                identities.append(list(swarm._host._links._links))
            # Killed. Nobody has said goodbye.
            slowest_s = 0.0
            for _ in range(50):
                started_s = time.monotonic()
                swarm.mix(params)
                slowest_s = max(slowest_s, time.monotonic() - started_s)
                time.sleep(0.005)
            assert slowest_s < 0.5
        assert identities[0] == identities[1]
        assert len(identities[0]) == 1
        assert swarm.metrics().updates_refused == {}


def test_a_paused_neighbor_delays_nobody():
    params = {"w": jnp.zeros(SIZE)}
    with gj.join(QUICK, params) as swarm, peer_process(swarm.join_string, size=SIZE) as peer:

        def mixed_more(count: int) -> bool:
            nonlocal params
            params = swarm.mix(params, steps=1)
            time.sleep(0.01)
            return swarm.metrics().updates_mixed > count

        wait_until(lambda: mixed_more(2), 30)
        peer.pause()
        try:
            took_s = []
            for _ in range(100):
                started_s = time.monotonic()
                params = swarm.mix(params, steps=1)
                took_s.append(time.monotonic() - started_s)
                time.sleep(0.01)
            assert sorted(took_s)[50] < 0.1
            assert max(took_s) < 0.5
            started_s = time.monotonic()
        finally:
            peer.unpause()
        count = swarm.metrics().updates_mixed
        wait_until(lambda: mixed_more(count + 2), 30)
        assert swarm.metrics().updates_refused == {}


def test_closing_does_not_wait_for_a_paused_neighbor():
    params = {"w": jnp.zeros(SIZE)}
    swarm = gj.join(QUICK, params)
    with peer_process(swarm.join_string, size=SIZE) as peer:
        wait_until(lambda: peer.last.get("neighbors"), 30)
        peer.pause()
        for _ in range(10):
            swarm.mix(params)
            time.sleep(0.02)
        started_s = time.monotonic()
        swarm.close()
        assert time.monotonic() - started_s < 3


def test_a_late_joiner_adopts_and_a_leaver_is_missed_by_nobody():
    with peer_process(value=2.0, size=SIZE, version=1000, steps=1) as first:
        with peer_process(first.join_string, value=2.0, size=SIZE, version=1000) as second:
            wait_until(lambda: first.last.get("mixed") and second.last.get("mixed"), 30)
            params = {"w": jnp.zeros(SIZE)}
            with gj.join({**QUICK, "join": [second.join_string]}, params) as late:

                def adopted() -> bool:
                    nonlocal params
                    params = late.mix(params, steps=0)
                    return late.metrics().updates_mixed > 0

                wait_until(adopted, 30)
                assert np.asarray(params["w"]).tolist() == [2.0] * SIZE
                assert late.version >= 1000
                wait_until(lambda: late.neighbors == 2)
                second.end()
                wait_until(lambda: late.neighbors == 1, 3)
                count = late.metrics().updates_mixed

                def goes_on() -> bool:
                    nonlocal params
                    params = late.mix(params, steps=1)
                    return late.metrics().updates_mixed > count + 2

                wait_until(goes_on, 30)
            wait_until(lambda: first.last["neighbors"] == 0, 3)
        # What counted nothing was told to nobody: the others never left their value.
        assert first.last["value"] == 2.0


def run_script(script: str, timeout: float = 30) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout, check=False
    )


def test_a_program_that_ends_without_closing_ends():
    params = {"w": jnp.zeros(3)}
    with gj.join(QUICK, params) as swarm:
        script = (
            "import gossipjax as gj, jax.numpy as jnp, time\n"
            "params = {'w': jnp.zeros(3)}\n"
            f"swarm = gj.join({ {**QUICK, 'join': [swarm.join_string]}!r}, params)\n"
            "while not swarm.neighbors: time.sleep(0.01)\n"
            "swarm.mix(params)\n"
            "raise SystemExit(3)\n"
        )
        ended = run_script(script)
        assert (ended.returncode, ended.stderr) == (3, "")
        wait_until(lambda: swarm.neighbors == 0, 2)


def test_a_forked_child_is_told_to_join_itself():
    script = (
        "import os, sys, warnings, gossipjax as gj, jax.numpy as jnp\n"
        "warnings.simplefilter('ignore')\n"
        "params = {'w': jnp.zeros(3)}\n"
        f"with gj.join({QUICK!r}, params) as swarm:\n"
        "    child = os.fork()\n"
        "    try:\n"
        "        swarm.mix(params)\n"
        "    except gj.LocalProtocolError as error:\n"
        "        print('child:', error, flush=True)\n"
        "        swarm.close()\n"
        "        os._exit(0)\n"
        "    print('parent', os.waitpid(child, 0)[1], swarm.mix(params) is params)\n"
    )
    ended = run_script(script)
    assert ended.returncode == 0, ended.stderr
    child, parent = ended.stdout.splitlines()
    assert child.startswith("child: this process was forked off")
    assert parent == "parent 0 True"


def test_importing_the_library_is_light():
    script = (
        "import sys, gossipjax, gossipjax.protocol, gossipjax.crypto, gossipjax.wire.envelope\n"
        "import gossipjax.runtime.config\n"
        "print([name for name in ('jax', 'flax', 'zmq', 'optax') if name in sys.modules])\n"
        "gossipjax.gossip\n"
        "print('jax' in sys.modules)\n"
    )
    ended = run_script(script)
    assert ended.stdout.splitlines() == ["[]", "True"], ended.stderr
