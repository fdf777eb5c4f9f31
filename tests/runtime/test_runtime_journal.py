"""A journal gives back what a real peer did, holds no secrets, and outlives a crash."""

import stat
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from peer_processes import QUICK
from runtime_peers import wait_until

import gossipjax as gj
from gossipjax import peer
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.errors import LocalProtocolError
from gossipjax.protocol.effects import Send
from gossipjax.protocol.events import DeadlinePassed, PeerLost
from gossipjax.runtime import journal as journals
from gossipjax.runtime.journal import Journal, replay
from gossipjax.runtime.store import KEY_FILE, read_key_file
from gossipjax.types import PeerId
from gossipjax.wire.messages import GetPeers

SUITE = ed25519_suite()
SIZE = 300_000  # two chunks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lives of a peer that exchanges with another one, each with a journal."""
    folder = tmp_path_factory.mktemp("journals")
    params = {"w": jnp.full((SIZE,), 1.2345678)}
    with gj.join(QUICK, params) as other:
        for life in ("first", "second"):
            config: dict[str, Any] = {
                **QUICK,
                "join": [other.join_string] if life == "first" else [],
                "state_dir": str(folder / "state"),
                "journal_file": str(folder / f"{life}.journal"),
            }
            with gj.join(config, params) as swarm:

                def exchanged(swarm: gj.Swarm = swarm) -> bool:
                    for one in (swarm, other):
                        one.mix(params, steps=1)
                    return swarm.metrics().updates_mixed > 3

                wait_until(exchanged, 30)
    return folder


def entries(path: Path) -> list[tuple[int, str]]:
    """Where each entry of a journal ends, and what kind of event it is."""
    raw = memoryview(path.read_bytes())
    found = list(journals._entries(raw))
    kinds = [msgspec.msgpack.decode(body, type=journals._Entry) for _, body in found[1:]]
    return [(end, entry.kind) for (end, _), entry in zip(found[1:], kinds, strict=True)]


@pytest.mark.parametrize("life", ["first", "second"])
def test_a_real_peer_is_replayed_to_the_same_effects(folder, life):
    path = folder / f"{life}.journal"
    kinds = {kind for _, kind in entries(path)}
    assert kinds >= {"Received", "PeerConnected", "Published", "Inspected", "Stopping"}
    ended = replay(path, SUITE)
    assert str(ended) == f"{len(entries(path))} events, same effects"


def test_neither_keys_nor_parameters_are_in_it(folder):
    identity = read_key_file(folder / "state" / KEY_FILE)
    root = bytes.fromhex((folder / "state" / KEY_FILE).read_text().strip())
    raw = (folder / "first.journal").read_bytes()
    assert identity.public.transport in raw
    secrets = (root, identity.sign_seed, identity.vrf_seed, identity.transport_secret)
    for secret in secrets:
        assert secret not in raw
        assert secret.hex().encode() not in raw
    assert np.float32(1.2345678).tobytes() * 2 not in raw
    assert len(raw) < SIZE
    assert stat.S_IMODE((folder / "first.journal").stat().st_mode) == 0o600


def test_a_torn_end_is_reported_and_skipped(folder, tmp_path):
    raw = (folder / "first.journal").read_bytes()
    ends = [end for end, _ in entries(folder / "first.journal")]
    torn = tmp_path / "torn.journal"
    for kept in (ends[-2] + 1, ends[-2] + 9, len(raw) - 1):
        torn.write_bytes(raw[:kept])
        assert replay(torn, SUITE) == (len(ends) - 1, "", kept - ends[-2])
    flipped = bytearray(raw)
    flipped[-1] ^= 1
    torn.write_bytes(flipped)
    assert f"skipped {len(raw) - ends[-2]} B of a torn entry" in str(replay(torn, SUITE))


def test_the_first_divergence_is_shown(folder, tmp_path, capsys):
    """The end of one life does not follow from the beginning of the other."""
    first, second = folder / "first.journal", folder / "second.journal"
    begins = [next(journals._entries(memoryview(p.read_bytes())))[0] for p in (first, second)]
    mixed = tmp_path / "mixed.journal"
    mixed.write_bytes(second.read_bytes()[: begins[1]] + first.read_bytes()[begins[0] :])
    with pytest.raises(SystemExit) as ended:
        peer.main(["replay", str(mixed)])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert told.startswith("event ")
    assert " s: " in told
    with pytest.raises(SystemExit) as ended:
        peer.main(["replay", str(first)])
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith(" events, same effects\n")


@pytest.fixture
def beginning(folder) -> journals.Beginning:
    raw = memoryview((folder / "first.journal").read_bytes())
    _, body = next(journals._entries(raw))
    return msgspec.msgpack.decode(body, type=journals.Beginning)


def test_divergences_of_each_kind(beginning, tmp_path):
    def divergence(*notes: Any) -> str:
        journal = Journal(tmp_path / "made.journal", 1 << 20, beginning)
        for event, outcome in notes:
            journal.note(event, 0, outcome)
        journal.close()
        return replay(tmp_path / "made.journal", SUITE).divergence

    effects = beginning.machine(SUITE).handle(DeadlinePassed(), 0)
    assert len(effects) == 1  # it dials
    assert divergence((DeadlinePassed(), effects)) == ""
    assert divergence((DeadlinePassed(), [])).endswith("then 0 effects, now 1: Connect")
    lost = PeerLost(PeerId(bytes(32)))
    assert divergence((lost, effects)).endswith("then 1 effects, now 0: none")
    another = [Send(PeerId(bytes(32)), GetPeers())]
    told = divergence((DeadlinePassed(), another))
    assert "effect 1 of 1 is another one, now Connect(" in told
    assert divergence((lost, KeyError("x"))).endswith("then KeyError('x') was raised, now nothing")


def test_it_ends_at_its_size_limit_and_replays_up_to_there(beginning, tmp_path, caplog):
    path = tmp_path / "small.journal"
    journal = Journal(path, 4096, beginning)
    machine = beginning.machine(SUITE)
    for now_ns in range(0, 10**12, 10**9):
        journal.note(DeadlinePassed(), now_ns, machine.handle(DeadlinePassed(), now_ns))
    assert path.stat().st_size <= 4096
    assert 10 < replay(path, SUITE).events < 1000
    assert caplog.text.count("is full") == 1
    journal.close()


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    path = tmp_path / "other"
    for content in (b"", b"plain text, long enough"):
        path.write_bytes(content)
        with pytest.raises(LocalProtocolError, match="expected a journal"):
            replay(path, SUITE)
    with pytest.raises(LocalProtocolError, match="No such file"):
        replay(tmp_path / "absent", SUITE)
    with pytest.raises(LocalProtocolError, match="journal_file"):
        gj.join({**QUICK, "journal_file": str(path / "below")}, {"w": jnp.zeros(3)})
