"""Mixers that a configuration names."""

from collections.abc import Callable

from gossipjax.mixing.averaging import weighted_mean
from gossipjax.mixing.base import Mixer, Transform, chain
from gossipjax.mixing.clipping import clip_distance
from gossipjax.mixing.robust import coordinate_median, trimmed_mean
from gossipjax.mixing.similarity import balance, drop_farthest
from gossipjax.mixing.staleness import discount_staleness, polynomial_decay

STALENESS_UNIT_STEPS = 100.0


def _then_mean(*filters: Transform) -> Mixer:
    discount = discount_staleness(polynomial_decay(0.5, unit=STALENESS_UNIT_STEPS))
    return chain(discount, *filters, weighted_mean())


MIXERS: dict[str, Callable[[int], Mixer]] = {
    "mean": lambda byzantine: _then_mean(),
    "balance": lambda byzantine: _then_mean(balance(decay=0.0)),
    "clip": lambda byzantine: _then_mean(clip_distance(byzantine=byzantine)),
    "nearest": lambda byzantine: _then_mean(drop_farthest(byzantine)),
    "median": lambda byzantine: coordinate_median(),
    "trimmed_mean": trimmed_mean,
}
"""Name → `(attackers among the arrivals of one mix) → mixer`; stale payloads count less in those
that weigh. See `gossipjax.mixing` for what each tolerates."""


def named_mixer(name: str, byzantine: int = 1) -> Mixer:
    """The mixer of a name in `MIXERS`.

    Args:
        name: of the mixer.
        byzantine: attackers that may be among the arrivals of one mix; "mean", "balance" and
            "median" do not ask for it.

    Raises:
        ValueError: no such mixer; the text says which there are.
    """
    if name not in MIXERS:
        raise ValueError(f"there is no mixer {name!r}; choose one of {', '.join(MIXERS)}")
    return MIXERS[name](byzantine)
