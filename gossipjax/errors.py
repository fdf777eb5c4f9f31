"""The two ways in which a conversation between peers can be wrong (the split is h11's).

Anything else that comes out of a decoder, of `PeerMachine.handle` or of a check of received bytes
is a defect of gossipjax.
"""


class ProtocolError(Exception):
    """Base of the two; never raised itself."""


class LocalProtocolError(ProtocolError):
    """This program asked for something that is not allowed. The text says what to do instead."""


class RemoteProtocolError(ProtocolError):
    """A peer sent something that the protocol does not allow. It is refused and counted.

    Attributes:
        reason: one word of `gossipjax.wire.limits.REASONS`, under which the refusal is counted.
    """

    def __init__(self, reason: str, text: str):
        super().__init__(f"{reason}: {text}")
        self.reason = reason
