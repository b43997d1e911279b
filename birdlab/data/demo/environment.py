"""Everyday noise in the manner of ESC-50: rain, engines, knocks, each clip of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from birdlab.data.demo.settings import SAMPLE_RATE_HZ
from birdlab.data.demo.songs import Random, Wave

Samples = NDArray[np.float64]


def _time_s(n: int) -> Samples:
    return np.arange(n) / SAMPLE_RATE_HZ


def _hiss(rng: Random, n: int, low_hz: float, high_hz: float) -> Samples:
    """Noise between two frequencies, 12 dB an octave less beyond them: [n], deviation 1."""
    n_fft = fft.next_fast_len(n, real=True)
    hz = np.maximum(fft.rfftfreq(n_fft, 1 / SAMPLE_RATE_HZ), 1.0)
    bins = rng.standard_normal(2 * len(hz)).view(np.complex128)
    bins /= np.sqrt((1 + (low_hz / hz) ** 4) * (1 + (hz / high_hz) ** 4))
    wave: Samples = fft.irfft(bins, n_fft)[:n]
    return wave / np.std(wave)


def _drift(rng: Random, n: int, per_s: float) -> Samples:
    """A curve between 0 and 1 that turns about `per_s` times a second: [n]."""
    points = rng.random(int(n / SAMPLE_RATE_HZ * per_s) + 3)
    return np.interp(np.linspace(0, len(points) - 1, n), np.arange(len(points)), points)


def _fade(n: int, decay_s: float) -> Samples:
    """What is left of a blow after so long: e-fold in `decay_s`, over 1 ms of onset."""
    time_s = _time_s(n)
    faded: Samples = np.exp(-time_s / decay_s) * np.minimum(time_s / 1e-3, 1.0)
    return faded


def _strike(n: int, starts_s: Iterable[float], blow: Callable[[], Samples]) -> Samples:
    """A blow at each start, cut off at the end of the clip: [n]."""
    wave = np.zeros(n)
    for start_s in starts_s:
        start = int(start_s * SAMPLE_RATE_HZ)
        if start < n:
            sound = blow()[: n - start]
            wave[start : start + len(sound)] += sound
    return wave


def _rain(rng: Random, n: int) -> Samples:
    drops = rng.random(int(rng.uniform(20, 60) * n / SAMPLE_RATE_HZ)) * n / SAMPLE_RATE_HZ

    def drop() -> Samples:
        loud = rng.lognormal(0.5, 0.6)
        return loud * _hiss(rng, 320, 1500, 8000) * _fade(320, rng.uniform(0.001, 0.003))

    return _hiss(rng, n, 400, 9000) + 2 * _strike(n, drops, drop)


def _wind(rng: Random, n: int) -> Samples:
    return _hiss(rng, n, 30, rng.uniform(200, 600)) * (0.1 + _drift(rng, n, 0.8) ** 2)


def _sea_waves(rng: Random, n: int) -> Samples:
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.12, 0.3) * _time_s(n) + rng.random()))
    return _hiss(rng, n, 80, 3000) * (0.15 + swell**2)


def _engine(rng: Random, n: int) -> Samples:
    firing_hz = rng.uniform(25, 70) * (1 + 0.05 * _drift(rng, n, 0.5))
    phase = 2 * np.pi * np.cumsum(firing_hz) / SAMPLE_RATE_HZ
    roughness = rng.uniform(0.5, 1.0, size=12)
    tones = sum(a / k * np.sin(k * phase) for k, a in enumerate(roughness, 1))
    return np.asarray(tones + 0.3 * _hiss(rng, n, 60, 1500) * (1 + np.sin(phase)))


def _siren(rng: Random, n: int) -> Samples:
    low_hz, octaves = rng.uniform(500, 750), rng.uniform(0.6, 1.2)
    turn = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(0.15, 2.0) * _time_s(n))
    phase = 2 * np.pi * np.cumsum(low_hz * 2 ** (octaves * turn)) / SAMPLE_RATE_HZ
    tones = sum(a * np.sin(k * phase) for k, a in ((1, 1.0), (2, 0.4), (3, 0.2)))
    return np.asarray(tones + 0.02 * _hiss(rng, n, 50, 2000))


def _footsteps(rng: Random, n: int) -> Samples:
    pace_s, scuff_hz = rng.uniform(0.4, 0.65), rng.uniform(2500, 6000)
    starts = np.arange(rng.uniform(0, pace_s), n / SAMPLE_RATE_HZ, pace_s)

    def step() -> Samples:
        thump = _hiss(rng, 6400, 50, 300) * _fade(6400, 0.04)
        return thump + 0.3 * _hiss(rng, 6400, 800, scuff_hz) * _fade(6400, 0.02)

    wobbly = np.maximum(starts + rng.normal(0, 0.015, len(starts)), 0)
    return _strike(n, wobbly, step) + 0.01 * _hiss(rng, n, 50, 4000)


def _clock_tick(rng: Random, n: int) -> Samples:
    pace_s, pitch_hz = 1 / rng.choice([2.0, 2.5, 4.0]), rng.uniform(1800, 4200)
    starts = np.arange(rng.uniform(0, pace_s), n / SAMPLE_RATE_HZ, pace_s)

    def tick() -> Samples:
        ring = np.sin(2 * np.pi * pitch_hz * rng.uniform(0.97, 1.03) * _time_s(960))
        return ring * _fade(960, 0.004)

    return _strike(n, starts, tick) + 0.005 * _hiss(rng, n, 50, 4000)


def _door_knock(rng: Random, n: int) -> Samples:
    pitch_hz, gap_s = rng.uniform(110, 300), rng.uniform(0.16, 0.26)
    bouts = np.arange(rng.uniform(0, 0.5), n / SAMPLE_RATE_HZ, rng.uniform(1.4, 2.4))
    starts = (bouts[:, None] + gap_s * np.arange(rng.integers(2, 5))).ravel()

    def knock() -> Samples:
        wood = np.sin(2 * np.pi * pitch_hz * _time_s(4800)) * _fade(4800, 0.025)
        return wood + 0.4 * _hiss(rng, 4800, 200, 2500) * _fade(4800, 0.008)

    return _strike(n, starts, knock) + 0.005 * _hiss(rng, n, 50, 4000)


def _crackling_fire(rng: Random, n: int) -> Samples:
    starts = rng.random(int(rng.uniform(8, 25) * n / SAMPLE_RATE_HZ)) * n / SAMPLE_RATE_HZ

    def crackle() -> Samples:
        loud = rng.lognormal(0.0, 0.9)
        return loud * _hiss(rng, 960, 500, 10_000) * _fade(960, rng.uniform(0.0005, 0.006))

    return _strike(n, starts, crackle) + 0.15 * _hiss(rng, n, 40, 400)


def _church_bell(rng: Random, n: int) -> Samples:
    pitch_hz, pace_s = rng.uniform(280, 620), rng.uniform(1.3, 2.2)
    starts = np.arange(rng.uniform(0, 0.6), n / SAMPLE_RATE_HZ, pace_s)
    partials = ((0.5, 0.5, 2.5), (1.0, 1.0, 1.8), (1.2, 0.7, 1.2), (1.5, 0.4, 0.9), (2.0, 0.6, 0.7))

    def stroke() -> Samples:
        time_s = _time_s(3 * SAMPLE_RATE_HZ)
        tones = [
            a * np.sin(2 * np.pi * r * pitch_hz * time_s) * _fade(len(time_s), decay_s)
            for r, a, decay_s in partials
        ]
        return np.asarray(np.sum(tones, axis=0))

    return _strike(n, starts, stroke)


EVENTS: dict[str, Callable[[Random, int], Samples]] = {
    "rain": _rain,
    "wind": _wind,
    "sea_waves": _sea_waves,
    "engine": _engine,
    "siren": _siren,
    "footsteps": _footsteps,
    "clock_tick": _clock_tick,
    "door_knock": _door_knock,
    "crackling_fire": _crackling_fire,
    "church_bell": _church_bell,
}
"""The kinds of noise; the names are those of ESC-50."""


def render_event(kind: str, n: int, rng: Random) -> Wave:
    """A clip of one kind (a key of `EVENTS`): [n] float32 at 32 kHz, peak -12 to -1 dB."""
    wave = EVENTS[kind](rng, n)
    peak = 10 ** (rng.uniform(-12, -1) / 20)
    return np.asarray(wave * (peak / np.max(np.abs(wave))), dtype=np.float32)
