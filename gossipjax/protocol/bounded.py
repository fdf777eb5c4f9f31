"""A dict that cannot be made to grow without limit by strangers."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(dict[K, V]):
    """At most `size_max` entries; the one that was set longest ago gives way."""

    def __init__(self, size_max: int):
        super().__init__()
        self._size_max = size_max

    def __setitem__(self, key: K, value: V) -> None:
        """Set as the newest entry."""
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self._size_max:
            del self[next(iter(self))]
