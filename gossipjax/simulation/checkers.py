"""What must hold at every step, whatever goes wrong: known from outside, not from the machines.

`gossipjax.simulation.liveness` checks what must hold when the faults are over. Each failure is a
`Violation` whose text says what was expected and what came.
"""

from collections import Counter
from typing import Any

from gossipjax.protocol.effects import Connect, Deliver, Disconnect, Effects, Refuse, Send
from gossipjax.protocol.events import Event, PeerConnected, PeerLost, Published, Received
from gossipjax.simulation.host import SimulatedHost, payload_of
from gossipjax.simulation.network import SECOND, LinkModel
from gossipjax.types import Nanoseconds, PeerId, short
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import UPDATE_DOMAIN, Verified, chunk_count, record_author
from gossipjax.wire.merkle import MerkleTree, leaf_hash
from gossipjax.wire.messages import Chunk, Get, Missing, Offer, UpdateHeader

_LONG_AGO_NS: Nanoseconds = -(1 << 62)
_TIMES_SERVED_MAX = 4
_RECORD_BYTES_MAX = 1024
_ITEMS_PER_RECORD_MAX = 16
_OTHER_ITEMS_MAX = 8192  # sequence numbers of authors, neighbors, transfers


class Violation(AssertionError):
    """Something that must hold does not."""


class _Life:
    """What has been seen of one life of an honest peer."""

    def __init__(self):
        self.sequences: dict[PeerId, int] = {}
        self.outstanding: dict[PeerId, dict[bytes, set[int]]] = {}
        self.served: Counter[tuple[PeerId, bytes]] = Counter()
        self.dialled_ns: dict[Address, Nanoseconds] = {}
        self.heard_ns: dict[PeerId, Nanoseconds] = {}
        self.has_adopted = False


