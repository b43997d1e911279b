"""The command line: what a person types, what comes back, and how errors are shown."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from conftest import MakeLab

from birdlab.cli import app as entry
from birdlab.lab import Lab, open_lab
from birdlab.tracking.index import load_link, load_runs
from birdlab.tracking.summaries import load_summary_link

REPOSITORY = Path(__file__).parents[1]


@dataclass
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def lab(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = make_lab(trained=True, mlflow=True)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)
    return lab


@pytest.fixture
def cli(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in this process, from `main` on."""

    def call(*args: str) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["birdlab", *args])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        got = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0 if code is None else 1, got.out, got.err)

    return call


def commands() -> Iterator[tuple[str, click.Command]]:
    if not entry.app.registered_commands:
        entry._register()
    stack: list[tuple[str, Any]] = [("", typer.main.get_command(entry.app))]
    while stack:
        name, command = stack.pop()
        if hasattr(command, "commands"):
            stack += [(f"{name} {n}".strip(), c) for n, c in command.commands.items()]
        else:
            yield name, command


# ---------------------------------------------------------------- help


def test_help_comes_at_once() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "birdlab.cli.app", "--help"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - began)
    assert "Train:\n  run " in done.stdout
    assert min(seconds) < 1.0, "half a second on an idle machine"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['birdlab', '--help']\n"
        "from birdlab.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ['torch', 'mlflow', 'pandas', 'numpy', 'optuna', 'plotly', 'dash', 'sklearn']\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_and_option_is_explained_with_an_example() -> None:
    found = dict(commands())
    expected = {"init", "ui", "run", "sweep", "runs", "show", "diff", "promote", "predict"}
    assert expected | {"dashboard", "lb add", "lb score", "lb list"} <= set(found)
    for name, command in found.items():
        help_text = command.help or ""
        assert f"Example: birdlab {name}" in help_text, name
        assert len(help_text.split("Example:")[0].strip()) > 20, name
        for option in command.params:
            if option.param_type_name == "option":
                assert getattr(option, "help", None), f"{name} --{option.name}"


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["run", "nothing.yaml"], "cannot be read"),
        (["run", "."], "cannot be read"),
        (["run", "tiny.yaml", "--set", "train.batch"], "has no `=`"),
        (["run", "tiny.yaml", "--set", "train.bach=1"], "did you mean 'batch'"),
        (["run", "tiny.yaml", "--set", "train.batch=["], "not valid YAML"),
        (["run", "tiny.yaml", "--set", "train.batch=!!x 1"], "tags are not allowed"),
        (["run", "tiny.yaml", "--set", "data.base=nowhere"], "knows no data set"),
        (["run", "tiny.yaml", "--set", "data.base=nowhere", "--dry-run"], "knows no data set"),
        (["run", "tiny.yaml", "--set", "a..b=1"], "unknown field 'a'"),
        (["run", "tiny.yaml", "--set", "competition.metric=cmap"], "competition"),
        (["sweep", "tiny.yaml"], "describes no sweep"),
        (["sweep", "tiny.yaml", "--grid", "train.batch"], "no values"),
        (["sweep", "tiny.yaml", "--grid", "train.batch=4,4"], "a value twice"),
        (["sweep", "tiny.yaml", "--grid", "train.batch=a,b", "--dry-run"], "train.batch"),
        (["runs", "--sort", "luck"], "no run has such a column"),
        (["show", "nothing"], "names no run"),
        (["show", "-7"], "names no run"),
        (["diff", "-1", "nothing"], "names no run"),
        (["lb", "add", "nothing", "--public", "0.5"], "names no run"),
        (["lb", "add", "-1"], "score"),
        (["lb", "add", "-1", "--public", "1.5"], "1.5"),
        (["lb", "add", "-1", "--public", "nan"], "nan"),
        (["lb", "remove", "none"], "no standing ledger row"),
        (["lb", "import", "nothing.csv", "--metric", "padded_cmap"], "cannot be read"),
        (["lb", "import", "tiny.yaml", "--metric", "padded_cmap"], "submissions"),
        (["predict", "nowhere", "-o", "x.csv"], "champion"),
        (["promote", "nothing"], "names no run"),
    ],
)
def test_errors_are_sentences_without_a_traceback(cli: Cli, args: list[str], part: str) -> None:
    answer = cli(*args)
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert part in answer.err
    assert "Traceback" not in answer.out + answer.err


def test_a_sweep_file_is_told_from_an_experiment(cli: Cli, lab: Lab) -> None:
    (lab.root / "rates.yaml").write_text("base: tiny.yaml\ngrid: {train.optimizer.lr: [1, 2]}\n")
    answer = cli("run", "rates.yaml")
    assert (answer.code, answer.out) == (1, "")
    assert "rates.yaml:2" in answer.err and "birdlab sweep rates.yaml" in answer.err


