"""Audits between real peers: over ZeroMQ, from the author's bytes alone."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

import gossipjax as gj
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.runtime.audits import Archive
from gossipjax.simulation.misbehavior import misbehavior
from gossipjax.training import LocalTrainer, load_workload
from gossipjax.verification.auditor import Auditor
from gossipjax.verification.rounds import NOT_DRAWN, Drawn, run_committed_round
from gossipjax.wire import limits
from gossipjax.wire.commitment import RoundCommitment, check_opening
from gossipjax.wire.merkle import leaf_hash, proves
from gossipjax.wire.messages import Get, RoundClaim, UpdateHeader

STEPS = 5  # one segment: every audit sees the whole round
CONFIG = {"listen": "tcp://127.0.0.1:0", "round_steps": 1}


@pytest.fixture(scope="module")
def workload():
    return load_workload("digits")


@functools.cache  # so that the peers of all tests share what is compiled
def auditor_of(workload):
    return Auditor(workload)


@functools.cache
def trainer_of(workload):
    return LocalTrainer(workload.loss, workload.optimizer)


@contextmanager
def two_peers(workload, algorithm=None):
    params = workload.init(jax.random.key(0))
    with (
        gj.join(CONFIG, params, algorithm, auditor=auditor_of(workload)) as author,
        gj.join(CONFIG, params, auditor=auditor_of(workload), join=[author.join_string]) as peer,
    ):
        wait_until(lambda: peer.neighbors and author.neighbors)
        wait_until(
            lambda: peer.has_caught_up and author.has_caught_up
        )  # before it, nothing is told
        yield author, peer


def wait_until(condition):
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def share_a_round(workload, author, trained=None, drawn=NOT_DRAWN):
    """Train as the author's own session would, on what `trained` is, and share."""
    auditor = auditor_of(workload)
    trained = trained or workload
    trainer = trainer_of(trained)
    state = trainer.init(trained.init(jax.random.key(0)), key=jax.random.key(1))
    sequence = author.next_sequence()
    task = auditor.task(author.id, sequence, author.version, drawn)._replace(data=trained.public)
    done = run_committed_round(trainer, state, task, STEPS, auditor.segment_steps)
    author.mix(done.state.params, steps=STEPS, samples=160, sequence=sequence, done=done)


def audit(author, peer):
    wait_until(lambda: peer.audit(author.id) is not None)
    return peer.audit(author.id)


def test_an_honest_round_is_sound_again_and_again(workload):
    with two_peers(workload) as (author, peer):
        assert peer.audit(author.id) is None  # nothing taken yet
        share_a_round(workload, author)
        assert audit(author, peer) is True
        first = peer._host._taken[author.id]
        share_a_round(workload, author, drawn=Drawn(7, bytes(range(64))))
        wait_until(lambda: peer._host._taken[author.id] is not first)
        claim = peer._host._taken[author.id].claim
        assert claim is not None
        assert claim.epoch == 7
        assert audit(author, peer) is True
        assert author.audit(peer.id) is None
        assert peer.metrics().updates_refused == author.metrics().updates_refused == {}


@pytest.mark.parametrize("name", ["label_flip", "sign_flip", "lazy"])
def test_cheats_in_training_and_in_the_payload_are_found(workload, name):
    cheat = misbehavior(name)
    algorithm = cheat.algorithm(gj.gossip())
    with two_peers(workload, algorithm) as (author, peer):
        share_a_round(workload, author, cheat.workload(workload))
        assert audit(author, peer) is False


def test_what_shows_a_fault_outlives_its_author(workload):
    """A peer that has met the author never finds the fault with what another one has kept."""
    cheat = misbehavior("lazy").workload(workload)
    with two_peers(workload) as (author, peer):
        share_a_round(workload, author, cheat)
        assert audit(author, peer) is False
        header = peer._host._taken[author.id]
        author.close()
        params = workload.init(jax.random.key(0))
        with gj.join(CONFIG, params, auditor=auditor_of(workload), join=[peer.join_string]) as late:
            wait_until(lambda: peer.id in late.neighbor_versions)
            late._host._taken[author.id] = header
            assert late.audit(author.id) is False
            late._host._taken[author.id] = msgspec.structs.replace(header, sequence=99)
            assert late.audit(author.id) is None


