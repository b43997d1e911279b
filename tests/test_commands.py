"""What all commands share: their page, quiet and verbose, what goes where, exit codes."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commandline import run_main
from conftest import MakeLab

from birdlab.cli.commands import first_sentence, split_example
from birdlab.cli.reference import commands_page, list_commands
from birdlab.cli.voice import plain
from birdlab.lab import Lab, open_lab
from birdlab.lacks import of_the_machine

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


def test_verbose_says_where_the_time_goes(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = ["--no-mlflow", "--set", "train.batch=7", "--set", "cells.folds=[0]"]
    code, out, err = run_main(capsys, monkeypatch, "-v", "run", "tiny.yaml", *change)
    times = re.findall(r"^\[ *[\d.]+ s\] (.+): ([\d.]+) s$", err, re.MULTILINE)
    took_s = {what.split()[0]: float(seconds) for what, seconds in times}
    assert code == 0 and "[" not in out
    assert list(took_s) == ["load", "plan", "make", "cell", "score", "train,"]
    assert took_s["cell"] <= took_s["train,"]
    _, _, err = run_main(capsys, monkeypatch, "run", "tiny.yaml", *change)
    assert "plan (" not in err, "the next command is not verbose"


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
    from birdlab.study.other_effects import load_judged_sweep
    from birdlab.sweep.driver import run_sweep

    root = tmp_path_factory.mktemp("swept") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    loaded = load_sweep(root / "tiny.yaml", {"evaluate.secondary": ["count", "ignore"]}, name="two")
    result = run_sweep(loaded, lab, InProcess())
    _keep_summary(lab, result, load_judged_sweep(lab, "two"))
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
    ["models"],
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


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("words", "at", "offered"),
    [
        (["show", "two:"], 1, ["best", "secondary=count", "secondary=ignore"]),
        (["show", "two:secondary=c"], 1, ["count"]),
        (["why", "-1", "tw"], 2, ["two:best"]),
        (["run", "tiny.yaml", "--set", "train.optimizer.l"], 3, ["train.optimizer.lr="]),
        (["run", "ti"], 1, ["tiny.yaml"]),
        (["report", "tw"], 1, ["two", "two:best"]),
        (["data", "nocall", "abr"], 2, ["abroad"]),
        (["resc"], 0, ["rescore"]),
        (["models", "show", "@"], 2, []),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_runs_specs_fields_and_data_sets(
    shell: str,
    words: list[str],
    at: int,
    offered: list[str],
    swept: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(swept))
    monkeypatch.chdir(swept)
    monkeypatch.setenv("_BIRDLAB_COMPLETE", f"complete_{shell}")
    if shell == "bash":  # which cuts words at : = and @
        cut = re.sub(r"([:=@])", r" \1 ", " ".join(["birdlab", *words])).split()
        monkeypatch.setenv("COMP_WORDS", " ".join(cut))
        monkeypatch.setenv("COMP_CWORD", str(len(cut) - 1))
        last = re.split(r"[:=@]", words[at])
        offered = [text.removeprefix(words[at][: -len(last[-1])]) for text in offered]
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(["birdlab", *words]))
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        start = re.match(r"(.*[:])?", words[at]).group(0)  # type: ignore[union-attr]
        offered = [text if text.startswith(start) else start + text for text in offered]
        if "secondary=c" in words[at]:
            offered = ["two:secondary=count"]
    code, out, err = run_main(capsys, monkeypatch)
    assert (code, err) == (0, "")
    if shell == "zsh":
        said = [pair[0] for pair in re.findall(r'"((?:[^"\\]|\\.)*)"(:"[^"]*")?', out)]
    else:
        said = [line.split("\t")[0] for line in out.splitlines()]
    said = [re.sub(r"\\+:", ":", text) for text in said]
    assert sorted(text for text in said if text) == offered


def test_completion_imports_nothing_heavy_and_is_silent_on_a_broken_lab(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text("stores = [")
    script = (
        "import sys, time; sys.argv = ['birdlab']\n"
        "from birdlab.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ['torch', 'mlflow', 'pandas', 'numpy', 'rich.progress']\n"
        "print([m for m in heavy if m in sys.modules], time.process_time() < 0.6)\n"
    )
    words = {"COMP_WORDS": "birdlab show a", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, **words, "_BIRDLAB_COMPLETE": "complete_bash", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split("\n")[-2], done.stderr) == ("[] True", "")


# ---------------------------------------------------------------- Ctrl-C, pipes, terminals


def environment(lab: Path, **more: str) -> dict[str, str]:
    one = {"BIRDLAB_HOME": str(lab), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **one, **more}


def test_ctrl_c_that_no_command_takes_is_told(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("BIRDLAB_HOME", str(swept))
    monkeypatch.setattr("birdlab.tracking.index.load_runs", press)
    assert run_main(capsys, monkeypatch, "runs") == (130, "", "stopped\n")
    assert run_main(capsys, monkeypatch, "runs", "-q") == (130, "", "")


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.3, 0.6])
def test_ctrl_c_at_any_moment_ends_with_130_and_without_a_traceback(
    after_s: float, swept: Path
) -> None:
    script = (
        "import sys, birdlab.cli.interrupt; sys.argv = ['birdlab', 'runs']; print(flush=True)\n"
        "from birdlab.cli.app import start; start()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=swept, env=environment(swept), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "\n"
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130), err
    assert "Traceback" not in out + err


def test_a_file_that_the_machine_refuses_is_an_error_in_words(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody makes files in /sys. -v shows the cause, too."""
    (run,) = (path.stem for path in lab.runs.glob("*.json") if "." not in path.stem)
    (lab.stores / "drivers").symlink_to("/sys/kernel")
    words = ["rerun", run, "--no-mlflow"]
    code, _, err = run_main(capsys, monkeypatch, *words)
    said = err[err.index("error: ") :]
    assert code == 1 and said.startswith("error: the machine refuses to read or write a file\n")
    assert "where:    /sys/kernel/." in said and "\n  fix:      " in said
    assert "Traceback" not in err
    code, _, err = run_main(capsys, monkeypatch, *words, "-v")
    assert code == 1 and "Error: [Errno " in err and said.splitlines()[0] in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/a"), ("/a", "can be written to")),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), ("/a", "the user that runs")),
        (OSError(errno.EMFILE, "Too many open files"), (None, "ulimit -n")),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/a"), ("/a", "shorter name")),
        (OSError(errno.EIO, "Input/output error", "/a"), ("/a", "look at the disk")),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), (None, "close other programs")),
        (MemoryError("Unable to allocate 8 TiB"), (None, "close other programs")),
    ],
)
def test_what_the_machine_lacks_is_told_from_bugs(
    error: OSError | MemoryError, said: tuple[str | None, str]
) -> None:
    told = of_the_machine(error)
    assert told is not None and told.where == said[0] and said[1] in str(told.fix)
    assert told.got, "what the machine said"


