"""What is done to a clip by itself: filters, level, place in time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from birdlab.evaluate.windows import PEAK_EPS
from birdlab.sed.batch import ClipBatch, Clips, Part
from birdlab.sed.draws import Draws
from birdlab.spec.augmentations import Gain, LowPass, RandomFiltering, TimeShift
from birdlab.spec.kinds import implements

N_FFT, HOP = 1024, 512
N_BINS = N_FFT // 2 + 1

Numbers = npt.NDArray[np.float64]


def filter_frames(wave: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """`wave` [..., S] after each of its frames was filtered by `response` [..., 513].

    Frames of 1024 samples, half of each shared with the next, reflected ends; Hann windows
    before and after, divided by the sum of their squares. The response is real, so nothing moves
    in time. An extra hop of zeros on the right keeps the last samples. The result is that of a
    short-time Fourier transform and its inverse: a frame has two halves, each of which meets
    one half of a neighbour, so that adding frames up takes one sum.
    """
    n_samples = wave.shape[-1]
    window = torch.hann_window(N_FFT, device=wave.device)
    squares = window.square().view(2, HOP).sum(0).repeat(2)
    end = n_samples + 2 * HOP
    padded = wave.new_zeros(*wave.shape[:-1], end + HOP)
    padded[..., HOP : HOP + n_samples] = wave
    padded[..., :HOP] = padded[..., HOP + 1 : 2 * HOP + 1].flip(-1)
    padded[..., end:] = padded[..., end - HOP - 1 : end - 1].flip(-1)
    spectrum = torch.fft.rfft(padded.unfold(-1, N_FFT, HOP) * window)
    frames = torch.fft.irfft(spectrum.mul_(response[..., None, :]), N_FFT)
    halves = frames.mul_(window / squares).view(*frames.shape[:-1], 2, HOP)
    filtered: torch.Tensor = halves[..., 1:, 0, :] + halves[..., :-1, 1, :]
    return filtered.flatten(-2)[..., :n_samples]


def draw_gains(spec: RandomFiltering, _batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """The gains of each clip from 0 Hz to half the sample rate, in dB: [B, points]."""
    low, high = spec.gain_db
    return {"gains_db": low + (high - low) * draws.uniform(spec.points, tag="gains")}


@implements(RandomFiltering, lazy=True, drawn=draw_gains)
def filter_randomly(spec: RandomFiltering, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each clip through its own smooth filter, at its own length, divided by peak + 1e-6."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    gains_db = draw_gains(spec, batch, draws)["gains_db"][chosen]
    places = np.linspace(0, spec.points - 1, N_BINS)
    curves_db = [np.interp(places, np.arange(spec.points), of_clip) for of_clip in gains_db]
    response = _responses(curves_db, batch)

    def filter_(clips: Clips, part: Part) -> None:
        wave = clips.wave()
        filtered = filter_frames(wave, response[part])
        peak = filtered.abs().amax(dim=-1, keepdim=True)
        torch.div(filtered, peak + PEAK_EPS, out=wave)

    batch.change(chosen, filter_)
    return batch


def draw_cutoff(spec: LowPass, _batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """Where the filter of each clip begins, [B], uniform in the logarithm of the frequency."""
    low, high = spec.cutoff_hz
    return {"cutoff_hz": low * (high / low) ** draws.uniform(tag="cutoff")[:, 0]}


@implements(LowPass, lazy=True, drawn=draw_cutoff)
def filter_low_pass(spec: LowPass, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each chosen clip without part of what lies above its cutoff, peak-normalised again."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    cutoffs_hz = draw_cutoff(spec, batch, draws)["cutoff_hz"][chosen]
    hz = np.linspace(0, batch.sample_rate_hz / 2, N_BINS)
    octaves = [np.log2(np.maximum(hz / cutoff_hz, 1)) for cutoff_hz in cutoffs_hz]
    response = _responses([-spec.db_per_octave * above for above in octaves], batch)

    def filter_(clips: Clips, part: Part) -> None:
        clips.samples.copy_(filter_frames(clips.samples, response[part]))
        clips.peak_normalise()

    batch.change(chosen, filter_)
    return batch


def draw_gain(spec: Gain, _batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """The gain of each clip in dB, [B]."""
    low, high = spec.gain_db
    return {"gain_db": low + (high - low) * draws.uniform(tag="gain")[:, 0]}


@implements(Gain, lazy=True, drawn=draw_gain)
def change_gain(spec: Gain, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each chosen clip times its gain."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    gain_db = draw_gain(spec, batch, draws)["gain_db"][chosen]
    factor = (10 ** (gain_db / 20)).astype(np.float32)
    batch.change(chosen, lambda clips, part: clips.scale(factor, part))
    return batch


def _shifts(spec: TimeShift, sample_rate_hz: int, draws: Draws) -> npt.NDArray[np.int64]:
    """How many samples each clip moves to the right, [B]; every whole number of the range alike."""
    most = round(spec.max_s * sample_rate_hz)
    u = draws.uniform(tag="shift")[:, 0]
    return np.floor(u * (2 * most + 1)).astype(np.int64) - most


def draw_shift(spec: TimeShift, batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """How far each clip moves to the right, [B]."""
    return {"shift_s": _shifts(spec, batch.sample_rate_hz, draws) / batch.sample_rate_hz}


@implements(TimeShift, lazy=True, drawn=draw_shift)
def shift_in_time(spec: TimeShift, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each chosen clip rolled: what leaves one end enters the other."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    shift = _shifts(spec, batch.sample_rate_hz, draws)[chosen]

    def roll(clips: Clips, part: Part) -> None:
        waves = clips.samples.view(-1, clips.samples.shape[-1])
        for wave, n in zip(waves, np.atleast_1d(shift[part]).tolist(), strict=True):
            wave.copy_(wave.roll(n))

    batch.change(chosen, roll)
    return batch


def _responses(curves_db: list[Numbers], batch: ClipBatch) -> torch.Tensor:
    """Gains in dB over frequency as factors, [k, 513] on the device of the batch."""
    factors = [(10 ** (curve_db / 20)).astype(np.float32) for curve_db in curves_db]
    stacked = np.stack(factors) if factors else np.zeros((0, N_BINS), np.float32)
    return torch.from_numpy(stacked).to(batch.wave.device)
