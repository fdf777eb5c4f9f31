"""A Flax NNX training loop that became a peer by two lines (marked below).

python examples/quickstart_nnx.py                       # prints a join string
python examples/quickstart_nnx.py --join gossipjax://…  # in another terminal, or elsewhere
"""

import argparse
import time

import jax.numpy as jnp
import optax
from flax import nnx

import gossipjax as gj

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--join", action="append", default=[], help="join string of a running peer")
parser.add_argument("--seconds", type=float, default=60.0, help="how long to train")
arguments = parser.parse_args()


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(784, 128, rngs=rngs)
        self.output = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, images):
        return self.output(nnx.relu(self.hidden(images.reshape(len(images), -1))))


@nnx.jit
def train_step(model, optimizer, batch):
    def loss_of(model):
        logits = model(batch["inputs"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


data = gj.data.fashion_mnist_12k()
model = Model(nnx.Rngs(0))  # the same seed on every peer
optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
batches = gj.data.batches(data.train_inputs, data.train_labels, 64, seed=time.time_ns())
start = nnx.state(model, nnx.Param)
with gj.join(params=start, join=arguments.join) as swarm:  # line one
    print(f"others join with:  --join {swarm.join_string}", flush=True)
    end = time.monotonic() + arguments.seconds
    for step, batch in enumerate(batches):
        loss = train_step(model, optimizer, batch)
        nnx.update(model, swarm.mix(nnx.state(model, nnx.Param)))  # line two
        if step % 2000 == 0:
            print(f"step {step}  loss {loss:.3f}  neighbors {swarm.neighbors}", flush=True)
        if time.monotonic() > end:
            break

right = model(jnp.asarray(data.test_inputs)).argmax(-1) == data.test_labels
print(f"test accuracy {100 * right.mean():.2f} %, {swarm.metrics().updates_mixed} updates mixed")
