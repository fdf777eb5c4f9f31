"""The table of mixers, compressors and algorithms. A new one is one new line here."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gossipjax import algorithms, compression
from gossipjax.compression import Compressor
from gossipjax.mixing import (
    GossipAlgorithm,
    Mixer,
    Neighbors,
    balance,
    centered_clip,
    chain,
    clip_distance,
    constant_decay,
    coordinate_median,
    discount_staleness,
    drop_farthest,
    exponential_decay,
    geometric_median,
    hinge_decay,
    krum,
    metropolis_weights,
    multi_krum,
    nearest_neighbors,
    polynomial_decay,
    reweigh,
    trimmed_mean,
    ubar,
    weigh_by_age,
    weighted_mean,
)
from gossipjax.mixing.staleness import Decay


class MixerCase(NamedTuple):
    """A mixer and what it promises beyond the laws that hold for all.

    Attributes:
        name: shown by pytest.
        make: builds it; it gets K = 4 slots.
        mean: with symmetric weights it preserves the mean over the network.
        faults: this many of the 4 slots may hold anything, NaN included, and the result stays
            finite and no farther from the honest inputs than twice their distance from each other.
        hull: with at most `faults` faulty slots, each coordinate of the result lies between the
            least and the greatest value of the honest inputs. "far" promises it for payloads
            that are far off, "always" for any.
        moves_at_most: bound of the distance between old and new parameters, whatever arrives.
        exact: a peer alone and the same peer under vmap get the same bits (on CPU). False for
            rules that scale by distances, since sums over parameters are grouped differently.
    """

    name: str
    make: Callable[[], Mixer]
    mean: bool = False
    faults: int = 0
    hull: str = ""
    moves_at_most: float | None = None
    exact: bool = True


class AlgorithmCase(NamedTuple):
    """An algorithm and what it promises beyond the laws that hold for all.

    Attributes:
        name: shown by pytest.
        make: builds it; it gets K = 4 slots.
        mean: with symmetric weights it preserves the mean over the network.
        ordered: a slot is bound to one neighbor, so slots must not be permuted.
        exact: a peer alone and the same peer under vmap get the same bits (on CPU).
        exact_join: a joiner gets what the donor has, not only as coarsely as it is told.
    """

    name: str
    make: Callable[[], GossipAlgorithm]
    mean: bool = False
    ordered: bool = False
    exact: bool = True
    exact_join: bool = True


class CompressorCase(NamedTuple):
    """A compressor and what it promises.

    Attributes:
        name: shown by pytest.
        make: builds it.
        kept: δ of the contraction `E ‖x - Q(x)‖² ≤ (1 - δ) ‖x‖²` for arrays `[25, 40]`.
        exact: the same bits alone and under vmap (on CPU).
    """

    name: str
    make: Callable[[], Compressor]
    kept: float
    exact: bool = True


def _discounted(decay: Decay) -> Mixer:
    return chain(discount_staleness(decay), weighted_mean())


def _reweighed(rule: Callable[[Neighbors], Neighbors]) -> Mixer:
    return chain(reweigh(rule), weighted_mean())


def _equal_degrees(neighbors: Neighbors) -> Neighbors:
    return metropolis_weights(neighbors, jnp.float32(4), jnp.full_like(neighbors.weight, 2))


def _by_age(neighbors: Neighbors, limit: float = jnp.inf) -> Neighbors:
    return weigh_by_age(neighbors, jnp.float32(9), 9 - neighbors.staleness, limit=limit)


def _size(params: Any, probe: Any) -> jax.Array:
    return sum(
        (jnp.square(leaf - probe).sum(dtype=jnp.float32) for leaf in jax.tree.leaves(params)),
        jnp.float32(0),
    )


MIXERS = (
    MixerCase("weighted_mean", weighted_mean, mean=True),
    MixerCase("metropolis", lambda: _reweighed(_equal_degrees), mean=True),
    MixerCase("constant", lambda: _discounted(constant_decay()), mean=True),
    MixerCase("polynomial", lambda: _discounted(polynomial_decay()), mean=True),
    MixerCase("exponential", lambda: _discounted(exponential_decay()), mean=True),
    MixerCase("hinge", lambda: _discounted(hinge_decay()), mean=True),
    MixerCase("age", lambda: _reweighed(_by_age), mean=True),
    MixerCase("limited", lambda: _reweighed(partial(_by_age, limit=4.0)), mean=True),
    MixerCase(
        "clip", lambda: chain(clip_distance(0.5), weighted_mean()), True, 4, "", 0.5, exact=False
    ),
    MixerCase(
        "clip_rank",
        lambda: chain(clip_distance(byzantine=1), weighted_mean()),
        False,
        1,
        exact=False,
    ),
    MixerCase(
        "clip_trim",
        lambda: chain(clip_distance(0.5), trimmed_mean(1)),
        False,
        4,
        "",
        0.5,
        exact=False,
    ),
    MixerCase("centered_clip", lambda: centered_clip(1.0), False, 4, "", 3.0, exact=False),
    MixerCase("median", coordinate_median, faults=2, hull="always"),
    MixerCase("trimmed_mean", lambda: trimmed_mean(1), faults=1, hull="always"),
    MixerCase("geometric_median", geometric_median, faults=1, exact=False),
    MixerCase("krum", lambda: krum(1), faults=1, hull="far"),
    MixerCase("multi_krum", lambda: multi_krum(1, 2), faults=1, hull="far"),
    MixerCase("nnm", lambda: nearest_neighbors(trimmed_mean(1), byzantine=1), faults=1, hull="far"),
    MixerCase("drop", lambda: chain(drop_farthest(1), weighted_mean()), faults=1, hull="far"),
    MixerCase("balance", lambda: chain(balance(tolerance=3.0), weighted_mean()), False, 4, "far"),
    MixerCase("ubar", lambda: chain(ubar(_size, 0.0), weighted_mean()), faults=2, hull="far"),
)

COMPRESSORS = (
    CompressorCase("identity", compression.identity, kept=1),
    CompressorCase("bf16", compression.bf16, kept=0.99),
    CompressorCase("int8", compression.int8, kept=0.99),
    CompressorCase("int4", compression.int4, kept=0.98),
    CompressorCase("int2", compression.int2, kept=0.7),
    CompressorCase("qsgd", lambda: compression.qsgd(16), kept=0.33, exact=False),
    CompressorCase("sign", compression.sign, kept=0.6, exact=False),
    CompressorCase("top_k", lambda: compression.top_k(0.1), kept=0.1),
    CompressorCase("top_k_2bit", lambda: compression.top_k_2bit(0.1), kept=0.1, exact=False),
    CompressorCase("random_k", lambda: compression.random_k(0.1), kept=0.1),
    CompressorCase("dct", lambda: compression.dct(0.25), kept=0.25, exact=False),
    CompressorCase("low_rank", lambda: compression.low_rank(1), kept=0.06, exact=False),
    CompressorCase("fragments", lambda: compression.fragments(4), kept=0.2),
    CompressorCase(
        "error_feedback", lambda: compression.error_feedback(compression.sign()), 0.6, exact=False
    ),
)

ALGORITHMS = (
    AlgorithmCase("gossip", algorithms.gossip, mean=True),
    AlgorithmCase("d_psgd", algorithms.d_psgd, mean=True),
    AlgorithmCase("ad_psgd", algorithms.ad_psgd, mean=True),
    AlgorithmCase("push_sum", lambda: algorithms.push_sum(4), mean=True),
    AlgorithmCase("epidemic_learning", algorithms.epidemic_learning, mean=True),
    AlgorithmCase("gossip_learning", lambda: algorithms.gossip_learning(limit=4), mean=True),
    AlgorithmCase("decentralized_momentum", algorithms.decentralized_momentum, mean=True),
    AlgorithmCase("quasi_global_momentum", algorithms.quasi_global_momentum, mean=True),
    AlgorithmCase("gradient_tracking", algorithms.gradient_tracking, mean=True),
    AlgorithmCase("d_squared", algorithms.d_squared, mean=True),
    AlgorithmCase("relay_sum", lambda: algorithms.relay_sum(4), ordered=True),
    AlgorithmCase("choco", lambda: algorithms.choco(compression.top_k(0.5), 0.5), mean=True),
    AlgorithmCase("fed_avg", algorithms.fed_avg, mean=True),
    AlgorithmCase("local_sgd", algorithms.local_sgd, mean=True),
    AlgorithmCase("diloco", algorithms.diloco, mean=True),
    AlgorithmCase("noloco", algorithms.noloco, mean=True),
    AlgorithmCase("delayed_nesterov", lambda: algorithms.delayed_nesterov(5), mean=True),
    AlgorithmCase("sparse_loco", lambda: algorithms.sparse_loco("sign", parts=2), exact=False),
    AlgorithmCase("streaming", lambda: algorithms.streaming(2, 1, momentum=0.5), mean=True),
    AlgorithmCase(
        "compressed", lambda: algorithms.compressed(algorithms.gossip(), "int8"), exact_join=False
    ),
    AlgorithmCase(
        "compressed_part",
        lambda: algorithms.compressed(algorithms.local_sgd(), compression.top_k(0.5)),
    ),
)
