"""Labelled soundscapes: which windows of them hold which classes, and what outputs they have.

Those of the splits in BOARDS stand for a leaderboard and are scored by `heldout`; the others
may judge models before it, as an estimator beside the recordings of the folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.classes import ClassList
from birdlab.data.windows_truth import check_stems, name_windows, window_targets
from birdlab.datasets import Collector, sample_rate_of
from birdlab.errors import DataError
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.windows import Windowing
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest
from birdlab.words import list_some

if TYPE_CHECKING:
    from birdlab.cellplan import CellPlan

BOARDS = ("public", "private")
VALIDATORS = "train"
"""The split of soundscapes that were looked through and stand for no leaderboard."""


@dataclass(frozen=True, eq=False)
class SoundscapeSet:
    """The labelled soundscapes that an experiment is scored on beside its recordings.

    table: as `list_validators` gives it; keys: of their waveforms, None where a file is missing;
    identity: of the outputs that an experiment makes on them; rows_id: of the windows that are
    scored, however they are heard, equal where scores compare.
    """

    datasets: Mapping[str, Dataset]
    table: pd.DataFrame
    keys: tuple[str | None, ...]
    identity: str = ""
    rows_id: str = ""

    @property
    def rows(self) -> pd.DataFrame:
        """The files as rows to predict, with the columns of a cell's validation rows."""
        table = self.table[["recording"]].assign(primary_label="", apart=False, key=self.keys)
        table["secondary_labels"] = [[]] * len(table)
        return table.assign(start_s=np.nan, end_s=np.nan)

    def targets(
        self, n_windows: npt.NDArray[np.int64], classes: ClassList, window_s: float
    ) -> npt.NDArray[np.bool_]:
        """[windows, classes]: what each window holds, files in order, windows in time."""
        parts = []
        for name, files in self.table.groupby("dataset", sort=False):
            heard = n_windows[files.index.to_numpy()]
            truth, _ = soundscape_truth(self.datasets[str(name)], files, heard, classes, window_s)
            parts.append(truth.to_numpy() > 0)
        return np.concatenate(parts)


def list_validators(datasets: Sequence[Dataset], classes: ClassList) -> pd.DataFrame:
    """The labelled soundscapes of these data sets that no leaderboard is scored on.

    A row a file: dataset, filename, path, recording (`<data set>/<file>`).

    Raises DataError for a data set that has none, or none of whose labels is a class.
    """
    parts = []
    for data in datasets:
        chosen = data.soundscapes[data.soundscapes["split"] == VALIDATORS]
        if chosen.empty or not _has_labels(data):
            raise _no_validators(data)
        check_stems(chosen["filename"].tolist())
        require_class(data, _named(data, chosen), classes)
        part = chosen[["filename", "path"]].assign(dataset=data.name)
        parts.append(part.assign(recording=[f"{data.name}/{f}" for f in chosen["filename"]]))
    return pd.concat(parts, ignore_index=True)


def collect_soundscapes(collector: Collector, classes: ClassList) -> SoundscapeSet | None:
    """The soundscapes of `evaluate.soundscapes` as plans need them; None without any.

    Files that `on_bad_file: skip` leaves out are left out here too. Raises DataError as
    `list_validators`, and for files that are missing when the plan is strict.
    """
    loaded = [collector.dataset(name, "soundscapes") for name in collector.needs.soundscapes]
    datasets = [data for data in loaded if data is not None]
    if not datasets:
        return None
    table = list_validators(datasets, classes)
    paths = [Path(path) for path in table["path"]]
    keys = collector.keys(paths)
    kept = [i for i, out in enumerate(collector.left_out_of(paths, keys)) if not out]
    gone = [str(paths[i]) for i in kept if keys[i] is None]
    if not kept:
        raise DataError(
            "no soundscape of evaluate.soundscapes can be decoded",
            where=", ".join(data.name for data in datasets),
            got=f"{len(paths)} files that on_bad_file: skip leaves out",
            fix="replace them: birdlab data build SPEC says what is wrong with each",
        )
    if gone and collector.strict:
        raise DataError(
            f"{len(gone)} soundscapes of evaluate.soundscapes are missing",
            got=list_some(gone),
            fix="correct the path of the data set in birdlab.toml",
        )
    table = table.iloc[kept].reset_index(drop=True)
    return SoundscapeSet(
        {data.name: data for data in datasets}, table, tuple(keys[i] for i in kept)
    )


def identify_soundscapes(
    soundscapes: SoundscapeSet | None, spec: ExperimentSpec, classes: ClassList
) -> SoundscapeSet | None:
    """The soundscapes with the identity of the outputs that an experiment makes on them."""
    if soundscapes is None:
        return None
    windowing = build_windowing(spec, sample_rate_of(spec))
    plain = Windowing(windowing.window_s, windowing.sample_rate_hz)
    return replace(
        soundscapes,
        identity=soundscapes_id(soundscapes.keys, windowing, classes, spec.evaluate.hop_s),
        rows_id=soundscapes_id(soundscapes.keys, plain, classes),
    )


