"""Train one JAX model together without a server.

Names are loaded on first use, so that `import gossipjax.protocol` does not import JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossipjax import (
        algorithms,
        compression,
        data,
        mixing,
        models,
        simulation,
        topology,
        training,
    )
    from gossipjax.algorithms.averaging import gossip
    from gossipjax.algorithms.compressed import compressed
    from gossipjax.errors import LocalProtocolError, RemoteProtocolError
    from gossipjax.runtime.config import PeerConfig, load_config
    from gossipjax.runtime.swarm import Swarm, join
    from gossipjax.simulation.learner import simulate
    from gossipjax.training.workload import Workload

__version__ = "0.1.0"

_HOMES = {
    "LocalProtocolError": "gossipjax.errors",
    "PeerConfig": "gossipjax.runtime.config",
    "RemoteProtocolError": "gossipjax.errors",
    "Swarm": "gossipjax.runtime.swarm",
    "Workload": "gossipjax.training.workload",
    "compressed": "gossipjax.algorithms.compressed",
    "gossip": "gossipjax.algorithms.averaging",
    "join": "gossipjax.runtime.swarm",
    "load_config": "gossipjax.runtime.config",
    "simulate": "gossipjax.simulation.learner",
}
_MODULES = (
    "algorithms",
    "compression",
    "data",
    "mixing",
    "models",
    "simulation",
    "topology",
    "training",
)

__all__ = [
    "LocalProtocolError",
    "PeerConfig",
    "RemoteProtocolError",
    "Swarm",
    "Workload",
    "algorithms",
    "compressed",
    "compression",
    "data",
    "gossip",
    "join",
    "load_config",
    "mixing",
    "models",
    "simulate",
    "simulation",
    "topology",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gossipjax.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gossipjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
