"""The code of the guides to mixers and algorithms runs, does what the text says, and is lawful."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import test_laws_algorithms as algorithm_laws
import test_laws_mixers as mixer_laws
from laws_table import AlgorithmCase, MixerCase

from gossipjax.mixing import Neighbors

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def blocks(guide: str) -> list[str]:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@cache
def run_guide(guide: str) -> dict[str, Any]:
    """The names that a guide's code ends with; a network of two peers included."""
    names: dict[str, Any] = {}
    for block in blocks(guide):
        exec(compile(block, guide, "exec"), names)
    return names


def test_own_mixer_simulated_and_in_a_swarm():
    names = run_guide("write-a-mixer.md")
    own = np.linalg.norm(names["points"][:, 0] - names["points"].mean(axis=(0, 1)), axis=1)
    assert 0 < names["result"].rows[-1]["consensus_distance"] < 0.2 * own.mean()
    assert names["first"].metrics().updates_mixed >= 5
    assert 0 < float(names["far"]["weight"][0]) < 1
    assert 0 < float(names["near"]["weight"][0]) < 1


def test_own_mixers_do_what_the_guide_says():
    names = run_guide("write-a-mixer.md")
    neighbors = Neighbors(
        payload=jnp.array([np.nan, 1.0, 5.0]),
        weight=jnp.array([0.0, 1.0, 1.0]),
        staleness=jnp.array([0.0, 0.0, 0.0]),
        slot_is_new=jnp.ones(3, bool),
        self_weight=jnp.float32(1),
    )
    near = names["trust_the_near"](scale=1.0)
    assert 0.4 * np.exp(-1) < float(near.mix((), jnp.float32(0), neighbors)[0]) < 0.5
    newest = names["take_the_newest"]()
    mixed, _, info = newest.mix((), jnp.float32(0), neighbors)
    assert (float(mixed), float(info.self_weight)) == (1, 0)
    late = neighbors._replace(staleness=jnp.array([0.0, 3.0, 2.0]))
    assert float(newest.mix((), jnp.float32(0), late)[0]) == 0
    assert float(newest.mix((), jnp.float32(0), late._replace(self_weight=jnp.float32(0)))[0]) == 5


def test_the_mixer_of_the_guide_is_short():
    first = blocks("write-a-mixer.md")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 15


def test_own_algorithm_simulated_and_in_a_swarm():
    names = run_guide("write-an-algorithm.md")
    assert names["slow"] < 0.4 * names["plain"]
    assert names["second"].metrics().updates_mixed >= 5
    assert abs(float(names["far"]["x"][0]) - 0.5) < 1
    assert names["demanding"].needs.lossless


@pytest.mark.parametrize(
    "law",
    [
        "test_vmap_equals_loop",
        "test_joiner_adopts_what_it_is_given",
        "test_order_of_slots_does_not_matter",
        "test_consensus_is_a_fixed_point",
        "test_mean_over_the_network_is_preserved",
        "test_converges_on_quadratics",
    ],
)
def test_own_algorithm_is_lawful(law: str):
    make = run_guide("write-an-algorithm.md")["slow_momentum"]
    getattr(algorithm_laws, law)(AlgorithmCase("slow_momentum", make, mean=True))


@pytest.mark.parametrize("law", ["test_joiner_adopts_what_it_is_given", "test_forms_are_kept"])
@pytest.mark.parametrize("name", ["trust_the_near", "take_the_newest"])
def test_own_mixers_are_lawful(name: str, law: str):
    names = run_guide("write-a-mixer.md")
    make = {"trust_the_near": lambda: names[name](3.0), "take_the_newest": lambda: names[name]()}
    getattr(mixer_laws, law)(MixerCase(name, make[name], exact=False))
