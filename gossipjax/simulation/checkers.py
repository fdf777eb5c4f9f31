"""What must hold in every run, whatever goes wrong: known from outside, not from the machines.

Safety is checked at every step by a `SafetyChecker`; liveness by functions that are called when the
faults are over. Each failure is a `Violation` whose text says what was expected and what came.
"""

from typing import Any

from gossipjax.protocol.effects import Connect, Deliver, Disconnect, Effects, Refuse, Send
from gossipjax.protocol.events import Event, PeerConnected, PeerLost, Received
from gossipjax.simulation.cluster import Cluster
from gossipjax.simulation.host import SimulatedHost, payload_of
from gossipjax.simulation.network import SECOND, LinkModel
from gossipjax.types import Nanoseconds, PeerId, short
from gossipjax.wire import limits
from gossipjax.wire.address import Address
from gossipjax.wire.envelope import UPDATE_DOMAIN, Verified, record_author
from gossipjax.wire.limits import CREDIT_CHUNKS
from gossipjax.wire.merkle import MerkleTree, leaf_hash
from gossipjax.wire.messages import Chunk, Get, UpdateHeader

HEAL_PROBE_INTERVALS = 10
"""So many probe intervals after the last fault the views are one connected graph."""

_AUTHORS_REMEMBERED = 4096
_RECORD_BYTES_MAX = 1024
_CONSTANT_ITEMS_MAX = 4096


class Violation(AssertionError):
    """Something that must hold does not."""


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
        self._sign_keys: dict[PeerId, bytes] = {}
        self._sequences: dict[tuple[SimulatedHost, PeerId], int] = {}
        self._outstanding: dict[tuple[SimulatedHost, PeerId], dict[bytes, set[int]]] = {}
        self._dialled_ns: dict[tuple[SimulatedHost, Address], Nanoseconds] = {}

    def joined(self, host: SimulatedHost) -> None:
        """An honest peer begins a life."""
        self._honest.add(host.id)

    def is_honest(self, peer: PeerId) -> bool:
        """Whether this id belongs, or belonged, to an honest peer."""
        return peer in self._honest

    def raised(self, host: SimulatedHost, event: Event, error: Exception) -> None:
        """`handle` never raises because of a peer."""
        raise Violation(
            f"{_name(host)}: expected that handle takes {event!r:.300}, it raised {error!r}"
        ) from error

    def handled(self, host: SimulatedHost, event: Event, effects: Effects) -> None:
        """Check one step."""
        match event:
            case Received(sender=sender, message=Chunk(root=root, index=index)):
                self._outstanding.get((host, sender), {}).get(root, set()).discard(index)
            case PeerLost(peer=peer):
                self._outstanding.pop((host, peer), None)
            case PeerConnected(record=record):
                self._sign_keys[record_author(record.body)] = record.body.sign_key
            case _:
                pass
        for effect in effects:
            match effect:
                case Send(message=Get() as get):
                    self._check_credit(host, effect.peer, get)
                case Deliver():
                    self._check_delivery(host, effect.header)
                case Refuse():
                    self._check_refusal(host, effect)
                case Disconnect():
                    self._check_ban(host, effect)
                case Connect():
                    self._check_pace(host, effect)
                case _:
                    pass

    def _check_credit(self, host: SimulatedHost, peer: PeerId, get: Get) -> None:
        """At most `CREDIT_CHUNKS` chunks of a transfer are asked for and not here; none twice."""
        transfers = self._outstanding.setdefault((host, peer), {})
        outstanding = transfers.setdefault(get.root, set())
        asked = set(range(get.first, get.first + get.count))
        if len(outstanding | asked) > CREDIT_CHUNKS:
            raise Violation(
                f"{_name(host)}: expected at most {CREDIT_CHUNKS} chunks on their way, asked "
                f"{short(peer)} for {get.count} more of {len(outstanding)}"
            )
        outstanding |= asked

    def _check_delivery(self, host: SimulatedHost, header: Verified[UpdateHeader]) -> None:
        body = header.body
        author = PeerId(body.author)
        self._check_signature(host, author, header)
        payload = host.approved_payload(author, body.root)
        if payload is None:
            raise Violation(f"{_name(host)}: delivers an update that was not found good")
        size = limits.CHUNK_BYTES
        chunks = [payload[i : i + size] for i in range(0, len(payload), size)]
        if MerkleTree([leaf_hash(chunk) for chunk in chunks]).root != body.root:
            raise Violation(f"{_name(host)}: delivers a payload of which the root is another")
        if author in self._honest and payload != payload_of(
            author, body.sequence, host.world.manifest
        ):
            raise Violation(f"{_name(host)}: delivers what {short(author)} did not publish")
        last = self._sequences.get((host, author), -1)
        if body.sequence <= last:
            raise Violation(
                f"{_name(host)}: delivers update {body.sequence} of {short(author)} after {last}"
            )
        self._sequences[host, author] = body.sequence

    def _check_signature(
        self, host: SimulatedHost, author: PeerId, header: Verified[UpdateHeader]
    ) -> None:
        key, sealed = self._sign_keys.get(author, b""), header.sealed
        if not host.world.suite.verify(key, UPDATE_DOMAIN, sealed.body, sealed.signature):
            raise Violation(f"{_name(host)}: delivers an update that {short(author)} did not sign")

    def _check_refusal(self, host: SimulatedHost, effect: Refuse) -> None:
        if effect.peer in self._honest and effect.reason not in self._transport_reasons:
            raise Violation(
                f"{_name(host)}: refuses something of honest {short(effect.peer)} "
                f"({effect.reason}), expected at most {self._transport_reasons}"
            )

    def _check_ban(self, host: SimulatedHost, effect: Disconnect) -> None:
        """No honest peer is banned on a network that does no more than TCP does."""
        if self._is_harsh:
            return
        if effect.peer in self._honest and effect.reason.startswith("banned"):
            raise Violation(f"{_name(host)}: bans honest {short(effect.peer)}")

    def _check_pace(self, host: SimulatedHost, effect: Connect) -> None:
        """No address is dialled again within half of the shortest wait."""
        now_ns = host.world.schedule.now_ns
        last_ns = self._dialled_ns.get((host, effect.address), -SECOND * 3600)
        self._dialled_ns[host, effect.address] = now_ns
        if now_ns - last_ns < host.world.protocol.retry_min_ns // 2:
            raise Violation(
                f"{_name(host)}: dials {effect.address.endpoint} again after "
                f"{(now_ns - last_ns) / 1e6:.0f} ms"
            )


