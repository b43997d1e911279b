"""Windows of unlabelled soundscapes as training clips: which are heard, with which soft labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.errors import DataError
from birdlab.spec.teaching import PseudoSpec

if TYPE_CHECKING:
    from birdlab.sed.takes import Takes

_WINDOWS_AT_ONCE = 4096

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Probs = npt.NDArray[np.float32]
Cut = tuple[int, int, int]
"""Where a piece lies: the store's number of its recording, first sample, number of samples."""


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """What a teacher says of the windows of soundscapes, as it was stored.

    keys: of the waveforms of F files; file: [W] which of them a window is of; start_s, end_s:
    [W] where it lies there; probs: [W, K], 0..1, a column for each of `codes`, which may be mapped
    from a file; teacher: a hash of what labelled; names: the recordings of `keys`, for messages.
    Raises DataError where these do not fit together.
    """

    keys: tuple[str, ...]
    file: Ints
    start_s: Floats
    end_s: Floats
    probs: Probs
    codes: tuple[str, ...]
    teacher: str
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = {len(self.file), len(self.start_s), len(self.end_s), len(self.probs)}
        if len(shapes) > 1 or self.probs.shape[1:] != (len(self.codes),):
            raise DataError(
                "soft labels do not fit together",
                got=f"{len(self.file)} windows, probabilities of shape {self.probs.shape}",
                expected=f"a row a window and {len(self.codes)} columns",
                fix="run the experiment again: finished cells are kept, missing outputs are made",
            )

    def __len__(self) -> int:
        return len(self.file)


def map_labels(labels: SoftLabels, path: Path) -> SoftLabels:
    """The labels with their probabilities in a file, which is mapped: they need no memory."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part.npy")
    np.save(part, labels.probs, allow_pickle=False)
    part.replace(path)
    return replace(labels, probs=np.load(path, "r", allow_pickle=False))


@dataclass(frozen=True, eq=False)
class ChosenWindows:
    """The windows that pass a threshold, and what all windows say of each class.

    windows: [n] rows of the SoftLabels, in their order; highest: [n] the largest probability;
    sums: [n] the sum of the soft labels. known: [C] which classes the teacher knows; above: [C]
    windows in which the class reaches the threshold; class_sums: [C] the sum of its soft labels
    over the windows that pass; class_highest: [C] its largest probability. 0 for unknown classes.
    """

    windows: Ints
    highest: Floats
    sums: Floats
    known: npt.NDArray[np.bool_]
    above: Ints
    class_sums: Floats
    class_highest: Floats

    def __len__(self) -> int:
        return len(self.windows)


def soften(probs: Floats, spec: PseudoSpec) -> Floats:
    """Soft labels from a teacher's probabilities: 0 below the floor, else to the power."""
    labels: Floats = np.where(probs < spec.floor, 0.0, probs)
    return labels if spec.power == 1 else labels**spec.power


def choose_windows(labels: SoftLabels, spec: PseudoSpec, classes: ClassList) -> ChosenWindows:
    """The windows whose highest probability reaches the threshold, with sums.

    Only `classes` count, whatever else the teacher knows. A window whose labels all become 0 is
    a clip without a call, and passes where the threshold lets it. Raises DataError when the
    teacher knows none of the classes.
    """
    at = _columns(labels, classes)
    known = at >= 0
    above = np.zeros(len(classes), np.int64)
    class_sums, class_highest = np.zeros(len(classes)), np.zeros(len(classes))
    highest, sums = np.zeros(len(labels)), np.zeros(len(labels))
    for part in _parts(len(labels)):
        probs = labels.probs[part][:, at[known]].astype(np.float64)
        soft = soften(probs, spec)
        highest[part], sums[part] = probs.max(axis=1), soft.sum(axis=1)
        above[known] += (probs >= spec.threshold).sum(axis=0)
        class_sums[known] += soft[highest[part] >= spec.threshold].sum(axis=0)
        class_highest[known] = np.maximum(class_highest[known], probs.max(axis=0))
    windows = np.flatnonzero(highest >= spec.threshold)
    return ChosenWindows(
        windows, highest[windows], sums[windows], known, above, class_sums, class_highest
    )


def summarise_labels(labels: SoftLabels, spec: PseudoSpec, classes: ClassList) -> pd.DataFrame:
    """What windows say of each class, a row a class in order.

    Columns: class, known (to the teacher), windows (in which it reaches the threshold), label_sum
    (its soft labels over the windows that pass, in windows), highest (probability). Unknown
    classes have 0. Raises DataError as `choose_windows`.
    """
    chosen = choose_windows(labels, spec, classes)
    return pd.DataFrame(
        {
            "class": list(classes),
            "known": chosen.known,
            "windows": chosen.above,
            "label_sum": chosen.class_sums,
            "highest": chosen.class_highest,
        }
    )


