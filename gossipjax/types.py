"""Names for the values that every part of the library passes around. Imports nothing heavy."""

from typing import Any, NewType

PeerId = NewType("PeerId", bytes)
"""32 bytes: hash of run id, signing key and VRF key; see `gossipjax.wire.envelope.peer_id`."""

RunId = NewType("RunId", bytes)
"""32 bytes: hash of the run's name and of the manifest of its payloads."""

Nanoseconds = int
"""A point in time or a span. Protocol time is monotonic and has no common origin between peers."""

Params = Any
"""A pytree of floating-point arrays: what is trained."""

Payload = Any
"""A pytree of arrays of static shape: what a peer tells its neighbors."""


def short(identifier: bytes) -> str:
    """First eight hexadecimal digits of a peer id or digest, for people to read."""
    return identifier[:4].hex()


__all__ = ["Nanoseconds", "Params", "Payload", "PeerId", "RunId", "short"]
