"""Counters shared by two threads, and the JSON-lines file."""

import json
import threading

from gossipjax.runtime.metrics import Conviction, JsonLines, Metrics
from gossipjax.types import PeerId


def test_counts_add_up_across_threads():
    metrics = Metrics()

    def work():
        for _ in range(1000):
            metrics.sent(3)
            metrics.received(2)
            metrics.refused("norm")
            metrics.stranger_refused()
            metrics.mixed([1.0, 2.0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = metrics.snapshot()
    assert snapshot.bytes_out == 12000
    assert snapshot.bytes_in == 8000
    assert snapshot.updates_refused == {"norm": 4000}
    assert snapshot.strangers_refused == 4000
    assert snapshot.updates_mixed == 8000


def test_bans_are_kept_until_they_are_found_wrong():
    metrics, peer = Metrics(), PeerId(bytes(32))
    conviction = Conviction("fault", bytes(32), 7)
    metrics.banned(peer, conviction)
    before = metrics.snapshot()
    metrics.pardoned(peer)
    metrics.pardoned(peer)
    assert before.banned == {peer: conviction}
    assert metrics.snapshot().banned == {}


def test_a_snapshot_does_not_change():
    metrics = Metrics()
    metrics.refused("root")
    before = metrics.snapshot()
    metrics.refused("root")
    metrics.mixed([5.0])
    assert before.updates_refused == {"root": 1}
    assert before.staleness == []


def test_staleness_of_the_last_updates():
    metrics = Metrics()
    assert metrics.snapshot().staleness_p50 == 0.0
    assert metrics.snapshot().staleness_max == 0.0
    metrics.mixed([9.0, 1.0, 4.0])
    assert metrics.snapshot().staleness_p50 == 4.0
    assert metrics.snapshot().staleness_max == 9.0
    for _ in range(50):
        metrics.mixed([1.0] * 100)
    assert metrics.snapshot().staleness_max == 1.0  # bounded: the old ones give way
    assert metrics.snapshot().updates_mixed == 5003


def test_lines_are_there_as_soon_as_they_are_written(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    lines = JsonLines(path)
    lines.write({"round": 1, "loss": 0.5})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"round": 1, "loss": 0.5}
    ]
    lines.close()
    lines.close()
    lines = JsonLines(path)  # a restart appends
    lines.write({"round": 2})
    lines.close()
    assert len(path.read_text().splitlines()) == 2
