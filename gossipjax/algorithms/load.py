"""How a settings file or a command line names an algorithm."""

import inspect
from typing import Any

from gossipjax import algorithms
from gossipjax.algorithms.compressed import compressed
from gossipjax.algorithms.named import named_mixer
from gossipjax.compression.base import Compressor
from gossipjax.mixing.base import GossipAlgorithm
from gossipjax.named import load_named


def load_algorithm(
    name: str, compressor: Compressor | None = None, **options: Any
) -> GossipAlgorithm:
    """The algorithm that has this name.

    Example:
        >>> algorithm = load_algorithm("quasi_global_momentum", momentum=0.8)

    Args:
        name: one of `gossipjax.algorithms`, or `FILE.py:NAME` or `MODULE:NAME` of a
            `GossipAlgorithm` or of a function that returns one.
        compressor: of what the algorithm tells: its argument `compressor` if it has one, otherwise
            `compressed` puts it around.
        **options: arguments of the function. The `mixer` of an algorithm that comes with the
            package may be a name in `gossipjax.algorithms.named.MIXERS`, with `byzantine` for it.

    Raises:
        ValueError: no such algorithm, options that it does not take, or a compressor that it
            cannot use; the text says which.
    """
    names = [name for name in algorithms.__all__ if name != "compressed"]
    built_in = {name: getattr(algorithms, name) for name in names}
    if name in built_in and isinstance(options.get("mixer"), str):
        options["mixer"] = named_mixer(options["mixer"], options.pop("byzantine", 1))
    if compressor is None:
        return load_named(GossipAlgorithm, name, built_in, options)
    if name in built_in and "compressor" in inspect.signature(built_in[name]).parameters:
        return load_named(GossipAlgorithm, name, built_in, {**options, "compressor": compressor})
    return compressed(load_named(GossipAlgorithm, name, built_in, options), compressor)
