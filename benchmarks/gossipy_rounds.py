"""Peer-rounds per second of gossipy's own simulator; run by bench_learner.py in its environment.

    python benchmarks/gossipy_rounds.py PEERS ROUNDS SIZE HIDDEN

A node of gossipy tells one random neighbor per round, which merges the model and takes one step on
a batch of 32: the least work that its simulator does per round. Nothing is evaluated. A round has
10 of its time units, fewer than in its examples, since it visits every node in each of them.
"""

import contextlib
import io
import json
import sys
import time
import types
from typing import Any

import numpy as np


def make_simulator(peers: int, size: int, hidden: int) -> Any:
    """A simulator with random data, and the number of parameters of its model."""
    import torch  # pyright: ignore[reportMissingImports]

    # gossipy imports torchvision, which it uses for downloads of data sets only.
    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    from gossipy import core, set_seed  # pyright: ignore[reportMissingImports]
    from gossipy.data import DataDispatcher, handler  # pyright: ignore[reportMissingImports]
    from gossipy.model import handler as models  # pyright: ignore[reportMissingImports]
    from gossipy.model import nn  # pyright: ignore[reportMissingImports]
    from gossipy.node import GossipNode  # pyright: ignore[reportMissingImports]
    from gossipy.simul import GossipSimulator  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)  # quicker than more, for layers as small as these
    set_seed(0)
    rng = np.random.RandomState(0)
    samples = 100 * peers
    inputs = torch.tensor(rng.standard_normal((samples, size)), dtype=torch.float32)
    labels = torch.tensor(rng.randint(0, 10, samples))
    data = handler.ClassificationDataHandler(inputs, labels, test_size=0.0)
    dispatcher = DataDispatcher(data, n=peers, eval_on_user=False, auto_assign=True)
    model = models.TorchModelHandler(
        net=nn.TorchMLP(size, 10, hidden_dims=(hidden,)),
        optimizer=torch.optim.SGD,
        optimizer_params={"lr": 0.05},
        criterion=torch.nn.CrossEntropyLoss(),
        local_epochs=0,
        batch_size=32,
        create_model_mode=core.CreateModelMode.MERGE_UPDATE,
    )
    network = core.StaticP2PNetwork(peers, None)
    nodes = GossipNode.generate(dispatcher, network, model, round_len=10, sync=True)
    push = core.AntiEntropyProtocol.PUSH
    simulator = GossipSimulator(nodes, dispatcher, delta=10, protocol=push)
    simulator.init_nodes(seed=0)
    return simulator, sum(leaf.numel() for leaf in model.model.parameters())


def main() -> None:
    peers, rounds, size, hidden = map(int, sys.argv[1:5])
    simulator, parameters = make_simulator(peers, size, hidden)
    with contextlib.redirect_stdout(io.StringIO()):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        simulator.start(n_rounds=rounds)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "parameters": parameters}))


if __name__ == "__main__":
    main()
