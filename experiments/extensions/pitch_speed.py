"""Two augmentations of your own: a clip at another speed, a clip at another pitch.

`speed` plays it faster and higher, or slower and lower, as a tape does; `pitch` moves it up or
down and keeps its tempo. Both keep the length of the clip. Nothing here imports torch before
something is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import soxr
from pydantic import model_validator

from birdlab.evaluate.windows import PEAK_EPS
from birdlab.spec.augmentations import AugmentationSpec, Range
from birdlab.spec.base import Probability
from birdlab.spec.kinds import implements, register

if TYPE_CHECKING:
    from birdlab.sed.batch import ClipBatch
    from birdlab.sed.draws import Draws

Wave = npt.NDArray[np.float32]
Draw = npt.NDArray[np.float64]
N_FFT, HOP = 1024, 256
"""Of the phase vocoder; at 32 kHz a window of 32 ms."""


@register("augmentation")
class Speed(AugmentationSpec):
    """The clip `factor` times as fast, and as much higher; uniform on a logarithmic scale.

    A clip that became longer is cut at random, one that became shorter gets zeros on its left,
    as short recordings do. It is peak-normalised again; labels stay.
    """

    kind: Literal["speed"] = "speed"
    p: Probability = 0.5
    factor: Range = (0.9, 1.1)

    @model_validator(mode="after")
    def _moderate(self) -> Speed:
        if not 0.25 <= self.factor[0] <= self.factor[1] <= 4:
            raise ValueError(f"factor should lie within 0.25..4; got {list(self.factor)}")
        return self


@register("augmentation")
class Pitch(AugmentationSpec):
    """The clip `semitones` higher at its own tempo; peak-normalised again; labels stay."""

    kind: Literal["pitch"] = "pitch"
    p: Probability = 0.5
    semitones: Range = (-2.0, 2.0)

    @model_validator(mode="after")
    def _moderate(self) -> Pitch:
        if not -24 <= self.semitones[0] <= self.semitones[1] <= 24:
            raise ValueError(f"semitones should lie within -24..24; got {list(self.semitones)}")
        return self


def draw_factor(spec: Speed, _batch: ClipBatch, draws: Draws) -> dict[str, Draw]:
    """How many times as fast each clip is played: [B]."""
    low, high = spec.factor
    return {"factor": low * (high / low) ** draws.uniform(2, tag="factor")[:, 0]}


@implements(Speed, drawn=draw_factor)
def change_speed(spec: Speed, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """The batch with clips of it resampled and brought back to their length."""
    factor = draw_factor(spec, batch, draws)["factor"]
    place = draws.uniform(2, tag="factor")[:, 1]
    for i in np.flatnonzero(draws.happens(spec.p)):
        wave = batch.wave[i].cpu().numpy()
        played = soxr.resample(wave, factor[i], 1.0)
        _put(batch, int(i), _fit_length(played, len(wave), place[i]))
    return batch


def draw_semitones(spec: Pitch, _batch: ClipBatch, draws: Draws) -> dict[str, Draw]:
    """How many semitones each clip goes up: [B]."""
    low, high = spec.semitones
    return {"semitones": low + (high - low) * draws.uniform(1, tag="semitones")[:, 0]}


@implements(Pitch, drawn=draw_semitones)
def change_pitch(spec: Pitch, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """The batch with clips of it stretched in time, then resampled to their length."""
    ratio = 2 ** (draw_semitones(spec, batch, draws)["semitones"] / 12)
    for i in np.flatnonzero(draws.happens(spec.p)):
        wave = batch.wave[i].cpu().numpy()
        played = soxr.resample(stretch(wave, ratio[i]), ratio[i], 1.0)
        _put(batch, int(i), _fit_length(played, len(wave), 0.0))
    return batch


def stretch(wave: Wave, factor: float) -> Wave:
    """The wave `factor` times as long at its own pitch: [round(len(wave) * factor)] float32.

    A phase vocoder: magnitudes between frames are interpolated, phases go on from frame to frame
    at the rate at which they went in the original.
    Source: Flanagan & Golden 1966, Phase vocoder.
    """
    import torch

    n = round(len(wave) * factor)
    window = torch.hann_window(N_FFT)
    padded = torch.nn.functional.pad(torch.from_numpy(wave), (0, 2 * HOP))
    frames = torch.stft(padded, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    at = torch.arange(0, len(wave) / HOP, 1 / factor, dtype=torch.float64)
    first = at.long()
    share = (at - first).float()
    magnitude = frames.abs()
    magnitude = magnitude[:, first] * (1 - share) + magnitude[:, first + 1] * share
    phase = frames.angle().double()
    expected = 2 * np.pi * HOP * torch.arange(len(frames), dtype=torch.float64)[:, None] / N_FFT
    turned = phase[:, first + 1] - phase[:, first] - expected
    turned = expected + turned - 2 * np.pi * (turned / (2 * np.pi)).round()
    running = phase[:, :1] + torch.cat([torch.zeros_like(turned[:, :1]), turned[:, :-1]], 1).cumsum(
        1
    )
    spectrum = torch.polar(magnitude, (running % (2 * np.pi)).float())
    long = torch.istft(spectrum, N_FFT, HOP, window=window, length=max(n, 1))
    return np.asarray(long.numpy(), np.float32)


def _fit_length(wave: Wave, n: int, u: float) -> Wave:
    """`n` samples of the wave from a place given by `u` in [0, 1), zeros on the left of fewer."""
    if len(wave) < n:
        return np.concatenate([np.zeros(n - len(wave), np.float32), wave])
    start = int(u * (len(wave) - n + 1))
    return wave[start : start + n]


def _put(batch: ClipBatch, i: int, wave: Wave) -> None:
    """The wave, peak-normalised, in place of clip `i`."""
    import torch

    wave = wave / max(float(np.abs(wave).max()), PEAK_EPS)
    batch.wave[i] = torch.from_numpy(wave).to(batch.wave.device)
