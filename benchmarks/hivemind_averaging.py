# pyright: reportMissingImports=false
# What this imports lives in another environment.
"""One peer of hivemind's averaging; `bench_averaging.py` runs it in an environment of its own.

    python hivemind_averaging.py INDEX PEERS PARAMETERS CODEC ADDRESSES...

Speaks with the benchmark over its standard input and output: it prints the addresses of its DHT
(the first peer) or `ready`, and then answers each line `round` with the seconds that an all-reduce
took, from the permission to begin until the mean was there, and the largest difference to the mean.
"""

import json
import sys
import time

import hivemind
import torch

TENSORS = 20
CODECS = {
    "none": hivemind.compression.NoCompression,
    "float16": hivemind.compression.Float16Compression,
    "int8": hivemind.compression.Uniform8BitQuantization,
}


def tensors_of(index: int, parameters: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(index)
    return [torch.randn(parameters // TENSORS, generator=generator) for _ in range(TENSORS)]


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def main() -> None:
    index, peers, parameters = (int(text) for text in sys.argv[1:4])
    codec = CODECS[sys.argv[4]]()
    torch.set_num_threads(1)
    local = {"use_relay": False, "use_auto_relay": False}
    dht = hivemind.DHT(
        initial_peers=sys.argv[5:],
        host_maddrs=["/ip4/127.0.0.1/tcp/0"],
        start=True,
        **local,
    )
    averager = hivemind.DecentralizedAverager(
        tensors_of(index, parameters),
        dht,
        prefix="bench",
        target_group_size=peers,
        min_group_size=peers,
        min_matchmaking_time=2.0,
        request_timeout=1.5,
        compression=codec,
        start=True,
    )
    say(addresses=[str(address) for address in dht.get_visible_maddrs()])
    mean = [
        torch.stack(parts).mean(0)
        for parts in zip(*(tensors_of(i, parameters) for i in range(peers)), strict=True)
    ]
    for line in sys.stdin:
        if line.strip() != "round":
            break
        with averager.get_tensors() as tensors:
            for tensor, value in zip(tensors, tensors_of(index, parameters), strict=True):
                tensor[:] = value
        step = averager.step(wait=False, require_trigger=True, timeout=120, gather=index)
        while step.stage.name != "AWAITING_TRIGGER":
            time.sleep(0.002)
        say(matched=True)
        sys.stdin.readline()
        started_s = time.perf_counter()
        step.allow_allreduce()
        step.result(timeout=120)
        seconds = time.perf_counter() - started_s
        with averager.get_tensors() as tensors:
            error = max(float((a - b).abs().max()) for a, b in zip(tensors, mean, strict=True))
        say(seconds=seconds, error=error)
    averager.shutdown()
    dht.shutdown()


if __name__ == "__main__":
    main()