def name_soundscapes(
    cells: Iterable[CellPlan], soundscapes: SoundscapeSet | None
) -> Iterator[CellPlan]:
    """The cells, those that are scored knowing the name of their outputs on the soundscapes."""
    for cell in cells:
        if soundscapes is None or cell.eval_id is None:
            yield cell
        else:
            yield replace(cell, soundscapes_id=soundscapes.identity)


def soundscapes_id(
    contents: Sequence[str | None],
    windowing: Windowing,
    classes: ClassList,
    hop_s: float | None = None,
) -> str:
    """What the outputs on soundscapes of these contents are called; equal outputs, equal name."""
    heard = listening_document(windowing, classes, hop_s)
    return digest({"soundscapes": list(contents), **heard}, 12)


def listening_document(
    windowing: Windowing, classes: ClassList, hop_s: float | None
) -> dict[str, object]:
    """What names how windows are heard, as a part of what the names of outputs stand for."""
    document: dict[str, object] = {"window_s": windowing.window_s, "classes": classes.digest}
    if windowing.context_s is not None:
        document["context_s"] = windowing.context_s
    if windowing.windows_per_pass > 1:
        document["windows_per_pass"] = windowing.windows_per_pass
    if hop_s is not None:
        document["hop_s"] = hop_s
    if windowing.normalise != "crop":
        document["normalise"] = windowing.normalise
    return document


def soundscape_truth(
    data: Dataset,
    scapes: pd.DataFrame,
    n_windows: npt.NDArray[np.int64],
    classes: ClassList,
    window_s: float,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """A column per class and a row for each window that was heard; labels that are no class.

    `scapes` has the files, `n_windows` [files] how many windows of each were heard. A class
    without a column in a table of window labels is in none of its windows, as one that no
    annotation names is. Raises DataError for windows that have no labels.
    """
    named = _named(data, scapes)
    require_class(data, named, classes)
    if data.soundscape_labels.empty:
        heard = pd.DataFrame(
            {"filename": scapes["filename"].tolist(), "duration_s": n_windows * window_s}
        )
        truth = window_targets(data.annotations, heard, classes, window_s)
        return truth[list(classes)], classes.count_unknown((label,) for label in named)
    labels = data.soundscape_labels.set_index("row_id")
    heard_ids = [
        row_id
        for name, n in zip(scapes["filename"], n_windows.tolist(), strict=True)
        for row_id in name_windows(name, n, window_s)
    ]
    lost = [row_id for row_id in heard_ids if row_id not in labels.index]
    if lost:
        raise DataError(
            f"{len(lost)} windows have no labels",
            got=", ".join(lost[:3]),
            where=str(data.root),
            expected="a row per window, named <file stem>_<end second>",
        )
    labels = labels.loc[heard_ids]
    strange = {code: int((labels[code] > 0).sum()) for code in classes.unknown(labels.columns)}
    unknown = {code: n for code, n in strange.items() if n}
    return labels.reindex(columns=list(classes), fill_value=np.float32(0)), unknown


def require_class(data: Dataset, labels: Sequence[str], classes: ClassList) -> None:
    """DataError when none of the labels is a class of the run."""
    if not any(code in classes for code in labels):
        raise DataError(
            f"no label of the soundscapes of {data.name} is a class of the run",
            where=str(data.root),
            got=", ".join(sorted(set(labels))[:5]) or "no label",
            expected=f"some of the {len(classes)} classes: {', '.join(classes.codes[:3])} ...",
            fix="map them: `labels` or `synonyms` of the data set in birdlab.toml",
        )


def _named(data: Dataset, scapes: pd.DataFrame) -> list[str]:
    """The labels of some soundscapes: one for each annotation, or the columns of the table."""
    if len(data.soundscape_labels):
        return [str(name) for name in data.soundscape_labels.columns if name != "row_id"]
    chosen = data.annotations["filename"].isin(scapes["filename"])
    return [str(label) for label in data.annotations["label"][chosen]]


def _has_labels(data: Dataset) -> bool:
    return bool(len(data.soundscape_labels) or len(data.annotations))


def _no_validators(data: Dataset) -> DataError:
    splits = data.soundscapes["split"].value_counts()
    counted = ", ".join(f"{n} {split}" for split, n in splits.items())
    board = _has_labels(data) and any(split in BOARDS for split in splits.index)
    return DataError(
        f"the labelled soundscapes of {data.name} stand for its leaderboard, so they cannot "
        "choose models"
        if board
        else f"the data set {data.name} has no labelled soundscapes to validate on",
        where="evaluate.soundscapes",
        got=f"soundscapes: {counted or 'none'}",
        expected=f"labelled soundscapes of the split `{VALIDATORS}`",
        fix="describe those that may judge models as a data set of their own in birdlab.toml: "
        f"{{kind: soundscapes, path: ..., annotations: ..., split: {VALIDATORS}}}",
    )
