import hashlib
import json
import random
import runpy
from pathlib import Path

import edwards_oracle as oracle
import nacl.exceptions
import pytest
from edwards_oracle import crafted_proof, number, plus, satisfies_the_equations
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.signing import SigningKey

from gossipjax.crypto import ecvrf, ed25519_suite, identity_from_root
from gossipjax.crypto.ecvrf import InvalidProof, keypair, proof_to_hash, prove, verify

VECTORS = Path(__file__).parents[1] / "vectors" / "rfc9381_ecvrf_edwards25519_sha512_tai.json"
EXAMPLES = json.loads(VECTORS.read_text(encoding="utf-8"))["examples"]
SEED = bytes(range(32))
SECRET_KEY, PUBLIC_KEY = keypair(SEED)
ALPHA = b"epoch 7, update 12"
PROOF = prove(SECRET_KEY, ALPHA)
TORSION = oracle.small_order_points()
NOT_BYTES = [None, 7, "text", bytearray(80), memoryview(bytes(80)), [1, 2], object()]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"example{e['example']}")
def test_rfc_9381_appendix_b3_field_by_field(example):
    expected = {name: bytes.fromhex(v) for name, v in example.items() if isinstance(v, str)}
    secret_key, public_key = keypair(expected["sk"])
    expanded = hashlib.sha512(expected["sk"]).digest()
    h = ecvrf._encode_to_curve(public_key, expected["alpha"])
    assert public_key == expected["pk"]
    assert ecvrf._clamped(expanded[:32]) == expected["x"]
    assert h == expected["h"]
    assert oracle.encode_to_curve(public_key, expected["alpha"])[1] == example["ctr"]
    assert hashlib.sha512(expanded[32:] + h).digest() == expected["k_string"]
    gamma, challenge, _ = ecvrf._split(expected["pi"])
    u, v = expected["u"], expected["v"]
    assert ecvrf._challenge(public_key, h, gamma, u, v) == challenge
    assert prove(secret_key, expected["alpha"]) == expected["pi"]
    assert proof_to_hash(expected["pi"]) == expected["beta"]
    assert verify(public_key, expected["alpha"], expected["pi"]) == expected["beta"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"example{e['example']}")
def test_the_oracle_agrees_with_every_field_of_the_rfc(example):
    parts = oracle.proof_parts(bytes.fromhex(example["sk"]), bytes.fromhex(example["alpha"]))
    assert parts.pop("ctr")[0] == example["ctr"]
    assert {name: value.hex() for name, value in parts.items()} == {
        name: example[name] for name in parts
    }


def test_a_thousand_random_round_trips():
    random_source = random.Random(9381)
    outputs = set()
    for _ in range(1000):
        secret_key, public_key = keypair(random_source.randbytes(32))
        alpha = random_source.randbytes(random_source.randrange(200))
        proof = prove(secret_key, alpha)
        assert len(proof) == ecvrf.PROOF_BYTES
        beta = verify(public_key, alpha, proof)
        assert proof_to_hash(proof) == beta
        outputs.add(beta)
    assert len(outputs) == 1000
    assert {len(beta) for beta in outputs} == {ecvrf.OUTPUT_BYTES}


def test_an_independent_implementation_gives_the_same_proofs_and_outputs():
    random_source = random.Random(16)
    for _ in range(12):
        seed, alpha = random_source.randbytes(32), random_source.randbytes(40)
        secret_key, public_key = keypair(seed)
        parts = oracle.proof_parts(seed, alpha)
        proof = prove(secret_key, alpha)
        assert (public_key, proof) == (parts["pk"], parts["pi"])
        assert verify(public_key, alpha, proof) == parts["beta"]
        assert oracle.verify(public_key, alpha, proof) == parts["beta"]


# The ten subtleties of the suite, one or more tests each.


def test_1_every_hashed_point_is_in_the_subgroup_although_the_candidates_are_not():
    candidates_outside = 0
    for k in range(64):
        alpha = k.to_bytes(2, "big")
        point, counter = oracle.encode_to_curve(PUBLIC_KEY, alpha)
        text = b"\x03\x01" + PUBLIC_KEY + alpha + bytes([counter]) + b"\x00"
        candidate = hashlib.sha512(text).digest()[:32]
        candidates_outside += not bindings.crypto_core_ed25519_is_valid_point(candidate)
        h = ecvrf._encode_to_curve(PUBLIC_KEY, alpha)
        assert h == oracle.encode(point)
        assert bindings.crypto_core_ed25519_is_valid_point(h)
    assert candidates_outside > 40


def test_1_points_of_small_order_are_no_candidates():
    assert len(set(TORSION)) == 8
    for point in TORSION:
        assert ecvrf._times_eight(oracle.encode(point)) is None


