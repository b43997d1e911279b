"""The first tutorial, typed with one epoch for ten: its commands run, and say what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks

NAMED = re.compile(r"# (experiments/[\w-]+\.yaml): ")


@pytest.mark.slow
def test_the_first_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    folder, typed = tmp_path, 0
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks("docs/tutorials/first_ablation.md"):
        named = NAMED.match(block.text)
        if named:
            shorter = block.text.replace("epochs: 10", "epochs: 1")
            (folder / named[1]).write_text(shorter)
        if block.language != "console":
            continue
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            if command.startswith("cd "):
                folder /= command.removeprefix("cd ")
                continue
            done = subprocess.run(
                command,
                shell=True,
                cwd=folder,
                env=os.environ | {"PATH": path},
                capture_output=True,
                text=True,
            )
            typed += 1
            assert done.returncode == 0, (command, done.stderr[-2000:])
            for line in shown.splitlines():
                if re.match(r"(sweep|next:|wrote|rows|metric|cells|folds) ", line):
                    said = re.sub(r"\(.*|\d.*", "", line)
                    assert said in done.stdout + done.stderr, (command, line)
    assert typed >= 10
