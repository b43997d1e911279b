"""Training clips for tests: five short recordings of noise and two noise sets in a real store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from scipy import stats

from birdlab.data.store import WaveStore
from birdlab.sed import augment as _kinds  # noqa: F401 (registers the kinds)
from birdlab.sed.batch import ClipBatch, Crops, StoredBatch
from birdlab.sed.draws import EpochDraws
from birdlab.sed.loader import ClipSource, Takes, locate_takes, read_batch
from birdlab.sed.targets import Targets
from birdlab.spec.augmentations import AugmentationSpec

RATE = 200
CROP = 64
LENGTHS = (200, 40, 64, 500, 65)
CPU = torch.device("cpu")
TARGETS = np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32)
"""Of the five rows; the second label of row 0 is a secondary one."""


def build_source(folder: Path, secondary: float | Literal["mask"] = 0.5) -> ClipSource:
    """Five recordings of noise with known lengths and the noise sets x and y, in a real store."""
    store = WaveStore(folder / "store", RATE)
    rng = np.random.default_rng(0)
    items: list[tuple[str, Path]] = []
    for i, n in enumerate((*LENGTHS, 300, 20, 100)):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, n), RATE, subtype="FLOAT")
        items.append((store.key(str(i)), path))
    assert store.build(items) == []
    keys = [key for key, _ in items]
    targets = Targets(
        np.array([0, 1, 2, 0, 1], np.int32),
        np.array([0, 1, 1, 1, 1, 1]),
        np.array([2], np.int32),
        3,
        secondary,
    )
    noise = {"x": takes_of(store, keys[5:7]), "y": takes_of(store, keys[7:])}
    return ClipSource(store, takes_of(store, keys[:5]), targets, noise, CROP)


def takes_of(store: WaveStore, keys: list[str]) -> Takes:
    """Whole recordings of a store."""
    return locate_takes(store, np.array(keys, "S32"), np.full((len(keys), 2), np.nan))


def batch_of(
    source: ClipSource, draws: EpochDraws, specs: Sequence[AugmentationSpec], n: int
) -> ClipBatch:
    """The clips at places 0..n of an epoch, the rows in turn, before any augmentation."""
    places = np.arange(n)
    return read_batch(source, specs, draws, places, places % source.n_rows).to(CPU).settle()


def batch_with(wave: torch.Tensor, rate: int = RATE) -> ClipBatch:
    """A batch of given waves without labels."""
    return ClipBatch(wave.clone(), torch.zeros(len(wave), 1), rate)


def copy_of(batch: ClipBatch) -> ClipBatch:
    """The batch before an augmentation that may change it in place."""
    mask = None if batch.mask is None else batch.mask.clone()
    targets = batch.targets.clone()
    return ClipBatch(batch.wave.clone(), targets, batch.sample_rate_hz, batch.fetched, mask)


def waves_of(crops: Crops) -> npt.NDArray[np.float32]:
    """Stored crops as waves."""
    stored = StoredBatch(crops, np.zeros((len(crops), 1), np.float32), RATE, {})
    waves: npt.NDArray[np.float32] = stored.to(CPU).settle().wave.numpy()
    return waves


def uniform(values: npt.NDArray[np.float64], low: float, high: float) -> float:
    """The p-value of `values` being uniform in low..high."""
    return float(stats.kstest(values, "uniform", (low, high - low)).pvalue)


def holds_share(changed: npt.NDArray[np.bool_], p: float) -> bool:
    """Whether a share p of the clips was changed, to 4 standard errors."""
    return abs(changed.mean() - p) <= 4 * np.sqrt(p * (1 - p) / len(changed))
