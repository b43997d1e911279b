"""Waveforms of the demo competition, and the truth about what can be heard in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdlab.data.demo.environment import render_event
from birdlab.data.demo.places import (
    Place,
    carry_song,
    draw_background,
    record_wave,
    render_noise,
)
from birdlab.data.demo.settings import SAMPLE_RATE_HZ, WINDOW_S, DemoSettings, build_generator
from birdlab.data.demo.songs import Grammar, Random, Voice, Wave, render_song
from birdlab.data.demo.world import (
    BackgroundPlan,
    RecordingPlan,
    SoundscapePlan,
    World,
    build_recordist,
    build_voice,
    build_world,
)

FRAME_S = 0.1
AUDIBLE_SNR_DB = -6.0
AUDIBLE_S = 0.3

Truth = NDArray[np.bool_]
Plan = RecordingPlan | SoundscapePlan | BackgroundPlan


@dataclass(frozen=True)
class Rendering:
    """A finished file: `wave` [samples] at 32 kHz and, per species, its audible frames."""

    wave: Wave
    audible: Mapping[str, Truth]


def find_audible(track: Wave, noise_power: float) -> Truth:
    """Which frames of 0.1 s hold an audible song: [ceil(samples / 3200)] bool.

    `track` is the species alone, as it arrives at the microphone; `noise_power` the mean power of
    the place's noise between 1 and 12 kHz. A frame is audible when the song's mean power in it is
    above the noise by `AUDIBLE_SNR_DB` (a song fills a narrow part of that band, so it is heard
    below 0 dB).
    """
    frame = int(FRAME_S * SAMPLE_RATE_HZ)
    padded = np.zeros(-(-len(track) // frame) * frame, dtype=np.float32)
    padded[: len(track)] = track
    power = np.mean(padded.reshape(-1, frame) ** 2, axis=1)
    return np.asarray(power > noise_power * 10 ** (AUDIBLE_SNR_DB / 10))


def mark_windows(audible: Truth, n_windows: int) -> Truth:
    """Which 5 s windows hold at least 0.3 s of audible song: [n_windows] bool."""
    per_window = round(WINDOW_S / FRAME_S)
    frames = np.zeros(n_windows * per_window, dtype=bool)
    frames[: min(len(audible), len(frames))] = audible[: len(frames)]
    needed = round(AUDIBLE_S / FRAME_S)
    return np.asarray(frames.reshape(n_windows, per_window).sum(axis=1) >= needed)


@dataclass(frozen=True)
class Singer:
    """One bird in a file: what it sings, how, from how far, and how much it likes silence."""

    grammar: Grammar
    voice: Voice
    distance_m: float
    pause_s: float


def _draw_singer(
    settings: DemoSettings,
    world: World,
    code: str,
    whose: str,
    reach_m: tuple[float, float],
    rng: Random,
) -> Singer:
    grammar = world.grammar_of(code)
    distance = reach_m[0] * (reach_m[1] / reach_m[0]) ** float(rng.random())
    return Singer(grammar, build_voice(settings, code, whose), distance, grammar.pause_s)


def render_singer(
    singer: Singer, n: int, start: int, stop: int, place: Place, snr_db: float, rng: Random
) -> Wave:
    """One bird alone, heard at `place`: [n] float32, songs beginning within [start, stop)."""
    track = np.zeros(n, dtype=np.float32)
    while start < stop:
        song = render_song(singer.grammar, singer.voice, rng)
        heard = carry_song(song, singer.distance_m, place, snr_db, rng)[: n - start]
        track[start : start + len(heard)] += heard
        pause_s = singer.pause_s * float(rng.uniform(0.5, 1.6))
        start += len(song) + int(pause_s * SAMPLE_RATE_HZ)
    return track


def _render_recording(settings: DemoSettings, world: World, plan: RecordingPlan) -> Rendering:
    rng = build_generator(settings.seed, plan.filename)
    n = round(plan.duration_s * SAMPLE_RATE_HZ)
    place = build_recordist(settings, plan.recordist)
    tracks: dict[str, Wave] = {}
    near, far = settings.recording_m
    for code in (plan.primary, *plan.background):
        main = code == plan.primary
        reach = (near, far) if main else (max(near, far / 2), far)
        singer = _draw_singer(settings, world, code, plan.recordist, reach, rng)
        silence = float(rng.uniform(0.02, 0.12)) if main else float(rng.uniform(0, 0.6))
        start = int(min(silence * plan.duration_s, 3.0 if main else 20.0) * SAMPLE_RATE_HZ)
        stop = n - int(min(0.15 * plan.duration_s, 2.0) * SAMPLE_RATE_HZ)
        snr_db = settings.song_snr_db - place.noise_db
        tracks[code] = render_singer(singer, n, start, stop, place, snr_db, rng)
    mix = sum(tracks.values(), start=render_noise(place, n, rng))
    audible = {code: find_audible(track, 1.0) for code, track in tracks.items()}
    return Rendering(record_wave(mix, place), audible)


def _render_soundscape(settings: DemoSettings, world: World, plan: SoundscapePlan) -> Rendering:
    rng = build_generator(settings.seed, plan.filename)
    n = round(plan.duration_s * SAMPLE_RATE_HZ)
    site = build_recordist(settings, plan.site)
    hour = build_recordist(settings, plan.filename)
    place = replace(site, noise_db=hour.noise_db, gusts=hour.gusts, insect_db=hour.insect_db)
    snr_db = settings.song_snr_db - place.noise_db
    tracks: dict[str, Wave] = {}
    for code in plan.species:
        tracks[code] = np.zeros(n, dtype=np.float32)
        for bird in range(int(rng.integers(1, 3))):
            whose = f"{plan.site}/{bird}"
            singer = _draw_singer(settings, world, code, whose, settings.soundscape_m, rng)
            start = int(rng.uniform(0, 0.8) * n)
            stop = min(n, start + int(rng.uniform(3, 25) * SAMPLE_RATE_HZ))
            tracks[code] += render_singer(singer, n, start, stop, place, snr_db, rng)
    mix = sum(tracks.values(), start=render_noise(place, n, rng))
    audible = {code: find_audible(track, 1.0) for code, track in tracks.items()}
    return Rendering(record_wave(mix, place), audible)


def _render_background(settings: DemoSettings, plan: BackgroundPlan) -> Rendering:
    rng = build_generator(settings.seed, plan.filename)
    n = round(plan.duration_s * SAMPLE_RATE_HZ)
    if plan.of == "event":
        return Rendering(render_event(plan.kind, n, rng), {})
    place = draw_background(rng, plan.kind)
    noise = render_noise(place, n, rng)
    return Rendering(record_wave(noise, place), {})


def render_plan(settings: DemoSettings, plan: Plan) -> Rendering:
    """The waveform and the truth of one planned file; draws depend on its name and seed only."""
    world = build_world(settings)
    if isinstance(plan, RecordingPlan):
        return _render_recording(settings, world, plan)
    if isinstance(plan, SoundscapePlan):
        return _render_soundscape(settings, world, plan)
    return _render_background(settings, plan)
