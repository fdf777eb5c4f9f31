"""Runs every paper example, draws its figure, and writes the table docs/papers.md.

    python examples/papers/table.py [--only-table] [NAME ...]

With names, only these are run; the table has all whose results are in runs/papers. The exit code is
1 when a claim did not hold that should have.
"""

import argparse
import ast
import csv
import subprocess
import sys
from pathlib import Path

from reproduction import FOLDER

HERE = Path(__file__).parent
PAGE = Path("docs/papers.md")
PAPERS = sorted(path for path in HERE.glob("*_[0-9][0-9][0-9][0-9]_*.py"))
INTRODUCTION = """# Papers

Results of the field's papers, reproduced at a size that two CPU cores manage: one file per paper in
`examples/papers/`, whose docstring has the citation, the setting and what to expect. This page is
written by `make papers`, which also leaves CSV files (with configuration, seeds and commit) and
pictures in `runs/papers/`. Accuracies are means over the peers' own models, in percent, and
differences in points; a claim that does not hold at this size says so.
"""


def expected(low: float, high: float) -> str:
    """Bounds as people write them."""
    if low == high:
        return f"{low:.4g}"
    if low == float("-inf"):
        return f"≤ {high:.4g}"
    return f"≥ {low:.4g}" if high == float("inf") else f"{low:.4g} to {high:.4g}"


def section(paper: Path) -> str:
    """Title, citation and table of one paper; empty if it was not run."""
    results = FOLDER / f"{paper.stem}.csv"
    if not results.exists():
        return ""
    text = ast.get_docstring(ast.parse(paper.read_text(encoding="utf-8"))) or ""
    title, citation = text.split("\n\n")[:2]
    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| claim | expected | obtained | holds |", "|---|---|---|---|"]
    for row in rows:
        bounds = expected(float(row["low"]), float(row["high"]))
        holds = "yes" if row["holds"] == "True" else f"no {row['note']}".strip()
        lines.append(f"| {row['claim']} | {bounds} | {float(row['obtained']):.4g} | {holds} |")
    head = f"## {title.rstrip('.')}\n\n{citation}\n\n"
    tail = f"\n\n`{paper.name}`, {float(rows[0]['minutes']):.1f} minutes, commit "
    return head + "\n".join(lines) + tail + f"`{rows[0]['commit'][:10]}`.\n"


def run(paper: Path) -> bool:
    """Run one example in full, and its figure; whether all held."""
    print(f"\n{paper.stem}", flush=True)
    done = subprocess.run([sys.executable, paper], check=False).returncode == 0
    figure = HERE / "figures" / paper.name
    if done and figure.exists():
        subprocess.run([sys.executable, figure], check=True)
    return done


def main() -> int:
    """Run, write, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of examples; all by default")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    options = parser.parse_args()
    chosen = [paper for paper in PAPERS if not options.names or paper.stem in options.names]
    failed = [] if options.only_table else [paper.stem for paper in chosen if not run(paper)]
    PAGE.parent.mkdir(exist_ok=True)
    sections = {paper.stem: section(paper) for paper in PAPERS}
    missing = [f"`{name}`" for name, text in sections.items() if not text]
    note = f"Not run for this page: {', '.join(missing)}.\n" if missing else ""
    parts = filter(None, [INTRODUCTION, note, *sections.values()])
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    print(f"{PAGE}: {', '.join(failed) or 'nothing'} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
