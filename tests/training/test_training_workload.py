import numpy as np
import optax
import pytest

from gossipjax.training import Shard, Workload, load_workload

SOURCE = """
import jax.numpy as jnp
import numpy as np
import optax
from gossipjax import Workload

def make(size: int = 3):
    return Workload(
        init=lambda key: {"w": jnp.zeros(size)},
        loss=lambda params, batch, key: (jnp.mean((params["w"] - batch["x"]) ** 2), {}),
        batches=lambda shard, seed, start: iter([{"x": np.ones((4, size), np.float32)}]),
        evaluate=lambda params: {"zero": 0.0},
        optimizer=optax.sgd(0.1),
    )

task = make()
number = 7

def wrong():
    return 7
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "own_task.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_shard_is_read_from_text():
    assert Shard.parse("2/5") == Shard(2, 5)


@pytest.mark.parametrize("text", ["", "1", "5/5", "-1/3", "1/0", "a/b", "1/2/3", "1.0/2"])
def test_what_is_no_shard_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="0/4"):
        Shard.parse(text)


def test_a_workload_is_found_in_a_file(source):
    workload = load_workload(f"{source}:task")
    assert isinstance(workload, Workload)
    assert workload.evaluate(None) == {"zero": 0.0}


def test_a_function_in_a_file_gets_the_options(source):
    workload = load_workload(f"{source}:make", size=5)
    batch = next(workload.batches(Shard(0, 1), 0, 0))
    assert np.shape(batch["x"]) == (4, 5)
    assert isinstance(workload.optimizer, optax.GradientTransformation)


def test_a_workload_is_found_in_a_module(source, monkeypatch):
    monkeypatch.syspath_prepend(source.parent)
    assert isinstance(load_workload("own_task:task"), Workload)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("no_such", {}, "expected one of fashion_mnist"),
        ("{file}:absent", {}, "has no 'absent'"),
        ("{file}:task", {"size": 5}, "takes no options"),
        ("{file}:make", {"sise": 5}, "Its options: size"),
        ("{file}:number", {}, "is int; expected a Workload"),
        ("{file}:wrong", {}, "returned int"),
        ("nowhere.py:task", {}, "there is no file"),
        ("no_such_module_at_all:task", {}, "there is no module"),
        ("fashion_mnist", {"alpa": 0.1}, "Its options: .*alpha"),
    ],
)
def test_a_wrong_name_gets_an_error_that_says_what_is_possible(source, name, options, text):
    with pytest.raises(ValueError, match=text):
        load_workload(name.format(file=source), **options)


def test_an_import_error_inside_a_users_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_task.py").write_text("import surely_absent_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_absent_package"):
        load_workload("broken_task:task")
