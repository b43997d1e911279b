"""Where training clips come from: rows, noise and windows of a waveform store, by crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from birdlab.data.store import WaveStore
from birdlab.evaluate.windows import Normalise
from birdlab.sed.batch import Crops
from birdlab.sed.draws import EpochDraws
from birdlab.sed.lessons import Lessons
from birdlab.sed.pseudo import Cut, PseudoRows
from birdlab.sed.sampler import row_weights_of
from birdlab.sed.takes import Takes
from birdlab.sed.targets import Targets
from birdlab.spec.augmentations import Partner
from birdlab.spec.base import Spec
from birdlab.spec.samplers import Plain

Samples = npt.NDArray[np.int16]
Masks = npt.NDArray[np.bool_]

_WINDOWS = "pseudo windows"  # a name of draws; no augmentation has one with a space


@dataclass(frozen=True, eq=False)
class ClipSource:
    """Where crops come from: training rows, noise data sets, windows with soft labels.

    A row costs 36 bytes here whatever its labels; everything else is read when it is needed.
    `normalise` holds for crops of rows and windows, noise always has peak 1; `sampler` weighs the
    partners of `partner: class_weight`, without one every row alike. Rows from `n_rows` on are
    the windows of `pseudo`. `lessons` are what a teacher says of training rows.
    """

    waves: WaveStore
    takes: Takes
    targets: Targets
    noise: Mapping[str, Takes]
    crop_samples: int
    normalise: Normalise = "crop"
    sampler: Spec | None = None
    pseudo: PseudoRows | None = None
    lessons: Lessons | None = None

    @property
    def sample_rate_hz(self) -> int:
        """The rate of every clip."""
        return self.waves.sample_rate_hz

    @property
    def n_rows(self) -> int:
        """The number of training rows."""
        return len(self.takes)

    def draw_partners(self, partner: Partner, u: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """A row for each of the draws `u` [k] in [0, 1): alike, or as the sampler weighs rows."""
        if partner == "uniform":
            return (u * self.n_rows).astype(np.int64)
        weights = self._cumulative_weights
        rows: npt.NDArray[np.int64] = np.searchsorted(weights, u * weights[-1], side="right")
        return np.minimum(rows, self.n_rows - 1)

    @cached_property
    def _cumulative_weights(self) -> npt.NDArray[np.float64]:
        return np.cumsum(row_weights_of(self.sampler or Plain(), self.targets.primary))

    def with_windows(
        self, rows: npt.NDArray[np.int64], draws: EpochDraws, positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The rows drawn at positions of an epoch, in a share of them windows of `pseudo`."""
        if self.pseudo is None:
            return rows
        of_windows = draws.at(positions, _WINDOWS)
        picked = self.n_rows + self.pseudo.pick(of_windows.uniform(tag="window")[:, 0])
        return np.where(of_windows.happens(self.pseudo.spec.draw_rate), picked, rows)

    def name_clips(
        self, rows: Sequence[int], names: Callable[[Sequence[int]], Sequence[str]]
    ) -> list[str]:
        """The recordings of rows, in words; `names` gives those of training rows."""
        labelled = iter(names([row for row in rows if row < self.n_rows]))
        return [
            self.pseudo.name(row - self.n_rows)
            if self.pseudo is not None and row >= self.n_rows
            else next(labelled)
            for row in rows
        ]

    @property
    def masks_windows(self) -> bool:
        """Whether some labels of windows do not count, since their teacher does not know them."""
        return self.pseudo is not None and not self.pseudo.known.all()

    def masks(self, rows: npt.NDArray[np.int64]) -> Masks | None:
        """Which targets of training rows count, [len(rows), C]; None where all always do."""
        masks = self.targets.masks(rows)
        if masks is None and self.masks_windows:
            return np.ones((len(rows), self.targets.n_classes), np.bool_)
        return masks

    def read_clips(
        self, rows: npt.NDArray[np.int64], u: npt.NDArray[np.float64]
    ) -> tuple[Crops, npt.NDArray[np.float32], Masks | None]:
        """A crop of each row or window, placed by `u`, its targets and which of them count."""
        soft = rows >= self.n_rows
        if self.pseudo is None or not soft.any():
            return self.read_crops(rows, u), self.targets.dense(rows), self.masks(rows)
        labelled = np.where(soft, 0, rows)
        targets, masks = self.targets.dense(labelled), self.masks(labelled)
        cuts: list[Cut] = []
        for i, (row, x) in enumerate(zip(rows.tolist(), u.tolist(), strict=True)):
            if soft[i]:
                cut, targets[i] = self.pseudo.cut(row - self.n_rows, x, self.crop_samples)
                cuts.append(cut)
            else:
                cuts.append(self._cut_row(row, x))
        if masks is not None:
            masks[soft] = self.pseudo.known
        return self._crops(cuts, _pad, self.normalise), targets, masks

    def read_crops(self, rows: npt.NDArray[np.int64], u: npt.NDArray[np.float64]) -> Crops:
        """A crop of each training row; `u` in [0, 1) places it over its legal starts.

        A recording shorter than a crop is padded with zeros on the left.
        """
        places = zip(rows.tolist(), u, strict=True)
        cuts = (self._cut_row(row, float(x)) for row, x in places)
        return self._crops(cuts, _pad, self.normalise)

    def read_noise(self, names: Sequence[str], u: npt.NDArray[np.float64]) -> Crops:
        """Noise as long as a clip: data set, recording and start by three draws [k, 3] each.

        A noise recording shorter than a crop is repeated.
        """
        sets = [self.noise[name] for name in names]
        chosen = ((sets[int(a * len(sets))], b, c) for a, b, c in u.tolist())
        cuts = (self._cut(takes, int(b * len(takes)), c) for takes, b, c in chosen)
        return self._crops(cuts, np.resize, "crop")

    def taught(
        self, rows: npt.NDArray[np.int64], u: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32] | None:
        """What a teacher says of the crops that `read_clips` gives for these rows and draws.

        [len(rows), values], NaN for windows of `pseudo`; None without a teacher.
        """
        if self.lessons is None:
            return None
        said = np.full((len(rows), self.lessons.n_values), np.nan, np.float32)
        for i in np.flatnonzero(rows < self.n_rows).tolist():
            row = int(rows[i])
            start = self._cut_row(row, float(u[i]))[1] - int(self.takes.first[row])
            said[i] = self.lessons.said(row, start)
        return said

    def _cut_row(self, row: int, u: float) -> Cut:
        """The crop of a training row; it starts as a window of its teacher if those are as long."""
        if self.lessons is None or not self.lessons.on_grid:
            return self._cut(self.takes, row, u)
        place, n = int(self.takes.place[row]), int(self.takes.n_samples[row])
        start = int(self.takes.first[row]) + self.lessons.start(row, u)
        return place, start, min(n, self.crop_samples)

    def _cut(self, takes: Takes, row: int, u: float) -> Cut:
        """The crop of a row of takes that starts where a draw says."""
        place, n = int(takes.place[row]), int(takes.n_samples[row])
        start = int(takes.first[row]) + int(u * max(1, n - self.crop_samples + 1))
        return place, start, min(n, self.crop_samples)

    def _crops(
        self,
        cuts: Iterable[Cut],
        lengthen: Callable[[Samples, int], Samples],
        normalise: Normalise,
    ) -> Crops:
        """The crops at these places; short ones made as long as the others."""
        pieces, scales = [], []
        for place, start, n in cuts:
            piece = self.waves.read_row(place, start, n)
            pieces.append(piece if n == self.crop_samples else lengthen(piece, self.crop_samples))
            scales.append(self.waves.scale_of(place))
        return Crops(pieces, np.array(scales), normalise)


def _pad(piece: Samples, n: int) -> Samples:
    return np.concatenate([np.zeros(n - len(piece), np.int16), piece])
