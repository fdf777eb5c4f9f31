"""Compressed payloads and low-communication methods between real peers, over ZeroMQ."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_runtime_swarm import join, mix_all, mix_until, spread  # noqa: F401 - `join` is a fixture

import gossipjax as gj
from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.runtime.work import inspect
from gossipjax.wire.tensors import manifest_of, pack

SIZE = 4096


def normal_pair() -> list[Any]:
    rng = np.random.default_rng(0)
    return [{"w": jnp.asarray(rng.standard_normal(SIZE), jnp.float32)} for _ in range(2)]


@pytest.mark.parametrize(
    ("settings", "bytes_per_payload"),
    [
        ({"compression": "int4"}, SIZE // 2 + 2 * SIZE // 64 + 4),
        ({"algorithm": "noloco", "compression": "bf16"}, 2 * SIZE),
        ({"algorithm": "streaming", "algorithm_options": {"parts": 2}}, 2 * SIZE + 4),
    ],
    ids=["int4", "noloco", "streaming"],
)
def test_two_peers_agree_through_a_compressor(join, settings, bytes_per_payload):  # noqa: F811
    params = normal_pair()
    apart = spread(params)
    a = join(params[0], **settings)
    b = join(params[1], a, **settings)
    params = mix_until([a, b], params, lambda p: spread(p) < 0.2 * apart)
    for swarm in (a, b):
        told = swarm.metrics()
        assert told.updates_refused == {}
        assert told.updates_mixed > 0
        each = told.bytes_in / told.updates_mixed
        assert bytes_per_payload < each < 2 * bytes_per_payload + 3000  # and messages


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "sparse_loco", "compression": "sign"},
        {"algorithm": "local_sgd", "compression": "top_k", "compression_options": {"share": 0.25}},
    ],
    ids=["signs", "top_k"],
)
def test_two_peers_learn_by_what_little_they_tell(join, settings):  # noqa: F811
    """Each minimizes the distance to a point of its own; both end near the middle of the two."""
    points = normal_pair()
    params: list[Any] = [{"w": jnp.zeros(SIZE)} for _ in range(2)]
    a = join(params[0], **settings)
    b = join(params[1], a, **settings)
    middle = (points[0]["w"] + points[1]["w"]) / 2
    near = 0.5 * float(jnp.linalg.norm(points[0]["w"] - middle))

    def is_near(params: list[Any]) -> bool:
        time.sleep(0.01)
        gaps = [float(jnp.linalg.norm(p["w"] - middle)) for p in params]
        for own, point in zip(params, points, strict=True):
            own["w"] = own["w"] - 0.05 * (own["w"] - point["w"])
        return max(gaps) < near

    mix_until([a, b], params, is_near)
    assert a.metrics().updates_refused == {}


def test_peers_with_different_compression_do_not_meet(join):  # noqa: F811
    params = normal_pair()
    a = join(params[0], compression="int4")
    b = join(params[1], a, compression="int8")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        params = mix_all([a, b], params)
        time.sleep(0.02)
    assert a.metrics().updates_mixed == b.metrics().updates_mixed == 0


def test_a_late_joiner_is_told_when_payloads_are_too_little_for_it(join):  # noqa: F811
    params = normal_pair()
    a = join(params[0], compression="top_k", version=5000)
    b = join(params[1], a, compression="top_k")

    def mix() -> None:
        mix_until([a, b], params, lambda p: False)

    with pytest.raises(LocalProtocolError, match="joined late, and a payload of this algorithm"):
        mix()


def test_a_malformed_payload_of_a_compressor_is_refused_with_the_reason():
    algorithm = gj.compressed(gj.gossip(), "int4")
    params = normal_pair()[0]
    payload, _ = algorithm.share(algorithm.init(params), params, jax.random.key(0))
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(payload)
    }
    assert set(leaves) == {"[0].codes", "[0].scales", "[0].seed"}
    manifest = manifest_of({name: (leaf.shape, str(leaf.dtype)) for name, leaf in leaves.items()})
    good = pack(manifest, list(leaves.values()))
    assert len(inspect([good], manifest, 1e6)) == 3

    leaves["[0].scales"] = np.full_like(leaves["[0].scales"], np.nan)
    with pytest.raises(RemoteProtocolError, match="scales has a NaN or infinity"):
        inspect([pack(manifest, list(leaves.values()))], manifest, 1e6)
    leaves["[0].scales"] = np.full_like(leaves["[0].scales"], 1e30)
    with pytest.raises(RemoteProtocolError, match="is above the limit 1e\\+06"):
        inspect([pack(manifest, list(leaves.values()))], manifest, 1e6)