@dataclass(frozen=True, eq=False)
class PseudoRows:
    """Windows that training may draw, of n that pass the threshold, and their soft labels.

    takes: [F] the files; file, first, last: [W] of every window, by file and time, in samples of
    its file; bounds: [F + 1] the windows of each file; order: [W] its row in `labels`; chosen: [n]
    which of the W may be drawn; cumulative: [n] running sum of what they weigh, None where all
    weigh alike; columns: [C] the teacher's column of each class, -1 without one. In memory a
    window costs 48 bytes however many classes there are.
    """

    labels: SoftLabels
    spec: PseudoSpec
    takes: Takes
    file: Ints
    first: Ints
    last: Ints
    bounds: Ints
    order: Ints
    chosen: Ints
    cumulative: Floats | None
    columns: Ints
    class_sums: Floats

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which classes the teacher knows, [C]: the others do not count in the loss."""
        return self.columns >= 0

    def pick(self, u: Floats) -> Ints:
        """A window, 0..n - 1, for each of the draws `u` [k] in [0, 1), as `spec.draw` says."""
        if self.cumulative is None:
            return (u * len(self)).astype(np.int64)
        drawn: Ints = np.searchsorted(self.cumulative, u * self.cumulative[-1], side="right")
        return np.minimum(drawn, len(self) - 1)

    def cut(self, window: int, u: float, crop_samples: int) -> tuple[Cut, Probs]:
        """Where a crop of a drawn window lies, and its labels [C] float32.

        A crop shorter than the window lies anywhere in it, a longer one anywhere around it, as
        `u` in [0, 1) says, within the file. It has the labels of the window; one that is longer
        the largest over all windows of which more than half lies in it.
        """
        at = int(self.chosen[window])
        file, first, last = int(self.file[at]), int(self.first[at]), int(self.last[at])
        length = int(self.takes.n_samples[file])
        ends = sorted((first, last - crop_samples))
        low, high = (min(max(0, end), max(0, length - crop_samples)) for end in ends)
        start = low + int(u * (high - low + 1))
        rows = self.order[at : at + 1]
        if crop_samples > last - first:
            rows = self._covered(file, start, start + crop_samples)
        cut = int(self.takes.place[file]), int(self.takes.first[file]) + start
        return (*cut, min(length, crop_samples)), self._soft_labels(rows)

    def name(self, window: int) -> str:
        """The recording of a drawn window, and from which second on it is."""
        at = int(self.chosen[window])
        file, row = int(self.file[at]), int(self.order[at])
        names = self.labels.names or self.labels.keys
        return f"{names[file]} from {self.labels.start_s[row]:g} s"

    def _covered(self, file: int, start: int, end: int) -> Ints:
        of_file = slice(int(self.bounds[file]), int(self.bounds[file + 1]))
        first, last = self.first[of_file], self.last[of_file]
        inside = np.minimum(last, end) - np.maximum(first, start)
        return self.order[of_file][2 * inside > last - first]

    def _soft_labels(self, rows: Ints) -> Probs:
        out = np.zeros(len(self.columns), np.float32)
        heard = self.labels.probs[rows].max(axis=0).astype(np.float64)
        out[self.known] = soften(heard[self.columns[self.known]], self.spec)
        return out


def build_pseudo_rows(
    labels: SoftLabels, spec: PseudoSpec, classes: ClassList, takes: Takes, sample_rate_hz: int
) -> PseudoRows:
    """The windows that training draws from; `takes` says where the files of `labels.keys` lie.

    Raises DataError when no window passes the threshold, when the labels of all that pass are 0
    and `draw: confidence` could draw none, when the teacher knows none of the classes, and for
    windows that lie outside their file.
    """
    chosen = choose_windows(labels, spec, classes)
    _refuse_nothing(chosen, labels, spec)
    order = np.lexsort((labels.start_s, labels.file))
    file = labels.file[order].astype(np.int64)
    length = takes.n_samples[file]
    first, last = (
        np.rint(seconds[order] * sample_rate_hz).astype(np.int64)
        for seconds in (labels.start_s, labels.end_s)
    )
    last = np.minimum(last, length)
    _refuse_outside(labels, order[(first < 0) | (first >= last)])
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return PseudoRows(
        labels,
        spec,
        takes,
        file,
        first,
        last,
        np.searchsorted(file, np.arange(len(labels.keys) + 1)),
        order,
        places[chosen.windows],
        np.cumsum(chosen.sums) if spec.draw == "confidence" else None,
        _columns(labels, classes),
        chosen.class_sums,
    )


def _columns(labels: SoftLabels, classes: ClassList) -> Ints:
    """The teacher's column of each class; -1 where it has none."""
    at = classes.positions_in(ClassList(labels.codes)).astype(np.int64)
    if (at < 0).all():
        raise DataError(
            "the teacher of the soft labels knows none of the classes",
            got=", ".join(labels.codes[:5]),
            expected=", ".join(classes.codes[:5]),
            fix="take a teacher that was trained on these species",
        )
    return at


def _parts(n: int) -> Iterator[slice]:
    for begin in range(0, n, _WINDOWS_AT_ONCE):
        yield slice(begin, min(begin + _WINDOWS_AT_ONCE, n))


def _refuse_nothing(chosen: ChosenWindows, labels: SoftLabels, spec: PseudoSpec) -> None:
    if len(chosen) == 0:
        highest = float(chosen.class_highest.max(initial=0))
        raise DataError(
            f"none of {len(labels):,} windows of soundscapes passes the threshold",
            where="pseudo.threshold",
            got=f"{spec.threshold:g}; the highest probability is {highest:.3g}",
            fix="lower the threshold, or look at the labels with birdlab pseudo",
        )
    if spec.draw == "confidence" and chosen.sums.sum() == 0:
        raise DataError(
            "the soft labels of all windows are 0, so that none would be drawn",
            where="pseudo.floor",
            got=f"floor {spec.floor:g}, threshold {spec.threshold:g}",
            fix="lower the floor, or write draw: uniform",
        )


def _refuse_outside(labels: SoftLabels, rows: Ints) -> None:
    if len(rows):
        row = int(rows[0])
        names = labels.names or labels.keys
        raise DataError(
            f"{len(rows)} soft-labelled windows lie outside their recordings",
            got=f"{labels.start_s[row]:g} to {labels.end_s[row]:g} s of {names[labels.file[row]]}",
            fix="delete the stored outputs of the teacher on these soundscapes: they are of others",
        )
