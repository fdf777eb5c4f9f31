from typing import Any, cast

import pytest

from gossipjax.errors import LocalProtocolError
from gossipjax.protocol.config import ProtocolConfig

SECOND = 1_000_000_000


def test_the_defaults_are_allowed():
    assert ProtocolConfig().fanout == 3


NUMBERS = [name for name in ProtocolConfig.__struct_fields__ if name != "offer_to"]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_parameter_has_a_least_value(name: str):
    least = 0 if name == "relay_bytes_per_s" else 1
    with pytest.raises(LocalProtocolError, match=f"expected {name} ≥ {least}, got {least - 1}"):
        ProtocolConfig(**cast(Any, {name: least - 1}))


def test_relaying_can_be_switched_off():
    assert ProtocolConfig(relay_bytes_per_s=0).relay_bytes_per_s == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"probe_interval_ns": 6 * SECOND},
        {"suspect_after_ns": 15 * SECOND},
        {"dead_after_ns": SECOND},
        {"retry_min_ns": 21 * SECOND},
        {"neighbors_max": 15},
        {"offer_to": "all"},
        {"offer_to": "near", "fanout": 1},
        {"offer_to": ()},
        {"offer_to": ("ab" * 32,) * 2},
        {"offer_to": tuple(f"{number:064x}" for number in range(9))},
        {"offer_to": ("AB" * 32,)},
    ],
)
def test_combinations_that_cannot_work_are_refused(wrong: dict[str, Any]):
    with pytest.raises(LocalProtocolError, match="expected"):
        ProtocolConfig(**wrong)
