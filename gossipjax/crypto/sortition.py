"""How many seats on a committee a verifiable random output gives: integers only, so all agree.

Every unit of weight wins a seat with probability `p = numerator / denominator` (expected seats of
the committee over total weight). The number of seats of a peer is then binomial, and since
`Bin(a, p) + Bin(b, p) = Bin(a + b, p)`, splitting a weight over identities changes nothing (Gilad
et al., "Algorand", SOSP 2017, section 5). Floating point would let platforms disagree at the
boundaries between two numbers of seats.
"""

import hashlib

UNIFORM_BITS = 512
MAX_WEIGHT = 1024
"""Bounds the work of `seats`; weights of peers are counted in units coarse enough to stay below."""

_DOMAIN = b"gossipjax/v1/sortition\0"


def uniform(beta: bytes, context: bytes) -> int:
    r"""A uniform integer in [0, 2^512) from an output of the verifiable random function.

    `SHA512("gossipjax/v1/sortition\0" ‖ len(beta) ‖ beta ‖ len(context) ‖ context)`, lengths as
    unsigned 32-bit and the result as 512-bit big-endian integers. One `beta` may serve several
    draws, told apart by their contexts.
    """
    text = _DOMAIN
    for part in (beta, context):
        text += len(part).to_bytes(4, "big") + part
    return int.from_bytes(hashlib.sha512(text).digest(), "big")


def seats(u: int, weight: int, numerator: int, denominator: int) -> int:
    """Seats won by `weight` units at `u`, each with probability `numerator / denominator`.

    The smallest `j` with `u / 2^512 < P[Bin(weight, p) <= j]`, in exact integers:
    `u · d^w < 2^512 · sum_{k<=j} C(w, k) n^k (d - n)^(w - k)`. A probability above one counts as
    one: when more seats are wanted than there is weight, every unit has one.

    Args:
        u: uniform in [0, 2^512), from `uniform`.
        weight: units of weight, 0 to `MAX_WEIGHT`.
        numerator: expected seats of the whole committee, 0 or more.
        denominator: total weight in the same units, 1 or more.

    Raises:
        ValueError: an argument out of its range.
    """
    if not 0 <= u < 1 << UNIFORM_BITS:
        raise ValueError(f"u is between 0 and 2^{UNIFORM_BITS} - 1, got {u}")
    if not 0 <= weight <= MAX_WEIGHT:
        raise ValueError(f"a weight is between 0 and {MAX_WEIGHT} units, got {weight}")
    if numerator < 0 or denominator < 1:
        raise ValueError(
            f"a probability needs numerator >= 0 and denominator >= 1, "
            f"got {numerator} / {denominator}"
        )
    if numerator >= denominator:
        return weight
    # u·d^w < 2^512·sum, for integers, when floor(u·d^w / 2^512) < sum.
    target = u * denominator**weight >> UNIFORM_BITS
    complement = denominator - numerator
    term = complement**weight
    total = term
    won = 0
    while total <= target:
        # C(w, k+1) n^(k+1) (d-n)^(w-k-1) out of the term before it: the division leaves no rest.
        term = term * (weight - won) * numerator // ((won + 1) * complement)
        won += 1
        total += term
    return won
