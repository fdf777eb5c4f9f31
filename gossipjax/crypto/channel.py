"""Encryption between two peers over somebody who is not to read along.

Both have a static X25519 key that the other knows, and make an ephemeral one for the channel:

    secret = ee ‖ es ‖ se       (X25519 of ephemeral and static keys, as in the Noise framework,
                                 Perrin 2018, section 7: mutual authentication, forward secrecy)
    keys   = BLAKE2b-512(key = binding, message = secret), one half for each direction
    box    = counter ‖ AES-256-GCM(key, nonce = lane ‖ counter ‖ 0, plaintext)

A box opens once only: its counter must be above that of every box opened before in its lane. Boxes
may get lost. Every channel has keys of its own, so that no nonce is used twice with a key (NIST SP
800-38D, section 8.2.1).
"""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gossipjax.crypto.suite import KEY_BYTES, CryptoSuite

COUNTER_BYTES = 8
NONCE_BYTES = 12
TAG_BYTES = 16
BOX_OVERHEAD = COUNTER_BYTES + TAG_BYTES
"""A box is so many bytes longer than its plaintext."""


class InvalidBox(Exception):
    """A box that was altered, replayed, or made by somebody else."""


class Channel:
    """One end of an encrypted channel.

    Args:
        send_key, receive_key: 32 bytes each.
    """

    def __init__(self, send_key: bytes, receive_key: bytes):
        self._sender = AESGCM(send_key)
        self._receiver = AESGCM(receive_key)
        self._sent = [0, 0]
        self._received = [0, 0]

    def seal(self, lane: bool, plaintext: bytes | memoryview) -> bytearray:
        """A box for the other end. Boxes of one lane must arrive in order, if at all."""
        self._sent[lane] += 1
        counter = self._sent[lane].to_bytes(COUNTER_BYTES, "little")
        box = bytearray(len(plaintext) + BOX_OVERHEAD)
        box[:COUNTER_BYTES] = counter
        self._sender.encrypt_into(
            _nonce(lane, counter), plaintext, None, memoryview(box)[COUNTER_BYTES:]
        )
        return box

    def open(self, lane: bool, box: bytes | bytearray | memoryview) -> bytes:
        """The plaintext.

        Raises:
            InvalidBox: not made for this end and lane, altered, or not newer than the last one.
        """
        counter = bytes(box[:COUNTER_BYTES])
        number = int.from_bytes(counter, "little")
        if len(box) < BOX_OVERHEAD or number <= self._received[lane]:
            raise InvalidBox(f"box {number} after box {self._received[lane]}")
        try:
            ciphertext = memoryview(box)[COUNTER_BYTES:]
            plaintext = self._receiver.decrypt(_nonce(lane, counter), ciphertext, None)
        except InvalidTag:
            raise InvalidBox("the box was altered, or is not for this channel") from None
        self._received[lane] = number
        return plaintext


def make_channel(
    suite: CryptoSuite,
    *,
    opens: bool,
    static_secret: bytes,
    ephemeral_secret: bytes,
    other_static: bytes,
    other_ephemeral: bytes,
    binding: bytes,
) -> Channel:
    """One end of the channel; the other end's arguments are the same with the roles exchanged.

    Args:
        suite: the exchange.
        opens: whether this is the end that spoke first.
        static_secret: of this end.
        ephemeral_secret: of this end, new for each channel.
        other_static: public key of the other end.
        other_ephemeral: public key of the other end.
        binding: what both must agree on besides the keys, at most 64 bytes.

    Raises:
        InvalidBox: a public key of the other end is no usable point.
    """
    own_ephemeral = suite.exchange_key(ephemeral_secret)
    try:
        ee = suite.exchange(ephemeral_secret, other_ephemeral)
        to_static = suite.exchange(ephemeral_secret, other_static)
        from_static = suite.exchange(static_secret, other_ephemeral)
    except ValueError as error:
        raise InvalidBox(str(error)) from None
    if opens:
        secret = ee + to_static + from_static + own_ephemeral + other_ephemeral
    else:
        secret = ee + from_static + to_static + other_ephemeral + own_ephemeral
    return _channel_of(secret, binding, b"gossipjax.relay", opens=opens)


def shared_channel(secret: bytes, *, opens: bool) -> Channel:
    """One end of a channel between two who have a new secret in common, of 32 random bytes.

    Args:
        secret: never used for another channel.
        opens: whether this is the end that got the secret; the other end made it.
    """
    return _channel_of(secret, b"", b"gossipjax.data", opens=opens)


def _channel_of(secret: bytes, binding: bytes, person: bytes, *, opens: bool) -> Channel:
    keys = hashlib.blake2b(secret, key=binding, person=person).digest()
    first, second = keys[:KEY_BYTES], keys[KEY_BYTES:]
    return Channel(first, second) if opens else Channel(second, first)


def _nonce(lane: bool, counter: bytes) -> bytes:
    return (bytes([lane]) + counter).ljust(NONCE_BYTES, b"\0")
