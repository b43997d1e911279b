"""`birdlab init`: a folder becomes a lab in which the same commands work."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from birdlab.errors import LabError
from birdlab.lab import open_lab
from birdlab.scaffold import built_in_experiments, init_lab
from birdlab.schemafiles import add_editor_line

ROOT = Path(__file__).parents[1]
COMMANDS = """
import sys
from birdlab.cli.app import main
for words in {commands}:
    sys.argv = ["birdlab", *words]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def birdlab(*commands: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Commands one after the other, as from a shell, in one process that imports torch once."""
    code = COMMANDS.format(commands=commands)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_new_lab_holds_the_experiments_of_the_checkout(tmp_path: Path) -> None:
    made = {path.relative_to(tmp_path).as_posix() for path in init_lab(tmp_path)}
    assert {"birdlab.toml", ".gitignore", "experiments/lr.yaml"} <= made
    assert "experiments/extensions/polarity_flip.py" in made
    for name in built_in_experiments():
        copied = (tmp_path / "experiments" / name).read_text(encoding="utf-8")
        own = (ROOT / "experiments" / name).read_text(encoding="utf-8")
        assert copied == (add_editor_line(own, ".schema") if name.endswith(".yaml") else own)
    assert (tmp_path / "birdlab.toml").read_text() == (ROOT / "birdlab.toml").read_text()
    extensions = sorted((ROOT / "experiments" / "extensions").glob("*.py"))
    named = tuple(path.relative_to(ROOT).as_posix() for path in extensions)
    assert open_lab(tmp_path).file.extensions == named
    assert "mlruns/" in (tmp_path / ".gitignore").read_text().splitlines()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text("# mine\n")
    made = init_lab(tmp_path)
    assert tmp_path / "birdlab.toml" not in made
    assert (tmp_path / "birdlab.toml").read_text() == "# mine\n"
    assert init_lab(tmp_path) == []


def test_a_file_in_the_way_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "experiments").write_text("")
    with pytest.raises(LabError, match="cannot be made here"):
        init_lab(tmp_path)


def test_the_wheel_carries_what_init_copies() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    assert wheel["force-include"] == {"experiments": "birdlab/experiments"}
    assert set(wheel["packages"]) == {"birdlab", "dashboards"}


def test_the_same_commands_work_in_a_new_lab(tmp_path: Path, tiny_demo: Path) -> None:
    folder = tmp_path / "my lab"
    done = birdlab(["init", str(folder)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "birdlab sweep experiments/lr.yaml" in done.stdout
    (folder / "birdlab.local.toml").write_text(f'[data]\ndemo = "{tiny_demo}"\n')
    sweep = ["sweep", "experiments/lr.yaml", "--dry-run"]
    run = ["run", "experiments/baseline.yaml", "--dry-run"]
    done = birdlab(sweep, run, cwd=folder / "experiments" / "..")
    assert done.returncode == 0, done.stderr
    assert "4 classes" in done.stdout and "0 cached" in done.stdout
    assert "24 base" in done.stdout
