import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipjax.models import CNN, MLP, Transformer, classification_loss
from gossipjax.models.transformer import rotated

KEY, OTHER_KEY = jax.random.key(0), jax.random.key(1)
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(8, 28, 28, 1)), jnp.float32)
TOKENS = jnp.asarray(RNG.integers(74, size=(8, 16)))
LABELS = jnp.arange(8)
MODELS = {"mlp": MLP(), "cnn": CNN(), "transformer": Transformer(74)}
BATCHES = {
    "mlp": {"inputs": IMAGES, "labels": LABELS},
    "cnn": {"inputs": IMAGES, "labels": LABELS},
    "transformer": {"inputs": TOKENS, "labels": TOKENS[:, ::-1]},
}
every_model = pytest.mark.parametrize("name", MODELS)


@functools.cache
def params_of(name: str) -> Any:
    return jax.jit(MODELS[name].init)(KEY, BATCHES[name]["inputs"])


@functools.cache
def jitted_apply(model: nn.Module) -> Any:
    return jax.jit(model.apply)


def logits_of(model: nn.Module, params: Any, inputs: Any) -> jax.Array:
    return jitted_apply(model)(params, inputs)


@every_model
def test_logits_have_the_shape_of_the_labels(name: str):
    inputs, labels = BATCHES[name].values()
    logits = logits_of(MODELS[name], params_of(name), inputs)
    assert logits.shape == (*labels.shape, 74 if name == "transformer" else 10)
    assert logits.dtype == jnp.float32
    assert (logits != logits.astype(jnp.bfloat16)).any()


@every_model
def test_bfloat16_computes_near_the_same_from_float32_params(name: str):
    inputs = BATCHES[name]["inputs"]
    model = MODELS[name].clone(dtype=jnp.bfloat16)
    params = jax.eval_shape(model.init, KEY, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    rounded = logits_of(model, params_of(name), inputs)
    assert rounded.dtype == jnp.float32
    np.testing.assert_array_equal(rounded, rounded.astype(jnp.bfloat16))
    exact = logits_of(MODELS[name], params_of(name), inputs)
    np.testing.assert_allclose(rounded, exact, atol=0.1)


@every_model
def test_parameter_count_in_the_docstring_is_true(name: str):
    count = sum(leaf.size for leaf in jax.tree.leaves(params_of(name)))
    text = MODELS[name].__doc__ or ""
    assert re.findall(r"([\d,]+) parameters as it stands", text) == [f"{count:,}"]


@every_model
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_are_finite_and_reach_every_parameter(name: str, dtype):
    loss = classification_loss(MODELS[name].clone(dtype=dtype))
    gradients, _ = jax.jit(jax.grad(loss, has_aux=True))(params_of(name), BATCHES[name], KEY)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf), path


@every_model
def test_tiny_batch_is_learned_by_heart(name: str):
    optimizer = optax.adam(3e-3)
    loss = jax.value_and_grad(classification_loss(MODELS[name]), has_aux=True)

    @jax.jit
    def step(params: Any, state: Any):
        (_, metrics), gradients = loss(params, BATCHES[name], KEY)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, metrics

    params = params_of(name)
    state = jax.jit(optimizer.init)(params)
    for _ in range(150):
        params, state, _ = step(params, state)
    metrics = step(params, state)[2]
    assert metrics["accuracy"] == 1
    assert metrics["loss"] < 0.1


@every_model
def test_same_key_gives_the_same_params_and_another_key_others(name: str):
    init = jax.jit(MODELS[name].init)
    again, other = (jax.tree.leaves(init(key, BATCHES[name]["inputs"])) for key in (KEY, OTHER_KEY))
    assert all(map(np.array_equal, jax.tree.leaves(params_of(name)), again))
    assert not all(map(np.array_equal, again, other))


@every_model
def test_samples_of_a_batch_do_not_see_each_other(name: str):
    inputs = BATCHES[name]["inputs"]
    whole = logits_of(MODELS[name], params_of(name), inputs)
    changed = logits_of(MODELS[name], params_of(name), inputs.at[3].set(inputs[4]))
    others = np.arange(len(inputs)) != 3
    np.testing.assert_allclose(whole[others], changed[others], atol=1e-6)
    np.testing.assert_allclose(changed[3], changed[4], atol=1e-6)


def test_mlp_without_hidden_layers_is_softmax_regression():
    params = jax.eval_shape(MLP(outputs=3, widths=()).init, KEY, jnp.ones((1, 7)))
    assert {leaf.shape for leaf in jax.tree.leaves(params)} == {(7, 3), (3,)}


def test_cnn_takes_images_of_any_size():
    for shape in [(2, 8, 8, 1), (2, 32, 20, 3)]:
        logits, _ = jax.eval_shape(CNN(outputs=4).init_with_output, KEY, jnp.ones(shape))
        assert logits.shape == (2, 4)


SMALL = Transformer(11, layers=2, heads=2, width=16)
SMALL_PARAMS = jax.jit(SMALL.init)(KEY, jnp.zeros((1, 4), int))
small_logits = functools.partial(logits_of, SMALL)


@given(position=st.integers(0, 9), seed=st.integers(0, 2**31))
def test_a_future_token_never_changes_earlier_logits(position: int, seed: int):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(11, size=(3, 10))
    changed = tokens.copy()
    changed[:, position] = (changed[:, position] + rng.integers(1, 11, size=3)) % 11
    before = np.asarray(small_logits(SMALL_PARAMS, tokens))
    after = np.asarray(small_logits(SMALL_PARAMS, changed))
    np.testing.assert_array_equal(before[:, :position], after[:, :position])
    assert (before[:, position:] != after[:, position:]).any((1, 2)).all()


def test_logits_of_a_prefix_are_those_of_the_whole():
    tokens = np.random.default_rng(1).integers(11, size=(3, 10))
    whole = small_logits(SMALL_PARAMS, tokens)
    for length in (1, 7):
        prefix = small_logits(SMALL_PARAMS, tokens[:, :length])
        np.testing.assert_allclose(prefix, whole[:, :length], atol=1e-5)


def test_transformer_knows_the_order_of_tokens():
    one = small_logits(SMALL_PARAMS, np.array([[1, 2, 3]]))[0, -1]
    other = small_logits(SMALL_PARAMS, np.array([[2, 1, 3]]))[0, -1]
    assert np.abs(one - other).max() > 1e-3


def test_rotated_products_depend_on_the_distance_alone():
    query, key = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    repeated = jnp.broadcast_to(jnp.stack([query, key])[:, None, None], (2, 12, 1, 8))
    queries, keys = jax.jit(rotated)(repeated)[:, :, 0]
    products = np.asarray(queries) @ np.asarray(keys).T
    for distance in range(-11, 12):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    np.testing.assert_allclose(products[0, 0], query @ key, rtol=1e-5)
    assert np.std(products) > 0.1


def test_width_must_fit_the_heads():
    with pytest.raises(ValueError, match="multiple of 2 · heads = 6, got 16"):
        Transformer(11, heads=3, width=16).init(KEY, jnp.zeros((1, 4), int))
