"""What a teacher says of windows of unlabelled soundscapes, and which of them pass a threshold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.errors import DataError
from birdlab.spec.teaching import PseudoSpec

_WINDOWS_AT_ONCE = 4096

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Probs = npt.NDArray[np.float32]


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
    at = teacher_columns(labels, classes)
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


def teacher_columns(labels: SoftLabels, classes: ClassList) -> Ints:
    """The teacher's column of each class, [C]; -1 where it has none. DataError for none at all."""
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
