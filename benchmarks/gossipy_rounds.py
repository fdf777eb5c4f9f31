"""Peer-rounds per second of gossipy's own simulator; run by bench_learner.py in its environment.

    python benchmarks/gossipy_rounds.py PEERS ROUNDS SIZE HIDDEN NEIGHBORS

In a round of this simulator each node pushes its model to NEIGHBORS others, one per time unit, and
hears as many. When it has heard all of them it hands them to gossipy's model handler, which takes
their mean and one step on a batch of 32; gossipy's own PENS node calls it with a list like this.
Nothing is evaluated and no time unit is idle: the least that the simulator can do for such a round.
"""

import contextlib
import io
import json
import sys
import time
import types
from typing import Any

import numpy as np


def make_simulator(peers: int, size: int, hidden: int, neighbors: int) -> Any:
    """A simulator with random data, and the number of parameters of its model."""
    import torch  # pyright: ignore[reportMissingImports]

    # gossipy imports torchvision, which it uses for downloads of data sets only.
    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    from gossipy import CACHE, core, set_seed  # pyright: ignore[reportMissingImports]
    from gossipy.data import DataDispatcher, handler  # pyright: ignore[reportMissingImports]
    from gossipy.model import handler as models  # pyright: ignore[reportMissingImports]
    from gossipy.model import nn  # pyright: ignore[reportMissingImports]
    from gossipy.node import GossipNode  # pyright: ignore[reportMissingImports]
    from gossipy.simul import GossipSimulator  # pyright: ignore[reportMissingImports]

    class MergingNode(GossipNode):
        """Tells and hears the same number of others in a round; merges them, takes one step."""

        def send(self, t: int, peer: int, protocol: Any) -> Any:
            return super().send(t, (self.idx + t % neighbors + 1) % peers, protocol)

        def receive(self, t: int, msg: Any) -> None:
            heard = self.__dict__.setdefault("heard", [])
            heard.append(CACHE.pop(msg.value[0]))
            if len(heard) == neighbors:
                self.model_handler(heard, self.data[0])
                heard.clear()

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
    nodes = MergingNode.generate(dispatcher, network, model, round_len=1, sync=True)
    push = core.AntiEntropyProtocol.PUSH
    simulator = GossipSimulator(nodes, dispatcher, delta=neighbors, protocol=push)
    simulator.init_nodes(seed=0)
    return simulator, sum(leaf.numel() for leaf in model.model.parameters())


def main() -> None:
    peers, rounds, size, hidden, neighbors = map(int, sys.argv[1:6])
    simulator, parameters = make_simulator(peers, size, hidden, neighbors)
    with contextlib.redirect_stdout(io.StringIO()):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        simulator.start(n_rounds=rounds)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "parameters": parameters}))


if __name__ == "__main__":
    main()
