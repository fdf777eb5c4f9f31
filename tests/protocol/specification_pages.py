"""The pages of `docs/specification/` that are made from the source.

`python tests/protocol/specification_pages.py` writes them.
"""

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from msgspec import structs

from gossipjax.crypto.identity import identity_from_root
from gossipjax.crypto.suite import ed25519_suite
from gossipjax.protocol import config, rules
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.rules import Rules
from gossipjax.wire import limits
from gossipjax.wire.address import Address, format_join
from gossipjax.wire.codec import encode
from gossipjax.wire.envelope import record_author, run_id, seal_record, seal_update
from gossipjax.wire.messages import Chunk, Get, Hello, Leave, Offer, PeerRecord, Ping
from gossipjax.wire.tensors import manifest_of, pack

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "specification"
COMMAND = "python tests/protocol/specification_pages.py"

PARAMETERS = """\
# Parameters

<!-- Made by `{command}`; change the source, then run it. -->

## Limits that all peers share

Two peers with different ones would refuse each other's messages.

| limit | value | meaning |
|---|---|---|
{limits}

## What each peer may choose

Fields of `gossipjax.protocol.config.ProtocolConfig`: the table `[protocol]` of a configuration
file, `protocol.NAME` on the command line. Integers, at least 1 (`relay_bytes_per_s`: 0); those that
end in `_ns` are in nanoseconds. `probe_interval_ns < suspect_after_ns < dead_after_ns` and
`retry_min_ns ≤ retry_max_ns` must hold.

| parameter | default | purpose |
|---|---|---|
{parameters}

## Rules of a run

Fields of `gossipjax.protocol.rules.Rules`: how updates are verified by
[committees](committees.md). All peers of a run must have the same ones.

| rule | default | purpose |
|---|---|---|
{rules}
"""

REFUSALS = """\
# Refusals

<!-- Made by `{command}`; change the source, then run it. -->

Whatever a peer sends that the protocol does not allow is refused, and counted under one of these
words. Nothing else happens to the receiver: what is refused changes no parameters.

| reason | meaning |
|---|---|
{reasons}

## What a refusal costs

Every refusal of something that a neighbor sent is a fault of that neighbor. After `faults_max`
faults it gets a `Leave`, and is neither accepted nor dialled for `ban_ns`. An update that passes
every check makes up for one fault, and all faults of a peer are forgotten `fault_memory_ns` after
the first of them.

What is refused before the greeting is complete ends the connection and costs nothing more, since
nobody knows yet whose it was. An expired record in `Peers` is dropped without a fault: its expiry
may have come while it was on its way.
"""

VECTORS = """\
# Test vectors

<!-- Made by `{command}`; change the source, then run it. -->

A peer with the root seed 00 01 … 1f in the run named "vectors". The manifest has the tensor `w`,
uint8 of shape (1100, 1000), whose every row is 0, 1, … 255, 0, 1, … (1000 elements), and then `b`,
float32 of shape (2), with 1.5 and −2: two chunks. The record has one address,
`tcp://192.0.2.7:4300`, the sequence number 1700000000000, and expires at 1702592000. The header has
the sequence number 3, version 1200 and 64 samples. Bytes are in hexadecimal, broken into lines.

{vectors}
"""


