"""A Flax Linen training loop that became a peer by two lines (marked below).

python examples/quickstart_linen.py                       # prints a join string
python examples/quickstart_linen.py --join gossipjax://…  # in another terminal, or elsewhere
"""

import argparse
import time

import flax.linen as nn
import jax
import optax

import gossipjax as gj

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--join", action="append", default=[], help="join string of a running peer")
parser.add_argument("--seconds", type=float, default=60.0, help="how long to train")
arguments = parser.parse_args()


class Model(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(nn.relu(nn.Dense(128)(images.reshape(len(images), -1))))


data = gj.data.fashion_mnist_12k()
model, optimizer = Model(), optax.adam(1e-3)
apply = jax.jit(model.apply)
params = model.init(jax.random.key(0), data.train_inputs[:1])  # the same key on every peer
opt_state = optimizer.init(params)


@jax.jit
def train_step(params, opt_state, batch):
    def loss_of(params):
        logits = apply(params, batch["inputs"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, opt_state = optimizer.update(gradients, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


batches = gj.data.batches(data.train_inputs, data.train_labels, 64, seed=time.time_ns())
with gj.join(params=params, join=arguments.join) as swarm:  # line one
    print(f"others join with:  --join {swarm.join_string}", flush=True)
    end = time.monotonic() + arguments.seconds
    for step, batch in enumerate(batches):
        params, opt_state, loss = train_step(params, opt_state, batch)
        params = swarm.mix(params)  # line two: shares mine, folds in arrivals, never waits
        if step % 2000 == 0:
            print(f"step {step}  loss {loss:.3f}  neighbors {swarm.neighbors}", flush=True)
        if time.monotonic() > end:
            break

right = apply(params, data.test_inputs).argmax(-1) == data.test_labels
print(f"test accuracy {100 * right.mean():.2f} %, {swarm.metrics().updates_mixed} updates mixed")
