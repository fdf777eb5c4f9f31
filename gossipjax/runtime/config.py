"""What a person can set: one strict TOML file, overridable key by key, same names in Python."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gossipjax.errors import LocalProtocolError, RemoteProtocolError
from gossipjax.protocol.config import ProtocolConfig
from gossipjax.protocol.rules import OFF, Rules
from gossipjax.wire.address import parse_endpoint, parse_join

NO_ADDRESS = "none"
"""`public_address` of a peer that nobody can dial."""


class PeerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one peer. All have defaults; unknown keys are refused."""

    run: str = "gossipjax"
    """Name of the run. Peers meet only when the name and the form of their payloads agree."""

    state_dir: str = ""
    """Folder for the key file and the address book; made when absent. Empty: the peer gets a new
    identity each time it starts and leaves nothing on disk."""

    listen: str = "tcp://0.0.0.0:0"
    """Where to accept connections, `tcp://host:port`; port 0 takes a free one."""

    public_address: str = ""
    """The `tcp://host:port` that others should dial, when it is not where this peer listens (behind
    a router that forwards a port). Empty: the address that this machine uses for the internet.
    `none`: nobody can dial this peer; it takes part through the connections that it opens."""

    data_port: Annotated[int, Meta(ge=-1, le=65535)] = 0
    """A second port, for chunks alone: sealed with AES-256-GCM they take less of the processor
    than through CURVE. 0: any free one, unless there is a `public_address`, since a router forwards
    only what it was told; -1: none. Who cannot reach it gets its chunks over the first port."""

    join: tuple[str, ...] = ()
    """Join strings of peers to begin with. Empty: this peer starts the run and prints its own."""

    allow: tuple[str, ...] = ()
    """Transport keys (64 hexadecimal digits; `keygen` prints them) that may connect. Empty: all."""

    algorithm: str = "gossip"
    """What to share and how to mix, unless the program says it: a name in `gossipjax.algorithms`,
    or `FILE.py:NAME` or `MODULE:NAME` of an own one."""

    algorithm_options: dict[str, Any] = {}
    """Arguments of the algorithm; a table `[algorithm_options]` in the file,
    `algorithm_options.momentum` elsewhere."""

    compression: str = ""
    """How payloads are compressed, the same for all peers of a run: a name in
    `gossipjax.compression`, such as `int8`, or `FILE.py:NAME` or `MODULE:NAME` of an own one.
    Empty: not at all, or as the algorithm does by itself."""

    compression_options: dict[str, Any] = {}
    """Arguments of the compressor; a table `[compression_options]` in the file,
    `compression_options.share` elsewhere."""

    round_seconds: Annotated[float, Meta(gt=0)] = 1.0
    """A round is this long: `mix` shares and folds in at most once per round, so that a loop may
    call it after every step. Ignored when `round_steps` is set."""

    round_steps: Annotated[int, Meta(ge=0)] = 0
    """When above 0, a round is this many local steps instead of a time."""

    slots: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Updates folded in per mix, newest per author; what is above it waits for the next round."""

    work_ratio_max: Annotated[float, Meta(ge=1)] = 4.0
    """A neighbor's weight is its claimed samples over the own, at most this: bounds a lie."""

    version_lead_max: Annotated[int, Meta(ge=1)] = 10_000
    """A neighbor's version counts as at most so many steps ahead of the own: bounds a lie."""

    norm_max: Annotated[float, Meta(gt=0)] = 1e6
    """Updates with a larger Euclidean norm are refused. With `inf` only what is not finite is, and
    the own parameters are shared without a look at them."""

    archive_bytes_max: Annotated[int, Meta(ge=0)] = 1 << 28
    """Memory for the states of own rounds that others may audit; the newest is kept in any case. A
    round takes (segments + 1) · (parameters + optimizer state)."""

    connections_max: Annotated[int, Meta(ge=2)] = 288
    """Accepted connections, two per peer: those of `protocol.neighbors_max` neighbors, and some for
    peers that come while others go. Bounds memory at about 9 MiB each, which they take only while
    neither side reads."""

    prefix_connections_max: Annotated[int, Meta(ge=2)] = 16
    """Accepted connections from one IPv4 /24 network; loopback and private networks are exempt."""

    metrics_file: str = ""
    """A JSON-lines file that gets one line per round. Empty: none."""

    journal_file: str = ""
    """A file that gets every event of the protocol, for `python -m gossipjax.peer replay`; replaced
    at each start. No keys and no parameters are in it. Empty: none."""

    journal_bytes_max: Annotated[int, Meta(ge=1)] = 256 << 20
    """The journal ends when it is this large: about 12 hours at 2 rounds a second."""

    protocol: ProtocolConfig = ProtocolConfig()
    """Parameters of the protocol; a table `[protocol]` in the file, `protocol.fanout` elsewhere."""

    rules: Rules = OFF
    """How updates are verified, the same for all peers of a run; a table `[rules]` in the file,
    `rules.policy` elsewhere. Without the table nothing is verified; with it, the policy is `audit`
    unless it says otherwise."""

    @property
    def offers_data_port(self) -> bool:
        """Whether neighbors are told of a data port."""
        return self.data_port > 0 or (self.data_port == 0 and not self.public_address)

    def __post_init__(self) -> None:
        """Check what types cannot."""
        if self.compression_options and not self.compression:
            raise LocalProtocolError("compression_options: there is no compression to take them")
        if not self.listen.startswith("tcp://"):
            raise LocalProtocolError(f"listen: expected tcp://HOST:PORT, got {self.listen!r}")
        for text in self.join:
            parse_join(text)
        for key in self.allow:
            if len(key) != 64 or set(key) - set("0123456789abcdef"):
                raise LocalProtocolError(
                    f"allow: expected 64 lower-case hexadecimal digits, got {key!r}"
                )
        if self.rules.policy != "off" and self.journal_file:
            raise LocalProtocolError(
                "journal_file: votes need the secret keys, which no journal has; "
                "set rules.policy to off, or journal_file to nothing"
            )
        if self.public_address not in ("", NO_ADDRESS):
            try:
                parse_endpoint(self.public_address)
            except RemoteProtocolError as error:
                raise LocalProtocolError(f"public_address: {error}") from None