def test_2_encodings_that_rfc_8032_refuses_are_no_candidates():
    # Only what libsodium's addition takes and the RFC does not makes a difference.
    lenient = 0
    for y in range(19):
        for sign in (0, ecvrf._SIGN_BIT):
            encoded = (oracle.P + y | sign).to_bytes(32, "little")
            assert oracle.decode(encoded) is None
            assert ecvrf._times_eight(encoded) is None
            assert not ecvrf.is_valid_key(encoded)
            try:
                bindings.crypto_core_ed25519_add(encoded, encoded)
                lenient += 1
            except nacl.exceptions.RuntimeError:
                continue
    assert lenient > 10
    for y in (1, oracle.P - 1):
        negative_zero = (y | ecvrf._SIGN_BIT).to_bytes(32, "little")
        bindings.crypto_core_ed25519_add(negative_zero, negative_zero)
        assert oracle.decode(negative_zero) is None
        assert ecvrf._times_eight(negative_zero) is None


def test_2_the_counter_is_one_byte_and_running_out_of_it_is_an_error(monkeypatch):
    alpha = max(
        (k.to_bytes(2, "big") for k in range(300)),
        key=lambda alpha: oracle.encode_to_curve(PUBLIC_KEY, alpha)[1],
    )
    point, counter = oracle.encode_to_curve(PUBLIC_KEY, alpha)
    assert counter >= 5
    assert ecvrf._encode_to_curve(PUBLIC_KEY, alpha) == oracle.encode(point)
    attempts = []
    monkeypatch.setattr(ecvrf, "_times_eight", attempts.append)
    with pytest.raises(InvalidProof, match="256 attempts"):
        ecvrf._encode_to_curve(PUBLIC_KEY, b"")
    assert len(set(attempts)) == 256


@pytest.mark.parametrize(
    "change", [lambda s: s + oracle.L, lambda s: s | 1 << 255, lambda s: 0, lambda s: oracle.L]
)
def test_3_a_response_out_of_range_is_refused(change):
    response = change(number(PROOF[48:])).to_bytes(32, "little")
    for refuse in (lambda p: verify(PUBLIC_KEY, ALPHA, p), proof_to_hash):
        with pytest.raises(InvalidProof, match="response"):
            refuse(PROOF[:48] + response)


def test_4_the_challenge_hashes_the_public_key_first():
    # As the drafts of the RFC did it: everything right, but no public key in the challenge.
    scalar, _ = oracle.secret_parts(SEED)
    h = ecvrf._encode_to_curve(PUBLIC_KEY, ALPHA)
    nonce = (12345).to_bytes(32, "little")
    gamma = PROOF[:32]
    u = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    v = bindings.crypto_scalarmult_ed25519_noclamp(nonce, h)
    for accepted, hashed in ((True, (PUBLIC_KEY, h, gamma, u, v)), (False, (h, gamma, u, v))):
        c = oracle.challenge(*hashed)
        s = (12345 + c * scalar) % oracle.L
        proof = gamma + c.to_bytes(16, "little") + s.to_bytes(32, "little")
        if accepted:
            assert verify(PUBLIC_KEY, ALPHA, proof) == proof_to_hash(PROOF)
        else:
            with pytest.raises(InvalidProof, match="does not belong"):
                verify(PUBLIC_KEY, ALPHA, proof)


def test_5_a_small_order_part_of_gamma_gives_no_second_output():
    for torsion in TORSION[1:]:
        shifted = plus(PROOF[:32], torsion) + PROOF[32:]
        assert shifted != PROOF
        assert proof_to_hash(shifted) == proof_to_hash(PROOF)


@pytest.mark.parametrize("order", range(1, 8))
def test_6_keys_and_gammas_with_a_small_order_part_are_refused(order):
    for key_torsion, gamma_torsion in ((TORSION[order], TORSION[0]), (TORSION[0], TORSION[order])):
        public_key, proof = crafted_proof(
            SEED, ALPHA, key_torsion=key_torsion, gamma_torsion=gamma_torsion
        )
        assert satisfies_the_equations(public_key, ALPHA, proof)
        assert ecvrf.is_valid_key(public_key) == (key_torsion == TORSION[0])
        assert oracle.verify(public_key, ALPHA, proof) is None
        with pytest.raises(InvalidProof, match="prime-order"):
            verify(public_key, ALPHA, proof)


def test_6_a_zero_challenge_is_refused():
    with pytest.raises(InvalidProof, match="challenge"):
        verify(PUBLIC_KEY, ALPHA, PROOF[:32] + bytes(16) + PROOF[48:])


def test_6_small_order_and_non_canonical_points_are_refused():
    encodings = [oracle.encode(point) for point in TORSION]
    encodings += [(oracle.P + y).to_bytes(32, "little") for y in range(19)]
    encodings += [(y | ecvrf._SIGN_BIT).to_bytes(32, "little") for y in (1, oracle.P - 1)]
    for encoded in encodings:
        assert not ecvrf.is_valid_key(encoded)
        with pytest.raises(InvalidProof):
            verify(encoded, ALPHA, PROOF)
        with pytest.raises(InvalidProof):
            verify(PUBLIC_KEY, ALPHA, encoded + PROOF[32:])
        with pytest.raises(InvalidProof, match="Gamma"):
            proof_to_hash(encoded + PROOF[32:])