class SafetyChecker:
    """Watches every step of every honest peer.

    Args:
        model: what the wires do, for which an honest peer may be refused by mistake.
        has_faults: whether peers or connections fail in this run.
    """

    def __init__(self, model: LinkModel, *, has_faults: bool):
        self._transport_reasons = _transport_reasons(model, has_faults)
        self._is_harsh = model.is_harsh
        self._honest: set[PeerId] = set()
        self._signed: dict[tuple[PeerId, int], bytes] = {}
        self._sign_keys: dict[PeerId, bytes] = {}
        self._lives: dict[SimulatedHost, _Life] = {}

    def joined(self, host: SimulatedHost) -> None:
        """An honest peer begins a life."""
        self._honest.add(host.id)
        self._sign_keys[host.id] = host.identity.public.sign
        self._lives[host] = _Life()

    def raised(self, host: SimulatedHost, event: Event, error: Exception) -> None:
        """`handle` never raises because of a peer."""
        raise Violation(
            f"{name_of(host)}: expected that handle takes {event!r:.300}, it raised {error!r}"
        ) from error

    def spins(self, host: SimulatedHost, due_ns: Nanoseconds) -> None:
        """A passed deadline moves the next one into the future."""
        raise Violation(f"{name_of(host)}: spins, its next deadline stays at {due_ns} ns")

    def handled(self, host: SimulatedHost, event: Event, effects: Effects) -> None:
        """Check one step."""
        life = self._lives[host]
        self._note(host, life, event)
        for effect in effects:
            match effect:
                case Send(message=Get() as get):
                    self._check_credit(host, life, effect.peer, get)
                case Send(message=Offer()):
                    self._check_offer(host)
                case Deliver():
                    self._check_delivery(host, life, effect)
                case Send(message=Chunk() as chunk):
                    self._check_share(host, life, effect.peer, chunk.root)
                case Refuse():
                    self._check_refusal(host, effect)
                    if effect.reason in ("stalled", "size", "root"):  # ends the transfer
                        life.outstanding.pop(effect.peer, None)
                case Disconnect():
                    self._check_ban(host, effect)
                case Connect():
                    self._check_pace(host, life, effect.address)
                case _:
                    pass

    def last_heard_ns(self, host: SimulatedHost, peer: PeerId) -> Nanoseconds:
        """When a peer last sent something, or connected."""
        return self._lives[host].heard_ns.get(peer, _LONG_AGO_NS)

    def _note(self, host: SimulatedHost, life: _Life, event: Event) -> None:
        now_ns = host.world.schedule.now_ns
        match event:
            case Received():
                life.heard_ns[event.sender] = now_ns
                if isinstance(event.message, Chunk):
                    transfers = life.outstanding.get(event.sender, {})
                    transfers.get(event.message.root, set()).discard(event.message.index)
                elif isinstance(event.message, Missing):
                    life.outstanding.get(event.sender, {}).pop(event.message.root, None)
            case Published():
                self._check_signed_once(host, event.update.header)
            case PeerLost():
                life.outstanding.pop(event.peer, None)
            case PeerConnected():
                peer = record_author(event.record.body)
                life.heard_ns[peer] = now_ns
                self._sign_keys[peer] = event.record.body.sign_key
            case _:
                pass

    def _check_signed_once(self, host: SimulatedHost, header: Verified[UpdateHeader]) -> None:
        """No honest peer signs two updates with one number, over all its lives."""
        key, body = (host.id, header.body.sequence), header.sealed.body
        if self._signed.setdefault(key, body) != body:
            raise Violation(f"{name_of(host)}: signs two updates with number {key[1]}")

    def _check_credit(self, host: SimulatedHost, life: _Life, peer: PeerId, get: Get) -> None:
        """At most `CREDIT_CHUNKS` chunks of a transfer are asked for and not here."""
        outstanding = life.outstanding.setdefault(peer, {}).setdefault(get.root, set())
        outstanding.update(range(get.first, get.first + get.count))
        if len(outstanding) > limits.CREDIT_CHUNKS:
            raise Violation(
                f"{name_of(host)}: expected at most {limits.CREDIT_CHUNKS} chunks on their way "
                f"from {short(peer)}, it has asked for {len(outstanding)}"
            )

    def _check_share(self, host: SimulatedHost, life: _Life, peer: PeerId, root: bytes) -> None:
        """Nobody is sent an update more than a few times over."""
        life.served[peer, root] += 1
        most = _TIMES_SERVED_MAX * chunk_count(host.world.manifest.nbytes)
        most += 2 * limits.CREDIT_CHUNKS
        if life.served[peer, root] > most:
            raise Violation(f"{name_of(host)}: sends {short(peer)} more than {most} chunks of one")

    def _check_offer(self, host: SimulatedHost) -> None:
        """Who has not caught up offers nothing."""
        if not host.machine.has_caught_up:
            raise Violation(f"{name_of(host)}: offers an update and has not caught up")

    def _check_delivery(self, host: SimulatedHost, life: _Life, effect: Deliver) -> None:
        """Signed by the author, unaltered, newer than the last; adopted once at most."""
        header = effect.header.body
        author = PeerId(header.author)
        self._check_signature(host, author, effect.header)
        self._check_payload(host, author, header)
        last = life.sequences.get(author, -1)
        if header.sequence <= last:
            raise Violation(
                f"{name_of(host)}: delivers update {header.sequence} of {short(author)} "
                f"after {last}"
            )
        life.sequences[author] = header.sequence
        if effect.adopt and life.has_adopted:
            raise Violation(f"{name_of(host)}: adopts parameters a second time")
        life.has_adopted |= effect.adopt

    def _check_signature(
        self, host: SimulatedHost, author: PeerId, header: Verified[UpdateHeader]
    ) -> None:
        key, sealed = self._sign_keys.get(author, b""), header.sealed
        if not host.world.suite.verify(key, UPDATE_DOMAIN, sealed.body, sealed.signature):
            raise Violation(
                f"{name_of(host)}: delivers an update that {short(author)} did not sign"
            )

    def _check_payload(self, host: SimulatedHost, author: PeerId, header: UpdateHeader) -> None:
        payload = host.approved_payload(author, header.root)
        if payload is None:
            raise Violation(f"{name_of(host)}: delivers an update that was not found good")
        size = limits.CHUNK_BYTES
        chunks = [payload[i : i + size] for i in range(0, len(payload), size)]
        if MerkleTree([leaf_hash(chunk) for chunk in chunks]).root != header.root:
            raise Violation(f"{name_of(host)}: delivers a payload that has another root")
        published = payload_of(author, header.sequence, host.world.manifest)
        if author in self._honest and payload != published:
            raise Violation(f"{name_of(host)}: delivers what {short(author)} did not publish")

    def _check_refusal(self, host: SimulatedHost, effect: Refuse) -> None:
        if effect.peer in self._honest and effect.reason not in self._transport_reasons:
            raise Violation(
                f"{name_of(host)}: refuses something of honest {short(effect.peer)} "
                f"({effect.reason}), expected at most {self._transport_reasons}"
            )

    def _check_ban(self, host: SimulatedHost, effect: Disconnect) -> None:
        """No honest peer is banned on a network that does no more than TCP does."""
        is_ban = effect.reason.startswith("banned")
        if is_ban and effect.peer in self._honest and not self._is_harsh:
            raise Violation(f"{name_of(host)}: bans honest {short(effect.peer)}")

    def _check_pace(self, host: SimulatedHost, life: _Life, address: Address) -> None:
        """No address is dialled again within half of the shortest wait."""
        now_ns = host.world.schedule.now_ns
        waited_ns = now_ns - life.dialled_ns.get(address, _LONG_AGO_NS)
        life.dialled_ns[address] = now_ns
        if waited_ns < host.world.protocol.retry_min_ns // 2:
            raise Violation(
                f"{name_of(host)}: dials {address.endpoint} again after {waited_ns / 1e6:.0f} ms"
            )


