"""`join` and `mix` with real peers in this process, each with a network thread of its own."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runtime_peers import wait_until

import gossipjax as gj
from gossipjax.errors import LocalProtocolError
from gossipjax.mixing.base import GossipAlgorithm, Needs
from gossipjax.runtime.swarm import Swarm

QUICK: dict[str, Any] = {
    "listen": "tcp://127.0.0.1:0",
    "round_seconds": 0.01,
    "protocol": {"catch_up_settle_ns": 20_000_000, "retry_min_ns": 100_000_000},
}

Join = Callable[..., Swarm]


@pytest.fixture
def join() -> Iterator[Join]:
    """`gj.join` with quick settings; everything is closed at the end."""
    with ExitStack() as stack:

        def make(params: Any, *others: Swarm, algorithm: Any = None, **settings: Any) -> Swarm:
            version = settings.pop("version", 0)
            strings = [other.join_string for other in others]
            config = {**QUICK, "join": strings, **settings}
            return stack.enter_context(gj.join(config, params, algorithm, version=version))

        yield make


def mix_all(swarms: list[Swarm], params: list[Any], **options: Any) -> list[Any]:
    return [swarm.mix(own, **options) for swarm, own in zip(swarms, params, strict=True)]


def mix_until(
    swarms: list[Swarm], params: list[Any], condition: Callable[[list[Any]], Any], **options: Any
) -> list[Any]:
    """Let all swarms mix in turn until the condition on their parameters holds."""

    def step() -> bool:
        params[:] = mix_all(swarms, params, **options)
        return bool(condition(params))

    wait_until(step, 15)
    return params


def spread(params: list[Any]) -> float:
    leaves = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(p)]) for p in params]
    return float(np.ptp(np.stack(leaves), axis=0).max())


def test_two_peers_agree_on_something_in_between(join):
    params: list[Any] = [{"w": jnp.zeros((3, 4)), "b": jnp.float32(5)}]
    params.append({"w": jnp.ones((3, 4)), "b": jnp.float32(7)})
    a = join(params[0])
    b = join(params[1], a)
    params = mix_until([a, b], params, lambda p: spread(p) < 1e-3)
    assert 0.05 < float(params[0]["w"][0, 0]) < 0.95
    assert 5.1 < float(params[0]["b"]) < 6.9
    for swarm in (a, b):
        assert swarm.metrics().updates_mixed > 0
        assert swarm.metrics().updates_refused == {}
        assert swarm.neighbors == 1


def test_three_peers_that_know_only_one_of_them(join):
    params: list[Any] = [{"w": jnp.full((8,), value)} for value in (0.0, 3.0, 6.0)]
    a = join(params[0])
    b = join(params[1], a)
    c = join(params[2], a)
    params = mix_until(
        [a, b, c], params, lambda p: spread(p) < 1e-3 and b.neighbors == c.neighbors == 2
    )
    assert 0.1 < float(params[2]["w"][0]) < 5.9


def test_alone_parameters_come_back_as_they_are(join):
    params = {"w": jnp.ones(4)}
    swarm = join(params)
    for _ in range(5):
        assert swarm.mix(params) is params  # no pass over them that would change nothing
        time.sleep(0.01)
    assert swarm.version == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_floating_dtype_keeps_its_dtype(join, dtype):
    params: list[Any] = [{"w": jnp.full((5,), value, dtype)} for value in (0, 1)]
    a = join(params[0])
    b = join(params[1], a)
    params = mix_until([a, b], params, lambda p: spread(p) < 0.05)
    for own in params:
        assert own["w"].dtype == dtype
        assert 0 < float(own["w"][0]) < 1


def test_a_tree_of_many_shapes_and_dtypes(join):
    def make(value: float) -> Any:
        return {
            "scalar": jnp.float32(value),
            "list": [jnp.full((2, 3), value, jnp.bfloat16), jnp.full((1,), float(value))],
            "nothing": jnp.zeros((0, 4)),
            "none": None,
        }

    params = [make(0), make(1)]
    a = join(params[0])
    b = join(params[1], a)
    params = mix_until([a, b], params, lambda p: spread([p[0]["scalar"], p[1]["scalar"]]) < 0.01)
    assert jax.tree.structure(params[0]) == jax.tree.structure(make(0))


def keep_everything() -> GossipAlgorithm:
    """Its state is parameters as they are, and is read in each round."""
    base = gj.gossip()

    def share(state: Any, params: Any, key: jax.Array) -> Any:
        return params, (params, state[1], state[2])

    def mix(state: Any, params: Any, neighbors: Any) -> Any:
        mixed, inner, info = base.mix(state[2], params, neighbors)
        kept = jax.tree.map(lambda x, *others: x + 0 * sum(others), mixed, *state[:2])
        return kept, (params, kept, inner), info

    return GossipAlgorithm(lambda params: (params, params, base.init(params)), share, mix)


def test_a_peer_that_hears_nothing_mixes_in_every_round_all_the_same(join):
    base = gj.gossip()

    def mix(state: Any, params: Any, neighbors: Any) -> Any:
        mixed, state, info = base.mix(state, params, neighbors)
        return jax.tree.map(lambda x: x + 1, mixed), state, info

    params: Any = {"w": jnp.zeros(3)}
    swarm = join(params, algorithm=base._replace(mix=mix, acts_alone=True), round_steps=1)
    for _ in range(3):
        params = swarm.mix(params)
    np.testing.assert_array_equal(params["w"], 3)


OWN_ALGORITHM = """
import gossipjax as gj

