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


@pytest.mark.parametrize("name", SUITES)
def test_both_get_the_same_by_exchange_and_nobody_else(name: str):
    suite = SUITES[name][0]
    secrets = [bytes([number]) * 32 for number in (1, 2, 3)]
    first, second, third = map(suite.exchange_key, secrets)
    shared = suite.exchange(secrets[0], second)
    assert shared == suite.exchange(secrets[1], first)
    assert len(shared) == 32
    assert shared not in (suite.exchange(secrets[2], first), suite.exchange(secrets[2], second))
    for short in (b"", third[:31], third + b"x"):
        with pytest.raises(ValueError, match="32 bytes"):
            suite.exchange(secrets[0], short)


def test_exchange_is_x25519():
    """The example of RFC 7748 section 6.1."""
    suite = ed25519_suite()
    alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
    bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
    public = suite.exchange_key(bytes.fromhex(alice))
    assert public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    shared = suite.exchange(bytes.fromhex(bob), public)
    assert shared.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_exchange_refuses_points_of_low_order():
    # With them the result is zero whatever the secret is.
    for point in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(ValueError, match="low order"):
            ed25519_suite().exchange(SEED, point)


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
