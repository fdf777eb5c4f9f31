"""Tell matrices as products of thin ones."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gossipjax.compression.base import Compressor, partly
from gossipjax.mixing.checks import require_at_least
from gossipjax.types import Params, Payload


class Product(NamedTuple):
    """`P Qᵀ`, float32: P `[rows, rank]` orthonormal, Q `[columns, rank]`."""

    basis: jax.Array
    weights: jax.Array


def low_rank(rank: int = 2) -> Compressor:
    """One step of power iteration for each matrix, from where the last one has led.

        P = orthonormal(M Q),   Q ← Mᵀ P,   D = P Qᵀ = P Pᵀ M

    `‖M - D‖² = ‖M‖² - ‖Q‖² ≤ ‖M‖²`; Q stays in the state, so that over the rounds the iteration
    finds the strongest directions of what changes slowly. An array of more than two axes counts as
    a matrix whose rows are its leading axes; a vector, or a matrix with nothing to gain, is told as
    it is. `4 · rank · (rows + columns)` bytes per matrix.

    What a receiver has is told in the author's basis, as `Q' = M'ᵀ P`: then `D - D'` is the
    projection on it of the difference of the two matrices, which is what PowerGossip averages.

    Args:
        rank: at least 1.

    References:
        Vogels, Karimireddy, Jaggi 2019, "PowerSGD", algorithm 1; and 2020, "PowerGossip: Practical
        Low-Rank Communication Compression in Decentralized Deep Learning", algorithm 1.
    """
    require_at_least(1, rank=rank)

    def init(params: Params) -> tuple[Any, ...]:
        leaves = jax.tree.leaves(params)
        keys = [jax.random.fold_in(jax.random.key(0), number) for number in range(len(leaves))]
        return tuple(
            jax.random.normal(key, (_shape(leaf)[1], rank)) if _gains(leaf, rank) else ()
            for key, leaf in zip(keys, leaves, strict=True)
        )

    def compress(state: tuple[Any, ...], tree: Params, key: jax.Array):
        told = [
            _iterate(_matrix(leaf), start) if _gains(leaf, rank) else leaf
            for leaf, start in zip(jax.tree.leaves(tree), state, strict=True)
        ]
        new_state = tuple(
            _unless_zero(one.weights, start) if isinstance(one, Product) else ()
            for one, start in zip(told, state, strict=True)
        )
        return tuple(told), new_state

    def decompress(payload: Payload, like: Params) -> Params:
        leaves, structure = jax.tree.flatten(like)
        told = [
            (one.basis @ one.weights.T).reshape(leaf.shape).astype(leaf.dtype)
            if isinstance(one, Product)
            else one
            for one, leaf in zip(payload, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, told)

    def retell(payload: Payload, tree: Params) -> Payload:
        return tuple(
            one._replace(weights=_matrix(leaf).T @ one.basis) if isinstance(one, Product) else leaf
            for one, leaf in zip(payload, jax.tree.leaves(tree), strict=True)
        )

    return partly(init, compress, decompress, retell)


def _iterate(matrix: jax.Array, start: jax.Array) -> Product:
    basis, _ = jnp.linalg.qr(matrix @ start)
    return Product(basis, matrix.T @ basis)


def _unless_zero(weights: jax.Array, start: jax.Array) -> jax.Array:
    # From zeros there would be no way back.
    return jnp.where(jnp.abs(weights).max() > 0, weights, start)


def _shape(leaf: jax.Array) -> tuple[int, int]:
    *rows, columns = jnp.shape(leaf)
    return math.prod(rows), columns


def _gains(leaf: jax.Array, rank: int) -> bool:
    if jnp.ndim(leaf) < 2 or not jnp.size(leaf):
        return False
    rows, columns = _shape(leaf)
    return rank * (rows + columns) < rows * columns


def _matrix(leaf: jax.Array) -> jax.Array:
    return leaf.reshape(_shape(leaf)).astype(jnp.float32)