@pytest.mark.parametrize(
    "args",
    [["rum"], ["run"], ["run", "x.yaml", "--jobs", "0"], ["lb", "add", "-1", "--public", "x"]],
)
def test_wrong_usage_exits_with_2(cli: Cli, args: list[str]) -> None:
    answer = cli(*args)
    assert answer.code == 2
    assert "Usage:" in answer.err


@pytest.mark.parametrize("command", [["promote"], ["compare"], ["lb", "add"]])
def test_a_mistyped_option_is_no_run(cli: Cli, command: list[str]) -> None:
    answer = cli(*command, "-1", "--jsno")
    assert answer.code == 2
    assert "No such option: --jsno" in answer.err
    after = cli(*command, "--", "--jsno", "-x")
    assert "No such option" not in after.err
    newest = cli(*command, "-1", "-2")  # numbers are runs; this lab has none
    assert "No such option" not in newest.err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["show", "-1", "--sjon"], "--sjon (Possible options: --json)"),
        (["show", "-v", "-1", "--sjon=x"], "--sjon (Possible options: --json)"),
        (["export", "-1", "--ouput", "x.tar"], "--ouput (Possible options: --output)"),
    ],
)
def test_a_mistyped_option_is_no_word_too_many(cli: Cli, args: list[str], named: str) -> None:
    answer = cli(*args)
    assert answer.code == 2
    assert f"No such option: {named}" in answer.err


@pytest.mark.parametrize("args", [["-1", "-2"], ["-1", "--", "--sjon"], ["-vq", "-1", "b"]])
def test_a_word_too_many_stays_one(cli: Cli, args: list[str]) -> None:
    assert "Got unexpected extra argument" in cli("show", *args).err
    assert "Missing argument 'RUN'" in cli("diff", "-q", "-1").err


def test_a_broken_lab_file_is_named(cli: Cli, lab: Lab) -> None:
    (lab.root / "birdlab.toml").write_text("jobs = [")
    answer = cli("runs")
    assert answer.code == 1
    assert "birdlab.toml" in answer.err


# ---------------------------------------------------------------- run


def test_a_dry_run_prints_the_plan_and_trains_nothing(cli: Cli, lab: Lab) -> None:
    before = sorted(lab.stores.rglob("*.safetensors"))
    answer = cli("run", "tiny.yaml", "--dry-run", "--set", "cells.seeds=[0,1]")
    assert answer.code == 0, answer.err
    for part in (
        "24 base, 0 extra",
        "4 classes",
        f"floor {load_runs(lab)['floor'].iloc[0]:.4f}",
        "validation rows 12, 12",
        "4 steps of 4",
        "cells     4, 2 of them cached",
        "train, fold 1, seed 1  4 steps",
        "train, fold 0, seed 0  cached",
        "inverse power 0.5",
    ):
        assert part in answer.out, part
    assert sorted(lab.stores.rglob("*.safetensors")) == before


def test_a_dry_run_says_what_the_lab_lacks(cli: Cli, lab: Lab, tiny_demo: Path) -> None:
    (lab.root / "bare").mkdir()
    shutil.copy(tiny_demo / "train_metadata.csv", lab.root / "bare")
    (lab.root / "birdlab.local.toml").write_text('[data]\ntiny = "bare"\n')
    stages = "stages=[{a: {data: years-822}}, {b: {start: a, transfer: backbone}}]"
    answer = cli("run", "tiny.yaml", "--dry-run", "--set", stages)
    assert answer.code == 0, answer.err
    assert "audio of 24 of 24 recordings: not checked" in answer.out
    assert "years-822: unknown rows" in answer.out
    assert "noise tiny: not there" in answer.out
    assert cli("run", "tiny.yaml", "--no-mlflow").code == 1


def test_a_dry_run_tells_what_is_wrong_with_an_extra_table(cli: Cli, lab: Lab) -> None:
    (lab.root / "more").mkdir()
    (lab.root / "more" / "train_metadata.csv").write_text("primary_label,filename\nsp1,../1.ogg\n")
    (lab.root / "birdlab.local.toml").write_text('[data]\nmore = "more"\n')
    answer = cli("run", "tiny.yaml", "--dry-run", "--set", "data.extra=[more]")
    assert answer.code == 1
    assert "'../1.ogg' (has ..)" in answer.err


def test_a_run_from_the_cache_says_so_and_what_comes_next(cli: Cli) -> None:
    answer = cli("run", "tiny.yaml", "--set", "output.clip=0.5", "--set", "output.time_max=0.5")
    assert answer.code == 0, answer.err
    assert "nothing was trained: every cell is in the cache" in answer.out
    assert "padded cmAP" in answer.out
    assert "next: birdlab ui" in answer.out


