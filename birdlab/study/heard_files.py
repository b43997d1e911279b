"""The files that a run has stored outputs of: which, and in which folders of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from birdlab.lab import Lab
from birdlab.study.sounds import Kind


@dataclass(frozen=True)
class HeardFile:
    """A file that has stored outputs of a run: its name there, and the folders with them.

    n_lacking: how many models of the run have not heard it and should have, as a score of its
    soundscapes is under way.
    """

    name: str
    kind: Kind
    folders: tuple[Path, ...]
    n_lacking: int = 0


def list_heard(lab: Lab, record: Mapping[str, Any], kind: Kind) -> dict[str, HeardFile]:
    """The files of a kind that a run has stored outputs of, by name, sorted.

    A recording has those of the fold that did not train on it, one for each seed; a soundscape
    those of every model of the run that heard it. Empty for a run without stored outputs.
    """
    folders: dict[str, dict[Path, Path]] = {}
    for cell in record["cells"]:
        if not cell.get("cell_id"):
            continue
        place, found = lab.cells / cell["cell_id"], list[Path]()
        if kind == "soundscape":
            found = sorted(place.glob("soundscapes-*"), key=lambda path: path.stat().st_mtime_ns)
        elif cell.get("fold") is not None and cell.get("eval_id"):
            found = [place / f"outputs-{cell['eval_id']}"]
        for folder in found:  # of two outputs of one model the newer ones count
            for name in _recordings(folder):
                folders.setdefault(name, {})[place] = folder
    n_models = len(record["cells"]) if kind == "soundscape" else 0
    return {
        name: HeardFile(name, kind, tuple(found.values()), max(0, n_models - len(found)))
        for name, found in sorted(folders.items())
    }


def heard_state(lab: Lab, record: Mapping[str, Any]) -> object:
    """What is equal as long as no outputs came or went in the cells of a run."""
    places = [lab.cells / str(cell.get("cell_id", "")) for cell in record["cells"]]
    return [place.stat().st_mtime_ns if place.is_dir() else 0 for place in places]


def _recordings(folder: Path) -> list[str]:
    """The recordings that outputs are of; none where they are not there (whole)."""
    path = folder / "recordings.parquet"
    if not path.is_file():
        return []
    return [str(name) for name in pd.read_parquet(path, columns=["recording"])["recording"]]
