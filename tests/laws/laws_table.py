"""The table of everything that mixes. A new mixer or algorithm is one new line here."""

from collections.abc import Callable
from typing import NamedTuple

from gossipjax.algorithms import gossip
from gossipjax.mixing import (
    GossipAlgorithm,
    Mixer,
    chain,
    constant_decay,
    discount_staleness,
    exponential_decay,
    hinge_decay,
    polynomial_decay,
    weighted_mean,
)


class MixerCase(NamedTuple):
    """A mixer and what it promises beyond the laws that hold for all.

    Attributes:
        name: shown by pytest.
        make: builds it; it gets K = 6 slots.
        mean: with symmetric weights it preserves the mean over the network.
        faults: this many of the 6 slots may hold anything, NaN included, and the result stays
            finite and near the others.
        hull: with at most `faults` faulty slots, each coordinate of the result lies between the
            least and the greatest value of the honest inputs. "far" promises it for payloads
            that are far off, "always" for any.
        moves_at_most: bound of the distance between old and new parameters, whatever arrives.
    """

    name: str
    make: Callable[[], Mixer]
    mean: bool = False
    faults: int = 0
    hull: str = ""
    moves_at_most: float | None = None


class AlgorithmCase(NamedTuple):
    """An algorithm and what it promises beyond the laws that hold for all.

    Attributes:
        name: shown by pytest.
        make: builds it; it gets K = 6 slots.
        mean: with symmetric weights it preserves the mean over the network.
        ordered: a slot is bound to one neighbor, so slots must not be permuted.
    """

    name: str
    make: Callable[[], GossipAlgorithm]
    mean: bool = False
    ordered: bool = False


MIXERS = (
    MixerCase("weighted_mean", weighted_mean, mean=True),
    MixerCase("constant", lambda: chain(discount_staleness(constant_decay()), weighted_mean())),
    MixerCase("polynomial", lambda: chain(discount_staleness(polynomial_decay()), weighted_mean())),
    MixerCase(
        "exponential", lambda: chain(discount_staleness(exponential_decay()), weighted_mean())
    ),
    MixerCase("hinge", lambda: chain(discount_staleness(hinge_decay()), weighted_mean())),
)

ALGORITHMS = (AlgorithmCase("gossip", lambda: gossip(weighted_mean()), mean=True),)
