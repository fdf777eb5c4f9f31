"""Checkpoints of training, by Orbax: written in the background, complete or absent."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

_KEPT = 2


class Checkpoints:
    """The newest checkpoints in a folder.

    A checkpoint appears under its final name only when complete, so a process that is killed while
    writing leaves the one before it.
    """

    def __init__(self, folder: Path):
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=_KEPT, create=True),
        )

    def save(self, state: Any) -> None:
        """Write a pytree of arrays; waits only for the checkpoint before."""
        latest = self._manager.latest_step()
        number = 0 if latest is None else latest + 1
        self._manager.save(number, args=ocp.args.StandardSave(state))

    def restore(self, template: Any) -> Any | None:
        """The newest checkpoint in the structure, shapes and dtypes of `template`; None if none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()
