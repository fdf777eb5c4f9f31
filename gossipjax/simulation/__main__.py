"""`python -m gossipjax.simulation`: run a network of simulated peers and print what it cost."""

from typing import Annotated

import typer
from msgspec import structs

from gossipjax.protocol.config import ProtocolConfig
from gossipjax.simulation.checkers import Violation
from gossipjax.simulation.cluster import BOOK_SIZE, ClusterConfig
from gossipjax.simulation.measure import Measurement, measure
from gossipjax.simulation.network import SECOND
from gossipjax.simulation.scenario import describe_scenario, draw_scenario, run_scenario
from gossipjax.simulation.sybils import TABLE, run_flood

app = typer.Typer(
    name="gossipjax.simulation",
    help="Simulate the protocol: many peers, one seed, virtual time.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    peers: Annotated[int, typer.Option(min=2, help="Simulated peers.")] = 100,
    seconds: Annotated[int, typer.Option(min=2, help="Virtual time.")] = 60,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 7,
    round_seconds: Annotated[float, typer.Option(help="Between two shares of a peer.")] = 10.0,
    probe_seconds: Annotated[
        float, typer.Option(help="Between keep-alives. A real peer's default is two rounds.")
    ] = 10.0,
) -> None:
    """Simulate a network without faults, and print its cost and the digest of its trace."""
    if context.invoked_subcommand is not None:
        return
    probe_ns = int(probe_seconds * SECOND)
    protocol = ProtocolConfig(
        probe_interval_ns=probe_ns,
        suspect_after_ns=3 * probe_ns,
        dead_after_ns=8 * probe_ns,
        book_size=BOOK_SIZE,
    )
    round_ns = int(round_seconds * SECOND)
    config = ClusterConfig(peers=peers, seed=seed, round_ns=round_ns, protocol=protocol)
    typer.echo(format_measurement(measure(config, seconds)))


@app.command()
def scenario(
    seed: Annotated[int, typer.Option(help="Draws the whole scenario.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Scenarios, of this seed and the next.")] = 1,
    describe: Annotated[bool, typer.Option(help="Print what was drawn.")] = False,
) -> None:
    """Run random scenarios with faults and attackers; exit code 1 at the first that fails."""
    for number in range(seed, seed + count):
        drawn = draw_scenario(number)
        if describe:
            typer.echo(describe_scenario(drawn))
        try:
            report = run_scenario(drawn)
        except Violation as violation:
            typer.echo(f"seed {number}: {violation}", err=True)
            raise typer.Exit(1) from None
        typer.echo(
            f"seed {number}: held; {drawn.config.peers} peers, {len(drawn.faults)} faults, "
            f"{len(drawn.roles)} attackers, {report.events} events, {report.delivered} delivered, "
            f"refused {report.refused}, trace {report.digest[:16]}"
        )


@app.command()
def sybils(
    row: Annotated[int | None, typer.Option(min=1, max=len(TABLE), help="One attack only.")] = None,
    view_size: Annotated[int, typer.Option(min=2, help="Neighbors of an honest peer.")] = 16,
    honest: Annotated[int, typer.Option(min=2, help="Honest peers.")] = 300,
    seconds: Annotated[int, typer.Option(min=60, help="Virtual time.")] = 400,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 7,
) -> None:
    """Print which share of honest views floods of made-up peers get; minutes per attack."""
    typer.echo("sybils networks | chosen partners neighbors eclipsed")
    for flood in TABLE if row is None else (TABLE[row - 1],):
        flood = structs.replace(
            flood, view_size=view_size, honest=honest, seconds=seconds, seed=seed
        )
        shares = " ".join(f"{share:8.3f}" for share in run_flood(flood))
        typer.echo(f"{flood.sybils:6} {flood.networks:8} | {shares}")


def format_measurement(row: Measurement) -> str:
    """A measurement as a table of two columns."""
    views = "connected" if row.components == 1 else f"in {row.components} parts"
    lines = {
        "peers": f"{row.peers:,}",
        "virtual time": f"{row.seconds} s",
        "seed": str(row.seed),
        "events": f"{row.events:,}",
        "messages": f"{row.messages:,}",
        "messages per peer and round": f"{row.messages_per_peer_round:,.1f}",
        "bytes per peer and round": f"{row.bytes_per_peer_round:,.0f}",
        "updates delivered": f"{row.delivered:,}",
        "messages refused": f"{row.refused:,}",
        "views": views,
        "wall time": f"{row.wall_seconds:.1f} s",
        "processor time": f"{row.cpu_seconds:.1f} s ({row.events / row.cpu_seconds:,.0f} events/s)",
        "memory": f"{row.memory_mib:,} MiB",
        "trace": row.digest,
    }
    return "\n".join(f"{name:<28} {value}" for name, value in lines.items())


if __name__ == "__main__":
    app()
