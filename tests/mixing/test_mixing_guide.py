"""The code of docs/guides/write-a-mixer.md runs and does what the text says."""

import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gossipjax.mixing import Neighbors

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "write-a-mixer.md"


def run_guide() -> dict[str, Any]:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        if "peer.toml" not in block:  # that one needs a network
            exec(compile(block, str(GUIDE), "exec"), names)
    return names


def test_code_of_the_guide():
    names = run_guide()
    assert names["spread_after"] < 0.5 * names["spread_before"]
    np.testing.assert_allclose(
        np.sum(names["info"].weight, axis=1) + names["info"].self_weight, 1, atol=1e-5
    )
    assert names["algorithm"].init(jnp.zeros(3)) == ()

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
    block = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)[
        0
    ]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
