"""What `python -m gossipjax.peer run` does, and the files that a run leaves behind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.serialization
import msgspec

from gossipjax.mixing.base import GossipAlgorithm
from gossipjax.runtime.config import PeerConfig, load_config, parse_override
from gossipjax.runtime.display import Screen, peer_table
from gossipjax.runtime.session import SessionOptions, SessionResult, stop_on_signals, train_peer
from gossipjax.runtime.swarm import Swarm, configured_algorithm
from gossipjax.training.workload import Workload, load_workload
from gossipjax.types import short

Change = Callable[[Workload, GossipAlgorithm], tuple[Workload, GossipAlgorithm]]

PEER_FILE = "peer.json"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
PARAMS_FILE = "params.msgpack"
RUN_FILE = "run.json"


def run_peer(
    workload_name: str,
    *,
    workload_options: Mapping[str, Any],
    folder: Path | None,
    config_file: Path | None,
    settings: Iterable[str],
    join: Iterable[str],
    options: SessionOptions,
    change: Change | None = None,
) -> bool:
    """Train a workload as a peer, showing a table; returns whether it was interrupted.

    `change` makes another workload and algorithm of those that are configured.

    Leaves in `folder`: `run.json` (config, seed, commit), `peer.json` (join string and process id),
    `metrics.jsonl` (a line per round), `checkpoints/`, `state/` (key and address book), and at the
    end `result.json` and `params.msgpack` (flax.serialization).
    """
    workload = load_workload(workload_name, **workload_options)
    algorithm = None
    folder = folder or Path("runs") / f"{_file_name(workload_name)}-{options.shard.index}"
    config = _config(folder, workload_name, config_file, settings, join)
    options = options._replace(folder=folder / "checkpoints")
    if options.assigned and workload.public is not None:  # who has other data never meets this run
        run = f"{config.run}/{workload.public.digest.hex()}"
        config = msgspec.structs.replace(config, run=run)
    if change is not None:
        # What is changed is what is compressed afterwards, as the settings say, by `join`.
        plain = msgspec.structs.replace(config, compression="", compression_options={})
        algorithm = configured_algorithm(plain)
        workload, algorithm = change(workload, algorithm)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN_FILE, _describe_run(workload_name, workload_options, config, options))
    label = str(options.shard.index)

    def on_start(swarm: Swarm) -> None:
        write_json(
            folder / PEER_FILE,
            {"pid": os.getpid(), "peer": swarm.id.hex(), "join": swarm.join_string},
        )
        joining = f"others join with:  --join {swarm.join_string}"
        if not swarm.join_string:
            joining = "nobody can dial this peer: it takes part through connections that it opens"
        screen.console.print(
            f"peer {short(swarm.id)} · seed {options.seed} · files in {folder}\n{joining}",
            soft_wrap=True,
            highlight=False,
        )

    with stop_on_signals() as stop, Screen() as screen:
        result = train_peer(
            workload,
            config,
            options,
            algorithm=algorithm,
            on_start=on_start,
            on_round=lambda record: screen.show(peer_table([(label, record, "")], workload_name)),
            stop=stop,
        )
        screen.show(peer_table([(label, result.record, "")], workload_name), last=True)
    _write_result(folder, result)
    return result.interrupted


def _config(
    folder: Path,
    workload_name: str,
    config_file: Path | None,
    settings: Iterable[str],
    join: Iterable[str],
) -> PeerConfig:
    overrides = dict(parse_override(text) for text in settings)
    if join:
        overrides["join"] = list(join)
    config = load_config(config_file, **overrides)
    changes: dict[str, Any] = {}
    if config.run == PeerConfig().run:
        changes["run"] = workload_name
    if not config.state_dir:
        changes["state_dir"] = str(folder / "state")
    if not config.metrics_file:
        changes["metrics_file"] = str(folder / METRICS_FILE)
    return msgspec.structs.replace(config, **changes)


def _describe_run(
    workload_name: str,
    workload_options: Mapping[str, Any],
    config: PeerConfig,
    options: SessionOptions,
) -> dict[str, Any]:
    return {
        "workload": workload_name,
        "workload_options": dict(workload_options),
        "shard": f"{options.shard.index}/{options.shard.count}",
        "seed": options.seed,
        "until_version": options.until_version,
        "commit": source_commit(),
        "python": sys.version.split()[0],
        "config": msgspec.to_builtins(config),
    }


def _write_result(folder: Path, result: SessionResult) -> None:
    temporary = folder / (PARAMS_FILE + ".tmp")
    temporary.write_bytes(flax.serialization.to_bytes(result.params))
    temporary.replace(folder / PARAMS_FILE)
    write_json(folder / RESULT_FILE, result.record)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def source_commit() -> str:
    """The commit of the source tree that this package is imported from, or the version."""
    from gossipjax import __version__

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return f"gossipjax {__version__}"
    described = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or f"gossipjax {__version__}"


def _file_name(workload_name: str) -> str:
    """`folder/file.py:name → name`; a built-in's name as it is."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", workload_name.rpartition(":")[2])
