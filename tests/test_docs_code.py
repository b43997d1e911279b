"""The code in the documents holds: specs load, command lines parse, Python finds its names."""

from __future__ import annotations

import ast
import importlib
import io
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer.main
from documents import CONSOLE, DOCUMENTS, ROOT, Block, blocks, command_lines, misused, text_of
from ruamel.yaml import YAML

from birdlab.cli import app as cli
from birdlab.evaluate.steps import load_steps
from birdlab.lab import open_lab
from birdlab.spec import load_spec, load_sweep, sweep_arms
from birdlab.spec.delta import merge
from birdlab.spec.ensemble import load_ensemble
from birdlab.spec.points import SearchSpace
from birdlab.spec.sweep import FORMS
from birdlab.study.foreign_ledger import parse_mapping
from birdlab.sweep.dryrun import list_alone

CODE = [b for name in DOCUMENTS if name != "CHANGELOG.md" for b in blocks(name)]
LEAST = {"competition": "demo", "data": {"base": "demo"}, "model": {"backbone": "resnet18"}}
"""What an experiment cannot do without: a fragment is laid over it."""
RUNNABLE = {
    "docs/lab.md": {},
    "docs/cv-lb.md": {
        "pairs": pd.DataFrame(
            {"cv": np.linspace(0.5, 0.9, 12), "lb": np.linspace(0.4, 0.8, 12) ** 2}
        )
    },
}
"""Documents whose Python is run, with the names that it takes as given."""


def in_language(*languages: str) -> Any:
    """A parameter for every block of these languages."""
    return pytest.mark.parametrize(
        "block", [pytest.param(b, id=b.place) for b in CODE if b.language in languages]
    )


@pytest.fixture(scope="module")
def program() -> Any:
    if not cli.app.registered_commands:
        cli._register()
    return typer.main.get_command(cli.app)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lab folder with the experiments and extensions of the repository."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    shutil.copy(ROOT / "birdlab.toml", tmp_path)
    open_lab(tmp_path)  # registers the extensions
    return tmp_path / "experiments"


def named_file(block: Block) -> str:
    """What the first line calls the file: `# ... experiments/first.yaml`; `spec.yaml` otherwise."""
    first = re.match(r"#.*?([\w-]+\.yaml)", block.text)
    return first[1] if first else "spec.yaml"


def load_block(block: Block, folder: Path) -> None:
    """Read a block as what its keys say it is; an error of birdlab where it does not hold."""
    data = YAML(typ="safe").load(block.text)
    if block.comment.startswith("<!-- not birdlab's:"):
        return
    path = folder / named_file(block)
    path.write_text(block.text)
    over = re.fullmatch(r"<!-- over (\S+) -->", block.comment)
    whole = {"base", "members", "steps", "public"} & set(data)
    if over or not whole:
        least = YAML(typ="safe").load(text_of(over[1])) if over else LEAST
        data = merge(least, data)
        text = io.StringIO()
        YAML().dump(data, text)
        path.write_text(text.getvalue())
    if "members" in data:
        load_ensemble(path)
    elif "steps" in data:
        load_steps(path)
    elif "public" in data:
        parse_mapping([str(path)])
    elif data.keys() & set(FORMS):
        sweep = load_sweep(path)
        assert list_alone(SearchSpace(sweep)) if sweep.spec.optuna else sweep_arms(sweep)
    else:
        load_spec(path)


@in_language("yaml")
def test_specs_load(block: Block, folder: Path) -> None:
    for earlier in CODE:
        if earlier.document == block.document and earlier.line < block.line:
            name = named_file(earlier)
            if earlier.language == "yaml" and name != "spec.yaml":
                (folder / name).write_text(earlier.text)
    load_block(block, folder)


@in_language("toml")
def test_lab_files_load(block: Block, tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text(block.text)
    open_lab(tmp_path)


@in_language("python")
def test_python_compiles_and_its_names_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "birdlab":
            assert hasattr(importlib.import_module("birdlab"), node.attr), node.attr


@pytest.mark.parametrize("name", RUNNABLE)
def test_python_runs(
    name: str, trained_lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_lab)
    (block,) = [b for b in blocks(name) if b.language == "python"]
    (tmp_path / "block.py").write_text(block.text)
    after = runpy.run_path(str(tmp_path / "block.py"), RUNNABLE[name])
    assert len(after["runs"]) == 1 if name == "docs/lab.md" else after["study"].answer


@pytest.mark.parametrize("name", DOCUMENTS)
def test_command_lines_parse(name: str, program: Any) -> None:
    faults = {
        f"{line.place}: birdlab {' '.join(line.words)}": fault
        for line in command_lines(name)
        if (fault := misused(program, line))
    }
    assert faults == {}


def test_wrong_command_lines_are_found(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("documents.text_of", lambda name: name)
    wrong = {
        "birdlab swep x.yaml": "no command 'swep'",
        "birdlab sweep x.yaml --jobbs 2": "No such option: --jobbs",
        "birdlab sweep x.yaml --jobs two": "jobs",
        "birdlab sweep": "spec is missing",
        "birdlab sweep x.yaml      # fine": None,
        "cd lab && birdlab lb list | less": None,
        "birdlab sweep x.yaml      what it does": "too many words",
        "birdlab promote lr:best --dryrun": "no option --dryrun",
        "birdlab lb add -1 --public X": None,
    }
    for text, expected in wrong.items():
        (line,) = command_lines(f"    {text}\n")
        found = misused(program, line)
        assert (expected in (found or "")) if expected else found is None, (text, found)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_specs_are_fenced_with_their_language(name: str) -> None:
    for block in blocks(name):
        if block.language in CONSOLE:
            like_yaml = re.match(r"[a-z_]+:( \{.*\}| \[.*\])?\n|[a-z_]+: \{.*\}$", block.text)
            assert not like_yaml and not block.text.startswith("["), block.place