def attribute_docs(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names and the strings right below their assignments."""
    for statement, following in itertools.pairwise(body):
        target = None
        if isinstance(statement, ast.AnnAssign):
            target = statement.target
        elif isinstance(statement, ast.Assign):
            target = statement.targets[0]
        if isinstance(target, ast.Name) and isinstance(following, ast.Expr):
            yield target.id, " ".join(str(ast.literal_eval(following.value)).split())


def module_docs(module: ModuleType) -> dict[str, str]:
    """Documented constants of a module."""
    return dict(attribute_docs(ast.parse(inspect.getsource(module)).body))


def field_docs(module: ModuleType) -> dict[str, str]:
    """Documented fields of the one class of a module."""
    tree = ast.parse(inspect.getsource(module))
    (made,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return dict(attribute_docs(made.body))


def shown(name: str, value: int | str) -> str:
    """A value with its unit."""
    if isinstance(value, bool | str):
        return f"`{value}`".lower()
    if name.endswith("_ns"):
        return f"{value / 1e9:g} s"
    power = value.bit_length() - 1
    return f"{value:,} (2^{power})" if power > 9 and value == 1 << power else f"{value:,}"


def parameters_page() -> str:
    """Limits that all share, and parameters that each chooses."""
    docs, rule_docs = field_docs(config), field_docs(rules)
    return PARAMETERS.format(
        command=COMMAND,
        limits="\n".join(
            f"| `{name}` | {shown(name, getattr(limits, name))} | {text} |"
            for name, text in module_docs(limits).items()
            if isinstance(getattr(limits, name), int)
        ),
        parameters="\n".join(
            f"| `{field.name}` | {shown(field.name, field.default)} | {docs[field.name]} |"
            for field in structs.fields(ProtocolConfig)
        ),
        rules="\n".join(
            f"| `{field.name}` | {shown(field.name, field.default)} | {rule_docs[field.name]} |"
            for field in structs.fields(Rules)
        ),
    )


def refusals_page() -> str:
    """Every reason, and what follows from one."""
    reasons = [f"| `{reason}` | {meaning} |" for reason, meaning in limits.REASONS.items()]
    return REFUSALS.format(command=COMMAND, reasons="\n".join(reasons))


def vectors() -> dict[str, str]:
    """Names and values of the test vectors, in the order of the page."""
    suite = ed25519_suite()
    root = bytes(range(32))
    identity = identity_from_root(root)
    manifest = manifest_of({"w": ((1100, 1000), "uint8"), "b": ((2,), "float32")})
    row = np.arange(1000, dtype=np.uint8)
    payload = pack(manifest, [np.tile(row, (1100, 1)), np.array([1.5, -2.0], np.float32)])
    run = run_id("vectors", manifest.digest)
    record = PeerRecord(
        run=run,
        sign_key=identity.public.sign,
        vrf_key=identity.public.vrf,
        transport_key=identity.public.transport,
        addresses=("tcp://192.0.2.7:4300",),
        sequence=1_700_000_000_000,
        expires_s=1_702_592_000,
    )
    sealed = seal_record(record, identity, suite)
    update = seal_update(
        payload,
        run=run,
        sequence=3,
        version=1200,
        samples=64,
        manifest_digest=manifest.digest,
        identity=identity,
        suite=suite,
    )
    header = update.header
    merkle_root = header.body.root
    raw = {
        "root seed": root,
        "signing seed": identity.sign_seed,
        "VRF seed": identity.vrf_seed,
        "transport secret": identity.transport_secret,
        "signing key": identity.public.sign,
        "VRF key": identity.public.vrf,
        "transport key": identity.public.transport,
        "manifest digest": manifest.digest,
        "run id": run,
        "peer id": record_author(record),
        "record body": sealed.sealed.body,
        "record signature": sealed.sealed.signature,
        "payload SHA-256": suite.digest(bytes(payload)),
        "Merkle root": merkle_root,
        "proof of chunk 1": b"".join(update.tree.proof(1)),
        "header body": header.sealed.body,
        "header signature": header.sealed.signature,
        "Hello on control": encode(Hello(limits.PROTOCOL_VERSION, False, sealed.sealed)),
        "Ping, nonce 2^53, version 1200, incarnation 5": encode(Ping(limits.INTEGER_MAX, 1200, 5)),
        "Offer": encode(Offer(header.sealed)),
        "Get, chunks 0 and 1": encode(Get(merkle_root, 0, 2)),
        "first frame of chunk 1": encode(Chunk(merkle_root, 1, update.tree.proof(1))),
        "Leave, stopping": encode(Leave("stopping")),
    }
    join = format_join(Address(record.addresses[0], record.transport_key))
    return {**{name: value.hex() for name, value in raw.items()}, "join string": join}


def vectors_page() -> str:
    """Bytes that another implementation must get, too."""
    blocks = [
        "\n".join([f"**{name}**", "", "```", *_wrapped(value), "```"])
        for name, value in vectors().items()
    ]
    return VECTORS.format(command=COMMAND, vectors="\n\n".join(blocks))


def _wrapped(text: str, width: int = 96) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


PAGES = {
    "parameters.md": parameters_page,
    "refusals.md": refusals_page,
    "test_vectors.md": vectors_page,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (FOLDER / page).write_text(make(), encoding="utf-8")
        print(f"wrote docs/specification/{page}")