def check_memory(host: SimulatedHost) -> None:
    """What a machine keeps is bounded by its parameters, whatever strangers send.

    Counted are the entries of all containers that can be reached from the machine, and the bytes
    of all buffers.
    """
    config, payload_bytes = host.world.protocol, host.world.manifest.nbytes
    items, buffer_bytes = _retained(host.machine)
    items_max = _ITEMS_PER_RECORD_MAX * config.book_size + _OTHER_ITEMS_MAX
    payloads_max = 2 * config.downloads_max + config.own_updates_max + 2
    payloads_max += config.received_updates_max
    bytes_max = payloads_max * payload_bytes + items_max * _RECORD_BYTES_MAX
    if items > items_max or buffer_bytes > bytes_max:
        raise Violation(
            f"{name_of(host)}: expected at most {items_max} entries and {bytes_max} B, its machine "
            f"keeps {items} and {buffer_bytes}"
        )


def name_of(host: SimulatedHost) -> str:
    """Time and peer, for the beginning of a message."""
    return f"{host.world.schedule.now_ns / SECOND:.3f} s, peer {host.index} ({short(host.id)})"


def _transport_reasons(model: LinkModel, has_faults: bool) -> list[str]:
    """Reasons for which honest peers may be refused on such a network."""
    reasons: list[str] = []
    if model.duplicate_ppm or model.reorder_ppm:
        reasons += ["replay", "sequence", "unsolicited"]
    if has_faults or model.is_harsh or model.reset_ppm:
        reasons.append("stalled")
    return reasons


def _retained(root: object) -> tuple[int, int]:
    """Entries of the containers, and bytes of the buffers, that can be reached from an object."""
    seen: set[int] = set()
    pending: list[Any] = [root]
    items = buffer_bytes = 0
    while pending:
        value = pending.pop()
        if id(value) in seen or isinstance(value, (int, str, type, type(None))) or callable(value):
            continue
        seen.add(id(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            buffer_bytes += len(value)
        elif isinstance(value, dict):
            items += len(value)
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            items += len(value)
            pending += value
        else:
            names = [*getattr(value, "__dict__", ()), *getattr(value, "__slots__", ())]
            names += getattr(value, "__struct_fields__", ())
            pending += [getattr(value, name, None) for name in names]
    return items, buffer_bytes
