"""Real peers over ZeroMQ, driven in step, and the vectorized learner: the same bits.

The local step is exact in float32 (a rate of 1/4, a quadratic), so that what is compared is what
algorithms make of it, not how XLA rounds a gradient in two different programs.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runtime_peers import wait_until

import gossipjax as gj
from gossipjax.mixing import GossipAlgorithm
from gossipjax.runtime.swarm import Swarm

PEERS, ROUNDS, RATE = 4, 6, 0.25
SETTINGS: dict[str, Any] = {
    "listen": "tcp://127.0.0.1:0",
    "slots": PEERS - 1,
    "protocol": {
        "fanout": PEERS - 1,
        "catch_up_settle_ns": 20_000_000,
        "retry_min_ns": 100_000_000,
    },
}
TARGETS = np.random.default_rng(0).normal(size=(PEERS, 7)).astype(np.float32)
START = {"x": jnp.zeros(7), "y": jnp.ones((2, 3), jnp.bfloat16)}


def loss(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    return ((params["x"] - batch["target"]) ** 2).sum(axis=-1).mean() / 2, {}


@jax.jit
def local_step(params: Any, target: jax.Array) -> Any:
    return {**params, "x": params["x"] - RATE * (params["x"] - target)}


@contextmanager
def swarms(algorithm: GossipAlgorithm) -> Iterator[list[Swarm]]:
    """Peers that are all connected with each other, by id: the order of slots."""
    with ExitStack() as stack:
        joined: list[Swarm] = []
        for _ in range(PEERS):
            known = [swarm.join_string for swarm in joined]
            joined.append(
                stack.enter_context(gj.join({**SETTINGS, "join": known}, START, algorithm))
            )
        wait_until(
            lambda: all(swarm.neighbors == PEERS - 1 and swarm.has_caught_up for swarm in joined)
        )
        yield sorted(joined, key=lambda swarm: swarm.id)


def one_round(peers: list[Swarm], params: list[Any]) -> list[Any]:
    """All take a local step and share; when everybody has everything, all mix."""
    stepped = [local_step(own, target) for own, target in zip(params, TARGETS, strict=True)]
    for peer, own in zip(peers, stepped, strict=True):
        steps = 1
        while not peer.share(own, steps=steps):
            steps = 0
            time.sleep(0.001)
    wait_until(lambda: all(peer.waiting == PEERS - 1 for peer in peers))
    return [peer.fold_in(own) for peer, own in zip(peers, stepped, strict=True)]


@pytest.mark.parametrize(
    "name",
    [
        "gossip",
        "d_psgd",
        "quasi_global_momentum",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("decentralized_momentum", "gossip_learning", "epidemic_learning")
        ),
    ],
)
def test_peers_and_learner_get_the_same_bits(name: str):
    algorithm = getattr(gj.algorithms, name)()
    simulated = gj.simulate(
        algorithm,
        optax.sgd(RATE),
        loss,
        START,
        [{"target": np.repeat(target[None], 2, axis=0)} for target in TARGETS],
        topology=gj.topology.complete,
        rounds=ROUNDS,
    )
    with swarms(algorithm) as peers:
        params = [START] * PEERS
        for _ in range(ROUNDS):
            params = one_round(peers, params)
        assert [peer.version for peer in peers] == [ROUNDS] * PEERS
    assert np.abs(simulated.params["x"] - TARGETS.mean(axis=0)).max() < 1
    assert np.abs(simulated.params["x"]).min() > 0
    for peer, own in enumerate(params):
        for leaf in START:
            np.testing.assert_array_equal(own[leaf], simulated.params[leaf][peer])
