"""Window truth: which classes each window of a soundscape holds, from labels with times.

A soundscape is cut into windows from its start, the last one possibly shorter; a window is
named `<file stem>_<end second>`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.audiofile import read_duration_s
from birdlab.data.classes import ClassList
from birdlab.errors import DataError

MIN_OVERLAP_S = 0.1
"""A label marks the windows that hold more of it than this."""

_ROUNDING_S = 1e-6  # lengths in tables are decimals, so that 3 × 5 s may come as 15.0000001


def name_windows(filename: str, n_windows: int, window_s: float) -> list[str]:
    """The row ids of a soundscape's windows: `<file stem>_<end second>`.

    Ends are integers where all of them in the soundscape are, as a prediction names them.
    """
    stem = PurePosixPath(filename).stem
    ends_s = [round(window_s * (i + 1), 6) for i in range(n_windows)]
    whole = all(end_s == int(end_s) for end_s in ends_s)
    return [f"{stem}_{int(end_s) if whole else end_s}" for end_s in ends_s]


def count_cover(durations_s: npt.ArrayLike, window_s: float) -> npt.NDArray[np.int64]:
    """How many windows cover each soundscape: at least 1, the last one may be shorter."""
    n_windows = np.ceil((np.asarray(durations_s, np.float64) - _ROUNDING_S) / window_s)
    return np.maximum(n_windows, 1).astype(np.int64)


def read_lacking_durations(soundscapes: pd.DataFrame) -> pd.DataFrame:
    """`soundscapes` with the `duration_s` that its table lacks read from the header of `path`.

    Raises AudioError for a file that would have to be opened and cannot.
    """
    lacking = soundscapes["duration_s"].isna()
    found = [read_duration_s(Path(path)) for path in soundscapes.loc[lacking, "path"]]
    durations_s = soundscapes["duration_s"].astype(np.float64)
    durations_s[lacking] = found
    return soundscapes.assign(duration_s=durations_s)


def check_stems(filenames: Sequence[str]) -> None:
    """DataError when two soundscapes share a file stem, and so the names of their windows."""
    stems = [PurePosixPath(name).stem for name in filenames]
    twice = [stem for stem, n in Counter(stems).items() if n > 1]
    if twice:
        shared = [name for name, stem in zip(filenames, stems, strict=True) if stem == twice[0]]
        raise DataError(
            f"{len(twice)} names are shared by several soundscapes, so their row ids are the same",
            got=", ".join(shared[:5]),
            fix="rename the files, or put them in data sets of their own",
        )


def check_spans(spans: pd.DataFrame) -> None:
    """DataError with count and examples when a label has no length or its times are no numbers."""
    start_s, end_s = spans["start_s"].to_numpy(np.float64), spans["end_s"].to_numpy(np.float64)
    wrong = ~(np.isfinite(start_s) & np.isfinite(end_s) & (end_s > start_s))
    if wrong.any():
        rows = spans[wrong].head(5)
        shown = zip(rows["filename"], rows["start_s"], rows["end_s"], strict=True)
        raise DataError(
            f"{int(wrong.sum())} labels have no time that can be used",
            got="; ".join(f"{name} {start} to {end} s" for name, start, end in shown),
            expected="start_s before end_s, both numbers",
            fix="correct or remove these labels",
        )


def window_targets(
    annotations: pd.DataFrame,
    soundscapes: pd.DataFrame,
    classes: ClassList,
    window_s: float,
    *,
    min_overlap_s: float = MIN_OVERLAP_S,
) -> pd.DataFrame:
    """The truth of every window: `row_id` and a float32 column of 0 and 1 per class, in order.

    `annotations` has filename, start_s, end_s, label; `soundscapes` filename and duration_s, and
    every one of them counts as listened to from start to end. A label marks a window that holds
    more than `min_overlap_s` of it, or at least half of it when it is that short, so each label
    within its soundscape marks a window. Left out are labels of other soundscapes, what lies
    beyond the end of a soundscape, and labels that are no class (`ClassList.count_unknown`
    counts those). Raises DataError for soundscapes that share a stem and labels without length.
    """
    names = soundscapes["filename"].tolist()
    check_stems(names)
    known = annotations[annotations["filename"].isin(names) & annotations["label"].isin(classes)]
    check_spans(known)
    n_windows = count_cover(soundscapes["duration_s"], window_s)
    offsets = pd.Series(np.cumsum(n_windows) - n_windows, index=names)
    covered_s = np.minimum(soundscapes["duration_s"].to_numpy(np.float64), n_windows * window_s)
    ends_s = pd.Series(covered_s, index=names)[known["filename"]].to_numpy()
    start_s = np.maximum(known["start_s"].to_numpy(np.float64), 0)
    end_s = np.minimum(known["end_s"].to_numpy(np.float64), ends_s)
    labels, windows = _overlaps(start_s, end_s, window_s, min_overlap_s)
    targets = np.zeros((int(n_windows.sum()), len(classes)), np.float32)
    columns = np.asarray([classes.index[code] for code in known["label"]], np.int64)
    targets[offsets[known["filename"]].to_numpy()[labels] + windows, columns[labels]] = 1
    ids = [name_windows(f, n, window_s) for f, n in zip(names, n_windows.tolist(), strict=True)]
    table = pd.DataFrame(targets, columns=list(classes))
    table.insert(0, "row_id", [row_id for rows in ids for row_id in rows])
    return table


def _overlaps(
    start_s: npt.NDArray[np.float64],
    end_s: npt.NDArray[np.float64],
    window_s: float,
    min_overlap_s: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pairs (label, window of its soundscape) of which the label marks the window."""
    first = np.floor(start_s / window_s).astype(np.int64)
    n_touched = np.maximum(np.ceil(end_s / window_s).astype(np.int64) - first, 0)
    n_touched[end_s <= start_s] = 0
    labels = np.repeat(np.arange(len(start_s)), n_touched)
    earlier = np.repeat(np.cumsum(n_touched) - n_touched, n_touched)
    windows = first[labels] + np.arange(len(labels)) - earlier
    shared_s = np.minimum(end_s[labels], (windows + 1) * window_s)
    shared_s -= np.maximum(start_s[labels], windows * window_s)
    half_s = (end_s - start_s)[labels] / 2 - _ROUNDING_S
    marked = (shared_s > min_overlap_s) | ((shared_s >= half_s) & (shared_s > 0))
    return labels[marked], windows[marked]
