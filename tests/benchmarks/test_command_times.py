"""How soon commands answer: help, a dry run, a sweep that is finished, a lab of 2,000 runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from conftest import MakeLab
from rows import Row, note
from test_lablife import copy_records
from typer.testing import CliRunner

from birdlab.cli.app import _register, app

ROOT = Path(__file__).parents[2]


def run(*words: str) -> float:
    """Seconds of a Python process of its own."""
    began = perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return perf_counter() - began


def invoke(*words: str) -> float:
    """Seconds of a command in this process."""
    began = perf_counter()
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return perf_counter() - began


def test_help_against_an_empty_typer(benchmark: Any, tmp_path: Path) -> None:
    """Peer: a command of one line, made with the same library."""
    one_liner = tmp_path / "one.py"
    one_liner.write_text("import typer\ntyper.run(lambda: None)\n")
    peer_s: list[float] = []

    def peer() -> None:
        peer_s.append(run(str(one_liner), "--help"))

    words = ("-m", "birdlab.cli.app", "--help")
    benchmark.pedantic(run, words, setup=peer, rounds=5, warmup_rounds=1)
    ours_s = float(benchmark.stats.stats.min)
    ahead = min(peer_s) / ours_s
    why = "It lists every command of birdlab, the peer has one."
    peers = f"{min(peer_s):.2f} s, an empty typer command"
    row = Row("Commands", "`birdlab --help`, a new process", f"{ours_s:.2f} s", peers, ahead)
    asked = "under .5 s"
    note(benchmark, row.told(asked, ours_s < 0.5, why))
    assert ahead > 0.25


def timed_again(benchmark: Any, call: Callable[[], float], what: str, most: float) -> None:
    """The row of a command that was called before, so that all is imported."""
    first_s = call()
    again_s = min(benchmark.pedantic(call, rounds=1), call())
    shown = f"{again_s:.2f} s (first {first_s:.1f} s, with imports)"
    row = Row("Commands", what, shown)
    note(benchmark, row.told(f"under {most:g} s after imports", again_s < most))
    assert again_s < 3 * most


@pytest.mark.slow
def test_a_dry_run_of_the_demo_sweep(benchmark: Any, tmp_path: Path) -> None:
    """Every arm is planned, each model built; the demo is generated before."""
    _register()
    invoke("init", str(tmp_path / "lab"))
    words = ("sweep", str(tmp_path / "lab" / "experiments" / "lr.yaml"), "--dry-run")
    what = "`birdlab sweep experiments/lr.yaml --dry-run`"
    timed_again(benchmark, lambda: invoke("--lab", str(tmp_path / "lab"), *words), what, 3)


def test_a_lab_of_2000_runs_is_listed(benchmark: Any, make_lab: MakeLab) -> None:
    """Filtered and sorted, from the records."""
    _register()
    lab = make_lab(trained=True)
    copy_records(lab, 2000)
    words = ("--lab", str(lab.root), "runs", "--where", "score>0.6", "--sort", "score")
    what = "`birdlab runs` with 2,000 runs, filtered and sorted"
    timed_again(benchmark, lambda: invoke(*words), what, 2)


def test_the_same_experiment_again_in_a_new_process(benchmark: Any, make_lab: MakeLab) -> None:
    """Zero cells are trained; imports are in the time."""
    lab = make_lab(trained=True, mlflow=True)
    arms = [f"    c{n}: {{output: {{clip: .{n}, time_max: .{10 - n}}}}}" for n in (2, 4, 6)]
    many = lab.root / "many.yaml"
    many.write_text("\n".join(["base: tiny.yaml", "name: many", "grid:", "  blend:", *arms, ""]))
    words = ("-m", "birdlab.cli.app", "--lab", str(lab.root), "sweep", str(many))
    run(*words)
    again_s = benchmark.pedantic(run, words, rounds=1)
    row = Row("Commands", "the same sweep again, a new process, with MLflow", f"{again_s:.1f} s")
    note(benchmark, row.told("under 15 s", again_s < 15))
    assert again_s < 45
