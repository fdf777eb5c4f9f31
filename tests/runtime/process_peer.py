"""An honest peer as a process: `python process_peer.py '{"config": {…}, "value": 1.0}'`.

It mixes one tensor of `size` equal values, trains nothing, and says each 50 ms how it is. It ends
when its standard input does, or by any signal.
"""

import json
import sys
import threading
import time

import jax.numpy as jnp

import gossipjax as gj


def main() -> None:
    settings = json.loads(sys.argv[1])
    params = {"w": jnp.full((settings.get("size", 10),), settings["value"], jnp.float32)}
    end = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
    steps = settings.get("steps", 0)
    with gj.join(settings["config"], params, version=settings.get("version", 0)) as swarm:
        say(join=swarm.join_string, id=swarm.id.hex())
        while not end.is_set():
            params = swarm.mix(params, steps=steps, samples=1)
            say(
                value=float(params["w"][0]),
                version=swarm.version,
                neighbors=swarm.neighbors,
                ids=[peer.hex() for peer in swarm.neighbor_versions],
                mixed=swarm.metrics().updates_mixed,
                refused=swarm.metrics().updates_refused,
            )
            time.sleep(0.05)
    say(closed=True)


def say(**record: object) -> None:
    print(json.dumps(record), flush=True)


main()
