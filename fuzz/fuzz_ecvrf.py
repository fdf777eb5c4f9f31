"""Coverage-guided fuzzing of `gossipjax.crypto.ecvrf.verify`.

Promises under test: nothing but `InvalidProof` is raised, whatever the bytes; what is accepted has
a valid key and one output, the same as `proof_to_hash` gives, and for a key whose secret is known
here the same as the honest proof has (uniqueness).

    pip install -e '.[fuzz]'
    python fuzz/fuzz_ecvrf.py runs/fuzz/ecvrf -max_total_time=600

The folder keeps the corpus; it is made, with honest proofs as seeds, when it does not exist. A
finding is written to `crash-…` in the working folder; run the file with that path to see it again.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gossipjax.crypto"]):
    from gossipjax.crypto import ecvrf

SECRET_KEY, PUBLIC_KEY = ecvrf.keypair(bytes(range(32)))
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD_PRIME = 2**255 - 19
SPECIAL_POINTS = [
    number.to_bytes(32, "little")
    for y in (0, 1, 2, 3, FIELD_PRIME - 1, FIELD_PRIME, FIELD_PRIME + 1, FIELD_PRIME + 3)
    for number in (y, y | 1 << 255)
]


def attempt(data: bytes) -> tuple[bytes, bytes, bytes]:
    """A public key, an alpha and a proof; the first byte says how far from an honest proof."""
    source = atheris.FuzzedDataProvider(data)
    mode = source.ConsumeIntInRange(0, 4)
    alpha = source.ConsumeBytes(source.ConsumeIntInRange(0, 64))
    if mode == 0:
        return source.ConsumeBytes(32), alpha, source.ConsumeBytes(100)
    honest = ecvrf.prove(SECRET_KEY, alpha)
    if mode == 1:
        mask = source.ConsumeBytes(ecvrf.PROOF_BYTES).ljust(ecvrf.PROOF_BYTES, b"\0")
        return PUBLIC_KEY, alpha, bytes(a ^ b for a, b in zip(honest, mask, strict=True))
    if mode == 2:
        shift = source.ConsumeIntInRange(-16, 15) * GROUP_ORDER
        response = (int.from_bytes(honest[48:], "little") + shift) % 2**256
        return PUBLIC_KEY, alpha, honest[:48] + response.to_bytes(32, "little")
    special = SPECIAL_POINTS[source.ConsumeIntInRange(0, len(SPECIAL_POINTS) - 1)]
    if mode == 3:
        return special, alpha, source.ConsumeBytes(32).ljust(32, b"\0") + honest[32:]
    return PUBLIC_KEY, alpha, special + source.ConsumeBytes(48).ljust(48, b"\0")


def check(data: bytes) -> None:
    """One execution."""
    public_key, alpha, proof = attempt(data)
    try:
        beta = ecvrf.verify(public_key, alpha, proof)
    except ecvrf.InvalidProof:
        return
    assert ecvrf.is_valid_key(public_key)
    assert beta == ecvrf.proof_to_hash(proof)
    if public_key == PUBLIC_KEY:
        assert beta == ecvrf.proof_to_hash(ecvrf.prove(SECRET_KEY, alpha))


def honest_seeds() -> list[bytes]:
    """Inputs that `attempt` turns into honest proofs, or nearly: numbers are read from the end."""
    seeds = []
    for length in (0, 1, 40):
        alpha = bytes(range(length))
        proof = ecvrf.prove(SECRET_KEY, alpha)
        seeds.append(alpha + PUBLIC_KEY + proof + bytes((length, 0)))
        seeds.append(alpha + bytes((length, 1)))
        seeds.append(alpha + bytes((17, length, 2)))
        seeds.append(alpha + proof[:32] + bytes((4, length, 3)))
        seeds.append(alpha + proof[32:] + bytes((4, length, 4)))
    return seeds


def main() -> None:
    """Fuzz with the options of libFuzzer in `sys.argv`."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if folders and not folders[0].exists():
        folders[0].mkdir(parents=True)
        for index, seed in enumerate(honest_seeds()):
            (folders[0] / f"seed-{index}").write_bytes(seed)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
