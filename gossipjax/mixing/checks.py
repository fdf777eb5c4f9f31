"""Checks of settings: when a factory is called, or, for the number of slots, when it is traced."""

from gossipjax.mixing.base import Neighbors


def require_positive(**values: float) -> None:
    """Raise a ValueError unless all values are above 0 (NaN is not)."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def require_at_least(least: float, **values: float) -> None:
    """Raise a ValueError unless all values are at least so much."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def require_below(limit: float, **values: float) -> None:
    """Raise a ValueError unless all values are below so much."""
    for name, value in values.items():
        if not value < limit:
            raise ValueError(f"{name} must be below {limit}, got {value}")


def require_share(**values: float) -> None:
    """Raise a ValueError unless all values are above 0 and at most 1."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, got {value}")


def require_inputs(least: int, neighbors: Neighbors, rule: str, smaller: str) -> None:
    """Raise a ValueError while tracing, unless the slots and the own parameters are enough.

    Args:
        least: number of inputs that the rule needs.
        neighbors: as given to the mixer.
        rule: how the mixer was called, for the text.
        smaller: what to change instead of the number of slots, for the text.
    """
    slots = neighbors.weight.shape[0]
    if slots + 1 < least:
        raise ValueError(
            f"{rule} needs at least {least} inputs, that is {least - 1} slots besides the own "
            f"parameters; there are {slots}: give the peer more slots or choose a {smaller}"
        )