def stubborn(weight: float = 0.0):
    base = gj.gossip()

    def mix(state, params, neighbors):
        return base.mix(state, params, neighbors._replace(weight=weight * neighbors.weight))

    return base._replace(mix=mix)
"""


def test_the_settings_name_the_algorithm(join, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN_ALGORITHM, encoding="utf-8")
    own = {"algorithm": f"{path}:stubborn", "algorithm_options": {"weight": 0}}
    params: list[Any] = [{"w": jnp.zeros(3)}, {"w": jnp.ones(3)}]
    a = join(params[0], **own)
    options = {"mixer": "median", "momentum": 0.5}
    b = join(params[1], a, algorithm="quasi_global_momentum", algorithm_options=options)
    mix_until([a, b], params, lambda p: spread(p) < 0.01 and a.metrics().updates_mixed)
    np.testing.assert_array_equal(params[0]["w"], 0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"algorithm": "gosip"}, "no GossipAlgorithm 'gosip': expected one of ad_psgd, choco"),
        ({"algorithm": "nowhere.py:mine"}, "there is no file 'nowhere.py'"),
        (
            {"algorithm": "quasi_global_momentum", "algorithm_options": {"beta": 0.9}},
            "quasi_global_momentum: .*'beta'. Its options: momentum, decay, mixer",
        ),
        (
            {"algorithm": "quasi_global_momentum", "algorithm_options": {"momentum": 1.5}},
            "momentum must be below 1, got 1.5",
        ),
        ({"algorithm": "gradient_tracking"}, "needs of the transport: lossless;"),
    ],
)
def test_a_wrong_algorithm_in_the_settings_is_refused(join, settings, text):
    with pytest.raises(LocalProtocolError, match=text):
        join({"w": jnp.zeros(3)}, **settings)


def test_an_algorithm_that_needs_what_a_network_cannot_give_is_refused(join):
    demanding = gj.gossip()._replace(needs=Needs(lossless=True, sticky_slots=True))
    with pytest.raises(LocalProtocolError, match="needs of the transport: lossless, sticky_slots;"):
        join({"w": jnp.zeros(3)}, algorithm=demanding)


def test_the_caller_may_donate_parameters(join, caplog):
    step = jax.jit(lambda p: jax.tree.map(lambda x: x + 0.0, p), donate_argnums=0)
    params: list[Any] = [{"w": jnp.zeros(100_000)}, {"w": jnp.ones(100_000)}]
    a = join(params[0], algorithm=keep_everything())
    b = join(params[1], a, algorithm=keep_everything())

    def train(_: list[Any]) -> bool:
        given = list(params)
        params[:] = [step(own) for own in params]
        assert all(own["w"].is_deleted() for own in given)
        return spread(params) < 1e-3 and min(s.metrics().updates_mixed for s in (a, b)) > 5

    train(params)
    mix_until([a, b], params, train)
    assert 0 < float(params[0]["w"][0]) < 1
    assert "defect" not in caplog.text


def test_nothing_compiles_after_join_whatever_arrives(join, count_compilations):
    params: list[Any] = [{"w": jnp.full((64,), value, jnp.float32)} for value in range(4)]
    step = jax.jit(lambda p: jax.tree.map(lambda x: x * 1.0, p))
    step(params[0])
    spread(params)
    first = join(params[0], slots=3)
    swarms = [first, *(join(own, first, slots=3) for own in params[1:])]
    counts: set[int] = set()
    with count_compilations() as compiled:
        mixed = first.metrics().updates_mixed

        def enough(_: list[Any]) -> bool:
            nonlocal mixed
            params[:] = [step(own) for own in params]
            before, mixed = mixed, first.metrics().updates_mixed
            counts.add(mixed - before)
            time.sleep(0.005)
            return counts >= {0, 1, 2}

        mix_until(swarms, params, enough)
    assert compiled == []


def test_versions_are_mixed_with_the_weights_of_the_parameters(join):
    settings = {"round_steps": 1, "protocol": {**QUICK["protocol"], "catch_up_gap": 10_000}}
    params: list[Any] = [{"w": jnp.float32(0)}, {"w": jnp.float32(1)}]
    a = join(params[0], version=1000, **settings)
    b = join(params[1], a, version=100, **settings)
    wait_until(lambda: a.neighbors and b.neighbors and b.has_caught_up)
    a.mix(params[0], steps=10)
    wait_until(lambda: b.waiting)
    mixed = b.mix(params[1], steps=20, samples=1)
    # Not stale for b and with as many samples: weight 1/2. Its claim of 10 samples counts 4 fold.
    weight_of_a = 4 / 5
    assert float(mixed["w"]) == pytest.approx(1 - weight_of_a)
    assert b.version == int(weight_of_a * 1010 + (1 - weight_of_a) * 120)
    assert b.metrics().staleness == [0.0]
    wait_until(lambda: a.waiting)
    before = a.version
    a.fold_in(params[0])
    [staleness] = a.metrics().staleness
    assert staleness == before - 120
    b.mix(mixed, steps=3)
    assert b.version == int(weight_of_a * 1010 + (1 - weight_of_a) * 120) + 3
    discounted = (1 + staleness / 100) ** -0.5  # 1 sample of b against 10 of a
    weight = 0.1 * discounted
    assert a.version == int((before + weight * 120) / (1 + weight))


def test_own_parameters_that_others_would_refuse_are_not_sent(join, caplog):
    a = join({"w": jnp.zeros(3)})
    diverged = {"w": jnp.array([0.0, jnp.nan, 0.0])}
    b = join(diverged, a)
    wait_until(lambda: a.neighbors and b.has_caught_up)
    b.mix(diverged)
    wait_until(lambda: "every peer would refuse" in caplog.text)
    params = [{"w": jnp.zeros(3)}, {"w": jnp.ones(3)}]  # it recovers
    mix_until([a, b], params, lambda p: spread(p) < 0.01)
    assert a.metrics().updates_refused == {}


def test_a_claimed_version_counts_up_to_a_limit(join):
    settings = {"version_lead_max": 50, "protocol": {**QUICK["protocol"], "catch_up_gap": 10**6}}
    params: list[Any] = [{"w": jnp.float32(0)}, {"w": jnp.float32(1)}]
    liar = join(params[0], version=10_000, **settings)
    honest = join(params[1], liar, **settings)
    mix_until([liar, honest], params, lambda _: honest.metrics().updates_mixed, steps=0, samples=1)
    assert honest.version == 25


def test_a_late_joiner_adopts(join):
    donor_params = {"w": jnp.linspace(0, 1, 300_000)}  # more than one chunk
    params: list[Any] = [donor_params, {"w": jnp.zeros(300_000)}]
    donor = join(params[0], version=5000)
    donor.mix(params[0], steps=0)
    joiner = join(params[1], donor)
    assert not joiner.has_caught_up
    offered_before = donor.metrics().bytes_in
    mix_until([donor, joiner], params, lambda _: joiner.metrics().updates_mixed, steps=0)
    np.testing.assert_array_equal(params[1]["w"], donor_params["w"])
    assert joiner.has_caught_up
    assert joiner.version == 5000
    # What the joiner had before counted nothing: it offered nothing.
    np.testing.assert_array_equal(params[0]["w"], donor_params["w"])
    assert donor.metrics().bytes_in - offered_before < 10_000


def test_a_joiner_begins_anew_with_the_algorithms_state_of_what_it_has_adopted(join):
    plain = gj.gossip()

    def mix(state: Any, params: Any, neighbors: Any) -> Any:
        params, _, info = plain.mix(plain.init(params), params, neighbors)
        return params, {**state, "rounds": state["rounds"] + 1}, info

    anchored = GossipAlgorithm(
        init=lambda params: {"anchor": params["w"], "rounds": jnp.int32(0)},
        share=lambda state, params, key: (params, state),
        mix=mix,
    )
    params: list[Any] = [{"w": jnp.full(4, 3.0)}, {"w": jnp.zeros(4)}]
    donor = join(params[0], algorithm=anchored, version=5000)
    joiner = join(params[1], donor, algorithm=anchored)
    mix_until([donor, joiner], params, lambda _: joiner.version >= 5000, steps=0)
    np.testing.assert_array_equal(joiner._state["anchor"], np.full(4, 3.0))
    assert joiner._state["rounds"] < donor._state["rounds"]


def test_a_peer_that_leaves_is_gone_at_once(join):
    params = {"w": jnp.zeros(3)}
    a = join(params)
    b = join(params, a)
    wait_until(lambda: a.neighbors == b.neighbors == 1)
    b.close()
    wait_until(lambda: a.neighbors == 0, 2)
    b.close()
    np.testing.assert_array_equal(b.mix(params)["w"], params["w"])
    assert b.describe()["updates_mixed"] == 0


def test_rounds_by_steps_and_by_time(join):
    params = {"w": jnp.zeros(3)}
    by_steps = join(params, round_steps=3, round_seconds=60.0)
    for _ in range(7):
        by_steps.mix(params)
    assert (by_steps.round, by_steps.version) == (2, 7)
    by_steps.mix(params, steps=5)
    assert by_steps.round == 3
    by_time = join(params, round_seconds=0.2)
    for _ in range(5):
        by_time.mix(params)
    assert by_time.round == 1
    time.sleep(0.2)
    by_time.mix(params)
    assert by_time.round == 2
    only_exchanging = join(params, round_steps=10, round_seconds=0.05)
    for _ in range(3):
        only_exchanging.mix(params, steps=0, samples=0)
        time.sleep(0.06)
    assert (only_exchanging.round, only_exchanging.version) == (3, 0)


def test_each_round_is_a_line_in_the_metrics_file(join, tmp_path):
    path = tmp_path / "metrics.jsonl"
    params = {"w": jnp.zeros(3)}
    swarm = join(params, metrics_file=path, round_steps=1)
    for _ in range(3):
        swarm.mix(params)
    swarm.close()
    swarm.mix(params)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert [line["version"] for line in lines] == [1, 2, 3]
    assert lines[0]["peer"] == swarm.id.hex()
    assert set(lines[0]) >= {
        "neighbors",
        "bytes_in",
        "bytes_out",
        "updates_refused",
        "updates_mixed",
    }


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"step": jnp.int32(3)}, r"params\['step'\] is int32; only floating-point"),
        ({"w": [1.0]}, "is float; only floating-point"),
        ({}, "params: a payload has 1 to"),
        (None, "params: a payload has 1 to"),
    ],
)
def test_parameters_that_cannot_be_averaged_are_named(params, text):
    with pytest.raises(LocalProtocolError, match=text):
        gj.join(QUICK, params)


@pytest.mark.parametrize(
    "changed",
    [{"w": jnp.zeros(4)}, {"w": jnp.zeros(3, jnp.bfloat16)}, {"v": jnp.zeros(3)}, jnp.zeros(3)],
)
def test_parameters_must_keep_their_form(join, changed):
    swarm = join({"w": jnp.zeros(3)}, round_steps=1)
    with pytest.raises(LocalProtocolError, match="than those given to join"):
        swarm.mix(changed)
    swarm.mix({"w": jnp.zeros(3)})


def test_peers_of_other_runs_do_not_meet(join):
    a = join({"w": jnp.zeros(3)})
    for other in (join({"w": jnp.zeros(4)}, a), join({"w": jnp.zeros(3)}, a, run="another")):
        wait_until(lambda: a.metrics().updates_refused.get("protocol"))
        assert (a.neighbors, other.neighbors) == (0, 0)
    wait_until(lambda: a.metrics().updates_refused["protocol"] >= 2)


def test_a_failed_join_leaves_nothing_running(join, tmp_path):
    params = {"w": jnp.zeros(3)}
    swarm = join(params, state_dir=tmp_path / "a")
    endpoint = "tcp://" + swarm.join_string.removeprefix("gossipjax://").split("/")[0]
    with pytest.raises(LocalProtocolError, match="in use by another peer"):
        gj.join(QUICK, params, state_dir=tmp_path / "a")
    for _ in range(2):  # twice: the folder is released
        with pytest.raises(LocalProtocolError, match="cannot listen on"):
            gj.join({**QUICK, "listen": endpoint}, params, state_dir=tmp_path / "b")
    assert [thread.name for thread in threading.enumerate()].count("gossipjax") == 1


def test_an_exception_within_closes(tmp_path):
    params = {"w": jnp.zeros(3)}

    def train() -> None:
        with gj.join(QUICK, params, state_dir=tmp_path) as swarm:
            swarm.mix(params)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    gj.join(QUICK, params, state_dir=tmp_path).close()


def test_the_same_folder_is_the_same_peer(tmp_path):
    params = {"w": jnp.zeros(3)}
    with gj.join(QUICK, params, state_dir=tmp_path) as swarm:
        identity = swarm.id
    with gj.join(QUICK, params, state_dir=tmp_path) as swarm:
        assert swarm.id == identity
    with gj.join(QUICK, params) as swarm:
        assert swarm.id != identity


def test_a_forgotten_swarm_leaves(join):
    params = {"w": jnp.zeros(3)}
    a = join(params)
    forgotten = gj.join({**QUICK, "join": [a.join_string]}, params)
    wait_until(lambda: a.neighbors == 1)
    del forgotten
    wait_until(lambda: a.neighbors == 0, 2)


def test_closing_is_quick_and_releases_everything(join):
    params = {"w": jnp.zeros(300_000)}
    a = join(params)
    threads: list[int] = []
    for _ in range(3):
        b = gj.join({**QUICK, "join": [a.join_string]}, params)
        wait_until(lambda b=b: b.neighbors)
        b.mix(params)
        a.mix(params)
        started_s = time.monotonic()
        b.close()
        assert time.monotonic() - started_s < 2
        names = [thread.name for thread in threading.enumerate()]
        threads.append(names.count("gossipjax"))
    assert threads == [1, 1, 1]
