from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.models import (
    MLP,
    Transformer,
    accuracy,
    classification_evaluator,
    classification_loss,
    cross_entropy,
)

KEY = jax.random.key(0)


@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(1,), (7,), (2, 3)]),
    scale=st.sampled_from([1.0, 1e4]),
)
def test_cross_entropy_is_the_mean_negative_log_probability(seed: int, shape, scale: float):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(*shape, 5)).astype(np.float32)
    labels = rng.integers(5, size=shape)
    exact = logits.astype(np.float64)
    shifted = exact - exact.max(-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_probabilities, labels[..., None], -1).mean()
    loss = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    assert loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits = jnp.linspace(-3, 3, 40, dtype=jnp.bfloat16).reshape(4, 10)
    labels = jnp.arange(4)
    loss = cross_entropy(logits, labels)
    assert loss.dtype == jnp.float32
    np.testing.assert_array_equal(loss, cross_entropy(logits.astype(jnp.float32), labels))


def test_accuracy_is_the_part_that_is_right():
    logits = jnp.array([[0.0, 1, 2], [3, 1, 2], [1, 2, 0], [1, 2, 0]])
    assert float(accuracy(logits, jnp.array([2, 0, 0, 0]))) == 0.5


def test_loss_function_has_the_form_that_a_workload_needs():
    model = MLP(outputs=3, widths=(4,))
    batch = {"inputs": jnp.ones((6, 5)), "labels": jnp.arange(6) % 3}
    params = jax.jit(model.init)(KEY, batch["inputs"])
    grad = jax.jit(jax.value_and_grad(classification_loss(model), has_aux=True))
    (loss, metrics), gradients = grad(params, batch, KEY)
    logits: Any = model.apply(params, batch["inputs"])
    np.testing.assert_allclose(loss, cross_entropy(logits, batch["labels"]), rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy"], accuracy(logits, batch["labels"]))
    assert metrics["loss"] == loss
    assert all(value.shape == () for value in metrics.values())
    assert jax.tree.structure(gradients) == jax.tree.structure(params)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (5, 9), (12, 4), (13, 4), (7, 6)])
def test_evaluator_gives_the_means_over_the_whole_set(count: int, batch_size: int):
    rng = np.random.default_rng(count)
    inputs = rng.normal(size=(count, 4)).astype(np.float32)
    labels = rng.integers(3, size=count)
    model = MLP(outputs=3, widths=())
    params = jax.jit(model.init)(KEY, inputs)
    logits: Any = model.apply(params, inputs)
    result = classification_evaluator(model, inputs, labels, batch_size=batch_size)(params)
    assert isinstance(result["loss"], float)
    np.testing.assert_allclose(
        result["loss"], cross_entropy(logits, jnp.asarray(labels)), rtol=1e-5
    )
    np.testing.assert_allclose(result["accuracy"], accuracy(logits, jnp.asarray(labels)), rtol=1e-5)


def test_evaluator_works_for_tokens():
    tokens = np.random.default_rng(0).integers(9, size=(7, 6))
    labels = jnp.asarray(tokens[:, 1:])
    model = Transformer(9, layers=1, heads=2, width=8)
    params = jax.jit(model.init)(KEY, tokens[:, :-1])
    result = classification_evaluator(model, tokens[:, :-1], tokens[:, 1:], batch_size=3)(params)
    logits: Any = model.apply(params, tokens[:, :-1])
    np.testing.assert_allclose(result["loss"], cross_entropy(logits, labels), rtol=1e-5)
    np.testing.assert_allclose(result["accuracy"], accuracy(logits, labels), rtol=1e-5)


def test_evaluator_compiles_once(caplog: pytest.LogCaptureFixture):
    inputs, labels = np.ones((10, 4), np.float32), np.zeros(10, np.int32)
    model = MLP(outputs=3, widths=())
    params = jax.jit(model.init)(KEY, inputs)
    evaluate = classification_evaluator(model, inputs, labels, batch_size=4)
    with jax.log_compiles():
        first = evaluate(params)
        assert evaluate(params) == first
    compiled = [r for r in caplog.records if r.message.startswith("Compiling jit(means)")]
    assert len(compiled) == 1


@pytest.mark.parametrize(("inputs", "labels", "batch_size"), [(0, 0, 5), (3, 2, 5), (3, 3, 0)])
def test_evaluator_refuses_what_does_not_fit(inputs: int, labels: int, batch_size: int):
    with pytest.raises(ValueError, match="expected"):
        classification_evaluator(
            MLP(), np.zeros((inputs, 2)), np.zeros(labels, int), batch_size=batch_size
        )
