"""A hostile peer as a process: `python process_attacker.py JOIN_STRING SIZE`.

For each name of an attack on standard input it greets the victim properly, under a new identity,
does what the name says, and goes away with the next line.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from runtime_peers import SUITE, Listener, new_identity

from gossipjax.crypto.identity import Identity
from gossipjax.protocol.events import PeerConnected, Received
from gossipjax.types import PeerId
from gossipjax.wire.address import parse_join
from gossipjax.wire.codec import encode
from gossipjax.wire.envelope import UPDATE_DOMAIN, SealedUpdate, peer_id, run_id, seal_update
from gossipjax.wire.limits import CHUNK_BYTES, PROTOCOL_VERSION
from gossipjax.wire.messages import (
    Chunk,
    Get,
    Hello,
    Offer,
    Ping,
    Pong,
    Sealed,
    UpdateHeader,
)
from gossipjax.wire.tensors import Manifest, manifest_of, pack

RUN_NAME = "gossipjax"
ATTACKS: dict[str, Callable[["Attacker"], None]] = {}


def attack(function: Callable[["Attacker"], None]) -> Callable[["Attacker"], None]:
    ATTACKS[function.__name__] = function
    return function


class Attacker(Listener):
    """Serves whatever it has offered, to the letter or not."""

    def __init__(self, identity: Identity, manifest: Manifest, victim: PeerId):
        super().__init__(identity, run=run_id(RUN_NAME, manifest.digest))
        self.manifest = manifest
        self.victim = victim
        self.updates: dict[bytes, SealedUpdate] = {}
        self.spoil: Callable[[bytes], bytes] = bytes
        self.on_victims_offer: Callable[[UpdateHeader], None] = lambda header: None

    def update(self, value: float = 1.0, sequence: int = 1, **changes: Any) -> SealedUpdate:
        """An update that is right but for its values and the changes to its header."""
        spec = self.manifest.tensors[0]
        update = seal_update(
            pack(self.manifest, [np.full(spec.shape, value, np.float32)]),
            run=self.run,
            sequence=sequence,
            version=0,
            samples=1,
            manifest_digest=self.manifest.digest,
            identity=self.identity,
            suite=SUITE,
        )
        self.updates[update.header.body.root] = update
        return update

    def sealed(self, **changes: Any) -> Sealed:
        """The signed header of an update, with changes."""
        header = msgspec.structs.replace(self.update().header.body, **changes)
        body = encode(header)
        return Sealed(body, SUITE.sign(self.identity.sign_seed, UPDATE_DOMAIN, body))

    def offer(self, sealed: Sealed) -> None:
        self.tell(self.victim, Offer(sealed))

    def take(self) -> None:
        """Answer what has come in."""
        events, self.events[:] = list(self.events), []
        for event in events:
            match event:
                case Received(message=Ping(nonce=nonce)):
                    self.tell(self.victim, Pong(nonce, 0, 1))
                case Received(message=Get(root=root, first=first, count=count)):
                    for index in range(first, first + count):
                        self.serve(self.updates[root], index)
                case Received(message=Offer(header=sealed)):
                    self.on_victims_offer(msgspec.msgpack.decode(sealed.body, type=UpdateHeader))

    def serve(self, update: SealedUpdate, index: int) -> None:
        root = update.header.body.root
        data = self.spoil(bytes(update.chunk(index)))
        self.tell(self.victim, Chunk(root, index, update.tree.proof(index)), data)


@attack
def honest(attacker: Attacker) -> None:
    attacker.offer(attacker.update(0.0).header.sealed)


@attack
def not_a_number(attacker: Attacker) -> None:
    attacker.offer(attacker.update(float("nan")).header.sealed)


@attack
def infinity(attacker: Attacker) -> None:
    attacker.offer(attacker.update(float("-inf")).header.sealed)


@attack
def huge(attacker: Attacker) -> None:
    attacker.offer(attacker.update(1e30).header.sealed)


@attack
def other_shape(attacker: Attacker) -> None:
    spec = attacker.manifest.tensors[0]
    other = manifest_of({spec.name: ((2, spec.size // 2), spec.dtype)})
    attacker.offer(attacker.sealed(manifest=other.digest))


@attack
def other_size(attacker: Attacker) -> None:
    attacker.offer(attacker.sealed(size=attacker.manifest.nbytes + 4))


@attack
def other_run(attacker: Attacker) -> None:
    attacker.offer(attacker.sealed(run=bytes(32)))


@attack
def of_somebody_else(attacker: Attacker) -> None:
    attacker.offer(attacker.sealed(author=bytes(32)))


@attack
def replayed(attacker: Attacker) -> None:
    update = attacker.update(0.0)
    attacker.offer(update.header.sealed)
    asyncio.get_running_loop().call_later(1.0, attacker.offer, update.header.sealed)


@attack
def out_of_sequence(attacker: Attacker) -> None:
    attacker.offer(attacker.update(0.0, sequence=2).header.sealed)
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, lambda: attacker.offer(attacker.update(sequence=1).header.sealed))


@attack
def unsigned(attacker: Attacker) -> None:
    attacker.offer(Sealed(attacker.update().header.sealed.body, bytes(64)))


@attack
def signed_with_another_key(attacker: Attacker) -> None:
    body = attacker.update().header.sealed.body
    attacker.offer(Sealed(body, SUITE.sign(new_identity().sign_seed, UPDATE_DOMAIN, body)))


@attack
def signed_for_another_purpose(attacker: Attacker) -> None:
    body = attacker.update().header.sealed.body
    attacker.offer(Sealed(body, SUITE.sign(attacker.identity.sign_seed, b"record", body)))


@attack
def other_chunks_than_announced(attacker: Attacker) -> None:
    attacker.spoil = lambda data: b"\x01" + data[1:]
    attacker.offer(attacker.update().header.sealed)


@attack
def short_chunks(attacker: Attacker) -> None:
    attacker.spoil = lambda data: data[:-4]
    attacker.offer(attacker.update().header.sealed)


@attack
def chunks_that_nobody_asked_for(attacker: Attacker) -> None:
    attacker.serve(attacker.update(), 0)


@attack
def asking_for_chunks_that_are_not(attacker: Attacker) -> None:
    def ask(header: UpdateHeader) -> None:
        attacker.tell(attacker.victim, Get(header.root, header.size // CHUNK_BYTES + 1, 1))

    attacker.on_victims_offer = ask


@attack
def garbage(attacker: Attacker) -> None:
    [link] = attacker.links.transport._dialled
    link.sockets[False].send(b"\x93garbage")


@attack
def greeting_again(attacker: Attacker) -> None:
    [link] = attacker.links.transport._dialled
    hello = Hello(PROTOCOL_VERSION, False, attacker.record.sealed)
    link.sockets[False].send(encode(hello))


async def run_attack(name: str, join: str, manifest: Manifest, next_line: Any) -> None:
    address = parse_join(join)
    attacker = Attacker(new_identity(), manifest, PeerId(b""))
    async with attacker:
        await attacker.links.dial(address)
        connected = next(e for e in attacker.events if isinstance(e, PeerConnected))
        body = connected.record.body
        attacker.victim = peer_id(attacker.run, body.sign_key, body.vrf_key)
        ATTACKS[name](attacker)
        print(name, flush=True)
        while not next_line.done():
            attacker.take()
            await asyncio.sleep(0.01)


async def main() -> None:
    join, size = sys.argv[1], int(sys.argv[2])
    manifest = manifest_of({"['w']": ((size,), "float32")})
    loop = asyncio.get_running_loop()
    line = await loop.run_in_executor(None, sys.stdin.readline)
    while line:
        next_line = loop.run_in_executor(None, sys.stdin.readline)
        if line.strip():
            await run_attack(line.strip(), join, manifest, next_line)
        line = await next_line


if __name__ == "__main__":
    asyncio.run(main())
