"""Stored windows of labelled files: of `birdlab predict`, and of the models of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.data.windows_truth import name_windows
from birdlab.datasets import open_dataset
from birdlab.errors import DataError
from birdlab.evaluate.deployed import count_rows
from birdlab.evaluate.evidence import Cell
from birdlab.evaluate.outputs import StoredOutputs
from birdlab.evaluate.postprocess import finish_rows, grid_rows
from birdlab.evaluate.score import fold_table
from birdlab.evaluate.steps import title_of, to_mappings
from birdlab.evaluate.windows import blend
from birdlab.lab import Lab
from birdlab.recorded import name_remarks, spec_of
from birdlab.runtables import iter_held_out, scored_as, steps_of
from birdlab.soundscapes import list_validators, soundscape_truth
from birdlab.spec.parts import OutputSpec
from birdlab.spec.postprocess import PostStep
from birdlab.study.postprocessing import LabelledWindows
from birdlab.tracking.evidence import iter_heard, load_recordists
from birdlab.words import count_words, list_some

FIXED = ("row_id", "file", "end_s")


@dataclass(frozen=True, eq=False)
class PostEvidence:
    """The windows by (fold, seed); what rows hang together by; what is to be known of them."""

    cells: Mapping[Cell, LabelledWindows]
    group: str
    notes: tuple[str, ...] = ()


def read_windows(path: Path) -> pd.DataFrame:
    """The table that `birdlab predict` wrote beside its CSV; DataError for one that is none."""
    if not path.is_file():
        raise DataError(
            "there is no such file of windows",
            where=str(path),
            fix="birdlab predict writes it beside the CSV, as NAME.windows.parquet",
        )
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            "windows cannot be read",
            where=str(path),
            got=error,
            expected="the NAME.windows.parquet that `birdlab predict` writes beside its CSV",
        ) from None
    if not _holds_windows(table):
        raise DataError(
            "a table does not hold the probabilities of windows",
            where=str(path),
            got=f"{len(table)} rows, columns {list_some(table.columns)}",
            expected=f"{', '.join(FIXED)} (above 0), and a column of numbers for each class",
            fix="birdlab predict writes it beside the CSV, as NAME.windows.parquet",
        )
    return table


def _holds_windows(table: pd.DataFrame) -> bool:
    codes = [c for c in table.columns if c not in FIXED]
    if table.empty or not codes or not all(name in table.columns for name in FIXED):
        return False
    if not all(table[name].dtype.kind == "f" for name in codes):
        return False
    return table["end_s"].dtype.kind in "iuf" and bool((table["end_s"] > 0).all())


def apply_chain(table: pd.DataFrame, steps: Sequence[PostStep]) -> pd.DataFrame:
    """`row_id` and a column per class: the rows of a submission after the steps, as predict's.

    `table` as `read_windows` gives it, its files in the order in which they come first.
    """
    codes = [str(c) for c in table.columns if c not in FIXED]
    file, _ = pd.factorize(table["file"])
    end_s = table["end_s"].to_numpy(np.float64)
    order = np.lexsort((end_s, file))
    file, end_s = file[order].astype(np.int64), end_s[order]
    probs, window_s = table[codes].to_numpy(np.float32)[order], float(end_s[0])
    grid, rows = finish_rows(probs, file, end_s, codes, to_mappings(steps), window_s)
    out = pd.DataFrame(rows, columns=codes)
    out.insert(0, "row_id", table["row_id"].to_numpy()[order][grid])
    return out


def predicted_windows(lab: Lab, path: Path, on: str) -> PostEvidence:
    """The windows of `birdlab predict` on the labelled soundscapes of the data set `on`.

    Files are told by their stems. Raises DataError for soundscapes that stand for a leaderboard,
    as `list_validators`, and where no file of the table is among them.
    """
    table = read_windows(path)
    codes = [str(c) for c in table.columns if c not in FIXED]
    data, classes = open_dataset(lab, on), ClassList(tuple(codes))
    scapes = list_validators([data], classes)
    stems = [PurePosixPath(str(name)).stem for name in table["file"]]
    files = [PurePosixPath(name).stem for name in scapes["filename"]]
    place = {stem: i for i, stem in enumerate(files)}
    index = np.array([place.get(stem, -1) for stem in stems], np.int64)
    heard = np.unique(index[index >= 0])
    if not len(heard):
        raise DataError(
            f"no file of the windows is a labelled soundscape of {on}",
            where=str(path),
            got=list_some(dict.fromkeys(stems), 3),
            expected=list_some(files, 3),
            fix=f"birdlab predict the soundscapes of {on}",
        )
    rows = np.flatnonzero(index >= 0)
    rows = rows[np.lexsort((table["end_s"].to_numpy(np.float64)[rows], index[rows]))]
    chosen = scapes.iloc[heard].reset_index(drop=True)
    file, end_s = np.searchsorted(heard, index[rows]), table["end_s"].to_numpy(np.float64)[rows]
    window_s = float(end_s[0])
    n_windows = _count_rows(file, end_s, window_s, chosen["filename"].tolist(), path)
    truth, unknown = soundscape_truth(data, chosen, n_windows, classes, window_s)
    probs = table[codes].to_numpy(np.float32)[rows]
    windows = _windows(tuple(codes), probs, file, end_s, window_s, truth.to_numpy() > 0, chosen)
    return PostEvidence({(0, 0): windows}, "file", _notes(stems, files, place, unknown))


def _count_rows(
    file: npt.NDArray[np.int64],
    end_s: npt.NDArray[np.float64],
    window_s: float,
    names: list[str],
    path: Path,
) -> npt.NDArray[np.int64]:
    """How many rows each file has; DataError for one whose windows are not all there."""
    grid = grid_rows(end_s, window_s)
    n_rows = np.bincount(file[grid], minlength=len(names))
    for i, name in enumerate(names):
        ends_s = end_s[grid & (file == i)]
        if not np.allclose(ends_s, window_s * np.arange(1, len(ends_s) + 1)) or not len(ends_s):
            raise DataError(
                f"windows of {name} are missing",
                where=str(path),
                got=f"windows that end at {list_some([f'{e:g}' for e in ends_s], 4)} s",
                expected=f"one every {window_s:g} s from the start",
                fix="birdlab predict it again",
            )
    return n_rows


def _notes(
    stems: list[str], files: list[str], place: Mapping[str, int], unknown: Mapping[str, int]
) -> tuple[str, ...]:
    strange = sorted({stem for stem in stems if stem not in place})
    absent = sorted(set(files) - set(stems))
    said = [
        f"{count_words(len(names), 'file')} {what}: {list_some(names, 3)}"
        for names, what in ((strange, "without labels"), (absent, "with labels and no windows"))
        if names
    ]
    if unknown:
        said.append(f"labels that are no class: {list_some(unknown)}")
    return tuple(said)


def _windows(
    codes: tuple[str, ...],
    probs: npt.NDArray[np.float32],
    file: npt.NDArray[np.int64],
    end_s: npt.NDArray[np.float64],
    window_s: float,
    targets: npt.NDArray[np.bool_],
    scapes: pd.DataFrame,
) -> LabelledWindows:
    """Windows of soundscapes, of which those that do not overlap are a row each."""
    grid = grid_rows(end_s, window_s)
    row = np.where(grid, np.cumsum(grid) - 1, -1)
    counts = np.bincount(file[grid], minlength=len(scapes))
    named = zip(scapes["filename"], scapes["recording"], counts.tolist(), strict=True)
    group = {
        f"{recording} {row_id}": str(recording)
        for name, recording, n in named
        for row_id in name_windows(str(name), n, window_s)
    }
    return LabelledWindows(codes, probs, file, end_s, window_s, row, tuple(group), targets, group)


def heard_windows(lab: Lab, record: Mapping[str, Any], on: str = "") -> PostEvidence:
    """What each model of a run said of its labelled soundscapes, of the data set `on` or of all.

    Raises DataError for a run that has no stored outputs on them.
    """
    spec, cells = spec_of(record), {}
    window_s = spec.competition.window_s
    for cell, stored, truth, rows in iter_heard(lab, record, on):
        w = stored.windows
        row_of = np.repeat(np.arange(len(w.recordings)), count_rows(w))
        chosen = np.flatnonzero(np.isin(w.recording_index, row_of[rows]))
        own, file = np.unique(w.recording_index[chosen], return_inverse=True)
        recordings = [w.recordings[i] for i in own]
        names = [PurePosixPath(name).name for name in recordings]
        scapes = pd.DataFrame({"filename": names, "recording": recordings})
        probs = _deployed(stored, spec.output)[chosen]
        cells[cell] = _windows(w.codes, probs, file, w.end_s[chosen], window_s, truth[rows], scapes)
    return PostEvidence(cells, "file", tuple(_own_steps(record)))


def held_out_windows(lab: Lab, record: Mapping[str, Any]) -> PostEvidence:
    """The windows of the recordings that a run held out, whose maxima are scored, as in validation.

    Raises as `load_fold_tables`.
    """
    output, evaluate, _ = scored_as(record)
    window_s = spec_of(record).competition.window_s
    recordists, cells = load_recordists(lab, record), {}
    for cell, stored in iter_held_out(lab, record):
        w, table = stored.windows, fold_table(stored, output, evaluate)
        place = {name: i for i, name in enumerate(table.recordings)}
        row = np.array([place.get(name, -1) for name in w.recordings])[w.recording_index]
        group = {name: recordists.get(name, name) for name in table.recordings}
        kept = np.flatnonzero(row >= 0)
        kept = kept[np.lexsort((w.end_s[kept], row[kept]))]
        cells[cell] = LabelledWindows(
            w.codes,
            _deployed(stored, output)[kept],
            row[kept],
            w.end_s[kept],
            window_s,
            np.where(grid_rows(w.end_s[kept], window_s), row[kept], -1),
            table.recordings,
            table.targets,
            group,
        )
    note = (
        "Recordings of one species each are not soundscapes: what looks at a whole file may do "
        "otherwise there."
    )
    remarks = name_remarks({record["name"] or record["spec_id"]: record})
    return PostEvidence(cells, "recordist", (note, *_own_steps(record), *remarks))


def _own_steps(record: Mapping[str, Any]) -> list[str]:
    """That the steps a run has itself are left out, in words; nothing where it has none."""
    own = steps_of(record)
    if not own:
        return []
    titles = ", ".join(title_of(step) for step in own)
    return [f"The run's own post-processing ({titles}) is left out: steps are tried in its place."]


def _deployed(stored: StoredOutputs, output: OutputSpec) -> npt.NDArray[np.float32]:
    w = stored.windows
    return blend(w.clip_probs, w.time_max, output.clip, output.time_max)