def load_config(
    source: "str | Path | Mapping[str, Any] | PeerConfig | None" = None, **overrides: Any
) -> PeerConfig:
    """Read settings from a TOML file or a mapping, then apply the overrides.

    Example:
        >>> load_config({"run": "mnist"}, slots=4, **{"protocol.fanout": 2}).protocol.fanout
        2

    Raises:
        LocalProtocolError: no such file, no TOML, an unknown key or a wrong type; the text says
            which and what is possible.
    """
    settings = _as_mapping(source)
    for key, value in overrides.items():
        _set(settings, key, value)
    try:
        return msgspec.convert(_plain(settings), PeerConfig)
    except msgspec.ValidationError as error:
        raise LocalProtocolError(f"config: {error}. Keys: {', '.join(known_keys())}") from None


def known_keys() -> list[str]:
    """Every key, in the form in which it can be overridden."""
    tables = {"protocol": ProtocolConfig, "rules": Rules}
    plain = [f.name for f in msgspec.structs.fields(PeerConfig) if f.name not in tables]
    return plain + [
        f"{table}.{f.name}" for table, kind in tables.items() for f in msgspec.structs.fields(kind)
    ]


def parse_override(text: str) -> tuple[str, Any]:
    """Read `key=value` from a command line; the value as in TOML, or else as plain text.

    Raises:
        LocalProtocolError: no `=`, or an unknown key.
    """
    key, separator, value = text.partition("=")
    is_option = key.startswith(("algorithm_options.", "compression_options."))
    if not separator or not (key in known_keys() or is_option):
        raise LocalProtocolError(
            f"expected KEY=VALUE, got {text!r}. Keys: {', '.join(known_keys())}"
        )
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _as_mapping(source: "str | Path | Mapping[str, Any] | PeerConfig | None") -> dict[str, Any]:
    if source is None:
        return {}
    if isinstance(source, PeerConfig):
        return msgspec.to_builtins(source)
    if isinstance(source, Mapping):
        return _plain(dict(source))
    try:
        return tomllib.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalProtocolError(f"config file {source}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LocalProtocolError(f"config file {source} is not TOML: {error}") from None


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """A copy of nothing but dicts, lists, numbers and text; paths become text."""
    try:
        return msgspec.to_builtins(settings, enc_hook=os.fspath)
    except TypeError as error:
        raise LocalProtocolError(f"config: {error}") from None


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        settings = settings.setdefault(table, {})
        if not isinstance(settings, dict):
            raise LocalProtocolError(f"config: {table} is a table, so that {key} can be set")
    settings[last] = value
