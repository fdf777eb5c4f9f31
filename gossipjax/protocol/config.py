"""Every parameter of the protocol, with its reason."""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gossipjax.errors import LocalProtocolError

_SECOND = 1_000_000_000

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]


class ProtocolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a `PeerMachine`. The defaults suit a handful to some thousand peers."""

    fanout: Positive = 3
    """Neighbors that are offered each update. A rumor needs about log(n) rounds to reach everyone
    for any fanout ≥ 1; traffic per round is `fanout` payloads whatever the size of the network."""

    offer_to: Literal["random", "near"] | tuple[str, ...] = "random"
    """Whom updates are offered to. `random`: `fanout` partners drawn anew each time, so that the
    rounds are those of epidemic learning with s = `fanout`. `near`: one of them is drawn like that,
    the others from the half of the neighbors with the shortest round trip; one random neighbor is
    enough to keep a graph of near ones connected (GoCast, Tang, Chang and Ward 2005, section 2).
    A list of peer ids, 64 hexadecimal digits each: always these, whenever they are connected, for a
    fixed topology; they are dialled before others, and `fanout` does not count."""

    view_size: Positive = 16
    """Neighbors of a peer on average. Half as many are places that it fills itself, by rank; the
    others are guests who have dialled it. Keep-alive traffic is proportional to it; the graph of
    views stays connected under churn with high probability from about log(n) + 5 on."""

    neighbors_max: Positive = 128
    """Most neighbors, guests included; 8 · `view_size`. As long as nobody attacks there are about
    `view_size` whatever it is. Whoever makes up peers in m networks, and dials everybody, takes m
    places for guests; an honest peer that finds none falls to its next candidates, and those that
    are made up never refuse. So there should be as many as an attacker may have networks. Each
    guest costs two keep-alives per `probe_interval_ns` and, of a real peer, two connections; one
    exchange in three is with a guest, however many there are."""

    renew_interval_ns: Positive = 30 * _SECOND
    """About so often one place ranks all known peers anew, so that newcomers find places and the
    parts of a network that was split find each other again. Slowly, since each new ranking is
    another draw for an attacker (`view_size / 2` intervals for the whole view)."""

    probe_interval_ns: Positive = 2 * _SECOND
    """Between two keep-alives to every neighbor."""

    suspect_after_ns: Positive = 6 * _SECOND
    """Silence after which a neighbor is offered nothing: three lost keep-alives."""

    dead_after_ns: Positive = 15 * _SECOND
    """Silence after which a neighbor is dropped. Above the pauses of a busy training process; a
    pause of this peer itself is not counted as the silence of others."""

    witnesses: Positive = 3
    """Neighbors that are asked, each `probe_interval_ns`, whether they still hear one that is
    suspected. With loss ℓ on every way, all of k miss a live one with chance (1 − (1 − ℓ)⁴)ᵏ."""

    questions_max: Positive = 32
    """Questions that a neighbor may ask at once (`Ping`, `GetPeers`, `Suspect`, a new `Hello`), and
    after that four per `probe_interval_ns`. Above `dead_after_ns / probe_interval_ns`: so many may
    come at once when a link was clogged."""

    connect_timeout_ns: Positive = 5 * _SECOND
    """From dialling to a complete greeting."""

    retry_min_ns: Positive = _SECOND // 2
    """First wait before a peer is dialled again; it doubles with every failure. A random part of
    each wait, up to half, is left out, so that many do not come back in step."""

    retry_max_ns: Positive = 12 * _SECOND
    """Longest wait before a peer is dialled again (64 times longer for one of whom others have only
    told): how long a peer that was cut off from everybody may take to notice that the network is
    back."""

    gossip_peers_interval_ns: Positive = 10 * _SECOND
    """Between two requests for the addresses of others, each to one random neighbor."""

    book_size: Positive = 1024
    """Peer records remembered. At most 1/16 of them are in one network, and 1/16 told by peers of
    one network; of a full group, or a full book, the oldest gives way."""

    downloads_max: Positive = 4
    """Transfers at the same time, and updates being inspected before the next one begins; further
    offers wait, newest per author. Memory is bounded by `2 · downloads_max` payloads."""

    own_updates_max: Positive = 4
    """Own updates kept for those who pull them; the one asked for longest ago gives way. As many
    transfers less one may take longer than a round and still end."""

    received_updates_max: Positive = 2
    """Updates of others kept for those who catch up; the one asked for longest ago gives way. Each
    costs the memory of a payload; with none, only authors could serve joiners."""

    upload_bytes_per_s: Positive = 1 << 30
    """Chunks leave at this rate at most, those of the neighbors that wait in turn. The default is
    as good as none; a peer behind a home router leaves itself a share of its uplink by it."""

    snapshot_uploads_max: Positive = 4
    """Neighbors that are served at a time with an update that they were not offered: joiners. They
    share what the exchange leaves, and more of them go to other donors."""

    catch_up_gap: Positive = 100
    """A joiner that is more local steps behind a neighbor adopts the neighbor's parameters instead
    of averaging its own into the network's. Below it, its own work is worth keeping."""

    catch_up_settle_ns: Positive = _SECOND
    """After its first connection a joiner listens for so long to learn how far the others are, and
    so long it waits before it asks again."""

    catch_up_patience_ns: Positive = 60 * _SECOND
    """A joiner that has got nothing for so long, and has no donor left, goes on with its own
    parameters: bounds what neighbors that lie about their versions can hold up."""

    catch_up_donors_max: Positive = 4
    """Neighbors of which a joiner pulls the update that it adopts, at the same time. More are no
    faster than its downlink, and take places of other joiners."""

    relay_bytes_per_s: NotNegative = 4 << 20
    """What this peer passes on for neighbors that cannot dial each other, for all pairs together;
    one pair gets a quarter of it. 0: nothing. It costs as much again to receive it."""

    faults_max: Positive = 8
    """Refused messages after which a peer is disconnected and banned; a good update makes up for
    one of them."""

    fault_memory_ns: Positive = 600 * _SECOND
    """So long after the first of them the faults of a peer are forgotten: a bad link now and then
    is no malice."""

    ban_ns: Positive = 60 * _SECOND
    """How long a ban lasts. Short: at this stage nothing that a peer does is proof of malice."""

    def __post_init__(self) -> None:
        """Refuse values and combinations that cannot work."""
        self._check_audience()
        for name in self.__struct_fields__:
            if name == "offer_to":
                continue
            least = 0 if name == "relay_bytes_per_s" else 1
            if getattr(self, name) < least:
                raise LocalProtocolError(f"expected {name} ≥ {least}, got {getattr(self, name)}")
        if not self.probe_interval_ns < self.suspect_after_ns < self.dead_after_ns:
            raise LocalProtocolError(
                "expected probe_interval_ns < suspect_after_ns < dead_after_ns, got "
                f"{self.probe_interval_ns}, {self.suspect_after_ns}, {self.dead_after_ns}"
            )
        if self.neighbors_max < self.view_size:
            raise LocalProtocolError(
                f"expected neighbors_max ≥ view_size, got {self.neighbors_max} < {self.view_size}"
            )
        if self.retry_min_ns > self.retry_max_ns:
            raise LocalProtocolError("expected retry_min_ns ≤ retry_max_ns")

    def _check_audience(self) -> None:
        if self.offer_to == "near" and self.fanout < 2:
            raise LocalProtocolError(
                "expected fanout ≥ 2 with offer_to = near: one of the neighbors is drawn at random"
            )
        if isinstance(self.offer_to, str):
            if self.offer_to not in ("random", "near"):
                raise LocalProtocolError(
                    f"offer_to: expected random, near or a list of peer ids, got {self.offer_to!r}"
                )
            return
        slots = (self.view_size + 1) // 2
        if not 1 <= len(set(self.offer_to)) == len(self.offer_to) <= slots:
            raise LocalProtocolError(
                f"offer_to: expected 1 to {slots} different peer ids (half of view_size), got "
                f"{len(self.offer_to)} of which {len(set(self.offer_to))} differ"
            )
        for text in self.offer_to:
            if not re.fullmatch("[0-9a-f]{64}", text):
                raise LocalProtocolError(
                    f"offer_to: expected 64 lower-case hexadecimal digits, got {text!r}"
                )
