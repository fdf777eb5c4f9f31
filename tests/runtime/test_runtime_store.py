"""The state folder: keys that only their owner reads, numbers never given out twice."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import msgspec
import numpy as np
import pytest

import gossipjax as gj
from gossipjax.errors import LocalProtocolError
from gossipjax.runtime.store import (
    DATABASE_FILE,
    KEY_FILE,
    Store,
    create_key_file,
    open_identity,
    read_key_file,
)
from gossipjax.types import PeerId, RunId
from gossipjax.wire.messages import Sealed

BOOK = 8


def record(number: int) -> tuple[PeerId, Sealed]:
    return PeerId(number.to_bytes(32, "big")), Sealed(b"body %d" % number, bytes(64))


def test_a_key_file_is_for_its_owner_and_gives_the_same_identity_again(tmp_path):
    path = tmp_path / "state" / KEY_FILE
    identity = create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path) == identity
    assert os.listdir(path.parent) == [KEY_FILE]


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / KEY_FILE
    identity = create_key_file(path)
    with pytest.raises(LocalProtocolError, match="never overwritten"):
        create_key_file(path)
    assert read_key_file(path) == identity
    assert os.listdir(tmp_path) == [KEY_FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / KEY_FILE
    create_key_file(path)
    path.chmod(mode)
    with pytest.raises(LocalProtocolError, match="run: chmod 600"):
        read_key_file(path)
    with pytest.raises(LocalProtocolError, match="run: chmod 600"):
        open_identity(tmp_path)


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "zz" * 32, "ключ"])
def test_other_files_are_no_key_files(tmp_path, text):
    path = tmp_path / KEY_FILE
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(LocalProtocolError, match="expected 64 hexadecimal digits"):
        read_key_file(path)


def test_a_link_in_place_of_a_key_file_is_not_followed(tmp_path):
    create_key_file(tmp_path / "real")
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "real")
    with pytest.raises(LocalProtocolError, match=KEY_FILE):
        open_identity(tmp_path)


def test_identities_without_a_folder_are_new_each_time(tmp_path):
    assert open_identity(None) != open_identity(None)
    assert open_identity(tmp_path) == open_identity(tmp_path)


def test_sequence_numbers_increase_and_go_on_after_a_restart(tmp_path):
    store = Store(tmp_path, BOOK)
    first = [store.next_sequence() for _ in range(200)]
    store.close()
    store.close()
    store = Store(tmp_path, BOOK)
    second = [store.next_sequence() for _ in range(200)]
    store.close()
    assert first[0] > 0
    assert first + second == sorted(set(first + second))


def test_sequence_numbers_are_not_used_again_after_a_kill(tmp_path):
    script = (
        "import os, sys, signal; from pathlib import Path;"
        "from gossipjax.runtime.store import Store;"
        "store = Store(Path(sys.argv[1]), 8);"
        "print(*(store.next_sequence() for _ in range(int(sys.argv[2]))), flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    used: list[int] = []
    for count in (1, 63, 64, 65, 5):
        life = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), str(count)],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert life.returncode == -signal.SIGKILL, life.stderr
        used += map(int, life.stdout.split())
    assert len(used) == 198
    assert used == sorted(set(used))


def test_a_folder_has_one_user(tmp_path):
    store = Store(tmp_path, BOOK)
    with pytest.raises(LocalProtocolError, match="in use by another peer"):
        Store(tmp_path, BOOK)
    store.close()
    Store(tmp_path, BOOK).close()


def test_the_book_is_remembered_newest_last_and_bounded(tmp_path):
    store = Store(tmp_path, BOOK)
    for number in [*range(20), 15]:
        store.remember(*record(number))
    store.close()
    store = Store(tmp_path, BOOK)
    bodies = {sealed.body for sealed in store.book()}
    assert bodies == {record(number)[1].body for number in range(12, 20)}
    store.remember(PeerId(record(15)[0]), Sealed(b"newer", bytes(64)))
    store.remember(*record(30))
    store.close()
    store = Store(tmp_path, BOOK)
    bodies = {sealed.body for sealed in store.book()}
    store.close()
    assert len(bodies) == BOOK
    assert b"newer" in bodies
    assert record(15)[1].body not in bodies
    assert record(30)[1].body in bodies


def test_memory_only_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(None, BOOK)
    assert store.next_sequence() == 1
    store.remember(*record(1))
    assert [sealed.body for sealed in store.book()] == [b"body 1"]
    store.close()
    assert os.listdir(tmp_path) == []


def test_a_damaged_database_is_named_and_the_folder_released(tmp_path):
    (tmp_path / DATABASE_FILE).write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(
            LocalProtocolError, match=r"peer\.sqlite: .*move the whole state folder"
        ):
            Store(tmp_path, BOOK)


def test_what_is_known_of_others_is_kept_per_run(tmp_path):
    one, other = RunId(bytes(32)), RunId(bytes([1]) * 32)
    with closing(Store(tmp_path, 8)) as store:
        assert store.ledger(one) is None
        store.keep_ledger(one, b"first")
        store.keep_ledger(one, b"second")
    with closing(Store(tmp_path, 8)) as store:
        assert (store.ledger(one), store.ledger(other)) == (b"second", None)


def test_bans_are_shown_and_kept_by_a_peer_that_starts_again(tmp_path):
    rules = {"policy": "audit", "epoch_s": 1000}
    settings = {"listen": "tcp://127.0.0.1:0", "state_dir": str(tmp_path), "rules": rules}
    params, cheat = {"w": np.zeros(4, np.float32)}, bytes([7]) * 32
    epoch = int(time.time()) // 1000
    with gj.join(settings, params) as peer:
        run = peer._host._run
    with closing(Store(tmp_path, 8)) as store:
        kept = msgspec.msgpack.decode(store.ledger(run) or b"")
        kept[0][2].append([cheat, epoch, "0"])
        kept[1][cheat] = ["fault", bytes(32), 5]
        store.keep_ledger(run, msgspec.msgpack.encode(kept))
    for _ in range(2):
        with gj.join(settings, params) as peer:
            shown = peer.describe()["banned"][cheat.hex()]
            assert shown == {"reason": "fault", "evidence_id": "00" * 32, "after_updates": 5}
