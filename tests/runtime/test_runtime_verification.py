"""Whole sessions that verify each other: assigned data, beacon, committees, evidence, bans."""

import threading
import time

import jax.numpy as jnp
import optax
import pytest

from gossipjax import data
from gossipjax.runtime.config import load_config
from gossipjax.runtime.session import SessionOptions, train_peer
from gossipjax.simulation.misbehavior import with_flipped_labels
from gossipjax.training import Workload, public_samples

PEERS, CHEAT, DEADLINE_S = 4, 3, 90


def softmax_digits():
    """Softmax regression on scikit-learn's digits: its steps cost nothing."""
    digits = data.digits()
    inputs = digits.train_inputs.reshape(len(digits.train_inputs), -1)

    def loss(params, batch, key):
        logits = batch["inputs"] @ params["kernel"] + params["bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return losses.mean(), {}

    return Workload(
        init=lambda key: {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)},
        loss=loss,
        batches=lambda shard, seed, start: iter(()),
        evaluate=lambda params: {},
        optimizer=optax.sgd(0.1, 0.9),
        public=public_samples({"inputs": inputs, "labels": digits.train_labels}, 32),
    )


@pytest.mark.parametrize("policy", ["audit", "gate"])
def test_a_cheat_among_real_peers_is_banned_by_all_and_no_other(policy):
    records, joins = {}, []
    listens, stop = threading.Event(), threading.Event()
    deadline_s = time.monotonic() + DEADLINE_S

    def run(index):
        def started(swarm):
            joins.append(swarm.join_string)
            listens.set()

        def after_round(record):
            records[index] = record
            others = [records.get(peer, {}) for peer in range(PEERS - 1)]
            is_done = all(other.get("banned") and other["updates_mixed"] for other in others)
            if is_done or time.monotonic() > deadline_s:
                stop.set()
            time.sleep(0.1)  # a round of a real model

        workload = softmax_digits()
        config = load_config(
            {"listen": "tcp://127.0.0.1:0", "round_steps": 10, "join": joins[:1]},
            **{f"rules.{name}": value for name, value in rules.items()},
        )
        train_peer(
            with_flipped_labels(workload, 10) if index == CHEAT else workload,
            config,
            SessionOptions(assigned=True),
            on_start=started,
            on_round=after_round,
            stop=stop,
        )

    rules = {
        "policy": policy,
        "claims": True,
        "epoch_s": 3,
        "founding_epochs": 2,
        "audit_percent": 50,
    }
    threads = [threading.Thread(target=run, args=(index,)) for index in range(PEERS)]
    threads[0].start()
    assert listens.wait(60)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S + 30)
    cheat = records[CHEAT]["peer"]
    for peer in range(PEERS - 1):
        banned = records[peer]["banned"]
        assert list(banned) == [cheat], f"peer {peer} under {policy}"
        assert banned[cheat]["reason"] in ("fault", "false accusation")
        assert len(banned[cheat]["evidence_id"]) == 64
        assert records[peer]["updates_mixed"] > 0
        assert records[peer]["updates_refused"].keys() <= {"stalled", "evidence"}
