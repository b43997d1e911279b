"""Synthetic soundscapes of a fold: which recordings they are made of, their waves, their outputs.

Nothing is written but outputs: a soundscape is mixed when it is heard, from the waveform store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.activity import ACTIVITY_SEMANTICS
from birdlab.data.audio import Waveform, to_float, to_int16
from birdlab.data.classes import ClassList
from birdlab.data.table import NoiseKey
from birdlab.data.waves import open_waves
from birdlab.datasets import sample_rate_of
from birdlab.errors import DataError
from birdlab.evaluate.deployed import deployed_probs
from birdlab.evaluate.evidence import Heard
from birdlab.evaluate.outputs import load_outputs, load_table
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.synthetic import (
    LISTENED_S,
    SEMANTICS,
    Arrival,
    Part,
    cut_part,
    draw_arrivals,
    draw_background,
    mark_truth,
    mix_soundscape,
)
from birdlab.evaluate.windows import Windowing
from birdlab.lab import Lab
from birdlab.soundscapes import listening_document
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest
from birdlab.spec.synthetic import SyntheticSpec

if TYPE_CHECKING:
    from birdlab.celljob import CellJob
    from birdlab.cellplan import CellPlan

TRUTH = "truth"
"""The table beside stored outputs on synthetic soundscapes: recording, start_s, end_s, label."""


def is_usable(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which held-out rows may be mixed: those of one species alone, of which none is in training.

    When a second species sings is not known, so that the truth would not be.
    """
    alone = np.array([len(labels) == 0 for labels in table["secondary_labels"]], np.bool_)
    return np.asarray(alone & ~table["apart"].to_numpy(np.bool_))


def name_synthetic(
    cells: Iterable[CellPlan],
    spec: ExperimentSpec,
    backgrounds: Mapping[str, tuple[NoiseKey, ...]],
    classes: ClassList,
) -> Iterator[CellPlan]:
    """The cells, those that are scored knowing the name of their outputs on synthetic soundscapes.

    Equal outputs, equal name: it stands for the held-out rows, the backgrounds, how they are mixed
    and what a model hears of a window; not for `min_s`, which only the truth of windows depends on.
    The name of their rows stands for the truth, and not for what a model hears.
    """
    synthetic = spec.evaluate.synthetic
    if synthetic is None:
        yield from cells
        return
    mixed = canonical(synthetic)
    del mixed["min_s"], mixed["backgrounds"]
    mixing = {
        "synthetic": [SEMANTICS, ACTIVITY_SEMANTICS, mixed],
        "backgrounds": [
            [clip.content for clip in backgrounds.get(name, ())] for name in synthetic.backgrounds
        ],
    }
    windowing = build_windowing(spec, sample_rate_of(spec))
    plain = Windowing(windowing.window_s, windowing.sample_rate_hz)
    document = {**mixing, **listening_document(windowing, classes, spec.evaluate.hop_s)}
    scored = {**mixing, **listening_document(plain, classes, None), "min_s": synthetic.min_s}
    for cell in cells:
        if cell.eval_id is None or cell.validation is None:
            yield cell
        else:
            _require_rows(cell, synthetic, backgrounds)
            rows = cell.rows.digest(cell.validation)
            yield replace(
                cell,
                synthetic_id=digest({**document, "rows": rows}, 12),
                synthetic_rows=digest({**scored, "rows": rows}, 12),
            )


def _require_rows(
    cell: CellPlan, spec: SyntheticSpec, backgrounds: Mapping[str, tuple[NoiseKey, ...]]
) -> None:
    """DataError for a fold, or backgrounds that are there, of which nothing can be mixed."""
    if not is_usable(cell.rows.table.iloc[cell.validation]).any():
        raise DataError(
            f"no recording of fold {cell.fold} can be mixed into synthetic soundscapes",
            where="evaluate.synthetic",
            got="a secondary label on each of them",
            expected="held-out recordings of one species alone",
            fix="leave evaluate.synthetic out, or make larger folds",
        )
    found = [backgrounds[name] for name in spec.backgrounds if name in backgrounds]
    if found and not any(found):
        raise DataError(
            "the backgrounds of synthetic soundscapes have no recording that can be used",
            where="evaluate.synthetic.backgrounds",
            got=", ".join(spec.backgrounds),
            fix="name data sets with background noise, or leave evaluate.synthetic out",
        )


