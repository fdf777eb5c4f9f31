import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.crypto import ecvrf
from gossipjax.crypto.ecvrf import InvalidProof
from gossipjax.crypto.suite import CryptoSuite, ed25519_suite, insecure_suite

SEED = bytes(range(32))
SUITES = {
    "ed25519": (
        ed25519_suite(),
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
    ),
    "insecure": (insecure_suite(), SEED.hex()),
}


@pytest.fixture(params=SUITES)
def suite_and_key(request: pytest.FixtureRequest) -> tuple[CryptoSuite, bytes]:
    suite, key = SUITES[request.param]
    return suite, bytes.fromhex(key)


def test_a_signature_verifies(suite_and_key: tuple[CryptoSuite, bytes]):
    suite, key = suite_and_key
    signature = suite.sign(SEED, b"record", b"message")
    assert len(signature) == 64
    assert suite.verify(key, b"record", b"message", signature)


def test_a_signature_counts_in_its_own_domain_only(suite_and_key: tuple[CryptoSuite, bytes]):
    suite, key = suite_and_key
    signature = suite.sign(SEED, b"record", b"message")
    assert not suite.verify(key, b"update", b"message", signature)
    assert not suite.verify(key, b"", b"message", signature)
    assert not suite.verify(key, b"recor", b"dmessage", signature)


def test_no_altered_bit_verifies(suite_and_key: tuple[CryptoSuite, bytes]):
    suite, key = suite_and_key
    message = b"message"
    signature = suite.sign(SEED, b"d", message)
    for bit in range(8 * len(signature)):
        assert not suite.verify(key, b"d", message, _flip(signature, bit))
    for bit in range(8 * len(message)):
        assert not suite.verify(key, b"d", _flip(message, bit), signature)
    for bit in range(8 * len(key)):
        assert not suite.verify(_flip(key, bit), b"d", message, signature)


@pytest.mark.parametrize("name", SUITES)
@given(key=st.binary(max_size=40), message=st.binary(), signature=st.binary(max_size=70))
def test_verify_never_raises_on_bytes(name: str, key: bytes, message: bytes, signature: bytes):
    assert SUITES[name][0].verify(key, b"d", message, signature) is False


def test_the_signed_bytes_are_prefixed():
    # What another implementation has to sign: the Ed25519 signature of RFC 8032 over these bytes.
    from nacl.signing import SigningKey

    expected = SigningKey(SEED).sign(b"gossipjax/v1/record\0message").signature
    assert ed25519_suite().sign(SEED, b"record", b"message") == expected


def test_ed25519_refuses_points_of_small_order():
    # With the neutral element as key and R, and S = 0, the bare equation holds for every message.
    neutral = b"\1" + bytes(31)
    assert not ed25519_suite().verify(neutral, b"d", b"any", neutral + bytes(32))


def test_ed25519_refuses_a_second_form_of_a_signature():
    order = 2**252 + 27742317777372353535851937790883648493
    signature = ed25519_suite().sign(SEED, b"d", b"m")
    s = int.from_bytes(signature[32:], "little") + order
    malleated = signature[:32] + s.to_bytes(32, "little")
    key = bytes.fromhex(SUITES["ed25519"][1])
    assert not ed25519_suite().verify(key, b"d", b"m", malleated)


def test_digest_is_sha256():
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    for suite, _ in SUITES.values():
        assert suite.digest(b"abc").hex() == expected


def test_a_proof_gives_its_output_to_everybody(suite_and_key: tuple[CryptoSuite, bytes]):
    suite, key = suite_and_key
    proof, beta = suite.prove(SEED, b"alpha")
    assert (len(proof), len(beta)) == (ecvrf.PROOF_BYTES, ecvrf.OUTPUT_BYTES)
    assert suite.verify_proof(key, b"alpha", proof) == beta
    assert suite.prove(SEED, b"another")[1] != beta


def test_no_altered_proof_verifies(suite_and_key: tuple[CryptoSuite, bytes]):
    suite, key = suite_and_key
    proof, _ = suite.prove(SEED, b"alpha")
    altered = [(key, b"alpha", _flip(proof, bit)) for bit in range(0, 640, 7)]
    altered += [(_flip(key, bit), b"alpha", proof) for bit in range(0, 256, 7)]
    for case in (*altered, (key, b"alphb", proof), (key, b"alpha", proof[:-1])):
        with pytest.raises(InvalidProof):
            suite.verify_proof(*case)


@pytest.mark.parametrize("name", SUITES)
@given(key=st.binary(max_size=40), alpha=st.binary(), proof=st.binary(max_size=90))
def test_verify_proof_raises_one_thing_only(name: str, key: bytes, alpha: bytes, proof: bytes):
    with pytest.raises(InvalidProof):
        SUITES[name][0].verify_proof(key, alpha, proof)


def _flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
