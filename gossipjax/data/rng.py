"""Random draws that are the same on every machine and with every version of NumPy."""

import numpy as np


def stable_random(*seed: int) -> np.random.RandomState:
    """A generator with a stream of its own for each sequence of whole numbers of at least 0.

    Peers deal out a data set each for itself, so they must draw alike whatever NumPy they have.
    NumPy keeps the streams of `RandomState` and of bit generators frozen; those of `Generator`, the
    successor of `RandomState`, may change with any version (NEP 19).

    Raises:
        ValueError: a number is below 0.
    """
    return np.random.RandomState(np.random.PCG64(seed))
