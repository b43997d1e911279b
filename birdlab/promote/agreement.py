"""Do models trained on all data rank unlabelled sound as the fold models do?

A model that was trained on everything has no recording left to be scored on. What can be asked is
whether it orders the windows of soundscapes, species by species, as the mean of the fold models
does, about as well as a fold model agrees with the others. Sound that the fold models themselves
order each in its own way, a forest without any of the species, cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import decode
from birdlab.data.audiofile import SUFFIXES
from birdlab.datasets import open_dataset
from birdlab.errors import AudioError, PromotionError
from birdlab.evaluate.blends import rank_rows
from birdlab.evaluate.passes import count_passes
from birdlab.evaluate.windows import Windowing, count_windows, iter_windows
from birdlab.lab import Lab
from birdlab.plan import Plan

Floats = npt.NDArray[np.float32]

MARGIN = 0.1
"""How much below the worst fold model a full-data model may agree. With 300 windows the correlation
of one species is known to about .06, and fold models share most of their training rows."""
LEAST = 0.2
"""What fold models must reach among each other for a sound to tell anything, and the least that is
asked of the deployed model: with MIN_WINDOWS two standard errors above chance."""
N_FILES, N_WINDOWS = 100, 300
"""Files that are heard, and windows of them all together."""
MIN_WINDOWS = 100


@dataclass(frozen=True)
class Agreement:
    """How well the full-data model of a run agrees with its fold models, over windows.

    full: with their mean; worst: the lowest of a fold model with the mean of the others; threshold:
    worst less the margin, and LEAST at least. Mean over species of Spearman's correlation, -1..1;
    NaN where a number cannot be had. n_models: of the folds; source: what was heard; seen: the
    deployed model was trained on it; passed_over: in words, what was heard before it and could not
    tell.
    """

    run: str
    full: float
    worst: float
    threshold: float
    n_windows: int
    n_models: int
    source: str
    seen: bool = False
    passed_over: str = ""

    @property
    def tells(self) -> bool:
        """Whether the fold models agree with each other, so that more can be asked."""
        return self.worst >= LEAST

    @property
    def passed(self) -> bool:
        """Whether the model agrees well enough; not where a number is lacking."""
        return self.tells and self.full >= self.threshold

    @property
    def lack(self) -> str:
        """In words why this sound cannot tell; empty where it can."""
        if self.n_models < 2:
            return f"{self.run} has {self.n_models} fold model, which agrees with no other"
        if not self.source:
            return "the data set has none"
        if self.n_windows < MIN_WINDOWS:
            return f"{self.n_windows} windows of {self.source}, {MIN_WINDOWS} are needed"
        if self.tells:
            return ""
        said = "a fold model that says the same of every window"
        if not math.isnan(self.worst):
            said = f"fold models that do not agree with each other, ρ {self.worst:.2f}"
        return f"{self.run} has {said} on {self.source}"

    def __str__(self) -> str:
        """What was found on what, and why not on soundscapes."""
        said = "says the same of every window" if math.isnan(self.full) else f"ρ {self.full:.2f}"
        told = (
            f"{self.run} {said}, at least {self.threshold:.2f} (worst fold {self.worst:.2f}) on "
            f"{self.n_windows} windows of {self.source}"
        )
        return told + (f"; soundscapes cannot tell: {self.passed_over}" if self.passed_over else "")


@dataclass(frozen=True)
class Sounds:
    """Recordings that nobody has to have labelled, and where they come from, in words.

    seen: models on all data are trained on them.
    """

    files: tuple[Path, ...]
    source: str
    seen: bool = False


def find_sounds(lab: Lab, plan: Plan, folder: Path | None) -> Sounds:
    """What full-data models are tried on: the folder, else soundscapes of the base data set.

    No files where there are none. Raises PromotionError for a folder without audio.
    """
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise PromotionError(
                "there is no audio to compare models on", where=str(folder),
                expected=", ".join(sorted(SUFFIXES)), fix="--soundscapes DIR",
            )  # fmt: skip
        return Sounds(_spread(files), f"{folder.resolve().name} ({len(files):,} files)")
    base = plan.spec.data.base
    listed = open_dataset(lab, base).soundscapes["path"].map(Path)
    files = [path for path in listed if path.is_file()]
    told = f"soundscapes of {base} ({len(files):,} files)" if files else ""
    return Sounds(_spread(files), told)


def training_sounds(plan: Plan) -> Sounds:
    """The recordings that a run is trained on: what is left where soundscapes cannot tell."""
    keys = dict.fromkeys(key for key in plan.rows.keys if key is not None)
    files = [plan.paths[key] for key in keys if plan.paths[key].is_file()]
    return Sounds(_spread(files), f"its training recordings ({len(files):,})", seen=True)


def _spread(files: Sequence[Path]) -> tuple[Path, ...]:
    """Some of the files, from all over their order."""
    if not files:
        return ()
    places = np.linspace(0, len(files) - 1, min(N_FILES, len(files))).astype(int)
    return tuple(files[i] for i in np.unique(places))


def cut_sounds(sounds: Sounds, windowing: Windowing) -> Iterator[tuple[Floats, int]]:
    """Inputs [samples] from all over the files, each with how many windows of its file it has.

    About N_WINDOWS windows at most. Files that cannot be decoded are passed over; a wave of one
    file is held at a time.
    """
    k = windowing.windows_per_pass
    most = max(1, round(N_WINDOWS / max(1, len(sounds.files)) / k))
    for path in sounds.files:
        try:
            wave = decode(path, windowing.sample_rate_hz)
        except AudioError:
            continue
        n_windows = count_windows(wave.n_samples, windowing.window_samples)
        n = count_passes(n_windows, k)
        wanted = set(np.linspace(0, n - 1, min(most, n)).astype(int).tolist())
        for i, heard in enumerate(iter_windows(wave, windowing)):
            if i in wanted:
                yield heard, min(k, n_windows - i * k)


def agree(
    run: str, full: Floats | None, folds: Sequence[Floats], sounds: Sounds, passed_over: str = ""
) -> Agreement:
    """How `full: [W, C]` agrees with the mean of `folds`, and these with each other.

    Without `full` the model on all data is still to be trained, and its number is NaN. Columns
    that someone never varies are left out. NaN for fewer than two fold models or fewer than
    MIN_WINDOWS windows.
    """
    n, told = len(folds[0]), (sounds.source, sounds.seen, passed_over)
    if len(folds) < 2 or n < MIN_WINDOWS:
        return Agreement(run, np.nan, np.nan, np.nan, n, len(folds), *told)
    total = np.sum(folds, axis=0, dtype=np.float64)
    alone = [correlate_ranks(fold, (total - fold) / (len(folds) - 1)) for fold in folds]
    worst = float(np.min(alone))
    reached = np.nan if full is None else correlate_ranks(full, total / len(folds))
    least = max(worst - MARGIN, LEAST)
    return Agreement(run, reached, worst, least, n, len(folds), *told)


def correlate_ranks(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """The mean over columns of Spearman's correlation over rows; NaN where no column varies.

    Ties share their rank.
    """
    a, b = (rank_rows(x) - 0.5 for x in (one, other))
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    told = norm > 0
    return float(((a * b).sum(axis=0)[told] / norm[told]).mean()) if told.any() else float("nan")
