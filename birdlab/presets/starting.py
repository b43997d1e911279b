"""Files to start from: an experiment, a sweep, and where new files go. None overwrites another."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdlab.errors import LabError, SpecError
from birdlab.lab import Lab
from birdlab.presets.writing import flow_text, spread
from birdlab.schemafiles import add_editor_line
from birdlab.spec.competition import PROFILES
from birdlab.spec.experiment import load_spec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")

EXPERIMENT = """\
# How good is this recipe on $data? | birdlab run experiments/$name.yaml --dry-run
# Every field has a default; docs/recipe.md and docs/data.md tell of the others. Say here what you
# expect, before you look.
competition: $competition
project: $name
data:
  base: $data                          # a name under [data] in birdlab.toml
  # extra: [more-recordings]           # joins every training fold in full
  folds: {kind: stratified_group, n: $folds, seed: 42}   # no recordist on both sides
model:
  backbone: $backbone                  # any backbone of timm
  pretrained: $pretrained
  # frontend: {n_mels: 128, hop: 512}
train:
  window_s: 5
  length: {epochs: 30}
  batch: $batch
  optimizer: {kind: adam, lr: 1e-3}
  schedule: {kind: cosine, min_lr: 1e-6}
  loss: focal
  sampler: inverse_power               # rare species are drawn more often
augment:
  - or_mixup: {p: 0.5}
  - spec_mask: {p: 0.3}
  # - background: {p: 0.5, noise: [no-call]}     # a data set of sounds without birds
# stages:                              # pretraining first, on another table
#   - pretrain: {data: other-years}
#   - tune: {start: pretrain, transfer: backbone}
cells: {folds: [0, 1], seeds: [0]}     # how much evidence; birdlab extend adds more
expect: ""
"""

SWEEP = """\
# Which of these changes makes a difference? | birdlab sweep experiments/$name.yaml --dry-run
# Each arm is the base and one change. docs/sweeps.md tells of grids, stacks, races and searches.
base: $base
name: $name
$arms
# cells: {folds: [0, 1, 2], seeds: [0, 1, 2]}   # the evidence of every arm; else that of the base
# race: {}                                      # stops arms that are clearly worse
expect: ""
"""


def place_of(lab: Lab, name: str) -> Path:
    """Where a new file called `name` goes: experiments/NAME.yaml of the lab.

    Raises SpecError for a name that is none.
    """
    stem = name.removesuffix(".yaml")
    if not _NAME.fullmatch(stem):
        raise SpecError(
            "this is no name for a file of experiments/",
            got=name,
            expected="letters, digits, _, - and ., at most 80",
        )
    return lab.root / "experiments" / f"{stem}.yaml"


def check_new(path: Path) -> Path:
    """`path`, where nothing is yet; LabError where something is."""
    if path.exists():
        raise LabError(
            "a file of this name is there already, and nothing was written",
            where=str(path),
            fix="rename it, or give another name",
        )
    return path


def save_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, with the line by which editors check it.

    Raises LabError where there is one, or it cannot be written.
    """
    text = add_editor_line(text, ".schema")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with check_new(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LabError(
            "a file cannot be written",
            where=str(path),
            got=error.strerror,
            fix="name a file in a folder where you may write",
        ) from None


def path_from(folder: Path, file: Path) -> str:
    """The path of `file` as a file in `folder` names it as its base."""
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()


def experiment_text(
    lab: Lab, name: str, *, data: str | None, competition: str | None, backbone: str | None
) -> str:
    """An experiment to start from, with every part of it and what it may say besides.

    Without `data` it is the only data set of the lab file, or the demo. The competition is by
    default the one that the data set is called after. Raises LabError for an unknown data set,
    SpecError where a competition has to be named.
    """
    listed = list(lab.file.data)
    chosen = data or (listed[0] if len(listed) == 1 else "demo")
    lab.source(chosen)
    profile = competition or (chosen if chosen in PROFILES else None)
    if profile is None:
        raise SpecError(
            f"which competition is {chosen} scored as?",
            expected=", ".join(PROFILES),
            fix="give --competition NAME: it says the metric (birdclef-2023 padded cmAP, "
            "birdclef-2025 macro AUC), the windows and the time limit",
        )
    small = chosen.startswith("demo")
    network = backbone or ("mobilenetv3_small_050" if small else "tf_efficientnet_b0.ns_jft_in1k")
    return _fill(
        EXPERIMENT,
        name=flow_text(name),
        data=flow_text(chosen),
        competition=profile,
        backbone=network,
        pretrained="false" if small else "true",
        batch="16" if small else "64",
        folds="3" if small else "5",
    )


def sweep_text(name: str, base: Path, shown: str, grid: Mapping[str, Sequence[Any]]) -> str:
    """A sweep over the experiment in `base`, which the file calls `shown`.

    With `grid` all combinations of these values; without, the rate of the base three times as
    low and as high, each alone. Raises SpecError where the base does not hold.
    """
    spec = load_spec(base)
    if grid:
        arms = ["grid:", *spread({key: list(values) for key, values in grid.items()}, "  ")]
    else:
        lr = float(getattr(spec.stages[-1].train.optimizer, "lr", 1e-3))
        rates = [float(f"{lr * factor:.3g}") for factor in (1 / 3, 3)]
        arms = [
            "one_factor:",
            *spread({"train.optimizer.lr": rates}, "  "),
            "  # without mixup: {augment.or_mixup: off}      # a name of your own, and its changes",
        ]
    return _fill(SWEEP, name=flow_text(name), base=shown, arms="\n".join(arms))


def _fill(text: str, **values: str) -> str:
    """`text` with each `$name` replaced, and what is said of a line at the same column in all."""
    for key, value in values.items():
        text = text.replace(f"${key}", value)
    lines = []
    for line in text.splitlines():
        code, sign, said = line.partition("  # ")
        lines.append(f"{code.rstrip():<46} # {said}" if sign and code.strip() else line)
    return "\n".join(lines) + "\n"
