"""How a settings file or a command line names a compressor."""

from typing import Any

from gossipjax import compression
from gossipjax.compression.base import Compressor
from gossipjax.named import load_named


def load_compressor(name: str, **options: Any) -> Compressor:
    """The compressor that has this name.

    Example:
        >>> compressor = load_compressor("top_k", share=0.05)

    Args:
        name: one of `gossipjax.compression.NAMES`, or `FILE.py:NAME` or `MODULE:NAME` of a
            `Compressor` or of a function that returns one.
        **options: arguments of the function.

    Raises:
        ValueError: no such compressor, or options that it does not take; the text says which.
    """
    built_in = {name: getattr(compression, name) for name in compression.NAMES}
    return load_named(Compressor, name, built_in, options)
