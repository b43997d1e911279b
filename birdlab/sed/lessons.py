"""What a teacher says of the clips that a network is trained on, as the second target of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

Half = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lessons:
    """The outputs of teachers on a grid of windows over each recording.

    place: [N] the recording of each training row; starts: by recording, the first sample of each
    window from the start of the used part (negative: zeros stand before it); outputs: by teacher
    and recording, logits or embeddings [W, D] float16, which may be mapped from files; columns:
    [C] the output of each class, -1 for one that no teacher knows, None for embeddings; width and
    crop: the samples of a window and of a clip.
    """

    target: Literal["logits", "embeddings"]
    place: Ints
    starts: tuple[Ints, ...]
    outputs: tuple[tuple[Half, ...], ...]
    columns: Ints | None
    width: int
    crop: int

    @property
    def on_grid(self) -> bool:
        """Whether clips start where windows do, so that the teacher heard the very samples."""
        return self.width == self.crop

    @property
    def n_values(self) -> int:
        """How many values are said of a clip."""
        if self.columns is not None:
            return len(self.columns)
        return sum(int(heard[0].shape[1]) for heard in self.outputs)

    def start(self, row: int, u: float) -> int:
        """Where the clip of a row starts that `u` in [0, 1) places over the windows."""
        starts = self.starts[self.place[row]]
        return max(0, int(starts[int(u * len(starts))]))

    def said(self, row: int, start: int) -> Floats:
        """What the teachers say of the clip of a row at sample `start`: [n_values] float32.

        Probabilities are the mean over the teachers, NaN for a class that they do not know;
        embeddings of several teachers stand side by side. A clip that is no window gets the
        largest probability, or the mean embedding, of the windows whose middle lies in it, or of
        the nearest where there is none.
        """
        place = self.place[row]
        windows = self._windows(self.starts[place], start)
        heard = [outputs[place][windows].astype(np.float32) for outputs in self.outputs]
        if self.columns is None:
            return np.concatenate([values.mean(axis=0) for values in heard])
        probs = np.mean([special.expit(values.max(axis=0)) for values in heard], axis=0)
        known = np.where(self.columns < 0, np.nan, probs[self.columns])
        return np.asarray(known, np.float32)

    def _windows(self, starts: Ints, start: int) -> Ints:
        """The windows that speak for the clip at `start`; by number."""
        if self.on_grid:
            return np.array([np.searchsorted(starts, start, side="right") - 1])
        middles = starts + self.width / 2
        within = np.flatnonzero((middles >= start) & (middles < start + self.crop))
        if len(within):
            return within
        return np.array([np.argmin(np.abs(middles - start - self.crop / 2))])
