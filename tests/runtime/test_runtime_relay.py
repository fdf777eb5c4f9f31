"""Peers that nobody can dial, over ZeroMQ: between processes, through a relay."""

import logging
from pathlib import Path

import jax.numpy as jnp
from peer_processes import QUICK, peer_process
from runtime_chaos import free_port
from runtime_peers import wait_until

import gossipjax as gj
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.runtime.journal import replay
from gossipjax.runtime.mailbox import Arrival
from gossipjax.types import PeerId

SIZE = 600_000  # three chunks
HIDDEN = {**QUICK, "public_address": "none"}


def test_two_undialable_peers_exchange_through_a_relay(tmp_path: Path, monkeypatch):
    params = {"w": jnp.zeros(SIZE)}
    path = tmp_path / "hidden.journal"
    quickly = {"protocol": {**QUICK["protocol"], "relay_bytes_per_s": 256 << 20}}
    with peer_process(size=SIZE, value=0.0, config=quickly) as relay:
        config = {**HIDDEN, "join": [relay.join_string], "journal_file": str(path)}
        with (
            gj.join(config, params) as one,
            peer_process(relay.join_string, size=SIZE, value=0.0, config=HIDDEN) as other,
        ):
            assert one.join_string == "" == other.first["join"]
            others = {relay.first["id"], other.first["id"]}
            authors: dict[PeerId, int] = {}
            take = one._host.mailbox.take

            def noted(count: int) -> list[Arrival]:
                arrivals = take(count)
                for arrival in arrivals:
                    authors[arrival.author] = authors.get(arrival.author, 0) + 1
                return arrivals

            monkeypatch.setattr(one._host.mailbox, "take", noted)

            def exchanged() -> bool:
                one.mix(params, steps=0, samples=1)
                through = authors.get(PeerId(bytes.fromhex(other.first["id"])), 0)
                return through > 3 and {peer.hex() for peer in one.neighbor_versions} == others

            wait_until(exchanged, 60)
            assert other.last["ids"] != [relay.first["id"]]
            assert other.last["mixed"] > 3
            assert one.metrics().updates_refused == {}
            relay.end()
            wait_until(lambda: one.neighbors == 0 and other.last["neighbors"] == 0, 10)
    ended = replay(path, ed25519_suite())
    assert ended.divergence == ""
    assert ended.events > 20


def test_a_peer_learns_whether_others_can_reach_it(caplog):
    caplog.set_level(logging.INFO, "gossipjax.reachability")
    params = {"w": jnp.zeros(3)}
    impatient = {**QUICK["protocol"], "connect_timeout_ns": 500_000_000}
    config = {**QUICK, "protocol": impatient}
    with gj.join(config, params) as first:
        wrong = {**config, "public_address": f"tcp://127.0.0.1:{free_port()}"}
        with gj.join({**wrong, "join": [first.join_string]}, params) as second:
            wait_until(lambda: second._host.status.is_reachable is not None, 30)
            assert second._host.status.is_reachable is False
            assert first._host.status.is_reachable is True
            assert first.neighbors == second.neighbors == 1
    words = [record.getMessage() for record in caplog.records]
    assert [text for text in words if "can reach this peer at" in text]
    assert [
        text for text in words if f"cannot reach this peer at {wrong['public_address']}" in text
    ]
