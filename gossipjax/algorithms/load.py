"""How a settings file or a command line names an algorithm."""

from typing import Any

from gossipjax import algorithms
from gossipjax.algorithms.named import named_mixer
from gossipjax.mixing.base import GossipAlgorithm
from gossipjax.named import load_named


def load_algorithm(name: str, **options: Any) -> GossipAlgorithm:
    """The algorithm that has this name.

    Example:
        >>> algorithm = load_algorithm("quasi_global_momentum", momentum=0.8)

    Args:
        name: one of `gossipjax.algorithms`, or `FILE.py:NAME` or `MODULE:NAME` of a
            `GossipAlgorithm` or of a function that returns one.
        **options: arguments of the function. The `mixer` of an algorithm that comes with the
            package may be a name in `gossipjax.algorithms.named.MIXERS`, with `byzantine` for it.

    Raises:
        ValueError: no such algorithm, or options that it does not take; the text says which.
    """
    built_in = {name: getattr(algorithms, name) for name in algorithms.__all__}
    if name in built_in and isinstance(options.get("mixer"), str):
        options["mixer"] = named_mixer(options["mixer"], options.pop("byzantine", 1))
    return load_named(GossipAlgorithm, name, built_in, options)
