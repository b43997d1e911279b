"""No-call background: stretches of soundscapes in which nothing was labelled or heard.

A stretch is as long as the silence between labels lets it be, not cut into windows: every crop
taken from it is free of labels, and long stretches give noise more variety. What is known of
whole windows only (labels per window, scores of a model) is turned into labels that fill their
window; a window that nothing is known of counts as busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from birdlab.data.windows_truth import check_spans, check_stems, count_cover, name_windows
from birdlab.errors import DataError

SPAN = ("filename", "start_s", "end_s")


def free_stretches(
    labels: pd.DataFrame, soundscapes: pd.DataFrame, *, margin_s: float, min_s: float
) -> pd.DataFrame:
    """The longest stretches without any label: filename, start_s, end_s, by soundscape and time.

    `labels` has filename, start_s, end_s, of whatever species; `soundscapes` filename and
    duration_s. A stretch keeps `margin_s` away from every label, but reaches to the start and the
    end of its soundscape, and is at least `min_s` long. Labels of other soundscapes are left out.
    Raises DataError for labels without length and for soundscapes that are listed twice.
    """
    _check_once(soundscapes["filename"])
    labels = labels[labels["filename"].isin(soundscapes["filename"])]
    check_spans(labels)
    by_file = {
        str(name): sorted(zip(rows["start_s"], rows["end_s"], strict=True))
        for name, rows in labels.groupby("filename", sort=False)
    }
    found: list[tuple[str, float, float]] = []
    for name, duration_s in zip(soundscapes["filename"], soundscapes["duration_s"], strict=True):
        free_from_s = 0.0
        for start_s, end_s in [*by_file.get(name, []), (np.inf, np.inf)]:
            free_to_s = min(start_s - margin_s, duration_s)
            if free_to_s > free_from_s and free_to_s - free_from_s >= min_s - 1e-9:
                found.append((name, free_from_s, free_to_s))
            free_from_s = max(free_from_s, end_s + margin_s)
    return pd.DataFrame(found, columns=list(SPAN)).astype({"start_s": float, "end_s": float})


def unlabelled_windows(window_labels: pd.DataFrame) -> list[str]:
    """The row ids of the windows in which no class is marked, not even in part."""
    marked = window_labels.drop(columns="row_id").to_numpy() > 0
    return list(window_labels["row_id"][~marked.any(axis=1)])


def quiet_windows(scores: pd.DataFrame, below: float) -> list[str]:
    """The row ids of the windows in which the highest probability of all classes is below `below`.

    `scores` has row_id and a column per class, as a prediction has.
    """
    probs = scores.drop(columns="row_id").to_numpy()
    return list(scores["row_id"][(probs < below).all(axis=1)])


def busy_windows(quiet: Iterable[str], soundscapes: pd.DataFrame, window_s: float) -> pd.DataFrame:
    """All windows of the soundscapes but the quiet ones, as labels: filename, start_s, end_s.

    `quiet` are row ids. Raises DataError when none of them is a window of these soundscapes (and
    there are some), and when two soundscapes share a stem.
    """
    names = soundscapes["filename"].tolist()
    check_stems(names)
    is_quiet, n_quiet = set(quiet), 0
    busy: list[tuple[str, float, float]] = []
    n_windows = count_cover(soundscapes["duration_s"], window_s).tolist()
    for name, n in zip(names, n_windows, strict=True):
        for i, row_id in enumerate(name_windows(name, n, window_s)):
            if row_id in is_quiet:
                n_quiet += 1
            else:
                busy.append((name, i * window_s, (i + 1) * window_s))
    if is_quiet and not n_quiet:
        raise DataError(
            "the names of the windows do not fit the soundscapes",
            got=", ".join(sorted(is_quiet)[:3]),
            expected=f"<file stem>_<end second>, windows of {window_s:g} s",
        )
    return pd.DataFrame(busy, columns=list(SPAN)).astype({"start_s": float, "end_s": float})


def _check_once(names: Sequence[str]) -> None:
    repeated = sorted(pd.Series(names)[pd.Series(names).duplicated()].unique())
    if repeated:
        raise DataError(
            "soundscapes are listed twice",
            got=", ".join(repeated[:5]),
            expected="each soundscape once",
        )
