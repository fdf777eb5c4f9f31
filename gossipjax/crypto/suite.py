"""The cryptographic functions that protocol code may use, as one value to hand in."""

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError, RuntimeError
from nacl.signing import SigningKey, VerifyKey

from gossipjax.crypto import ecvrf
from gossipjax.crypto.ecvrf import InvalidProof

SIGNATURE_BYTES = 64
KEY_BYTES = 32


class CryptoSuite(NamedTuple):
    """Pure functions over bytes.

    Attributes:
        sign: `(seed, domain, message) → signature`; `seed` 32 bytes, signature 64 bytes.
        verify: `(public_key, domain, message, signature) → bool`; never raises on bytes.
        digest: `(data) → 32 bytes`, collision resistant.
        prove: `(seed, alpha) → (proof, beta)`; `seed` is the VRF seed, proof 80, beta 64 bytes.
        verify_proof: `(vrf_key, alpha, proof) → beta`; raises `InvalidProof` and nothing else.
        exchange_key: `(secret) → public key`; 32 bytes each.
        exchange: `(secret, other's public key) → 32 bytes` that only the two can have; raises
            ValueError when the public key is no usable point.
    """

    sign: Callable[[bytes, bytes, bytes], bytes]
    verify: Callable[[bytes, bytes, bytes, bytes], bool]
    digest: Callable[[bytes], bytes]
    prove: Callable[[bytes, bytes], tuple[bytes, bytes]]
    verify_proof: Callable[[bytes, bytes, bytes], bytes]
    exchange_key: Callable[[bytes], bytes]
    exchange: Callable[[bytes, bytes], bytes]


def _prefixed(domain: bytes, message: bytes) -> bytes:
    # The separator keeps ("a", "bc") and ("ab", "c") apart; domains are constants without NUL.
    return b"gossipjax/v1/" + domain + b"\0" + message


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _ed25519_sign(seed: bytes, domain: bytes, message: bytes) -> bytes:
    return SigningKey(seed).sign(_prefixed(domain, message)).signature


def _ed25519_verify(public_key: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
    if len(public_key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(_prefixed(domain, message), signature)
    except CryptoError:
        return False
    return True


def _ecvrf_prove(seed: bytes, alpha: bytes) -> tuple[bytes, bytes]:
    proof = ecvrf.prove(ecvrf.keypair(seed)[0], alpha)
    return proof, ecvrf.proof_to_hash(proof)


def _x25519(secret: bytes, public_key: bytes) -> bytes:
    _check_exchange_key(public_key)
    try:
        return crypto_scalarmult(secret, public_key)
    except RuntimeError:  # a point of low order, with which the result would be zero
        raise ValueError("the public key is a point of low order") from None


def _check_exchange_key(public_key: bytes) -> None:
    if len(public_key) != KEY_BYTES:  # libsodium would read beyond the end
        raise ValueError(f"a public key has {KEY_BYTES} bytes, got {len(public_key)}")


def ed25519_suite() -> CryptoSuite:
    """Ed25519 (RFC 8032) over domain-prefixed messages, SHA-256, ECVRF (RFC 9381), X25519."""
    return CryptoSuite(
        _ed25519_sign,
        _ed25519_verify,
        _sha256,
        _ecvrf_prove,
        ecvrf.verify,
        crypto_scalarmult_base,
        _x25519,
    )


def _keyed_hash(key: bytes, domain: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(
        _prefixed(domain, message), key=key, digest_size=SIGNATURE_BYTES
    ).digest()


def _keyed_hash_verify(public_key: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
    if len(public_key) != KEY_BYTES:
        return False
    return hmac.compare_digest(_keyed_hash(public_key, domain, message), signature)


_PROOF_PADDING = bytes(ecvrf.PROOF_BYTES - ecvrf.OUTPUT_BYTES)


def _keyed_hash_prove(seed: bytes, alpha: bytes) -> tuple[bytes, bytes]:
    beta = _keyed_hash(seed, b"vrf", alpha)
    return beta + _PROOF_PADDING, beta


def _keyed_hash_verify_proof(vrf_key: bytes, alpha: bytes, proof: bytes) -> bytes:
    if len(vrf_key) != KEY_BYTES:
        raise InvalidProof(f"a public key is {KEY_BYTES} bytes, got {len(vrf_key)}")
    expected, beta = _keyed_hash_prove(vrf_key, alpha)
    if not hmac.compare_digest(expected, proof):
        raise InvalidProof("the proof does not belong to this public key and alpha")
    return beta


def _same_bytes(secret: bytes) -> bytes:
    return secret


def _hash_of_both(secret: bytes, public_key: bytes) -> bytes:
    _check_exchange_key(public_key)
    return _sha256(b"".join(sorted((secret, public_key))))


def insecure_suite() -> CryptoSuite:
    """A keyed hash in place of signatures and proofs: who knows a *public* key can forge.

    For simulations only, where ten thousand peers would otherwise be an elliptic-curve benchmark.
    Seeds and public keys are the same bytes.
    """
    return CryptoSuite(
        _keyed_hash,
        _keyed_hash_verify,
        _sha256,
        _keyed_hash_prove,
        _keyed_hash_verify_proof,
        _same_bytes,
        _hash_of_both,
    )
