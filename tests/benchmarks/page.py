"""Run the benchmarks and write docs/benchmarks.md: `make bench`.

    python tests/benchmarks/page.py                 all but the heavy ones, then the page
    python tests/benchmarks/page.py --heavy         the heavy ones alone, kept in results/
    python tests/benchmarks/page.py --only loader   one file, printed, nothing written

Rows of a heavy benchmark, or of one that needs another machine, are kept in results/*.json with the
date, commit and machine of their own run, and are shown as such.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from machine import Machine, describe_machine
from rows import THEMES, Row

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE, RESULTS = ROOT / "docs" / "benchmarks.md", HERE / "results"
COLUMNS = ("what", "birdlab", "peer", "ahead", "asked for", "held", "measured by")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


@dataclass(frozen=True)
class Measured:
    """A row, the command that measured it, and when: "" for the run of the page itself."""

    row: Row
    command: str
    when: str = ""


def run_benchmarks(file: Path, marker: str) -> tuple[list[Measured], int]:
    """The rows that the benchmarks of a file noted, and pytest's exit status; 0 without any."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = "-q --strict-markers -p no:dash -rs --durations=0 --durations-min=3"
        options += f" --continue-on-collection-errors --basetemp={folder}/made"  # gigabytes
        words = [sys.executable, "-m", "pytest", str(file), "-o", f"addopts={options}"]
        words += ["-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"]  # none was run
        words += ["-m", marker, "--benchmark-only", "--benchmark-quiet", "--capture=no"]
        done = subprocess.run([*words, f"--benchmark-json={report}"], cwd=ROOT, check=False)
        found = json.loads(report.read_text())["benchmarks"] if report.is_file() else []
    rows = [
        Measured(Row(**row), command_of(one["fullname"]))
        for one in found
        for row in one["extra_info"].get("rows", [])
    ]
    return rows, 0 if done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED else done.returncode


def command_of(fullname: str) -> str:
    """The command that repeats one benchmark."""
    name = Path(fullname.partition("::")[0]).stem.removeprefix("test_")
    return f"make bench ONLY={name}"


def load_kept(folder: Path = RESULTS) -> list[Measured]:
    """The rows of runs that `make bench` does not repeat."""
    kept = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        when = "; ".join(part for part in (content["date"], content["note"]) if part)
        for row in content["rows"]:
            command = row.pop("command", content["command"])
            kept.append(Measured(Row(**row), command, when))
    return kept


def render(measured: list[Measured], machine: Machine, wall_s: float) -> str:
    """The page: where it was measured, a table for each theme, what is behind a peer."""
    loaded = (
        "" if machine.quiet else " The machine was **not quiet**: times by the clock are longer."
    )
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    asked = [m.row for m in measured if m.row.held is not None]
    not_held = [m for m in measured if m.row.held is False]
    lines = [
        INTRODUCTION,
        f"Measured on {machine.date}, commit {machine.commit}, in {wall_s / 60:.1f} min: "
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GiB, {machine.system}, "
        f"Python {machine.python}. Load before the start {machine.load:.2f}.{loaded}\n",
        f"Packages: {packages}.\n",
        f"Of {len(asked)} bounds {sum(bool(row.held) for row in asked)} are held"
        + (f"; not held: {'; '.join(m.row.what for m in not_held)}.\n" if not_held else ".\n"),
    ]
    for theme in THEMES:
        if chosen := [m for m in measured if m.row.theme == theme]:
            lines += [f"## {theme}\n", HEAD, *(line_of(m) for m in chosen), ""]
    if missing := sorted(all_commands() - {m.command.removesuffix(" HEAVY=1") for m in measured}):
        listed = ", ".join(f"`{command}`" for command in missing)
        lines.append(f"## Not measured\n\nNeither in this run nor kept of another: {listed}.\n")
    return "\n".join(lines + behind_a_peer(measured) + [METHOD])


def all_commands() -> set[str]:
    """The command of each file of benchmarks."""
    files = [f for f in HERE.glob("test_*.py") if f.name != "test_page.py"]
    return {command_of(str(path)) for path in files}


def line_of(measured: Measured) -> str:
    row = measured.row
    ahead = "" if row.ahead is None else f"{row.ahead:.3g} x"
    held = {None: "", True: "yes", False: "**no**"}[row.held]
    by = f"`{measured.command}`" + (f" ({measured.when})" if measured.when else "")
    return f"| {row.what} | {row.birdlab} | {row.peer} | {ahead} | {row.asked} | {held} | {by} |"


def behind_a_peer(measured: list[Measured]) -> list[str]:
    """The rows where the peer is ahead, each with the reason."""
    behind = [m.row for m in measured if m.row.ahead is not None and m.row.ahead < 1]
    if not behind:
        return ["## Behind a peer\n", "Nothing in this run.\n"]
    lines = [
        f"- {r.what}: {r.ahead:.2f} x. {r.why or 'Within what two runs differ by.'}" for r in behind
    ]
    return ["## Behind a peer\n", *lines, ""]


INTRODUCTION = """\
# Benchmarks

Each bound on time, memory or size that was set for birdlab, beside what was measured. Written by
`make bench`; do not edit. "Ahead" says how many times as good as the peer birdlab is (as fast, or
as small), both measured in one run, their rounds by turns, the best round of each counted. Where a
bound is a number by itself there is no peer. A row with a date in its last column was measured in a
run of its own: it takes long, or needs another machine.
"""

METHOD = """\
## How to repeat it

    make bench                  all but the heavy ones, and this page
    make bench ONLY=loader      one file of tests/benchmarks, printed, nothing written
    make bench HEAVY=1          the heavy ones: dry run of 20 soundscapes, MLflow's UI, two jobs

Benchmarks of real recordings are left out where these are not beside the checkout. An absolute
time says much about the machine, so a benchmark fails on ratios, and on times only where the bound
leaves much room.
"""


def keep(rows: list[Measured], machine: Machine, folder: Path = RESULTS) -> None:
    """The rows of a heavy run written to results/, a file for each command."""
    for command in sorted({m.command for m in rows}):
        content = {
            "command": f"{command} HEAVY=1",
            "date": machine.date,
            "note": "" if machine.quiet else f"load {machine.load:.1f}",
            "machine": machine.plain(),
            "rows": [asdict(m.row) for m in rows if m.command == command],
        }
        path = folder / f"{command.rpartition('=')[2]}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    """Run what was asked for, write or print it; pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heavy", action="store_true")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    machine, began = describe_machine(ROOT), time.perf_counter()
    files = sorted(HERE.glob(f"test_{asked.only or '*'}.py"))
    rows, status = [], 0
    for file in files:  # a process each: one that dies takes no other's rows along
        found, ended = run_benchmarks(file, "slow" if asked.heavy else "not slow")
        rows, status = rows + found, status or ended
    if asked.heavy:
        keep(rows, machine)
    if asked.only:
        print("\n".join([HEAD, *map(line_of, rows)]))
        return status
    if asked.heavy:
        print(f"kept in {RESULTS.relative_to(ROOT)}; `make bench` writes the page")
        return status
    if not rows:
        return status or 1  # nothing was measured: the page of an earlier run stays
    PAGE.write_text(render(rows + load_kept(), machine, time.perf_counter() - began))
    print(f"{PAGE.relative_to(ROOT)}: {len(rows)} rows of this run")
    return status


if __name__ == "__main__":
    sys.exit(main())