def reused_backgrounds(spec: ExperimentSpec) -> list[str]:
    """The backgrounds of the synthetic soundscapes that training mixes into its clips too."""
    synthetic = spec.evaluate.synthetic
    trained = {n for stage in spec.stages for a in stage.augment for n in getattr(a, "noise", ())}
    return [
        name for name in (() if synthetic is None else synthetic.backgrounds) if name in trained
    ]


@dataclass(frozen=True, eq=False)
class SyntheticSource:
    """The synthetic soundscapes of one fold, each mixed when it is asked for.

    labels: of the recordings that may be mixed, `rows` their places in a store; backgrounds: those
    of the noise.
    """

    spec: SyntheticSpec
    waves: Any
    labels: tuple[str, ...]
    columns: npt.NDArray[np.int64]
    rows: Any
    backgrounds: Any

    @property
    def names(self) -> list[str]:
        """What the soundscapes are called, in order."""
        return [f"synthetic-{number:03d}" for number in range(self.spec.n)]

    def arrivals(self, number: int) -> tuple[Arrival, ...]:
        """What is to be heard in one of them."""
        return draw_arrivals(self.spec, number, self.columns)

    def render(self, number: int) -> tuple[Waveform, pd.DataFrame]:
        """One of them, and when which species sings in it: start_s, end_s, label."""
        arrivals = [(a, self.labels[a.row]) for a in self.arrivals(number)]
        background = self._background(number)
        wave, truth = mix_soundscape(background, self.waves.sample_rate_hz, arrivals, self._cut)
        scale = float(np.abs(wave).max(initial=0.0))
        samples = np.empty(len(wave), np.int16)
        to_int16(wave, scale, samples)
        return Waveform(samples, scale, self.waves.sample_rate_hz), truth

    def _cut(self, arrival: Arrival) -> Part | None:
        rate = self.waves.sample_rate_hz
        return cut_part(
            self._piece(self.rows, arrival.row, arrival.piece, LISTENED_S), rate, arrival
        )

    def _background(self, number: int) -> npt.NDArray[np.float32]:
        """One of the backgrounds, repeated where it is too short."""
        which, start = draw_background(self.spec, number)
        row = int(which * len(self.backgrounds))
        piece = self._piece(self.backgrounds, row, start, self.spec.seconds)
        return np.resize(piece, round(self.spec.seconds * self.waves.sample_rate_hz))

    def _piece(self, takes: Any, row: int, u: float, seconds: float) -> npt.NDArray[np.float32]:
        """At most so many seconds of a recording at its own level, from a start that `u` draws."""
        place, n = int(takes.place[row]), int(takes.n_samples[row])
        length = min(n, round(seconds * self.waves.sample_rate_hz))
        first = int(takes.first[row]) + int(u * (n - length + 1))
        samples = self.waves.read_row(place, first, length)
        return to_float(samples, self.waves.scale_of(place))


def open_synthetic(job: CellJob, lab: Lab) -> SyntheticSource:
    """The synthetic soundscapes of a cell's fold, of its validation rows and the backgrounds."""
    from birdlab.sed.takes import locate_takes

    spec = job.spec.evaluate.synthetic
    assert spec is not None
    waves = open_waves(lab, job.sample_rate_hz)
    table = job.validation()
    table = table[is_usable(table)]
    noise = [key for name in spec.backgrounds for key in job.backgrounds[name]]
    labels = tuple(str(label) for label in table["primary_label"])
    return SyntheticSource(
        spec,
        waves,
        labels,
        np.asarray([job.scored.index[label] for label in labels], np.int64),
        locate_takes(
            waves,
            table["key"].to_numpy("S32"),
            table[["start_s", "end_s"]].to_numpy(np.float64),
        ),
        locate_takes(
            waves,
            np.array([key.key for key in noise], "S32"),
            np.array([(key.start_s, key.end_s) for key in noise], np.float64),
        ),
    )


def load_synthetic(folder: Path, spec: ExperimentSpec) -> Heard:
    """The truth and the deployed probabilities of the rows of stored synthetic soundscapes.

    [rows, classes] each, soundscapes in order, rows in time. Raises OutputsError for a folder
    without them.
    """
    assert spec.evaluate.synthetic is not None
    stored = load_outputs(folder)
    rows = deployed_probs(stored, spec.output, spec.postprocess)
    names = np.asarray(stored.windows.recordings, object)[rows.recording_index]
    window_s, min_s = spec.competition.window_s, spec.evaluate.synthetic.min_s
    truth = load_table(folder, TRUTH)
    return mark_truth(truth, names, rows.end_s, window_s, stored.classes, min_s), rows.probs
