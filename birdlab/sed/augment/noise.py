"""Augmentations that add noise: recorded, and coloured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft

from birdlab.sed.batch import ClipBatch, Clips, Crops, Fetched, Part, weights
from birdlab.sed.draws import Draws
from birdlab.spec.augmentations import Background, ColouredNoise
from birdlab.spec.kinds import implements

if TYPE_CHECKING:
    from birdlab.sed.clipsource import ClipSource

LOWEST_HZ = 20.0
"""Pink and brown noise end here: below it would lie most of their power, and no sound."""

_AMPLITUDE_FALLS = {"pink": 0.5, "brown": 1.0}  # as this power of frequency

Numbers = npt.NDArray[np.float64]


def fetch_noise(spec: Background, draws: Draws, source: ClipSource) -> Fetched:
    """For the clips that get noise: their places, and crops of noise as long as a clip.

    Each named data set is equally likely, then each of its recordings.
    """
    chosen = np.flatnonzero(draws.happens(spec.p))
    u = draws.uniform(3, tag="noise")[chosen]
    return {"index": chosen, "noise": source.read_noise(spec.noise, u)}


def draw_level(spec: Background, _batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """The share g of the noise in the sum, [B]."""
    low, high = spec.level
    return {"noise_share": low + (high - low) * draws.uniform(1, tag="level")[:, 0]}


@implements(Background, fetch=fetch_noise, lazy=True, drawn=draw_level)
def add_background(spec: Background, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """(1 - g) * clip + g * noise, both peak-normalised, then peak-normalised again."""
    got = batch.fetched[spec.name]
    crops: Crops = got["noise"]
    g = draw_level(spec, batch, draws)["noise_share"][got["index"]].astype(np.float32)

    def cover(clips: Clips, part: Part) -> None:
        clips.scale(1 - g, part)
        crops.add_to(clips, part, g)
        clips.peak_normalise()

    batch.change(got["index"], cover)
    return batch


def draw_snr(spec: ColouredNoise, _batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """The power of each clip over that of its noise in dB, [B]."""
    low, high = spec.snr_db
    return {"snr_db": low + (high - low) * draws.uniform(tag="snr")[:, 0]}


@implements(ColouredNoise, lazy=True, drawn=draw_snr)
def add_coloured_noise(spec: ColouredNoise, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each chosen clip with noise at its own signal-to-noise ratio, peak-normalised again.

    The ratio is exact for the samples of the clip, padding included; silence stays silence.
    """
    chosen = np.flatnonzero(draws.happens(spec.p))
    snr_db = draw_snr(spec, batch, draws)["snr_db"][chosen]
    factor = (10 ** (-snr_db / 20)).astype(np.float32)
    n_samples, rate = batch.wave.shape[-1], batch.sample_rate_hz

    def noise_of(i: int) -> npt.NDArray[np.float32]:
        return make_noise(draws.generator(i), spec.colour, n_samples, rate)

    def cover(clips: Clips, part: Part) -> None:
        made = np.stack([noise_of(i) for i in np.atleast_1d(chosen[part]).tolist()])
        noise = torch.from_numpy(made).to(clips.samples.device).view_as(clips.samples)
        ratio = _norm(clips.samples) / _norm(noise)
        clips.add(noise, clips.gain * ratio * weights(factor, part, noise))
        clips.peak_normalise()

    batch.change(chosen, cover)
    return batch


def make_noise(
    rng: np.random.Generator, colour: str, n_samples: int, sample_rate_hz: int
) -> npt.NDArray[np.float32]:
    """Gaussian noise [n_samples] whose power is even (white), or falls as 1/f (pink), 1/f² (brown).

    Its level is of no meaning. Pink and brown noise is drawn as a spectrum, from 20 Hz up.
    """
    if colour == "white":
        return rng.standard_normal(n_samples, dtype=np.float32)
    n_whole = fft.next_fast_len(n_samples, real=True)
    hz = np.fft.rfftfreq(n_whole, 1 / sample_rate_hz)
    shape = np.where(hz < LOWEST_HZ, 0, np.maximum(hz, LOWEST_HZ) ** -_AMPLITUDE_FALLS[colour])
    spectrum = rng.standard_normal(2 * len(hz), dtype=np.float32).view(np.complex64)
    spectrum *= shape.astype(np.float32)
    noise: npt.NDArray[np.float32] = fft.irfft(spectrum, n_whole, overwrite_x=True)
    return noise[:n_samples]


def _norm(samples: torch.Tensor) -> float | torch.Tensor:
    """The root of the summed squares of one clip, a number; of several [k, 1]."""
    norm = torch.linalg.vector_norm(samples, dim=-1, keepdim=True)
    return float(norm) if samples.ndim == 1 else norm
