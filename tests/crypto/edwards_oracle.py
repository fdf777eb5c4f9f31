"""A second, naive implementation of the VRF, on Python integers, written from the RFCs' text.

Affine points and textbook formulas; RFC 8032 section 5.1 for the curve, RFC 9381 section 5 for the
function. Slow and not constant time: for tests only.
"""

import hashlib

from nacl import bindings

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P)
    return x % P, y % P


def negate(a: Point) -> Point:
    return -a[0] % P, a[1]


def multiply(scalar: int, a: Point) -> Point:
    result = NEUTRAL
    for bit in bin(scalar)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, a)
    return result


def encode(a: Point) -> bytes:
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    value = number(data)
    y, sign = value & (2**255 - 1), value >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return (x if x & 1 == sign else P - x), y


def _base() -> Point:
    point = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert point is not None
    return point


BASE = _base()


def small_order_points() -> list[Point]:
    """The eight points of the torsion subgroup, the neutral one first."""
    for y in range(2, 100):
        point = decode(y.to_bytes(32, "little"))
        torsion = multiply(L, point) if point else NEUTRAL
        if multiply(4, torsion) != NEUTRAL:
            return [multiply(k, torsion) for k in range(8)]
    raise AssertionError("no point of order eight found")


def secret_parts(seed: bytes) -> tuple[int, bytes]:
    """The secret scalar and the nonce prefix of a seed."""
    expanded = hashlib.sha512(seed).digest()
    scalar = number(expanded[:32])
    return scalar & ~7 & (2**255 - 1) | 2**254, expanded[32:]


def encode_to_curve(public_key: bytes, alpha: bytes) -> tuple[Point, int]:
    """The point H and the counter at which it was found."""
    for counter in range(256):
        text = b"\x03\x01" + public_key + alpha + bytes([counter]) + b"\x00"
        candidate = decode(hashlib.sha512(text).digest()[:32])
        if candidate and multiply(8, candidate) != NEUTRAL:
            return multiply(8, candidate), counter
    raise AssertionError("unreachable")


def challenge(*points: bytes) -> int:
    digest = hashlib.sha512(b"\x03\x02" + b"".join(points) + b"\x00").digest()
    return number(digest[:16])


def output(gamma: Point) -> bytes:
    return hashlib.sha512(b"\x03\x03" + encode(multiply(8, gamma)) + b"\x00").digest()


def proof_parts(seed: bytes, alpha: bytes) -> dict[str, bytes]:
    """Every intermediate value that RFC 9381 appendix B prints, and the proof."""
    scalar, prefix = secret_parts(seed)
    public_key = encode(multiply(scalar, BASE))
    point, counter = encode_to_curve(public_key, alpha)
    h, gamma = encode(point), multiply(scalar, point)
    nonce = hashlib.sha512(prefix + h).digest()
    k = number(nonce) % L
    u, v = encode(multiply(k, BASE)), encode(multiply(k, point))
    c = challenge(public_key, h, encode(gamma), u, v)
    pi = encode(gamma) + c.to_bytes(16, "little") + ((k + c * scalar) % L).to_bytes(32, "little")
    return {
        "pk": public_key, "x": scalar.to_bytes(32, "little"), "ctr": bytes([counter]), "h": h,
        "k_string": nonce, "u": u, "v": v, "pi": pi, "beta": output(gamma),
    }  # fmt: skip


def satisfies_the_equations(public_key: bytes, alpha: bytes, proof: bytes) -> bool:
    """The two equations of verification alone: neither key nor Gamma need be in the subgroup."""
    key, gamma = decode(public_key), decode(proof[:32])
    if key is None or gamma is None:
        return False
    c, s = number(proof[32:48]), number(proof[48:])
    h, _ = encode_to_curve(public_key, alpha)
    u = add(multiply(s, BASE), negate(multiply(c, key)))
    v = add(multiply(s, h), negate(multiply(c, gamma)))
    return challenge(public_key, encode(h), proof[:32], encode(u), encode(v)) == c


def verify(public_key: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    """The output, or None; with the extra strictness that gossipjax demands of every verifier."""
    if number(proof[32:48]) == 0 or not 0 < number(proof[48:]) < L:
        return None
    for encoded in (public_key, proof[:32]):
        point = decode(encoded)
        if point in (None, NEUTRAL) or multiply(L, point) != NEUTRAL:
            return None
    if not satisfies_the_equations(public_key, alpha, proof):
        return None
    gamma = decode(proof[:32])
    return output(gamma) if gamma else None


def plus(point: bytes, torsion: Point) -> bytes:
    decoded = decode(point)
    assert decoded is not None
    return encode(add(decoded, torsion))


def crafted_proof(
    seed: bytes, alpha: bytes, *, key_torsion: Point, gamma_torsion: Point, multiple: int = 8
) -> tuple[bytes, bytes]:
    """A key and a proof with small-order parts, and `c` such that the two equations still hold.

    The nonce is chosen until `c` is a multiple of 8 (torsion vanishes), as an attacker would.
    """
    scalar, _ = secret_parts(seed)
    public_key = encode(add(multiply(scalar, BASE), key_torsion))
    h = encode(encode_to_curve(public_key, alpha)[0])
    clean_gamma = bindings.crypto_scalarmult_ed25519_noclamp(scalar.to_bytes(32, "little"), h)
    gamma = plus(clean_gamma, gamma_torsion)
    for k in range(1, 1000):
        nonce = k.to_bytes(32, "little")
        u = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
        v = bindings.crypto_scalarmult_ed25519_noclamp(nonce, h)
        c = challenge(public_key, h, gamma, u, v)
        if c % multiple == 0:
            s = (k + c * scalar) % L
            return public_key, gamma + c.to_bytes(16, "little") + s.to_bytes(32, "little")
    raise AssertionError("no nonce found")
