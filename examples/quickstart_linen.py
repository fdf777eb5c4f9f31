"""A Flax Linen training loop that became a peer by two lines (marked below).

    python examples/quickstart_linen.py                       # prints a join string
    python examples/quickstart_linen.py --join gossipjax://…  # in another terminal, or elsewhere
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import gossipjax as gj

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--join", action="append", default=[], help="join string of a running peer")
parser.add_argument("--listen", default="tcp://0.0.0.0:0", help="where to accept connections")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0, help="of this peer's batches")
arguments = parser.parse_args()


class Model(nn.Module):
    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Dense(128)(images.reshape(len(images), -1)))
        return nn.Dense(10)(hidden)


data = gj.data.fashion_mnist_12k()
model, optimizer = Model(), optax.adam(1e-3)
params = model.init(jax.random.key(0), data.train_inputs[:1])  # the same key on every peer
opt_state = optimizer.init(params)


@jax.jit
def train_step(params, opt_state, batch):
    def loss_of(params):
        logits = model.apply(params, batch["inputs"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, opt_state = optimizer.update(gradients, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


batches = gj.data.batches(data.train_inputs, data.train_labels, 64, seed=arguments.seed)
with gj.join(params=params, join=arguments.join, listen=arguments.listen) as swarm:  # line one
    print(f"others join with:  --join {swarm.join_string}", flush=True)
    for step, batch in zip(range(arguments.steps), batches, strict=False):
        params, opt_state, loss = train_step(params, opt_state, batch)
        params = swarm.mix(params)  # line two: shares mine, folds in arrivals, never waits
        if step % 500 == 0:
            print(f"step {step}  loss {loss:.3f}  neighbors {swarm.neighbors}", flush=True)

right = jnp.argmax(model.apply(params, data.test_inputs), -1) == data.test_labels
mixed = swarm.metrics().updates_mixed
print(f"test accuracy {100 * right.mean():.2f} %, {mixed} updates mixed")