def test_a_file_that_should_be_there_is_a_bug() -> None:
    assert of_the_machine(FileNotFoundError(errno.ENOENT, "No such file", "/a")) is None


def on_terminal(words: list[str], lab: Path, **more: str) -> str:
    """What a command writes to a terminal; it must end well."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        words, cwd=lab, env=environment(lab, **more),
        stdin=follower, stdout=follower, stderr=follower,
    ) as process:  # fmt: skip
        os.close(follower)
        said = b""
        try:
            while part := os.read(leader, 4096):
                said += part
        except OSError:  # the other end is closed
            pass
        assert process.wait() == 0
    os.close(leader)
    return said.decode()


@pytest.mark.parametrize("words", [["runs"], ["lb", "list"]], ids=" ".join)
def test_lists_fit_a_terminal_and_are_whole_in_a_pipe(
    words: list[str],
    swept: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(swept))
    command = [sys.executable, "-m", "birdlab.cli.app", *words]
    narrow = on_terminal(command, swept, TERM="xterm", COLUMNS="60")
    assert max(map(len, narrow.splitlines())) <= 60
    assert "not shown in 60 columns: " in narrow
    _, whole, _ = run_main(capsys, monkeypatch, *words)
    assert max(map(len, whole.splitlines())) > 60 and "not shown" not in whole


def test_a_pipe_gets_no_control_codes_and_a_terminal_gets_bars(make_lab: MakeLab) -> None:
    lab = make_lab()
    words = [sys.executable, "-m", "birdlab.cli.app", "run", "tiny.yaml", "--no-mlflow"]
    words += ["--set", "cells.folds=[0]", "--jobs", "1"]

    def train(batch: int, **more: str) -> str:
        return on_terminal([*words, "--set", f"train.batch={batch}"], lab.root, **more)

    bars = train(4, TERM="xterm")
    assert "\x1b[" in bars and "training, 1 of 1 cells" in bars
    for batch, dull in ((5, {"TERM": "xterm", "NO_COLOR": "1"}), (6, {"TERM": "dumb"})):
        said = train(batch, **dull)
        assert "\x1b" not in said and "epoch 2/2" in said
    env = environment(lab.root, TERM="xterm", FORCE_COLOR="1")
    words += ["--set", "train.batch=7"]
    piped = subprocess.run(words, cwd=lab.root, env=env, capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout + piped.stderr and "\r" not in piped.stdout + piped.stderr
    assert "epoch 4/4" in piped.stderr and "epoch 4/4" not in piped.stdout
