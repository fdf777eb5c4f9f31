"""Any method that tells parameters, with fewer bytes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gossipjax.compression.base import Compressor
from gossipjax.compression.load import load_compressor
from gossipjax.mixing.base import GossipAlgorithm, Neighbors, State
from gossipjax.types import Params, Payload


class CompressedState(NamedTuple):
    """What compression remembers besides the method.

    Attributes:
        inner: the method's state.
        compressor: the compressor's state.
        told: what the payloads so far have told, for a compressor that tells a part; else ().
    """

    inner: State
    compressor: Any
    told: Params


def compressed(algorithm: GossipAlgorithm, compressor: Compressor | str) -> GossipAlgorithm:
    """The same method, telling its payload through a compressor.

        share: q = Q(p), or, if Q tells a part: the part of p that Q(p - r) tells,  r ← q laid on r
        mix:   y_k = p + D(q_k) - D(p told as q_k was)   instead of p_k, for each neighbor

    where p is what the method would tell. The second is the compressor's `overlay`: errors are in
    proportion to how two peers differ, equal peers stay equal, and no neighbor is remembered. A
    joiner, whose p is worth nothing, takes D(q_k).

    A compressor that tells a part (`top_k`, `random_k`, `dct`, `low_rank`, `fragments`) chooses it
    by what has changed most since it was last told, and one payload is too little for a late joiner
    to begin from: then the result needs founders (see `Needs`).

    Example:
        >>> algorithm = compressed(gossip(), "int8")

    Args:
        algorithm: one whose payload has the form of the parameters.
        compressor: Q, or its name.

    Raises:
        ValueError: the compressor is for differences only, or (when traced) the payload has another
            form than the parameters.

    References:
        Lu, De Sa 2020, "Moniqua: Modulo Quantized Communication in Decentralized SGD" (receivers
        decode relative to their own parameters); Dhasade et al. 2023, "Get More for Less in
        Decentralized Learning Systems" (JWINS: tell what has changed most).
    """
    code = load_compressor(compressor) if isinstance(compressor, str) else compressor
    overlay, retell = code.overlay, code.retell
    if overlay is None:
        raise ValueError(
            f"the compressor {compressor if isinstance(compressor, str) else ''} tells differences "
            "only; take one that tells parameters, such as int8, or an algorithm that tells "
            "differences and takes a compressor, such as sparse_loco"
        )

    def payload_of(inner: State, params: Params, key: jax.Array) -> tuple[Params, State]:
        payload, inner = algorithm.share(inner, params, key)
        if jax.tree.structure(payload) != jax.tree.structure(params):
            raise ValueError(
                "the algorithm tells more than parameters, so its payload cannot be compressed: "
                "take gossip, diloco or another whose payload has the form of the parameters"
            )
        return payload, inner

    def init(params: Params) -> CompressedState:
        told = params if retell else ()
        return CompressedState(algorithm.init(params), code.init(params), told)

    def share(state: CompressedState, params: Params, key: jax.Array):
        inner_key, own_key = jax.random.split(key)
        payload, inner = payload_of(state.inner, params, inner_key)
        if retell is None:
            coded, memory = code.compress(state.compressor, payload, own_key)
            return coded, CompressedState(inner, memory, ())
        change = optax.tree.sub(payload, state.told)
        chosen, memory = code.compress(state.compressor, change, own_key)
        coded = retell(chosen, payload)
        return coded, CompressedState(inner, memory, overlay(coded, state.told))

    def mix(state: CompressedState, params: Params, neighbors: Neighbors):
        base, _ = payload_of(state.inner, params, jax.random.key(0))
        is_joiner = neighbors.self_weight <= 0

        def heard(coded: Payload) -> Params:
            laid, alone = overlay(coded, base), code.decompress(coded, base)
            return jax.tree.map(lambda y, d: jnp.where(is_joiner, d, y), laid, alone)

        payload = jax.vmap(heard)(neighbors.payload)
        params, inner, info = algorithm.mix(
            state.inner, params, neighbors._replace(payload=payload)
        )
        return params, state._replace(inner=inner), info

    needs = algorithm.needs._replace(founders=algorithm.needs.founders or retell is not None)
    return GossipAlgorithm(init, share, mix, needs, algorithm.acts_alone)
