"""Keys, signatures and digests. Bytes in, bytes out; no input or output."""

from gossipjax.crypto.identity import Identity, PublicKeys, generate_root, identity_from_root
from gossipjax.crypto.suite import CryptoSuite, ed25519_suite, insecure_suite

__all__ = [
    "CryptoSuite",
    "Identity",
    "PublicKeys",
    "ed25519_suite",
    "generate_root",
    "identity_from_root",
    "insecure_suite",
]
