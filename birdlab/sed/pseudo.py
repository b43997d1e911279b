"""Windows of unlabelled soundscapes as training clips: where each lies, with which soft labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from birdlab.data.classes import ClassList
from birdlab.errors import DataError
from birdlab.sed.windowlabels import (
    ChosenWindows,
    Floats,
    Ints,
    Probs,
    SoftLabels,
    choose_windows,
    map_labels,
    soften,
    summarise_labels,
    teacher_columns,
)
from birdlab.spec.teaching import PseudoSpec

if TYPE_CHECKING:
    from birdlab.sed.takes import Takes

__all__ = [
    "ChosenWindows",
    "Cut",
    "PseudoRows",
    "SoftLabels",
    "build_pseudo_rows",
    "choose_windows",
    "map_labels",
    "soften",
    "summarise_labels",
]

Cut = tuple[int, int, int]
"""Where a piece lies: the store's number of its recording, first sample, number of samples."""


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
        teacher_columns(labels, classes),
        chosen.class_sums,
    )


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
