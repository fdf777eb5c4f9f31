"""Verifiable random function ECVRF-EDWARDS25519-SHA512-TAI (RFC 9381, suite 0x03).

The holder of a secret key turns an input `alpha` into 64 bytes `beta` that nobody else can predict
and nobody can choose, and proves it: for one public key and one `alpha` there is one `beta`.

The curve arithmetic is libsodium's. Symbols as in RFC 9381 section 5: `Y = x·B` public key,
`H = encode_to_curve(Y, alpha)`, `Gamma = x·H`, proof `Gamma ‖ c ‖ s` (32 + 16 + 32 bytes).
"""

import hashlib

from nacl import bindings
from nacl.exceptions import RuntimeError as LibraryRefusal

SEED_BYTES = 32
SECRET_KEY_BYTES = 64
PUBLIC_KEY_BYTES = 32
PROOF_BYTES = 80
OUTPUT_BYTES = 64

_CHALLENGE = slice(32, 48)
_RESPONSE = slice(48, 80)
_CHALLENGE_PADDING = bytes(16)
_FIELD_PRIME = 2**255 - 19
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT = 1 << 255
_IDENTITY = b"\x01" + bytes(31)
_ENCODE, _HASH_CHALLENGE, _HASH_OUTPUT, _END = b"\x03\x01", b"\x03\x02", b"\x03\x03", b"\x00"

# The base point plus the point of order two: of order 2L, so no public key.
_MIXED_ORDER_POINT = b"\x95" + b"\x99" * 31


class InvalidProof(ValueError):
    """A proof, or the public key that it is checked under, that is not accepted."""


def keypair(seed: bytes) -> tuple[bytes, bytes]:
    """Derive `(secret_key, public_key)` from 32 secret bytes.

    `secret_key = seed ‖ public_key` (64 bytes, the form of libsodium's Ed25519 keys), `public_key`
    32 bytes. The seed must be used for nothing else: one Ed25519 signature under the same seed over
    the 32 bytes `H` gives the secret away, since RFC 9381 nonces have the form of Ed25519's.

    Raises:
        ValueError: the seed is not 32 bytes.
    """
    if not _is_bytes(seed, SEED_BYTES):
        raise ValueError(f"a seed is {SEED_BYTES} bytes, got {_described(seed)}")
    public_key, secret_key = bindings.crypto_sign_seed_keypair(seed)
    return secret_key, public_key


def is_valid_key(public_key: bytes) -> bool:
    """True when the bytes are a point of the prime-order subgroup, canonical and not the identity.

    Check a key once, when its owner is admitted: uniqueness of `beta` is promised for valid keys
    only. `verify` refuses invalid ones again, at no extra cost.
    """
    return _is_bytes(public_key, PUBLIC_KEY_BYTES) and bindings.crypto_core_ed25519_is_valid_point(
        public_key
    )


def prove(secret_key: bytes, alpha: bytes) -> bytes:
    """The proof (80 bytes) that `proof_to_hash(proof)` is the output for `alpha`.

    `pi = Gamma ‖ c ‖ s` with `k = SHA512(SHA512(seed)[32:] ‖ H) mod L`, `c = challenge(Y, H, Gamma,
    k·B, k·H)`, `s = k + c·x mod L` (RFC 9381 section 5.1). Deterministic; constant time in the
    secret, not in `alpha`.

    Raises:
        ValueError: the secret key is not 64 bytes, or alpha is no bytes.
    """
    if not _is_bytes(secret_key, SECRET_KEY_BYTES):
        raise ValueError(
            f"a secret key is {SECRET_KEY_BYTES} bytes, as `keypair` returns it, "
            f"got {_described(secret_key)}"
        )
    if not _is_bytes(alpha):
        raise ValueError(f"alpha is bytes, got {_described(alpha)}")
    public_key = secret_key[SEED_BYTES:]
    expanded = hashlib.sha512(secret_key[:SEED_BYTES]).digest()
    scalar = _clamped(expanded[:32])
    point = _encode_to_curve(public_key, alpha)
    gamma = bindings.crypto_scalarmult_ed25519_noclamp(scalar, point)
    nonce = bindings.crypto_core_ed25519_scalar_reduce(
        hashlib.sha512(expanded[32:] + point).digest()
    )
    challenge = _challenge(
        public_key,
        point,
        gamma,
        bindings.crypto_scalarmult_ed25519_base_noclamp(nonce),
        bindings.crypto_scalarmult_ed25519_noclamp(nonce, point),
    )
    # libsodium's scalar arithmetic, not Python integers: those leak their operands by timing.
    response = bindings.crypto_core_ed25519_scalar_add(
        nonce,
        bindings.crypto_core_ed25519_scalar_mul(challenge + _CHALLENGE_PADDING, scalar),
    )
    return gamma + challenge + response


