"""The examples, as a reader would run them."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}


def run(*arguments: object, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_two_quickstarts_find_each_other_and_mix(kind, tmp_path):
    script = EXAMPLES / f"quickstart_{kind}.py"
    with subprocess.Popen(
        [sys.executable, script, "--seconds", "120"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        try:
            assert first.stdout is not None
            join = re.search(r"gossipjax://\S+", first.stdout.readline())
            assert join is not None
            printed = run(script, "--seconds", "6", "--join", join[0], folder=tmp_path)
        finally:
            first.terminate()
    mixed = re.search(r"(\d+) updates mixed", printed)
    assert mixed is not None
    assert int(mixed[1]) > 0
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60


def test_a_workload_of_ones_own_runs_from_its_file(tmp_path):
    workload = EXAMPLES / "workloads" / "sine.py"
    arguments = ("--steps", 300, "--dir", "run", "--set", "round_steps=50")
    listen = ("--set", "listen=tcp://127.0.0.1:0")
    run("-m", "gossipjax.peer", "run", f"{workload}:sine", *arguments, *listen, folder=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == 300
    assert result["test_error"] < 0.3
    assert (tmp_path / "run" / "params.msgpack").stat().st_size > 10_000


PAPERS = sorted(path.stem for path in EXAMPLES.glob("papers/*_[0-9][0-9][0-9][0-9]_*.py"))


def run_here(script: Path, *arguments: str) -> None:
    """As `run`, in this process: a third of the time of a short example goes into imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *arguments])
        patch.syspath_prepend(script.parent)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            if end.code:
                pytest.fail(f"exit code {end.code}: a claim does not hold")


@pytest.mark.parametrize("paper", PAPERS)
def test_papers_hold_their_claims_in_the_quick_version(paper, tmp_path, monkeypatch):
    script = EXAMPLES / "papers" / f"{paper}.py"
    monkeypatch.chdir(tmp_path)
    run_here(script, "--quick")
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 200
    figure = EXAMPLES / "papers" / "figures" / f"{paper}.py"
    if figure.exists():
        run_here(figure)
        assert (tmp_path / "runs" / "papers" / f"{paper}.png").stat().st_size > 1000


def test_the_table_of_papers_is_made_of_their_results(tmp_path):
    folder = tmp_path / "runs" / "papers"
    folder.mkdir(parents=True)
    (folder / "ying_2021_exponential_graph.csv").write_text(
        "claim,low,obtained,high,note,holds,minutes,commit\n"
        "gap,1.0,1.5,2.0,,True,0.5,abc\n"
        "lead,0.0,-1.0,inf,(not here),False,0.5,abc\n",
        encoding="utf-8",
    )
    run(EXAMPLES / "papers" / "table.py", "--only-table", folder=tmp_path)
    table = (tmp_path / "docs" / "papers.md").read_text(encoding="utf-8")
    assert "| gap | 1 to 2 | 1.5 | yes |" in table
    assert "| lead | ≥ 0 | -1 | no (not here) |" in table
    assert "Exponential graphs: a large spectral gap" in table
