"""What to say to whom: pure, deterministic state machines.

Time, entropy and messages come in as values; effects go out as values. Nothing here knows of
sockets, threads, clocks or JAX, so the same objects run over ZeroMQ and in a simulator.
"""

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.peer import PeerMachine

__all__ = ["PeerMachine", "ProtocolConfig"]
