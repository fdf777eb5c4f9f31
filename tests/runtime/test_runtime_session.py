"""Sessions: train, end together, resume from a checkpoint under the same identity."""

import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gossipjax import data
from gossipjax.errors import LocalProtocolError
from gossipjax.runtime.config import load_config
from gossipjax.runtime.session import SessionOptions, train_peer, with_affordable_audits
from gossipjax.training import Shard, Workload, load_workload, public_samples
from gossipjax.verification.auditor import Auditor


def softmax_digits(learning_rate=0.1):
    """Softmax regression on scikit-learn's digits: reaches 90 % within a second or two."""
    digits = data.digits()
    inputs = digits.train_inputs.reshape(len(digits.train_inputs), -1)
    test_inputs = digits.test_inputs.reshape(len(digits.test_inputs), -1)

    def logits(params, images):
        return images @ params["kernel"] + params["bias"]

    def loss(params, batch, key):
        values = optax.softmax_cross_entropy_with_integer_labels(
            logits(params, batch["inputs"]), batch["labels"]
        )
        return values.mean(), {}

    def batches(shard, seed, start):
        mine = data.partition_shards(digits.train_labels, shard.count, 2, seed=0)[shard.index]
        return data.batches(inputs[mine], digits.train_labels[mine], 32, seed=seed, start=start)

    @jax.jit
    def accuracy(params):
        return (logits(params, test_inputs).argmax(-1) == digits.test_labels).mean()

    return Workload(
        init=lambda key: {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)},
        loss=loss,
        batches=batches,
        evaluate=lambda params: {"accuracy": float(accuracy(params))},
        optimizer=optax.sgd(learning_rate, 0.9),
    )


def settings(folder, **overrides):
    return load_config(
        {
            "listen": "tcp://127.0.0.1:0",
            "round_steps": 5,
            "state_dir": str(folder / "state"),
            "metrics_file": str(folder / "metrics.jsonl"),
        },
        **overrides,
    )


def lines(folder):
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_lone_peer_trains_to_its_target_and_reports_every_round(tmp_path):
    seen = []
    result = train_peer(
        softmax_digits(),
        settings(tmp_path),
        SessionOptions(until_version=100, folder=tmp_path / "checkpoints"),
        on_round=seen.append,
    )
    records = lines(tmp_path)
    assert records == seen
    assert [record["round"] for record in records[:-1]] == list(range(1, 21))
    assert result.record["version"] == result.record["steps"] == 100
    assert result.record["test_accuracy"] > 0.85
    assert not result.interrupted
    assert {"loss", "neighbors", "bytes_in", "bytes_out", "updates_refused"} <= set(records[0])


def test_stopping_ends_after_the_round_and_resuming_goes_on(tmp_path):
    stop = threading.Event()
    options = SessionOptions(until_version=60, folder=tmp_path / "checkpoints")

    def stop_at_30(record):
        if record["version"] >= 30:
            stop.set()

    first = train_peer(
        softmax_digits(), settings(tmp_path), options, on_round=stop_at_30, stop=stop
    )
    assert first.interrupted
    assert first.record["version"] == 30
    second = train_peer(softmax_digits(), settings(tmp_path), options)
    assert not second.interrupted
    assert second.record["steps"] == 60
    assert second.record["peer"] == first.record["peer"]

    whole = train_peer(
        softmax_digits(), settings(tmp_path / "other"), SessionOptions(until_version=60)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), second.params, whole.params
    )


def test_a_time_budget_takes_as_many_steps_as_fit(tmp_path):
    result = train_peer(
        softmax_digits(),
        settings(tmp_path, round_steps=0, round_seconds=0.05),
        SessionOptions(until_version=400),
    )
    assert result.record["steps"] >= 400
    assert len(lines(tmp_path)) < 400


def test_two_peers_with_half_of_the_classes_each_learn_all(tmp_path):
    """Real ZeroMQ between two sessions; each alone cannot know the classes of the other."""
    results = {}
    joins = []
    first_listens = threading.Event()

    def remember(swarm):
        joins.append(swarm.join_string)
        first_listens.set()

    def pace(record):
        time.sleep(0.02)  # a step of a real model; without it the run ends before they have met

    def run(index, **overrides):
        folder = tmp_path / str(index)
        options = SessionOptions(Shard(index, 5), until_version=400, seed=1, linger_seconds=20)
        results[index] = train_peer(
            softmax_digits(),
            settings(folder, **overrides),
            options,
            on_start=remember if index == 0 else lambda swarm: None,
            on_round=pace,
        )

    threads = [threading.Thread(target=run, args=(0,))]
    threads[0].start()
    assert first_listens.wait(30)
    for index in range(1, 5):
        threads.append(threading.Thread(target=run, args=(index,), kwargs={"join": joins}))
        threads[-1].start()
    for thread in threads:
        thread.join(90)
    assert sorted(results) == list(range(5))
    alone = train_peer(
        softmax_digits(),
        settings(tmp_path / "alone"),
        SessionOptions(Shard(0, 5), until_version=400, seed=1),
    )
    accuracies = [result.record["test_accuracy"] for result in results.values()]
    assert min(accuracies) > alone.record["test_accuracy"] + 0.2
    assert all(result.record["updates_mixed"] > 0 for result in results.values())


def test_a_failing_workload_closes_the_peer_and_says_what_failed(tmp_path):
    broken = softmax_digits()._replace(evaluate=lambda params: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_peer(broken, settings(tmp_path), SessionOptions(until_version=10))
    assert not [t for t in threading.enumerate() if t.name == "gossipjax"]


def test_assigned_data_decide_a_round_whatever_the_shard(tmp_path):
    """Two peers of one identity and one start train alike, from other shards and seeds."""
    params = []
    for shard in (0, 1):
        state = tmp_path / str(shard) / "state"
        state.mkdir(parents=True)
        if params:
            (state / "peer.key").write_bytes((tmp_path / "0" / "state" / "peer.key").read_bytes())
            (state / "peer.key").chmod(0o600)
        options = SessionOptions(Shard(shard, 2), until_version=40, assigned=True)
        workload = softmax_digits()._replace(public=digits_public())
        result = train_peer(workload, settings(tmp_path / str(shard)), options)
        params.append(result.params)
        assert result.record["test_accuracy"] > 0.7
    jax.tree.map(np.testing.assert_array_equal, *params)


def digits_public():
    digits = data.digits()
    inputs = digits.train_inputs.reshape(len(digits.train_inputs), -1)
    return public_samples({"inputs": inputs, "labels": digits.train_labels}, 32)


@pytest.mark.parametrize(("steps", "given", "expected"), [(5, 0, 1), (50, 0, 2), (50, 40, 40)])
def test_how_much_is_audited_follows_from_the_budget_unless_it_is_given(
    tmp_path, steps, given, expected
):
    config = settings(tmp_path, round_steps=steps, **{"rules.audit_percent": given})
    chosen = with_affordable_audits(config, Auditor(load_workload("digits")))
    assert chosen.rules.audit_percent == expected


def test_data_can_be_assigned_only_where_they_are_public_and_rounds_have_steps(tmp_path):
    options = SessionOptions(until_version=10, assigned=True)
    with pytest.raises(LocalProtocolError, match="no public data"):
        train_peer(softmax_digits(), settings(tmp_path), options)
    public = softmax_digits()._replace(public=digits_public())
    with pytest.raises(LocalProtocolError, match="set round_steps"):
        train_peer(public, settings(tmp_path, round_steps=0), options)
