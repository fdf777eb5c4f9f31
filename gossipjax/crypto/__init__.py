"""Keys, signatures, verifiable random functions, sortition: bytes in, bytes out.

`gossipjax.crypto.ecvrf` has the verifiable random function itself (`keypair`, `prove`, `verify`,
`proof_to_hash`), `gossipjax.crypto.committee_size` how large a committee must be.
"""

from gossipjax.crypto.ecvrf import InvalidProof
from gossipjax.crypto.identity import Identity, PublicKeys, generate_root, identity_from_root
from gossipjax.crypto.sortition import seats, uniform
from gossipjax.crypto.suite import CryptoSuite, ed25519_suite, insecure_suite

__all__ = [
    "CryptoSuite",
    "Identity",
    "InvalidProof",
    "PublicKeys",
    "ed25519_suite",
    "generate_root",
    "identity_from_root",
    "insecure_suite",
    "seats",
    "uniform",
]