def verify(public_key: bytes, alpha: bytes, proof: bytes) -> bytes:
    """Check a proof and return the output `beta` (64 bytes).

    Accepts when `c = challenge(Y, H, Gamma, s·B - c·Y, s·H - c·Gamma)` (RFC 9381 section 5.3).
    Stricter than the RFC, so that all verifiers agree: `Y` and `Gamma` lie in the prime-order
    subgroup, `0 < c`, `0 < s < L`. Honest proofs miss that with probability 2^-128. The proof is no
    identifier of the output: a prover can make many for one `beta`.

    Raises:
        InvalidProof: anything else, whatever the arguments hold.
    """
    if not _is_bytes(public_key, PUBLIC_KEY_BYTES):
        raise InvalidProof(
            f"a public key is {PUBLIC_KEY_BYTES} bytes, got {_described(public_key)}"
        )
    if not _is_bytes(alpha):
        raise InvalidProof(f"alpha is bytes, got {_described(alpha)}")
    gamma, challenge, response = _split(proof)
    scalar = challenge + _CHALLENGE_PADDING
    point = _encode_to_curve(public_key, alpha)
    try:
        # scalarmult refuses what is outside the prime-order subgroup, of small order or not
        # canonical: here the public key and Gamma.
        u = bindings.crypto_core_ed25519_sub(
            bindings.crypto_scalarmult_ed25519_base_noclamp(response),
            bindings.crypto_scalarmult_ed25519_noclamp(scalar, public_key),
        )
        v = bindings.crypto_core_ed25519_sub(
            bindings.crypto_scalarmult_ed25519_noclamp(response, point),
            bindings.crypto_scalarmult_ed25519_noclamp(scalar, gamma),
        )
    except LibraryRefusal as error:
        raise InvalidProof(
            "the public key and Gamma must be points of the prime-order subgroup; one is not"
        ) from error
    if _challenge(public_key, point, gamma, u, v) != challenge:
        raise InvalidProof("the proof does not belong to this public key and alpha")
    return _output(gamma)


def proof_to_hash(proof: bytes) -> bytes:
    """The output `beta = SHA512(0x03 ‖ 0x03 ‖ 8·Gamma ‖ 0x00)` of a proof (RFC 9381 section 5.2).

    Says nothing about the proof being true: use it on one's own proofs, and `verify` on others'.

    Raises:
        InvalidProof: not 80 bytes, `c` or `s` out of range, or Gamma is no point.
    """
    return _output(_split(proof)[0])


def _is_bytes(value: object, length: int | None = None) -> bool:
    # No bytearray or memoryview: the bindings refuse those with errors of their own.
    return isinstance(value, bytes) and length in (None, len(value))


def _described(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__


def _clamped(scalar: bytes) -> bytes:
    return bytes((scalar[0] & 0xF8,)) + scalar[1:31] + bytes((scalar[31] & 0x7F | 0x40,))


def _split(proof: bytes) -> tuple[bytes, bytes, bytes]:
    """Gamma (not yet checked), `c` and `s`, with both numbers in range."""
    if not _is_bytes(proof, PROOF_BYTES):
        raise InvalidProof(f"a proof is {PROOF_BYTES} bytes, got {_described(proof)}")
    challenge, response = proof[_CHALLENGE], proof[_RESPONSE]
    if challenge == _CHALLENGE_PADDING:
        raise InvalidProof("the challenge c of a proof must not be zero")
    # libsodium would drop bit 255 and reduce: s and s + L would both pass.
    if not 0 < int.from_bytes(response, "little") < _GROUP_ORDER:
        raise InvalidProof("the response s of a proof must be between 1 and L - 1")
    return proof[:32], challenge, response


def _encode_to_curve(public_key: bytes, alpha: bytes) -> bytes:
    """Try and increment (RFC 9381 section 5.4.1.1): the first hash that is a point, times eight."""
    prefix = hashlib.sha512(_ENCODE + public_key + alpha)
    for counter in range(256):
        attempt = prefix.copy()
        attempt.update(bytes((counter, 0)))
        point = _times_eight(attempt.digest()[:32])
        if point is not None:
            return point
    raise InvalidProof("no point found in 256 attempts (chance 2^-256); take another alpha")


def _times_eight(encoded: bytes) -> bytes | None:
    """Eight times the point that RFC 8032 decodes from the bytes; None when none or the identity.

    libsodium's addition accepts a y coordinate of p or more and, with y = ±1, a sign bit for x = 0;
    RFC 8032 does not. The first is refused here. The second needs no check of its own: y = ±1 are
    points of order one and two, which eight times is the identity.
    """
    if int.from_bytes(encoded, "little") & ~_SIGN_BIT >= _FIELD_PRIME:
        return None
    try:
        double = bindings.crypto_core_ed25519_add(encoded, encoded)
    except LibraryRefusal:
        return None
    quadruple = bindings.crypto_core_ed25519_add(double, double)
    point = bindings.crypto_core_ed25519_add(quadruple, quadruple)
    return None if point == _IDENTITY else point


def _challenge(public_key: bytes, point: bytes, gamma: bytes, u: bytes, v: bytes) -> bytes:
    """RFC 9381 section 5.4.3. The public key comes first; drafts before -11 left it out."""
    text = _HASH_CHALLENGE + public_key + point + gamma + u + v + _END
    return hashlib.sha512(text).digest()[:16]


def _output(gamma: bytes) -> bytes:
    # The cofactor is inside the hash: a small-order part of Gamma cannot give a second output.
    cleared = _times_eight(gamma)
    if cleared is None:
        raise InvalidProof("Gamma of a proof must be a point of more than small order")
    return hashlib.sha512(_HASH_OUTPUT + cleared + _END).digest()


if bindings.crypto_core_ed25519_is_valid_point(_MIXED_ORDER_POINT):
    # CVE-2025-69277. PyNaCl 1.6.2 bundles a corrected libsodium; a build against the system's
    # older one would accept keys and proofs that other verifiers refuse.
    raise ImportError(
        "this libsodium accepts points outside the prime-order subgroup (CVE-2025-69277); "
        "install PyNaCl >= 1.6.2 from its wheel, or update libsodium"
    )