def test_a_run_shows_its_epochs_and_its_trained_cells(cli: Cli, lab: Lab) -> None:
    answer = cli(
        "run", "tiny.yaml", "--no-mlflow", "--set", "train.batch=6", "--set", "cells.folds=[0]"
    )
    assert answer.code == 0, answer.err
    assert "tiny: train, fold 0, seed 0: epoch 1/2" in answer.err
    assert "1 cell trained, 0 from the cache" in answer.out
    assert load_runs(lab)["delta"].iloc[-1] == "batch=6, folds=[0]"


def test_the_lab_may_be_named(cli: Cli, lab: Lab, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    assert "no runs yet" in cli("runs").out
    assert "tiny" in cli("--lab", str(lab.root), "runs").out


def test_ctrl_c_keeps_cells_and_says_so(make_lab: MakeLab) -> None:
    lab = make_lab()
    # Not `-m`: there Python dies of the signal where it came while text was compiled (an import).
    command = [sys.executable, "-c", "from birdlab.cli.app import start; start()"]
    command += ["run", "tiny.yaml", "--no-mlflow", "--jobs", "1"]
    command += ["--set", "train.length.steps=3000"]
    environment = {
        **os.environ,
        "BIRDLAB_HOME": str(lab.root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    with subprocess.Popen(
        command, cwd=lab.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not list(lab.cells.glob(".*.part")):
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "finished cells are kept" in out + err
    assert "Traceback" not in out + err


# ---------------------------------------------------------------- sweep


def test_a_dry_sweep_marks_arms_with_other_steps(cli: Cli) -> None:
    answer = cli("sweep", "tiny.yaml", "--grid", "train.length.epochs=1,2", "--dry-run")
    assert answer.code == 0, answer.err
    assert "2 arms, 4 distinct cells, 0 cached" in answer.out
    lines = {line.split()[0]: line for line in answer.out.splitlines() if "cells" in line}
    assert "3 steps" in lines["epochs=1"]
    assert "6 steps  <- steps differ from epochs=1" in lines["epochs=2"]


def test_a_sweep_ends_with_a_ranking_and_is_logged_once(cli: Cli, lab: Lab) -> None:
    args = ["sweep", "tiny.yaml", "--grid", "evaluate.secondary=count,ignore"]
    answer = cli(*args)
    assert answer.code == 0, answer.err
    for part in (
        "nothing was trained",
        "verdict",
        "secondary=count",
        "secondary=ignore",
        "next: birdlab ui | birdlab value tiny-secondary | birdlab lb score tiny-secondary:best",
    ):
        assert part in answer.out, part
    link = load_summary_link(lab, "tiny-secondary")
    assert link["parent"] and link["logged"]
    assert cli(*args).code == 0
    assert load_summary_link(lab, "tiny-secondary") == link
    listed = cli("runs", "--sweep", "tiny-secondary", "--sort", "score").out
    assert listed.count("secondary=") >= 2


def test_a_sweep_with_a_failed_arm_exits_with_1_and_says_how_to_go_on(cli: Cli) -> None:
    answer = cli(
        "sweep", "tiny.yaml", "--no-mlflow", "--grid",
        "model.backbone=mobilenetv3_small_050,no_such_network",
    )  # fmt: skip
    assert answer.code == 1
    assert "FAILED" in answer.err
    assert "timm" in answer.err + answer.out
    assert "1 arm has no score:\n  backbone=no_such_network: " in answer.out
    assert "run only that again: birdlab sweep tiny.yaml --no-mlflow --grid" in answer.out
    assert "Traceback" not in answer.out + answer.err


# ---------------------------------------------------------------- runs


def test_runs_are_listed_shown_and_compared(cli: Cli, lab: Lab) -> None:
    cli("run", "tiny.yaml", "--no-mlflow", "--set", "evaluate.secondary=ignore")
    table = cli("runs").out
    assert "padded cmAP" in table
    assert "[secondary=ignore]" in table
    rows = json.loads(cli("runs", "--json").out)
    assert len(rows) == 2
    assert rows[-1]["delta"] == "secondary=ignore"
    assert rows[0]["n_folds"] == 2

    shown = cli("show", "-1").out
    assert rows[-1]["run"] in shown
    assert "cv/padded_cmap" in shown
    assert "evaluate.secondary" in shown

    differ = cli("diff", rows[0]["run"], "-1").out
    assert "evaluate.secondary" in differ
    assert "count" in differ
    assert "ignore" in differ
    assert "train.batch" not in differ


def test_an_empty_lab_says_how_to_begin(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    assert "birdlab run experiments/baseline.yaml" in cli("runs").out
    assert json.loads(cli("runs", "--json").out) == []
    assert "birdlab lb add" in cli("lb", "list").out
    assert "no runs yet" in cli("show", "-1").err


# ---------------------------------------------------------------- leaderboard


def test_scores_are_added_listed_refused_twice_and_withdrawn(cli: Cli, lab: Lab) -> None:
    cli("run", "tiny.yaml")
    run = load_runs(lab)["run"].iloc[-1]
    added = cli("lb", "add", "-1", "--public", "0.8", "--private", "0.7", "--note", "first")
    assert added.code == 0, added.err
    (row,) = json.loads(cli("lb", "list", "--json").out)
    assert (row["run"], row["public"], row["private"]) == (run, 0.8, 0.7)
    assert row["metric"] == "padded_cmap"
    assert row["id"] in added.out
    assert "first" in cli("lb", "list").out
    assert "no row of the ledger has the metric" not in added.err

    again = cli("lb", "add", "-1", "--public", "0.8", "--private", "0.7", "--note", "first")
    assert again.code == 1
    assert "already in the ledger" in again.err

    from birdlab.tracking.client import connect

    parent = connect(lab).get_run(load_link(lab, run)["parent"])
    assert parent.data.metrics["lb/public"] == 0.8
    assert parent.data.metrics["lb/private"] == 0.7
    assert parent.data.tags["lb/metric"] == "padded_cmap"

    assert cli("lb", "remove", row["id"]).code == 0
    assert json.loads(cli("lb", "list", "--json").out) == []
    assert lab.ledger.read_text().count("\n") == 2, "the ledger is only appended to"

    typo = ("lb", "add", "-1", "--metric", "macro_acu", "--public")
    first, second = cli(*typo, "0.61"), cli(*typo, "0.62")
    assert "no row of the ledger has the metric 'macro_acu'" in first.err
    assert "no row of the ledger has the metric" not in second.err


def test_a_run_is_scored_on_its_soundscapes_once(cli: Cli, lab: Lab) -> None:
    cli("run", "tiny.yaml", "--no-mlflow")
    answer = cli("lb", "score", "-1")
    assert answer.code == 0, answer.err
    for part in ("public", "private", "floor", "mean of 2 models", "entered as"):
        assert part in answer.out
    (row,) = json.loads(cli("lb", "list", "--json").out)
    assert 0 < row["public"] <= 1
    assert (row["source"], row["weights"], row["checkpoint"]) == ("score", "folds", "last")
    assert row["precision"] == "fp32"
    stored = sorted(p.stat().st_mtime_ns for p in lab.cells.glob("*/soundscapes-*/*"))
    again = cli("lb", "score", "-1")
    assert again.code == 0
    assert "already" in again.out
    assert sorted(p.stat().st_mtime_ns for p in lab.cells.glob("*/soundscapes-*/*")) == stored


def test_submissions_are_imported_once_and_reach_mlflow(cli: Cli, lab: Lab) -> None:
    cli("run", "tiny.yaml")
    run = load_runs(lab)["run"].iloc[-1]
    (lab.root / "s.csv").write_text(
        "fileName,date,description,status,publicScore,privateScore\n"
        'b.csv,2025-01-02,"no\nidea",complete,0.9,0.9\n'
        f"a.csv,2025-01-01,spec {run},complete,0.61,0.52\n"
        f"c.csv,2024-12-31,spec {run},complete,0.59,0.50\n"
    )
    answer = cli("lb", "import", "s.csv", "--metric", "padded_cmap")
    assert answer.code == 0, answer.err
    assert "2 entered, 0 known already" in answer.out
    assert "  unmatched  b.csv of 2025-01-02: no idea (names no run)" in answer.out
    again = cli("lb", "import", "s.csv", "--metric", "macro_auc").out
    assert "2 of the known ones are there as scores of another metric" in again
    assert "0 entered, 2 known" in cli("lb", "import", "s.csv", "--metric", "padded_cmap").out

    from birdlab.tracking.client import connect

    parent = connect(lab).get_run(load_link(lab, run)["parent"])
    assert parent.data.metrics["lb/public"] == 0.61, "the newest, which Kaggle prints first"


# ---------------------------------------------------------------- init


def test_init_makes_a_lab_and_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    answer = cli("init", str(folder))
    assert answer.code == 0, answer.err
    assert (folder / "experiments" / "baseline.yaml").is_file()
    assert open_lab(folder).root == folder
    (folder / "birdlab.toml").write_text("# mine\n")
    assert "everything is there already" in cli("init", str(folder)).out
    assert (folder / "birdlab.toml").read_text() == "# mine\n"
    (tmp_path / "file").touch()
    assert cli("init", str(tmp_path / "file")).code == 1
