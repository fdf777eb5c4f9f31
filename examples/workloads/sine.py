"""A workload of one's own: fit a sine, each peer knowing only its stretch of it.

python -m gossipjax.peer run examples/workloads/sine.py:sine --shard 0/2 --steps 500
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gossipjax import Workload
from gossipjax.models import MLP


def sine(width: int = 64) -> Workload:
    """Each shard is an interval of [-π, π]; options are the function's arguments."""
    model = MLP(1, (width, width))
    apply = jax.jit(model.apply)

    def batches(shard, seed, start):
        low, high = np.linspace(-np.pi, np.pi, shard.count + 1)[shard.index :][:2]
        step = start
        while True:
            random = np.random.default_rng((seed, shard.index, step))
            x = random.uniform(low, high, (32, 1)).astype(np.float32)
            yield {"x": x, "y": np.sin(x)}
            step += 1

    def loss(params, batch, key):
        error = jnp.mean((apply(params, batch["x"]) - batch["y"]) ** 2)
        return error, {"rmse": jnp.sqrt(error)}

    grid = jnp.linspace(-jnp.pi, jnp.pi, 200)[:, None]
    test_error = jax.jit(lambda params: jnp.abs(apply(params, grid) - jnp.sin(grid)).mean())

    return Workload(
        init=lambda key: model.init(key, grid[:1]),
        loss=loss,
        batches=batches,
        evaluate=lambda params: {"error": float(test_error(params))},
        optimizer=optax.adam(1e-3),
    )