def test_a_committed_state_with_nan_is_refused_though_training_on_from_it_gives_nan(workload):
    auditor, trainer = auditor_of(workload), trainer_of(workload)
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, workload.init(jax.random.key(0)))
    packed = auditor.form.pack(trainer.init(params, key=jax.random.key(1)))
    header = UpdateHeader(
        run=bytes(32),
        author=bytes(32),
        sequence=1,
        version=STEPS,
        samples=160,
        manifest=auditor.form.params.digest,
        size=auditor.form.params.nbytes,
        root=packed.params_tree.root,
        claim=RoundClaim(0, STEPS, 1, bytes(32)),
    )
    with pytest.raises(RemoteProtocolError, match="nonfinite"):
        auditor.redo(header, 0, (packed.params, packed.rest))


def test_an_update_that_claims_no_round_is_no_fault(workload):
    """A peer that has ended goes on exchanging without training: there is nothing to redo."""
    with two_peers(workload) as (author, peer):
        author.mix(workload.init(jax.random.key(0)), steps=0)
        wait_until(lambda: author.id in peer._host._taken)
        assert peer.audit(author.id) is None


def test_audits_of_one_update_do_not_take_each_others_answers(workload):
    with two_peers(workload) as (author, peer), ThreadPoolExecutor(4) as pool:
        share_a_round(workload, author)
        wait_until(lambda: author.id in peer._host._taken)
        assert [*pool.map(lambda _: peer.audit(author.id), range(4))] == [True] * 4


def test_an_author_that_does_not_have_its_round_any_more_is_told_from_one_that_lies(workload):
    with two_peers(workload) as (author, peer):
        share_a_round(workload, author)
        assert audit(author, peer) is True
        author._host._archive._entries.clear()
        assert peer.audit(author.id) is None


def test_an_algorithm_that_shares_anything_else_cannot_be_audited(workload):
    params = workload.init(jax.random.key(0))
    with pytest.raises(LocalProtocolError, match="cannot be audited"):
        gj.join(CONFIG, params, "decentralized_momentum", auditor=auditor_of(workload))
    for rules in ({"policy": "gate"}, {"policy": "audit", "claims": True}):
        with pytest.raises(LocalProtocolError, match="pass an auditor"):
            gj.join({**CONFIG, "rules": rules}, params)
    with pytest.raises(LocalProtocolError, match="no public data"):
        Auditor(workload._replace(public=None))


def test_the_archive_serves_its_last_rounds_and_shared_buffers_survive():
    params = {"w": jnp.arange(300_000, dtype=jnp.float32)}
    workload = load_workload("digits")._replace(init=lambda key: params)
    trainer = LocalTrainer(workload.loss, workload.optimizer)
    form = Auditor(workload, trainer).form

    def packed(shift):
        state = trainer.init({"w": params["w"] + shift}, key=jax.random.key(0))
        return form.pack(state)

    states = [packed(shift) for shift in range(4)]
    per_state = len(states[0].params) + len(states[0].rest)
    archive = Archive(bytes_max=4 * per_state)
    for sequence in range(3):  # the end of each is the start of the next
        archive.keep(sequence, states[sequence : sequence + 2])
    assert archive.openings(0, 0) == ()
    assert archive.openings(1, 1) == ()
    root = RoundCommitment([state.digest for state in states[1:3]]).root
    opened = [check_opening(root, 1, opening) for opening in archive.openings(1, 0)]
    assert opened == [states[1].digest, states[2].digest, states[2].digest]
    assert archive.chunks(Get(states[0].params_tree.root, 0, 8)) == []
    chunks = archive.chunks(Get(states[1].params_tree.root, 0, 8))
    assert b"".join(data for _, data in chunks) == bytes(states[1].params)
    assert [len(data) for _, data in chunks] == [limits.CHUNK_BYTES, 1_200_000 - limits.CHUNK_BYTES]
    for chunk, data in chunks:
        assert proves(chunk.root, chunk.index, 2, leaf_hash(data), chunk.proof)
    assert np.frombuffer(bytes(states[2].params), np.float32)[0] == 2
