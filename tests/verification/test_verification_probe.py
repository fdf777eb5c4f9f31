"""Rung 5: the loss on samples that the author does not know."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from verification_tasks import make_public, make_state, make_task, make_trainer

from gossipjax.verification.probe import Probe, private_coin
from gossipjax.verification.rounds import assigned_batches, run_committed_round


def mean_square(params, batch, key):
    predicted = jax.nn.softplus(batch["inputs"] @ params["w"]) @ params["v"]
    return jnp.mean((predicted - batch["labels"]) ** 2), {}


@pytest.fixture(scope="module")
def round_():
    trainer = make_trainer()
    return run_committed_round(trainer, make_state(trainer), make_task(), 40, 40)


def batches():
    data = make_public()
    private = [data.take(np.arange(8 * i, 8 * i + 8)) for i in range(4)]
    return private, list(itertools.islice(assigned_batches(make_task()), 4))


def test_training_helps_and_a_flipped_update_harms(round_):
    private, assigned = batches()
    start, end = (state.params for state in round_.boundaries)
    probe = Probe(mean_square)
    honest = probe.score(start, end, private, assigned)
    assert honest.private > 0.1
    assert not honest.is_harmful(0.0)
    flipped = jax.tree.map(lambda a, b: a - 3 * (b - a), start, end)
    assert probe.score(start, flipped, private, assigned).is_harmful(0.1)
    unusable = jax.tree.map(lambda leaf: leaf * jnp.nan, end)
    assert probe.score(start, unusable, private, assigned).is_harmful(1e9)


def test_who_trained_on_the_assigned_samples_knows_them_best():
    """Few steps on few samples: the average over authors tells assigned from other samples."""
    trainer, probe, data = make_trainer(), Probe(mean_square), make_public()
    private = [data.take(np.arange(200)[i::25]) for i in range(25)]
    honest, idle = [], []
    for sequence in range(12):
        task = make_task(sequence=sequence, version=100)
        start, end = run_committed_round(trainer, make_state(trainer), task, 4, 4).boundaries
        assigned = list(itertools.islice(assigned_batches(task), 4))
        score = probe.score(start.params, end.params, private, assigned)
        honest.append(score.assigned - score.private)
        idle.append(probe.score(start.params, start.params, private, assigned).is_idle)
    assert np.mean(honest) > 0
    assert all(idle)


def test_the_coin_has_its_share_and_is_private():
    secrets = [bytes([i]) * 32 for i in range(2)]
    roots = [i.to_bytes(32, "big") for i in range(4000)]
    looks = [[private_coin(secret, root, 1, 8) for root in roots] for secret in secrets]
    for each in looks:
        assert abs(sum(each) - 500) < 5 * np.sqrt(4000 / 8 * 7 / 8)
    both = sum(a and b for a, b in zip(*looks, strict=True))
    assert abs(both - 4000 / 64) < 5 * np.sqrt(4000 / 64)
    assert all(private_coin(secrets[0], root, 1, 1) for root in roots)
    assert not any(private_coin(secrets[0], root, 0, 8) for root in roots)
    with pytest.raises(ValueError, match="32 bytes"):
        private_coin(b"", roots[0], 1, 8)