def test_7_one_seed_for_signatures_and_vrf_would_give_the_secret_away():
    h = ecvrf._encode_to_curve(PUBLIC_KEY, ALPHA)

    def recovered(signed: bytes, signature: bytes) -> int:
        hashed = hashlib.sha512(signature[:32] + PUBLIC_KEY + signed).digest()
        difference = number(signature[32:]) - number(PROOF[48:])
        return difference * pow(number(hashed) - number(PROOF[32:48]), -1, oracle.L) % oracle.L

    secret = oracle.secret_parts(SEED)[0] % oracle.L
    assert recovered(h, SigningKey(SEED).sign(h).signature) == secret
    # What we do: a domain prefix in everything that is signed, and two seeds.
    signature = ed25519_suite().sign(SEED, b"update", h)
    assert recovered(b"gossipjax/v1/update\0" + h, signature) != secret
    identity = identity_from_root(bytes(32))
    assert identity.sign_seed != identity.vrf_seed
    assert identity.public.vrf == keypair(identity.vrf_seed)[1]


def test_8_many_proofs_have_one_output():
    _, other = crafted_proof(
        SEED, ALPHA, key_torsion=TORSION[0], gamma_torsion=TORSION[0], multiple=3
    )
    assert other != PROOF
    assert verify(PUBLIC_KEY, ALPHA, other) == verify(PUBLIC_KEY, ALPHA, PROOF)


def test_9_a_key_can_be_validated_alone():
    assert ecvrf.is_valid_key(PUBLIC_KEY)
    for key in (b"", PUBLIC_KEY[:31], PUBLIC_KEY + b"\0", bytes(32), b"\xff" * 32, *NOT_BYTES):
        assert not ecvrf.is_valid_key(key)  # pyright: ignore[reportArgumentType]


def test_9_a_library_that_takes_mixed_order_points_is_refused_at_import(monkeypatch):
    assert plus(oracle.encode(oracle.BASE), (0, oracle.P - 1)) == ecvrf._MIXED_ORDER_POINT
    runpy.run_path(ecvrf.__file__)
    monkeypatch.setattr(bindings, "crypto_core_ed25519_is_valid_point", lambda _: True)
    with pytest.raises(ImportError, match="CVE-2025-69277"):
        runpy.run_path(ecvrf.__file__)


@pytest.mark.parametrize("wrong", NOT_BYTES, ids=lambda wrong: type(wrong).__name__)
def test_10_wrong_types_are_one_error(wrong):
    for arguments in (
        (wrong, ALPHA, PROOF),
        (PUBLIC_KEY, wrong, PROOF),
        (PUBLIC_KEY, ALPHA, wrong),
    ):
        with pytest.raises(InvalidProof, match=type(wrong).__name__):
            verify(*arguments)
    with pytest.raises(InvalidProof):
        proof_to_hash(wrong)
    for call in (
        lambda: keypair(wrong),
        lambda: prove(wrong, ALPHA),
        lambda: prove(SECRET_KEY, wrong),
    ):
        with pytest.raises(ValueError, match=type(wrong).__name__):
            call()


@pytest.mark.parametrize("length", [0, 31, 33, 64, 79, 81])
def test_10_wrong_lengths_are_one_error(length):
    data = bytes(length)
    with pytest.raises(InvalidProof, match=f"got {length} bytes"):
        verify(PUBLIC_KEY, ALPHA, data)
    with pytest.raises(InvalidProof, match=f"got {length} bytes"):
        verify(data, ALPHA, PROOF)
    with pytest.raises(ValueError, match=f"got {length} bytes"):
        keypair(data)


def test_another_alpha_or_key_is_refused():
    for alpha in (b"", ALPHA[:-1], ALPHA + b"\0", ALPHA.upper()):
        with pytest.raises(InvalidProof, match="does not belong"):
            verify(PUBLIC_KEY, alpha, PROOF)
    with pytest.raises(InvalidProof, match="does not belong"):
        verify(keypair(bytes(32))[1], ALPHA, PROOF)


def test_every_flipped_bit_of_a_proof_or_key_is_refused():
    def flipped(data: bytes, bit: int) -> bytes:
        return (number(data) ^ 1 << bit).to_bytes(len(data), "little")

    for bit in range(8 * ecvrf.PROOF_BYTES):
        with pytest.raises(InvalidProof):
            verify(PUBLIC_KEY, ALPHA, flipped(PROOF, bit))
    for bit in range(8 * ecvrf.PUBLIC_KEY_BYTES):
        with pytest.raises(InvalidProof):
            verify(flipped(PUBLIC_KEY, bit), ALPHA, PROOF)


@given(st.binary(max_size=100), st.binary(max_size=40), st.binary(max_size=120))
def test_bytes_from_strangers_raise_nothing_else(public_key, alpha, proof):
    with pytest.raises(InvalidProof):
        verify(public_key, alpha, proof)


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=40),
    st.binary(min_size=80, max_size=80),
)
def test_well_formed_bytes_from_strangers_raise_nothing_else(public_key, alpha, proof):
    with pytest.raises(InvalidProof):
        verify(public_key, alpha, proof)
