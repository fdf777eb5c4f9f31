"""Training that gives way: to the network thread, and to whatever else the machine has to do.

On Linux the threads that train get the policy SCHED_IDLE, and run when no other thread wants the
core. A thread inherits its maker's policy and cannot leave this one without privileges, so the
order matters: JAX's own threads are made by a thread that has it already, the network thread by one
that does not have it yet. Elsewhere nothing happens.
"""

import os
import threading

import jax


def start_backend_in_background() -> None:
    """Start JAX's threads so that they give way; before anything else uses JAX."""

    def start() -> None:
        give_way()
        jax.local_devices()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()


def give_way() -> None:
    """Let the calling thread run only when nobody else wants its core."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
