"""The labels of training rows, kept small: targets are made dense for one batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

S = TypeVar("S", np.float32, np.bool_)


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of N rows as columns of a class list.

    primary: [N] int32, the column of each row's primary label; also: int32, the columns of all
    secondary labels end to end, those of row i at bounds[i]:bounds[i + 1]; bounds: [N + 1].
    A secondary label counts `secondary`, 0..1, or is masked: left out of the loss. The arrays
    may be mapped from a file.
    """

    primary: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.int64]
    also: npt.NDArray[np.int32]
    n_classes: int
    secondary: float | Literal["mask"] = 1.0

    def __len__(self) -> int:
        return len(self.primary)

    def take(self, rows: npt.NDArray[np.int64]) -> Targets:
        """The labels of the chosen rows, which may repeat."""
        counts = (self.bounds[1:] - self.bounds[:-1])[rows]
        bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        within = np.arange(bounds[-1]) - np.repeat(bounds[:-1], counts)
        also = self.also[np.repeat(self.bounds[:-1][rows], counts) + within]
        return Targets(self.primary[rows], bounds, also, self.n_classes, self.secondary)

    def dense(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Targets of the rows, [len(rows), n_classes] float32: 1 for the primary label.

        A masked secondary label is 0 here; `masks` says that it does not count.
        """
        value = 0.0 if self.secondary == "mask" else self.secondary
        return self._spread(rows, np.zeros((len(rows), self.n_classes), np.float32), value)

    def masks(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_] | None:
        """Which targets count in the loss, [len(rows), n_classes]: all but masked labels.

        A label that is both primary and secondary counts. None when secondary labels are not
        masked, so that everything counts.
        """
        if self.secondary != "mask":
            return None
        return self._spread(rows, np.ones((len(rows), self.n_classes), np.bool_), False)

    def _spread(
        self, rows: npt.NDArray[np.int64], out: npt.NDArray[S], secondary: float
    ) -> npt.NDArray[S]:
        """`out` with `secondary` at the secondary labels of each row and 1 at the primary."""
        for target, first, last in zip(
            out, self.bounds[rows].tolist(), self.bounds[rows + 1].tolist(), strict=True
        ):
            target[self.also[first:last]] = secondary
        out[np.arange(len(rows)), self.primary[rows]] = 1
        return out
