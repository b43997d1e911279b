"""Where and with what a recording is made: noise, distance, echo, equaliser, clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from birdlab.data.demo.settings import SAMPLE_RATE_HZ
from birdlab.data.demo.songs import Random, Wave

BAND_HZ = (1_000.0, 12_000.0)
KINDS = ("wind", "rain", "hum", "insects", "stream", "traffic")


@dataclass(frozen=True)
class Place:
    """The sound of a place and of the device used there.

    Levels are in dB over the noise between 1 and 12 kHz; `hum_hz` and `insect_hz` are 0 where
    there is none; `eq_db` are gains at points spread evenly over the logarithm of frequency;
    `clip` is the part of the peak that the device can hold (1: no clipping).
    """

    slope_db_oct: float
    gusts: float
    hum_hz: float
    hum_db: float
    insect_hz: float
    insect_db: float
    noise_db: float
    low_cut_hz: float
    eq_db: tuple[float, ...]
    echo_s: float
    clip: float
    peak_db: float


def draw_place(rng: Random, spread: float = 1.0) -> Place:
    """A recordist's usual place and device; `spread` 0 gives everybody the same equaliser,
    no clipping and equally loud noise of one colour."""
    return Place(
        slope_db_oct=-4.5 + spread * float(rng.uniform(-3.5, 3.5)),
        gusts=float(rng.uniform(0.0, 0.6)),
        hum_hz=float(rng.choice([0.0, 50.0, 60.0])),
        hum_db=float(rng.uniform(5, 20)),
        insect_hz=float(rng.uniform(4500, 9500)) if rng.random() < 0.3 * spread else 0.0,
        insect_db=float(rng.uniform(-12, -2)),
        noise_db=spread * float(rng.uniform(-4, 4)),
        low_cut_hz=float(rng.uniform(50, 400)),
        eq_db=tuple(float(v) for v in spread * rng.uniform(-8, 8, size=6)),
        echo_s=float(rng.uniform(0.08, 0.5)),
        clip=float(rng.uniform(0.25, 0.7)) if rng.random() < 0.25 * spread else 1.0,
        peak_db=float(rng.uniform(-24, -1)),
    )


def draw_background(rng: Random, kind: str) -> Place:
    """A place where one kind of noise (one of `KINDS`) is heard above the others."""
    base = draw_place(rng)
    insects, hum = kind == "insects", kind in ("hum", "traffic")
    slopes = {"wind": -8.0, "rain": -0.5, "stream": -2.0, "traffic": -9.0}
    return Place(
        slope_db_oct=slopes.get(kind, -5.0) + float(rng.uniform(-0.5, 0.5)),
        gusts=0.9 if kind in ("wind", "traffic") else 0.1,
        hum_hz=float(rng.choice([50.0, 60.0])) * (2 if kind == "traffic" else 1) if hum else 0.0,
        hum_db=float(rng.uniform(15, 30)),
        insect_hz=float(rng.uniform(4500, 9500)) if insects else 0.0,
        insect_db=float(rng.uniform(4, 12)),
        noise_db=0.0,
        low_cut_hz=base.low_cut_hz,
        eq_db=base.eq_db,
        echo_s=base.echo_s,
        clip=1.0,
        peak_db=base.peak_db,
    )


def _frequencies(n_fft: int) -> Wave:
    return np.asarray(np.arange(n_fft // 2 + 1) * (SAMPLE_RATE_HZ / n_fft), dtype=np.float32)


def _draw_gusts(rng: Random, n: int, depth: float) -> Wave:
    """A slow change of loudness, about three turns in two seconds, by `depth` in octaves."""
    points = np.exp2(depth * rng.normal(size=int(n / SAMPLE_RATE_HZ * 1.5) + 3))
    grid = np.linspace(0, len(points) - 1, n)
    return np.interp(grid, np.arange(len(points)), points).astype(np.float32)


def _render_tones(place: Place, n: int) -> Wave:
    """Hum and insects of a place: [n] float32, one second that is repeated."""
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    second = np.zeros(SAMPLE_RATE_HZ)
    if place.hum_hz:
        for k, weight in ((1, 1.0), (2, 0.5), (3, 0.3), (5, 0.1)):
            tone = np.sin(2 * np.pi * k * round(place.hum_hz) * time_s)
            second += 10 ** (place.hum_db / 20) * weight * tone
    if place.insect_hz:
        chirps = 1 + np.sin(2 * np.pi * (12 + round(place.insect_hz) % 9) * time_s)
        tone = np.sin(2 * np.pi * round(place.insect_hz) * time_s)
        second += 0.7 * 10 ** (place.insect_db / 20) * chirps * tone
    return np.resize(second.astype(np.float32), n)


def render_noise(place: Place, n: int, rng: Random) -> Wave:
    """What the place sounds like without birds: [n] float32.

    The steady part has mean power 1 between 1 and 12 kHz, whatever its colour; hum and insects
    come on top.
    """
    n_fft = fft.next_fast_len(n, real=True)
    hz = _frequencies(n_fft)
    slope = np.float32(place.slope_db_oct / 20 / np.log10(2))
    shape = (np.maximum(hz, 60.0) / np.float32(1000)) ** slope
    bins = rng.standard_normal(2 * len(hz), dtype=np.float32).view(np.complex64)
    bins *= shape
    first, last = np.searchsorted(hz, BAND_HZ)
    band = bins[first:last]
    power = 2 * float(np.sum(band.real**2 + band.imag**2)) / n_fft**2
    noise = fft.irfft(bins, n_fft)[:n]
    noise *= _draw_gusts(rng, n, place.gusts) / np.float32(np.sqrt(power))
    return np.asarray(noise + _render_tones(place, n), dtype=np.float32)


def carry_song(song: Wave, distance_m: float, place: Place, snr_db: float, rng: Random) -> Wave:
    """A song as it arrives from a distance: weaker, duller and followed by an echo.

    `snr_db` is its level at 10 m over noise of power 1. The level falls with 1/distance, the air
    takes 0.012 dB per metre and kHz^1.3 more, and the echo's share grows with the distance up to
    half. Returns [len(song) + echo] float32.
    """
    tail = int(place.echo_s * SAMPLE_RATE_HZ)
    n = len(song) + tail
    n_fft = fft.next_fast_len(n, real=True)
    decay = np.exp(np.linspace(0, -6.9, tail, dtype=np.float32))
    echo = rng.standard_normal(tail, dtype=np.float32) * decay
    share = 0.5 * distance_m / (distance_m + 30)
    echo *= np.float32(share) / np.float32(np.sqrt(np.sum(echo**2)))
    echo[0] += np.float32(1 - share)
    air_db = -0.012 * distance_m * (_frequencies(n_fft) / 1000) ** 1.3
    gain_db = snr_db - 20 * np.log10(distance_m / 10)
    response = 10 ** ((air_db + gain_db) / 20)
    spectrum = fft.rfft(song, n_fft) * fft.rfft(echo, n_fft) * response.astype(np.float32)
    return np.asarray(fft.irfft(spectrum, n_fft)[:n], dtype=np.float32)


def record_wave(wave: Wave, place: Place) -> Wave:
    """What the device of the place writes: equalised, cut below `low_cut_hz`, clipped, levelled.

    `wave` and result: [samples] float32; the result peaks at `peak_db` below full scale.
    """
    n_fft = fft.next_fast_len(len(wave), real=True)
    hz = _frequencies(n_fft)
    grid_hz = np.geomspace(20, SAMPLE_RATE_HZ / 2, 400)
    points_hz = np.geomspace(100, SAMPLE_RATE_HZ / 2, len(place.eq_db))
    gain = 10 ** (np.interp(np.log(grid_hz), np.log(points_hz), place.eq_db) / 20)
    gain /= np.sqrt(1 + (place.low_cut_hz / grid_hz) ** 4)
    spectrum = fft.rfft(wave, n_fft)
    spectrum *= np.interp(hz, grid_hz, gain).astype(np.float32)
    heard = fft.irfft(spectrum, n_fft)[: len(wave)]
    peak = float(np.max(np.abs(heard))) or 1.0
    heard = np.clip(heard, -place.clip * peak, place.clip * peak) / (place.clip * peak)
    return np.asarray(heard * 10 ** (place.peak_db / 20), dtype=np.float32)
