"""Do models trained on all data rank unlabelled sound as the fold models do?

A model that was trained on everything has no recording left to be scored on. What can be asked is
whether it orders the windows of soundscapes, species by species, as the mean of the fold models
does, about as well as a fold model agrees with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import decode
from birdlab.datasets import open_dataset
from birdlab.errors import AudioError, PromotionError
from birdlab.evaluate.blends import rank_rows
from birdlab.evaluate.windows import Windowing, iter_windows
from birdlab.lab import Lab
from birdlab.plan import Plan

Floats = npt.NDArray[np.float32]

MARGIN = 0.1
"""How much below the worst fold model a full-data model may agree. With 120 windows the correlation
of one species is known to about .09, and fold models share most of their training rows."""
LEAST = 0.0
"""Where fold models hardly agree themselves, order by chance is not enough for the deployed one."""
N_FILES, N_WINDOWS = 40, 120
"""Files that are heard, and windows of them all together."""
MIN_WINDOWS = 20
AUDIO = (".ogg", ".wav", ".flac", ".mp3")


@dataclass(frozen=True)
class Agreement:
    """How well the full-data model of a run agrees with its fold models, over windows.

    full: with their mean; worst: the lowest of a fold model with the mean of the others; threshold:
    worst less the margin, and LEAST at least. Mean over species of Spearman's correlation, -1..1;
    NaN where a number cannot be had. n_models: of the folds; source: what was heard.
    """

    run: str
    full: float
    worst: float
    threshold: float
    n_windows: int
    n_models: int
    source: str

    @property
    def passed(self) -> bool:
        """Whether the model agrees well enough; not where a number is lacking."""
        return self.full >= self.threshold


@dataclass(frozen=True)
class Sounds:
    """Recordings that nobody has to have labelled, and where they come from, in words."""

    files: tuple[Path, ...]
    source: str


def find_sounds(lab: Lab, plan: Plan, folder: Path | None) -> Sounds:
    """What full-data models are tried on: the folder, else soundscapes of the base data set, else
    background recordings; no files where there are none.

    Raises PromotionError for a folder without audio.
    """
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO and p.is_file())
        if not files:
            raise PromotionError(
                "there is no audio to compare models on", where=str(folder),
                expected=", ".join(AUDIO), fix="--soundscapes DIR",
            )  # fmt: skip
        return Sounds(_spread(files), f"{folder.name}, {len(files)} files")
    base = plan.spec.data.base
    listed = open_dataset(lab, base).soundscapes["path"].map(Path)
    files = [path for path in listed if path.is_file()]
    if files:
        return Sounds(_spread(files), f"soundscapes of {base}, {len(files)} files")
    keys = dict.fromkeys(clip.key for clips in plan.noise.values() for clip in clips)
    files = [plan.paths[key] for key in keys if key is not None and plan.paths[key].is_file()]
    names = ", ".join(plan.noise)
    return Sounds(_spread(files), f"background of {names}, {len(files)} files" if files else "")


def _spread(files: Sequence[Path]) -> tuple[Path, ...]:
    """Some of the files, from all over their order."""
    if not files:
        return ()
    places = np.linspace(0, len(files) - 1, min(N_FILES, len(files))).astype(int)
    return tuple(files[i] for i in np.unique(places))


def cut_sounds(sounds: Sounds, windowing: Windowing) -> Floats:
    """Windows from all over the files: [n, samples], N_WINDOWS at most.

    Files that cannot be decoded are passed over.
    """
    kept = []
    for path in sounds.files:
        try:
            wave = decode(path, windowing.sample_rate_hz)
        except AudioError:
            continue
        windows = list(iter_windows(wave, windowing))
        most = max(1, N_WINDOWS // len(sounds.files))
        places = np.linspace(0, len(windows) - 1, min(most, len(windows))).astype(int)
        kept += [windows[i] for i in np.unique(places)]
    return np.stack(kept) if kept else np.zeros((0, windowing.input_samples), np.float32)


def agree(run: str, full: Floats, folds: Sequence[Floats], source: str) -> Agreement:
    """How `full: [W, C]` agrees with the mean of `folds`, and these with each other.

    Columns that someone never varies are left out. NaN for fewer than two fold models or fewer
    than MIN_WINDOWS windows.
    """
    n = len(full)
    if len(folds) < 2 or n < MIN_WINDOWS:
        return Agreement(run, np.nan, np.nan, np.nan, n, len(folds), source)
    total = np.sum(folds, axis=0, dtype=np.float64)
    alone = [correlate_ranks(fold, (total - fold) / (len(folds) - 1)) for fold in folds]
    worst = float(np.min(alone))
    return Agreement(
        run,
        correlate_ranks(full, total / len(folds)),
        worst,
        max(worst - MARGIN, LEAST),
        n,
        len(folds),
        source,
    )


def correlate_ranks(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """The mean over columns of Spearman's correlation over rows; NaN where no column varies.

    Ties share their rank.
    """
    a, b = (rank_rows(x) - 0.5 for x in (one, other))
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    told = norm > 0
    return float(((a * b).sum(axis=0)[told] / norm[told]).mean()) if told.any() else float("nan")
