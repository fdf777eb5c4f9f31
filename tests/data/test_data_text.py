import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.data import cut_windows, sample_windows, shakespeare, text_batches
from gossipjax.data.text import FILE

CORPUS = shakespeare()
ASCENDING = np.arange(1000, dtype=np.uint16)


def test_corpus_is_what_the_docstring_says():
    lengths = [len(role.tokens) for role in CORPUS.roles]
    assert FILE.stat().st_size <= 2_000_000
    assert len(CORPUS.roles) == 445
    assert len({role.play for role in CORPUS.roles}) == 37
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-1], sum(lengths)) == (65_310, 2_007, 3_792_836)
    assert len(CORPUS.vocabulary) == 74
    assert CORPUS.vocabulary == "".join(sorted(CORPUS.vocabulary))
    assert len({(role.play, role.name) for role in CORPUS.roles}) == 445


def test_roles_say_their_lines_and_nobody_else_says_them():
    hamlet = CORPUS.roles[0]
    assert (hamlet.play, hamlet.name) == ("Hamlet", "HAM")
    text = CORPUS.decode(hamlet.tokens)
    assert text.startswith("A little more than kin, and less than kind!\n\nNot so, my lord;")
    assert "To be, or not to be,--that is the question:--\n" in text
    assert "Frailty, thy name is woman" in text
    polonius = next(role for role in CORPUS.roles if role[:2] == ("Hamlet", "POL"))
    assert "Neither a borrower nor a lender be" not in text
    assert "Neither a borrower nor a lender be" in CORPUS.decode(polonius.tokens)


def test_texts_hold_no_stage_directions():
    for role in CORPUS.roles:
        text = CORPUS.decode(role.tokens)
        assert not {"Enter ", "Exit", "Exeunt"} & {line[:6].rstrip() for line in text.splitlines()}
        assert "  " not in text


def test_corpus_is_cached_and_read_only():
    assert shakespeare() is CORPUS
    assert not any(role.tokens.flags.writeable for role in CORPUS.roles)
    with pytest.raises(ValueError, match="read-only"):
        CORPUS.roles[0].tokens[0] = 0


def test_train_and_test_tokens_make_up_the_text():
    for role in CORPUS.roles:
        parts = [role.train_tokens, role.test_tokens]
        np.testing.assert_array_equal(np.concatenate(parts), role.tokens)
        assert len(parts[1]) == len(role.tokens) // 10


@given(text=st.text(st.sampled_from(CORPUS.vocabulary), max_size=50))
def test_what_is_encoded_is_decoded_again(text: str):
    assert CORPUS.decode(CORPUS.encode(text)) == text


@pytest.mark.parametrize("text", ["ü", "a\tb", "\N{SNOWMAN}", "3"])
def test_unknown_characters_are_refused(text: str):
    with pytest.raises(ValueError, match="characters of the vocabulary"):
        CORPUS.encode(text)


@pytest.mark.parametrize("tokens", [[74], [0, -1]])
def test_unknown_tokens_are_refused(tokens: list[int]):
    with pytest.raises(ValueError, match="tokens from 0 to 73"):
        CORPUS.decode(tokens)


@given(n=st.integers(2, 300), length=st.integers(1, 50))
def test_cut_windows_predict_every_token_once(n: int, length: int):
    if n <= length:
        with pytest.raises(ValueError, match="ask for shorter windows"):
            cut_windows(ASCENDING[:n], length)
        return
    windows = cut_windows(ASCENDING[:n], length)
    assert windows.dtype == np.int32
    predicted = windows[:, 1:].ravel()
    np.testing.assert_array_equal(predicted, np.arange(1, 1 + len(predicted)))
    np.testing.assert_array_equal(windows[:, :-1].ravel() + 1, predicted)
    assert 0 <= n - 1 - len(predicted) < length


@given(
    n=st.integers(2, 300),
    length=st.integers(1, 50),
    seed=st.integers(0, 2**40),
    is_generator=st.booleans(),
)
def test_sampled_windows_are_stretches(n: int, length: int, seed: int, is_generator: bool):
    rng = np.random.default_rng(seed) if is_generator else np.random.RandomState(seed % 2**32)
    if n <= length:
        with pytest.raises(ValueError, match="ask for shorter windows"):
            sample_windows(ASCENDING[:n], rng, 4, length)
        return
    windows = sample_windows(ASCENDING[:n], rng, 4, length)
    assert windows.shape == (4, length + 1)
    assert windows.dtype == np.int32
    assert windows.max() < n
    np.testing.assert_array_equal(np.diff(windows, axis=1), 1)


def test_every_window_is_drawn_about_equally_often():
    windows = sample_windows(ASCENDING[:14], np.random.default_rng(0), 10_000, 4)
    counts = np.bincount(windows[:, 0])
    assert len(counts) == 10
    np.testing.assert_allclose(counts, 1_000, rtol=0.15)


@given(start=st.integers(0, 40), seed=st.integers(0, 2**40))
def test_text_batches_that_start_late_are_the_tail(start: int, seed: int):
    def take(first: int, count: int):
        endless = text_batches(ASCENDING, 3, 5, seed=seed, start=first)
        return list(itertools.islice(endless, count))

    for whole, late in zip(take(0, start + 3)[start:], take(start, 3), strict=True):
        np.testing.assert_array_equal(whole["inputs"], late["inputs"])
        np.testing.assert_array_equal(whole["labels"], late["labels"])
        np.testing.assert_array_equal(late["labels"], late["inputs"] + 1)
        assert late["inputs"].shape == (3, 5)


def test_text_batches_are_the_same_with_every_version_of_numpy():
    first, second = itertools.islice(text_batches(ASCENDING, 3, 1, seed=7), 2)
    assert (first["inputs"].ravel().tolist(), second["inputs"].ravel().tolist()) == (
        [624, 896, 774],
        [769, 111, 188],
    )


@pytest.mark.parametrize(
    ("size", "batch_size", "length", "seed", "start"),
    [(9, 0, 4, 0, 0), (9, 2, 0, 0, 0), (9, 2, 9, 0, 0), (9, 2, 4, -1, 0), (9, 2, 4, 0, -1)],
)
def test_bad_arguments_are_refused_at_once(
    size: int, batch_size: int, length: int, seed: int, start: int
):
    with pytest.raises(ValueError, match="got"):
        text_batches(ASCENDING[:size], batch_size, length, seed=seed, start=start)
