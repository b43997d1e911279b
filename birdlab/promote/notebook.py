"""The notebook that a code competition runs without internet: install, predict, submit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOTEBOOK_FILE = "submission.ipynb"


@dataclass(frozen=True)
class NotebookPlan:
    """What a notebook has to know: the upload, the competition ("" for none), the time limit.

    `python` is that of the wheels, None for a bundle without. `deadline_minutes` counts from the
    first cell.
    """

    dataset: str
    competition: str
    deadline_minutes: int
    python: str | None
    variant: str
    title: str


def notebook_text(plan: NotebookPlan) -> str:
    """The notebook as JSON in the format 4.5 of Jupyter, without outputs.

    Its code needs the standard library alone: the packages are installed in a folder of their own
    and used by the predictor, so nothing of the machine's packages is replaced or relied on.
    """
    cells = [_markdown(_opening(plan)), _code(_settings(plan)), _code(_FIND)]
    if plan.python is not None:
        cells.append(_code(_INSTALL.replace("PYTHON", plan.python)))
    cells += [_code(_predict(plan)), _code(_SHOW)]
    for i, cell in enumerate(cells):
        cell["id"] = hashlib.sha256(f"{i}".encode()).hexdigest()[:8]
    return json.dumps(
        {
            "cells": cells,
            "metadata": {
                "kernelspec": {
                    "display_name": "Python 3",
                    "language": "python",
                    "name": "python3",
                },
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
        ensure_ascii=False,
    )


def _opening(plan: NotebookPlan) -> str:
    about = f"for {plan.competition}" if plan.competition else "for soundscapes"
    return (
        f"# {plan.title}\n\n"
        f"A submission {about}, made by birdlab. It needs no internet. Members are left out when "
        f"time runs short: after {plan.deadline_minutes} minutes the submission is written with "
        "those that heard every window."
    )


def _settings(plan: NotebookPlan) -> str:
    return (
        "import time\n"
        "from pathlib import Path\n\n"
        "BEGAN = time.monotonic()\n"
        f"DATASET = {plan.dataset!r}\n"
        f"COMPETITION = {plan.competition!r}\n"
        f"DEADLINE_MINUTES = {plan.deadline_minutes}\n"
        f"VARIANT = {plan.variant!r}\n"
        'INPUT = Path("/kaggle/input")\n'
        'WORKING = Path("/kaggle/working")\n'
        'PACKAGES = Path("/tmp/birdlab-packages")'
    )


_FIND = '''\
def find_input(name):
    """The folder of an input: Kaggle has mounted them at different depths over the years."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        for folder in sorted(INPUT.glob(pattern)):
            if folder.is_dir():
                return folder
    raise FileNotFoundError(f"add {name} to the inputs of this notebook (Add Input)")


bundle = find_input(DATASET)
if COMPETITION:
    competition = find_input(COMPETITION)
    soundscapes, sample = competition / "test_soundscapes", competition / "sample_submission.csv"
else:
    soundscapes, sample = INPUT / "soundscapes", None
print(bundle, soundscapes, sample, sep="\\n")'''
_INSTALL = """\
import subprocess
import sys

if sys.version_info[:2] != tuple(map(int, "PYTHON".split("."))):
    raise SystemExit(
        f"this notebook runs Python {sys.version.split()[0]}, the wheels are for PYTHON: "
        f"bundle again with --python {sys.version_info[0]}.{sys.version_info[1]}"
    )
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
pip += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
pip += ["--requirement", "requirements.txt", "--target", str(PACKAGES)]
subprocess.run(pip, cwd=bundle, check=True)"""
_PREDICT = """\
import os
import subprocess
import sys

command = [sys.executable, ISOLATED, str(bundle / "predictor.pyz"), "predict", str(soundscapes)]
command += ["--output", str(WORKING / "submission.csv"), "--variant", VARIANT]
command += ["--on-bad-file", "prior", "--no-windows"]
if sample is not None:
    command += SAMPLE
environment = {**os.environ, ENVIRONMENT}
for _ in range(2):
    left_s = max(60, DEADLINE_MINUTES * 60 - (time.monotonic() - BEGAN))
    with subprocess.Popen(
        [*command, "--deadline", f"{left_s:.0f}s"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        for line in running.stdout:
            print(line, end="", flush=True)
    if running.returncode >= 0:
        break
    print(f"WARNING: the predictor was killed by signal {-running.returncode}")
if running.returncode > 0 or not (WORKING / "submission.csv").is_file():
    raise SystemExit(f"the predictor ended with {running.returncode}, see above")"""
_SHOW = """\
with open(WORKING / "submission.csv") as file:
    for _, line in zip(range(5), file):
        print(line[:120].rstrip())"""


def _predict(plan: NotebookPlan) -> str:
    """The cell that predicts: with the wheels it sees no other packages."""
    isolated, environment = '"-S"', '"PYTHONPATH": str(PACKAGES)'
    if plan.python is None:
        isolated, environment = '"-s"', '"PYTHONUNBUFFERED": "1"'
    else:
        environment += ', "PYTHONUNBUFFERED": "1"'
    code = _PREDICT.replace("ISOLATED", isolated).replace("ENVIRONMENT", environment)
    return code.replace("SAMPLE", '["--sample", str(sample), "--rows", "files"]')


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": _lines(text)}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": _lines(text),
    }


def _lines(text: str) -> Sequence[str]:
    return text.splitlines(keepends=True)
