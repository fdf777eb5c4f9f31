"""`python -m gossipjax.peer`: run a peer, see a demo, replay a journal, make a key.

Exit codes: 0 done; 1 a defect (with a traceback), or a replay with other effects; 2 wrong usage or
settings; 130 stopped by Ctrl-C or SIGTERM, after a checkpoint.
"""

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gossipjax.errors import LocalProtocolError

if TYPE_CHECKING:
    from gossipjax.runtime.cli import Change

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
ROBUST_MIXER = "balance"
"""What the demo mixes with when there are attackers."""

app = typer.Typer(
    name="gossipjax.peer",
    help="Train one JAX model together without a server.",
    epilog="Exit codes: 0 done; 1 a defect; 2 wrong usage or settings; 130 stopped by a signal.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # one line per option, so that --help fits a screen
)


@app.command()
def run(
    workload: Annotated[
        str, typer.Argument(help="fashion_mnist, digits, shakespeare, FILE.py:NAME, MODULE:NAME")
    ],
    join: Annotated[
        list[str] | None, typer.Option(metavar="STRING", help="What a running peer printed.")
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Part of the data.")] = "0/1",
    steps: Annotated[int | None, typer.Option(help="End at this model version. [never]")] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Keys, checkpoints, metrics. [runs/…]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--with", metavar="KEY=VALUE", help="Workload option.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of parameters and batches.")] = 0,
    wait: Annotated[int, typer.Option(help="Neighbors to wait for at the start.")] = 0,
    linger: Annotated[float, typer.Option(help="Seconds for others at the end.")] = 10.0,
    checkpoint: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 30.0,
    accumulate: Annotated[int, typer.Option(help="Micro-batches per step.")] = 1,
    background: Annotated[
        bool, typer.Option("--background", help="Train only on cores that are idle.")
    ] = False,
    assigned: Annotated[
        bool, typer.Option("--assigned", help="Train on assigned public data, not on a part.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log connections.")] = False,
    attack: Annotated[str | None, typer.Option(hidden=True)] = None,  # see `demo --byzantine`
) -> None:
    """Train a workload as a peer. Stop with Ctrl-C; the same command resumes."""
    from gossipjax.runtime.cli import run_peer
    from gossipjax.runtime.session import SessionOptions
    from gossipjax.training.workload import Shard

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("gossipjax").setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("gossipjax.reachability").setLevel(logging.INFO)
    try:
        interrupted = run_peer(
            workload,
            workload_options=dict(_parse_option(text) for text in options or ()),
            folder=folder,
            config_file=config,
            settings=settings or (),
            join=join or (),
            options=SessionOptions(
                shard=Shard.parse(shard),
                until_version=steps,
                seed=seed,
                wait_neighbors=wait,
                linger_seconds=linger,
                checkpoint_seconds=checkpoint,
                background=background,
                accumulate=accumulate,
                assigned=assigned,
            ),
            change=_misbehave(attack) if attack else None,
        )
    except (LocalProtocolError, ValueError, FileNotFoundError) as error:
        _fail(error)
    raise typer.Exit(EXIT_INTERRUPTED if interrupted else 0)


@app.command()
def demo(
    peers: Annotated[int, typer.Option(min=2, max=64, help="Peers, each a process.")] = 4,
    steps: Annotated[int, typer.Option(min=20, help="Local steps per peer.")] = 3000,
    alpha: Annotated[float, typer.Option(help="Dirichlet concentration: 0.1 is skewed.")] = 0.1,
    kill_one: Annotated[
        bool, typer.Option("--kill-one", help="SIGKILL a peer midway, restart it later.")
    ] = False,
    late_joiner: Annotated[
        bool, typer.Option("--late-joiner", help="Start one peer when the rest is well on.")
    ] = False,
    byzantine: Annotated[int, typer.Option(min=0, help="Peers that attack the others.")] = 0,
    attack: Annotated[
        str, typer.Option(help="sign_flip, label_flip, lazy, nan, noise, zeros, …")
    ] = "sign_flip",
    mixer: Annotated[
        str | None, typer.Option(help="mean, balance, clip, nearest, median, trimmed_mean")
    ] = None,
    assigned: Annotated[
        bool, typer.Option("--assigned", help="Public data for all; always with --byzantine.")
    ] = False,
    policy: Annotated[
        str, typer.Option(help="audit, gate or off: whether attackers are found and banned.")
    ] = "audit",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    folder: Annotated[Path, typer.Option("--dir", help="Where results go.")] = Path("runs/demo"),
) -> None:
    """Peers on this machine learn together what none could alone (Fashion-MNIST, non-IID)."""
    from gossipjax.runtime.demo import DemoOptions, run_demo

    options = DemoOptions(
        peers=peers,
        steps=steps,
        alpha=alpha,
        kill_one=kill_one,
        late_joiner=late_joiner,
        byzantine=byzantine,
        attack=attack,
        mixer=mixer or (ROBUST_MIXER if byzantine else "mean"),
        assigned=assigned or byzantine > 0,
        policy=policy if assigned or byzantine else "off",
        seed=seed,
        folder=folder,
    )
    try:
        run_demo(options)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (LocalProtocolError, ValueError) as error:
        _fail(error)


@app.command()
def replay(
    journal: Annotated[Path, typer.Argument(help="What a peer wrote under `journal_file`.")],
) -> None:
    """Check that the protocol does today what a peer once did, event by event."""
    from gossipjax.crypto.suite import ed25519_suite
    from gossipjax.runtime.journal import replay as replay_journal

    try:
        ended = replay_journal(journal, ed25519_suite())
    except LocalProtocolError as error:
        _fail(error)
    typer.echo(str(ended))
    raise typer.Exit(1 if ended.divergence else 0)


@app.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="New key file; never overwritten.")],
) -> None:
    """Make a key file and print its public keys (for `allow` lists of private runs)."""
    from gossipjax.runtime.store import create_key_file

    try:
        public = create_key_file(path).public
    except LocalProtocolError as error:
        _fail(error)
    typer.echo(json.dumps({name: key.hex() for name, key in public._asdict().items()}, indent=2))


def _misbehave(attack: str) -> "Change":
    """For tests of what honest peers do about an attacker; not for people to use."""
    from gossipjax.simulation.misbehavior import misbehavior

    chosen = misbehavior(attack)
    return lambda workload, algorithm: (chosen.workload(workload), chosen.algorithm(algorithm))


def _parse_option(text: str) -> tuple[str, Any]:
    import tomllib

    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier():
        raise LocalProtocolError(f"--with takes KEY=VALUE, got {text!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(EXIT_USAGE)


def main(arguments: Iterable[str] | None = None) -> None:
    """Entry point."""
    app(args=list(arguments) if arguments is not None else sys.argv[1:])


if __name__ == "__main__":
    main()
