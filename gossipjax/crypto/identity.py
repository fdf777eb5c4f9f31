"""One 32-byte root seed per peer, and the three key pairs that are derived from it."""

import hashlib
import secrets
from typing import NamedTuple

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from gossipjax.crypto.suite import KEY_BYTES


class PublicKeys(NamedTuple):
    """What others know of an identity; 32 bytes each.

    Attributes:
        sign: Ed25519 key under which the peer's records and updates verify.
        vrf: Ed25519-form key of the peer's verifiable random function.
        transport: X25519 key of the peer's CURVE connections.
    """

    sign: bytes
    vrf: bytes
    transport: bytes


class Identity(NamedTuple):
    """The secret seeds, 32 bytes each, and their public keys. Never printed, never sent."""

    sign_seed: bytes
    vrf_seed: bytes
    transport_secret: bytes
    public: PublicKeys

    def __repr__(self) -> str:
        return f"Identity(sign={self.public.sign.hex()[:8]}…)"


def generate_root() -> bytes:
    """A new root seed from the operating system's entropy."""
    return secrets.token_bytes(KEY_BYTES)


def identity_from_root(root: bytes) -> Identity:
    """Derive the three key pairs: `seed = BLAKE2b-256(key=root, person=purpose)`.

    Signing and VRF keys are separate because one seed for both gives the secret away as soon as a
    32-byte VRF input is signed (RFC 9381 nonces have the form of Ed25519's).

    Raises:
        ValueError: the root is not 32 bytes.
    """
    if len(root) != KEY_BYTES:
        raise ValueError(f"a root seed has {KEY_BYTES} bytes, got {len(root)}")

    def derive(purpose: bytes) -> bytes:
        return hashlib.blake2b(b"", key=root, person=purpose, digest_size=KEY_BYTES).digest()

    sign_seed, vrf_seed, transport = (
        derive(b"gossipjax.sign"),
        derive(b"gossipjax.vrf"),
        derive(b"gossipjax.curve"),
    )
    return Identity(
        sign_seed=sign_seed,
        vrf_seed=vrf_seed,
        transport_secret=transport,
        public=PublicKeys(
            sign=bytes(SigningKey(sign_seed).verify_key),
            vrf=bytes(SigningKey(vrf_seed).verify_key),
            transport=bytes(PrivateKey(transport).public_key),
        ),
    )
