"""Shakespeare's plays by speaking role: text that is non-IID by nature, as characters.

The 37 plays, cut into what each role says, as LEAF does (Caldas et al., LEAF: a benchmark for
federated settings, 2018, arXiv:1812.01097). Comes with the package; read when first asked for.
"""

import functools
import itertools
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gossipjax.data.rng import stable_random

FILE = Path(__file__).parent / "files" / "shakespeare" / "roles.json.xz"
TEST_FRACTION = 0.1


class Role(NamedTuple):
    """What one role of a play says. An empty line stands between two speeches."""

    play: str
    name: str
    """In capitals, shortened as in the source: Hamlet is "HAM"."""
    tokens: npt.NDArray[np.uint8]
    """`[characters]`, indices into the vocabulary of the corpus; read-only."""

    @property
    def train_tokens(self) -> npt.NDArray[np.uint8]:
        """The first nine tenths of the text."""
        return self.tokens[: self._test_start]

    @property
    def test_tokens(self) -> npt.NDArray[np.uint8]:
        """The last tenth of the text."""
        return self.tokens[self._test_start :]

    @property
    def _test_start(self) -> int:
        return len(self.tokens) - int(len(self.tokens) * TEST_FRACTION)


class Corpus(NamedTuple):
    """Texts by role, and the characters that they are made of."""

    vocabulary: str
    """Every ASCII character of the texts once, in order; a token is an index into it."""
    roles: tuple[Role, ...]
    """Longest first."""

    def encode(self, text: str) -> npt.NDArray[np.uint8]:
        """Tokens `[len(text)]` of `text`. Raises ValueError for a character that has none."""
        if unknown := sorted(set(text) - set(self.vocabulary)):
            raise ValueError(f"expected only characters of the vocabulary, got also {unknown}")
        return _encode(text, self.vocabulary)

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text with these tokens. Raises ValueError for one outside of the vocabulary."""
        indices = np.asarray(tokens)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self.vocabulary):
            raise ValueError(
                f"expected tokens from 0 to {len(self.vocabulary) - 1}, "
                f"got {indices.min()} to {indices.max()}"
            )
        return "".join(self.vocabulary[index] for index in indices.ravel())


def _encode(text: str, vocabulary: str) -> npt.NDArray[np.uint8]:
    table = bytes.maketrans(vocabulary.encode("ascii"), bytes(range(len(vocabulary))))
    return np.frombuffer(text.encode("ascii").translate(table), np.uint8)


@functools.cache
def shakespeare() -> Corpus:
    """The 445 roles of Shakespeare's plays that say at least 2,000 characters, 3.8 million in all.

    Returns:
        The corpus: 74 characters in the vocabulary, roles from 65,310 down to 2,007 characters.
        Where the text is from is in `gossipjax/data/files/SOURCES.md`.
    """
    texts: list[tuple[str, str, str]] = json.loads(lzma.decompress(FILE.read_bytes()))
    texts.sort(key=lambda role: len(role[2]), reverse=True)
    vocabulary = "".join(sorted(set().union(*(text for _, _, text in texts))))
    roles = (Role(play, name, _encode(text, vocabulary)) for play, name, text in texts)
    return Corpus(vocabulary, tuple(roles))


def cut_windows(tokens: npt.NDArray[np.integer], length: int) -> npt.NDArray[np.int32]:
    """`tokens` cut into windows, for evaluation: each token but the first is predicted once.

    Args:
        tokens: `[n]` with n > `length`; what is left of less than `length` at the end is dropped.
        length: predictions per window.

    Returns:
        int32 `[(n - 1) // length, length + 1]`: `[:, :-1]` is what a model sees, `[:, 1:]` what it
        predicts.

    Raises:
        ValueError: `tokens` is too short for one window, or `length` is below 1.
    """
    _check_length(tokens, length)
    starts = np.arange((len(tokens) - 1) // length) * length
    return _windows(tokens, starts, length)


def sample_windows(
    tokens: npt.NDArray[np.integer],
    rng: np.random.RandomState | np.random.Generator,
    batch_size: int,
    length: int,
) -> npt.NDArray[np.int32]:
    """Random windows of `tokens`, uniformly and with replacement.

    Args:
        tokens: `[n]` with n > `length`.
        rng: draws the starts.
        batch_size: number of windows.
        length: predictions per window.

    Returns:
        int32 `[batch_size, length + 1]`: `[:, :-1]` is what a model sees, `[:, 1:]` what it
        predicts.

    Raises:
        ValueError: `tokens` is too short for one window, or `batch_size` or `length` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    _check_length(tokens, length)
    # Not `integers`, which RandomState does not have.
    starts = (rng.random(batch_size) * (len(tokens) - length)).astype(np.int64)
    return _windows(tokens, starts, length)


def text_batches(
    tokens: npt.NDArray[np.integer], batch_size: int, length: int, *, seed: int, start: int = 0
) -> Iterator[dict[str, npt.NDArray[np.int32]]]:
    """Batches of random windows without end; batch k depends on (`seed`, k) alone.

    Args:
        tokens: `[n]` with n > `length`.
        batch_size: windows in every batch.
        length: predictions per window.
        seed: at least 0; decides the windows.
        start: number of batches to leave out, for a resumed run: the steps that it has done.

    Returns:
        Iterator of {"inputs": `[batch_size, length]`, "labels": the same, one token later}, int32.

    Raises:
        ValueError: as `sample_windows`, or start or seed below 0.
    """
    if start < 0 or seed < 0:
        raise ValueError(f"expected start and seed of at least 0, got {start} and {seed}")
    sample_windows(tokens, stable_random(0), batch_size, length)  # raises now, not at first use
    windows = (
        sample_windows(tokens, stable_random(seed, step), batch_size, length)
        for step in itertools.count(start)
    )
    return ({"inputs": window[:, :-1], "labels": window[:, 1:]} for window in windows)


def _check_length(tokens: npt.NDArray[np.integer], length: int) -> None:
    if length < 1:
        raise ValueError(f"expected length of at least 1, got {length}")
    if len(tokens) <= length:
        raise ValueError(
            f"a window of length {length} takes {length + 1} tokens, got {len(tokens)}; "
            f"ask for shorter windows or take more text"
        )


def _windows(
    tokens: npt.NDArray[np.integer], starts: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.int32]:
    return tokens[starts[:, None] + np.arange(length + 1)].astype(np.int32)
