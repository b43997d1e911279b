"""What all commands share: their page, quiet and verbose, what goes where, exit codes."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import run_main
from conftest import MakeLab

from birdlab.cli.commands import first_sentence, split_example
from birdlab.cli.reference import commands_page, list_commands
from birdlab.cli.voice import plain
from birdlab.lab import Lab, open_lab

ROOT = Path(__file__).parents[1]
COMMANDS = dict(list_commands())


@pytest.fixture
def lab(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = make_lab(trained=True, mlflow=True)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)
    return lab


# ---------------------------------------------------------------- help and its page


def test_the_page_of_commands_is_fresh() -> None:
    said = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert said == commands_page(), "write it anew: python docs/generate.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_a_command_that_parses(name: str) -> None:
    command = COMMANDS[name]
    example = split_example(command.help)[1]
    words = next(
        words
        for words in (shlex.split(part) for part in example.split("&&"))
        if words[:1] == ["birdlab"]
    )
    given = words[1 + len(name.split()) :]
    context = command.make_context(name, given, resilient_parsing=False)
    assert not [a for a in context.args if a.startswith("--")]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_ends_with_the_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run_main(capsys, monkeypatch, *name.split(), "--help")
    assert code == 0
    head, example = out.split("\nExample:\n")
    assert max(map(len, head.splitlines())) <= 80
    assert example.strip() == split_example(COMMANDS[name].help)[1]
    assert "..." not in first_sentence(COMMANDS[name].help)


# ---------------------------------------------------------------- quiet and verbose


def test_quiet_says_the_result_alone_before_and_after_the_command(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = ["--no-mlflow", "--set", "train.batch=5", "--set", "cells.folds=[0]"]
    code, out, err = run_main(capsys, monkeypatch, "-q", "run", "tiny.yaml", *change)
    assert (code, err) == (0, "")
    assert "1 cell trained" in out
    change[2] = "train.batch=6"
    code, out, err = run_main(capsys, monkeypatch, "run", "tiny.yaml", *change, "--quiet")
    assert (code, err) == (0, "")
    code, out, err = run_main(capsys, monkeypatch, "-q", "show", "nothing")
    assert code == 1
    assert err.startswith("error: ")


def test_verbose_shows_the_traceback_of_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run_main(capsys, monkeypatch, "show", "nothing", "-v")
    assert code == 1
    assert "Traceback" in err and "resolve_run" in err
    assert err.splitlines()[-1] != "" and "\nerror: 'nothing' names no run" in err
    _, _, err = run_main(capsys, monkeypatch, "show", "nothing")
    assert "Traceback" not in err, "the next command is not verbose"


# ---------------------------------------------------------------- JSON


def test_json_has_null_where_there_is_no_number() -> None:
    import numpy as np
    import pandas as pd

    table = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", None], "n": [1, 2]})
    value: dict[str, Any] = {
        "nan": float("nan"),
        "inf": float("-inf"),
        "table": table,
        "np": np.float32(0.5),
        "many": np.array([1, 2]),
        "path": Path("a/b"),
        "none": None,
        1: (True, {"deep": [np.nan]}),
    }
    assert plain(value) == {
        "nan": None,
        "inf": None,
        "table": [{"a": 1.5, "b": "x", "n": 1}, {"a": None, "b": None, "n": 2}],
        "np": 0.5,
        "many": [1, 2],
        "path": "a/b",
        "none": None,
        "1": [True, {"deep": [None]}],
    }
    with pytest.raises(TypeError, match="no form"):
        plain(object())


def parse(text: str) -> Any:
    """A JSON text; NaN and Infinity, which are no JSON, are refused."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> Path:
    """A lab with a run, a sweep of two arms, a leaderboard score, and one that waits."""
    from birdlab.cli.sweeps import _keep_summary
    from birdlab.run import InProcess
    from birdlab.spec.sweep import load_sweep
    from birdlab.study.ledger import append_row
    from birdlab.sweep.driver import run_sweep

    root = tmp_path_factory.mktemp("swept") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    loaded = load_sweep(root / "tiny.yaml", {"evaluate.secondary": ["count", "ignore"]}, name="two")
    result = run_sweep(loaded, lab, InProcess())
    _keep_summary(lab, loaded, result)
    run = result.scored[0][1].spec_id
    fields = {"run": run, "members": [run], "metric": "padded_cmap", "weights": "folds"}
    append_row(lab.ledger, {**fields, "name": "a", "public": 0.8, "private": 0.7, "source": "add"})
    return root


ANYWHERE = [
    ["runs"],
    ["status"],
    ["doctor"],
    ["gc"],
    ["bets"],
    ["ideas"],
    ["lb", "list"],
    ["models", "list"],
]
"""Commands that have something to say of an empty lab, too."""

OF_RUNS = [
    *(["show", "-1"], ["diff", "two:best", "-1"], ["rescore", "-1"], ["rescore", "--all"]),
    *(["compare", "two:secondary=count", "two:secondary=ignore", "--costs"], ["value", "two"]),
    *(["ensemble", "two:secondary=count", "two:secondary=ignore", "--fit", "--greedy"],),
    *(["why", "two:secondary=count", "two:secondary=ignore"], ["suspects", "--sweep", "two"]),
    *(["lb", "validators"], ["lb", "score", "two:best"]),
    *(["lb", "add", "two:best", "--public", "0.6"], ["post", "two:best", "--step", "smooth"]),
    *(["run", "tiny.yaml", "--dry-run"], ["run", "tiny.yaml", "--no-mlflow"]),
    *(["sweep", "tiny.yaml", "--grid", "evaluate.secondary=count,ignore", "--dry-run"],),
    *(["sweep", "tiny.yaml", "--grid", "evaluate.secondary=count,ignore", "--no-mlflow"],),
    *(["extend", "two:best", "--seeds", "2", "--dry-run"], ["rerun", "two:best", "--no-mlflow"]),
    *(["promote", "two:best", "--dry-run"], ["export", "two:best", "-o", "a.tar"]),
    *(["data", "audit", "tiny.yaml"], ["data", "table", "tiny.yaml", "-o", "t.csv"]),
    *(["data", "build", "tiny.yaml"], ["import", "a.tar"]),
]


@pytest.mark.parametrize("words", ANYWHERE, ids=" ".join)
def test_json_of_an_empty_lab_is_whole(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    code, out, _ = run_main(capsys, monkeypatch, *words, "--json")
    assert isinstance(parse(out), (dict, list))
    assert code == 0 or words == ["doctor"]


def test_json_is_all_that_standard_output_gets(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(swept))
    monkeypatch.chdir(swept)
    wrong = {}
    for words in [*ANYWHERE, *OF_RUNS]:
        code, out, err = run_main(capsys, monkeypatch, *words, "--json")
        try:
            assert code == 0, err
            assert parse(out) is not None
        except (AssertionError, ValueError) as error:
            wrong[" ".join(words)] = f"{error}: {out[:200]}"
    assert wrong == {}
    tried = {" ".join(w for w in words[:2]) for words in [*ANYWHERE, *OF_RUNS]}
    tried |= {words[0] for words in [*ANYWHERE, *OF_RUNS]}
    elsewhere = {"promote", "predict", "verify", "budget", "bundle", "pseudo", "noise", "lb import"}
    elsewhere |= {"models show", "models compare", "models alias", "models rollback"}
    elsewhere |= {"lb select", "lb remove", "lb pick", "lb next", "mlflow sync"}
    takers = {name for name in COMMANDS if "--json" in str([p.opts for p in COMMANDS[name].params])}
    assert takers - tried == elsewhere - tried, "a new command with --json is tried here"