def check_memory(host: SimulatedHost) -> None:
    """What a machine keeps is bounded by its parameters, whatever strangers send.

    Entries of all containers that can be reached from the machine, and bytes of all buffers.
    """
    config, payload_bytes = host.world.protocol, host.world.manifest.nbytes
    items, buffer_bytes = _retained(host.machine)
    items_max = 16 * config.book_size + 2 * _AUTHORS_REMEMBERED + _CONSTANT_ITEMS_MAX
    payloads_max = 2 * config.downloads_max + config.own_updates_max + 1
    bytes_max = payloads_max * payload_bytes + items_max * _RECORD_BYTES_MAX
    if items > items_max or buffer_bytes > bytes_max:
        raise Violation(
            f"{_name(host)}: expected at most {items_max} entries and {bytes_max} B, its machine "
            f"keeps {items} and {buffer_bytes}"
        )


def check_connected(cluster: Cluster, context: str) -> None:
    """The views of all running peers are one connected graph."""
    components = cluster.components()
    if len(components) > 1:
        sizes = [len(component) for component in components]
        lonely = [short(peer) for peer in components[-1]]
        raise Violation(
            f"{context}: expected one connected graph of views, parts have {sizes} "
            f"peers; the smallest: {lonely}"
        )


def check_exchange(cluster: Cluster, before: dict[int, int], context: str) -> None:
    """Every running peer has received updates since the counts `before`, and counts itself."""
    hungry = [i for i, host in cluster.hosts.items() if host.delivered <= before.get(i, 0)]
    if hungry:
        raise Violation(f"{context}: expected an update for everybody, none for peers {hungry}")
    behind = [i for i, host in cluster.hosts.items() if not host.machine.has_caught_up]
    if behind:
        raise Violation(f"{context}: peers {behind} have not caught up")


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


def _name(host: SimulatedHost) -> str:
    return f"{host.world.schedule.now_ns / SECOND:.3f} s, peer {host.index} ({short(host.id)})"
