"""Settings: strict, overridable key by key, and errors that say what to do."""

import inspect
from typing import Any

import pytest

from gossipjax.errors import LocalProtocolError
from gossipjax.runtime.config import PeerConfig, known_keys, load_config, parse_override
from gossipjax.wire.address import Address, format_join

JOIN = format_join(Address("tcp://192.0.2.7:4000", bytes(range(32))))


def test_nothing_gives_the_defaults():
    assert load_config() == PeerConfig()


def test_a_file_a_mapping_and_python_say_the_same(tmp_path):
    path = tmp_path / "peer.toml"
    path.write_text(f'run = "mnist"\njoin = ["{JOIN}"]\nslots = 4\n[protocol]\nfanout = 2\n')
    mapping = {"run": "mnist", "join": [JOIN], "slots": 4, "protocol": {"fanout": 2}}
    overrides: dict[str, Any] = {"slots": 4, "protocol.fanout": 2}
    python = load_config(run="mnist", join=[JOIN], **overrides)
    assert load_config(path) == load_config(str(path)) == load_config(mapping) == python
    assert python.protocol.fanout == 2
    assert load_config(python) == python


def test_overrides_win_and_do_not_change_what_was_given():
    mapping = {"slots": 4, "protocol": {"fanout": 2, "view_size": 5}}
    overrides: dict[str, Any] = {"slots": 6, "protocol.fanout": 1}
    config = load_config(mapping, **overrides)
    assert (config.slots, config.protocol.fanout, config.protocol.view_size) == (6, 1, 5)
    assert mapping == {"slots": 4, "protocol": {"fanout": 2, "view_size": 5}}


def test_paths_are_taken_as_text(tmp_path):
    assert load_config({"state_dir": tmp_path}).state_dir == str(tmp_path)
    assert load_config(state_dir=tmp_path).state_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"slot": 4}, "unknown field `slot`"),
        ({"protocol": {"fan": 4}}, r"unknown field `fan` - at `\$\.protocol`"),
        ({"slots": "4"}, r"Expected `int`, got `str` - at `\$\.slots`"),
        ({"slots": True}, "got `bool`"),
        ({"slots": 0}, ">= 1"),
        ({"round_seconds": 0}, "> 0"),
        ({"round_seconds": float("nan")}, "> 0"),
        ({"protocol": {"fanout": 0}}, "fanout"),
        ({"protocol": {"retry_min_ns": 10**12}}, "retry_min_ns ≤ retry_max_ns"),
        ({"join": ["tcp://192.0.2.7:4000"]}, "expected a join string like gossipjax://"),
        ({"allow": ["AB" * 32]}, "allow: expected 64 lower-case hexadecimal digits"),
        ({"listen": "ipc:///tmp/peer"}, "listen: expected tcp://HOST:PORT"),
        (
            {"rules": {"policy": "audit"}, "journal_file": "j"},
            "journal_file: votes need the secret",
        ),
        ({"rules": {"polity": "off"}}, r"unknown field `polity` - at `\$\.rules`"),
        ({"public_address": "udp://192.0.2.7:1"}, "public_address: .* expected tcp://host:port"),
        ({"run": object()}, "config: expected"),
    ],
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(LocalProtocolError, match=text):
        load_config(settings)


def test_an_unknown_key_is_answered_with_the_known_ones():
    with pytest.raises(LocalProtocolError, match=r"Keys: run, .*protocol\.fanout"):
        load_config(slot=4)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(LocalProtocolError, match=r"absent\.toml: No such file"):
        load_config(tmp_path / "absent.toml")
    path = tmp_path / "broken.toml"
    path.write_text("slots = = 4")
    with pytest.raises(LocalProtocolError, match=r"broken\.toml is not TOML"):
        load_config(path)
    path.write_bytes(b"run = '\xff'")
    with pytest.raises(LocalProtocolError, match="is not TOML"):
        load_config(path)


def test_a_table_that_is_none_cannot_be_overridden_into():
    with pytest.raises(LocalProtocolError, match="protocol is a table"):
        load_config({"protocol": 3}, **{"protocol.fanout": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slots=4", ("slots", 4)),
        ("round_seconds = 0.5", None),
        ("round_seconds=0.5", ("round_seconds", 0.5)),
        ("run=mnist", ("run", "mnist")),
        ('run="4"', ("run", "4")),
        ("run=a=b", ("run", "a=b")),
        (f'join=["{JOIN}"]', ("join", [JOIN])),
        ("protocol.fanout=2", ("protocol.fanout", 2)),
        ("algorithm_options.momentum=0.5", ("algorithm_options.momentum", 0.5)),
        ("slots", None),
        ("slot=4", None),
        ("protocol=4", None),
    ],
)
def test_overrides_from_a_command_line(text, expected):
    if expected is None:
        with pytest.raises(LocalProtocolError, match="expected KEY=VALUE, got"):
            parse_override(text)
    else:
        assert parse_override(text) == expected


def test_every_known_key_can_be_set():
    for key in known_keys():
        *table, name = key.split(".")
        value = getattr(getattr(PeerConfig(), table[0]) if table else PeerConfig(), name)
        assert load_config({"rules": {"policy": "off"}}, **{key: value}) == PeerConfig(), key
    assert load_config(rules={"epoch_s": 10}).rules.policy == "audit"


def test_every_field_is_documented():
    for kind in (PeerConfig, type(PeerConfig().protocol)):
        source = inspect.getsource(kind)
        for name in kind.__struct_fields__:
            declared = source.index(f"    {name}: ")
            assert source[source.index("\n", declared) :].lstrip().startswith('"""'), name
