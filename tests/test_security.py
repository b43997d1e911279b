"""What an attacker could try, as rules over the source: none of it is written anywhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_rules import RULES, Rule, broken_rules

ROOT = Path(__file__).parents[1]

SOURCES = sorted(
    path
    for folder in ("birdlab", "dashboards", "docs", "experiments")
    for path in (ROOT / folder).rglob("*.py")
)
HELPERS = sorted(
    path for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")
)

ALLOWED = {
    ("birdlab/sed/checkpoint.py", "reads or writes pickles"): "torch.save of tensors and numbers, "
    "read back with weights_only",
}
"""(file, rule) → why it may."""


def broken_in(path: Path) -> list[str]:
    file = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{file}:{line} {said}: {call}"
        for line, said, call in broken_rules(tree)
        if (file, said) not in ALLOWED
    ]


def test_no_source_makes_a_dangerous_call() -> None:
    assert len(SOURCES) > 300
    assert [line for path in SOURCES for line in broken_in(path)] == []


def test_no_helper_of_the_tests_makes_a_dangerous_call() -> None:
    assert len(HELPERS) > 10
    assert [line for path in HELPERS for line in broken_in(path)] == []


def test_what_is_allowed_is_still_needed() -> None:
    for file, said in ALLOWED:
        broken = broken_rules(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert said in {told for _, told, _ in broken}, file


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.said)
def test_each_rule_can_fail(rule: Rule) -> None:
    assert [said for _, said, _ in broken_rules(ast.parse(rule.example), (rule,))] == [rule.said]


def test_safe_forms_break_no_rule() -> None:
    code = (
        "import numpy as np, pickle, re, subprocess, tarfile, torch\n"
        "from ruamel.yaml import YAML\n"
        "re.compile('a')\nmodel.eval()\nnp.load(p)\nnp.load(p, allow_pickle=False)\n"
        "torch.load(p, weights_only=True)\nYAML(typ='safe')\nsubprocess.run(['a'])\n"
        "tar.extract(m, folder, filter='data')\nsession.get(url, timeout=5)\n"
        "self._session.run(['probs'], feeds)\n"
        "try:\n    pass\nexcept pickle.UnpicklingError:\n    pass\n"
    )
    assert broken_rules(ast.parse(code)) == []


def test_onnx_runtime_keeps_no_id_of_the_machine(tmp_path: Path) -> None:
    kept = ("PATH", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", "import birdlab.infer.session"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert not list(tmp_path.iterdir())
