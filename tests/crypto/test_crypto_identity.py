import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from gossipjax.crypto.identity import generate_root, identity_from_root

ROOT = bytes(range(32))


def test_three_seeds_are_keyed_hashes_of_the_root():
    identity = identity_from_root(ROOT)
    for seed, purpose in (
        (identity.sign_seed, b"gossipjax.sign"),
        (identity.vrf_seed, b"gossipjax.vrf"),
        (identity.transport_secret, b"gossipjax.curve"),
    ):
        assert seed == hashlib.blake2b(key=ROOT, person=purpose, digest_size=32).digest()


def test_public_keys_belong_to_the_seeds():
    identity = identity_from_root(ROOT)
    assert identity.public.sign == bytes(SigningKey(identity.sign_seed).verify_key)
    assert identity.public.vrf == bytes(SigningKey(identity.vrf_seed).verify_key)
    assert identity.public.transport == bytes(PrivateKey(identity.transport_secret).public_key)


@given(st.binary(min_size=32, max_size=32))
def test_no_two_of_the_six_keys_are_equal(root: bytes):
    identity = identity_from_root(root)
    keys = {identity.sign_seed, identity.vrf_seed, identity.transport_secret, *identity.public}
    assert len(keys) == 6
    assert root not in keys


@given(st.binary(max_size=64).filter(lambda root: len(root) != 32))
def test_a_root_of_another_length_is_refused(root: bytes):
    with pytest.raises(ValueError, match="32 bytes"):
        identity_from_root(root)


def test_a_printed_identity_shows_no_secret():
    identity = identity_from_root(ROOT)
    shown = f"{identity} {identity!r}"
    for secret in (identity.sign_seed, identity.vrf_seed, identity.transport_secret):
        assert secret.hex()[:8] not in shown
        assert repr(secret)[2:10] not in shown


def test_roots_are_new_every_time():
    roots = {generate_root() for _ in range(100)}
    assert len(roots) == 100
    assert {len(root) for root in roots} == {32}
