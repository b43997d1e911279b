"""Song grammars of invented species, the voices of single birds, and their waveforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdlab.data.demo.settings import SAMPLE_RATE_HZ

Wave = NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True)
class Phrase:
    """One syllable and how often it is repeated.

    The pitch runs from `start_hz` to `end_hz` on a logarithmic scale, lifted by `bend_oct` octaves
    in the middle; `partials` are the amplitudes of the first, second, ... harmonic; `tremolo_hz`
    beats the loudness (0: steady).
    """

    length_s: float
    gap_s: float
    repeats: int
    start_hz: float
    end_hz: float
    bend_oct: float = 0.0
    tremolo_hz: float = 0.0
    partials: tuple[float, ...] = (1.0, 0.08)


@dataclass(frozen=True)
class Grammar:
    """How a species sings: its phrases, the orders they come in, and the pause between songs."""

    phrases: tuple[Phrase, ...]
    orders: tuple[tuple[int, ...], ...]
    pause_s: float


@dataclass(frozen=True)
class Voice:
    """How one bird differs from its species: factors on pitch, tempo and overtones, and taste."""

    pitch: float
    tempo: float
    overtones: float
    favourite: int


def _between(rng: Random, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())


def _draw_whistle(rng: Random) -> tuple[Phrase, ...]:
    centre = _between(rng, 2200, 5500)
    pitches = centre * 2 ** rng.uniform(-0.4, 0.4, size=int(rng.integers(3, 6)))
    return tuple(
        Phrase(
            _between(rng, 0.12, 0.35),
            _between(rng, 0.04, 0.16),
            1,
            pitch,
            pitch * 2 ** rng.uniform(-0.08, 0.08),
            float(rng.uniform(-0.05, 0.05)),
        )
        for pitch in map(float, pitches)
    )


def _draw_trill(rng: Random) -> tuple[Phrase, ...]:
    centre, span = _between(rng, 3000, 6500), float(rng.uniform(0.25, 0.6))
    phrases = []
    for _ in range(int(rng.integers(1, 3))):
        low, high = centre * 2 ** (-span / 2), centre * 2 ** (span / 2)
        ends = (low, high) if rng.random() < 0.5 else (high, low)
        length, gap = _between(rng, 0.03, 0.07), _between(rng, 0.02, 0.06)
        repeats = max(5, int(rng.uniform(0.6, 1.2) / (length + gap)))
        phrases.append(Phrase(length, gap, repeats, *ends))
        centre *= 2 ** float(rng.uniform(-0.4, 0.4))
    return tuple(phrases)


def _draw_sweep(rng: Random) -> tuple[Phrase, ...]:
    phrases = []
    for _ in range(int(rng.integers(2, 4))):
        low, span = _between(rng, 1800, 3600), float(rng.uniform(0.6, 1.2))
        ends = (low, low * 2**span) if rng.random() < 0.5 else (low * 2**span, low)
        length, bend = _between(rng, 0.12, 0.35), float(rng.uniform(-0.3, 0.3))
        gap, repeats = _between(rng, 0.05, 0.15), int(rng.integers(1, 4))
        phrases.append(Phrase(length, gap, repeats, *ends, bend))
    return tuple(phrases)


def _draw_harmonic(rng: Random) -> tuple[Phrase, ...]:
    pitch = _between(rng, 700, 1500)
    partials = tuple(float(v) for v in rng.uniform(0.2, 1.0, size=int(rng.integers(5, 8))))
    phrases = []
    for _ in range(int(rng.integers(1, 3))):
        start = pitch * 2 ** float(rng.uniform(-0.25, 0.25))
        end = start * 2 ** float(rng.uniform(-0.3, 0.3))
        length, gap = _between(rng, 0.12, 0.4), _between(rng, 0.08, 0.25)
        bend, repeats = float(rng.uniform(-0.2, 0.3)), int(rng.integers(2, 5))
        phrases.append(Phrase(length, gap, repeats, start, end, bend, 0.0, partials))
    return tuple(phrases)


def _draw_buzz(rng: Random) -> tuple[Phrase, ...]:
    pitch = _between(rng, 3200, 6000)
    buzz = Phrase(
        _between(rng, 0.4, 0.8),
        0.08,
        1,
        pitch,
        pitch * 2 ** float(rng.uniform(-0.2, 0.2)),
        tremolo_hz=_between(rng, 40, 120),
        partials=(1.0, 0.3),
    )
    intro = float(pitch * 2 ** rng.uniform(-0.8, -0.2))
    short, repeats = _between(rng, 0.06, 0.12), int(rng.integers(2, 4))
    return Phrase(short, _between(rng, 0.05, 0.1), repeats, intro, intro * 1.05), buzz


FAMILIES: dict[str, Callable[[Random], tuple[Phrase, ...]]] = {
    "whistle": _draw_whistle,
    "trill": _draw_trill,
    "sweep": _draw_sweep,
    "harmonic": _draw_harmonic,
    "buzz": _draw_buzz,
}


def draw_grammar(rng: Random, family: str) -> Grammar:
    """The song grammar of a new species of one family (a key of `FAMILIES`).

    Besides singing all phrases in order, a bird may leave out the last one or sing the first
    one twice.
    """
    phrases = FAMILIES[family](rng)
    whole = tuple(range(len(phrases)))
    orders = [whole, (0, *whole)]
    if len(whole) > 1:
        orders.append(whole[:-1])
    return Grammar(phrases, tuple(orders), _between(rng, 0.4, 1.4))


def draw_lookalike(rng: Random, grammar: Grammar, likeness: float) -> Grammar:
    """A species in the same pitch range as `grammar` that differs in its time structure.

    Every pitch movement runs the other way, the phrases come in reverse order, and the tempo
    differs by up to a factor of 1.8 (at `likeness` 0) or not at all (at 1).
    """
    tempo = 1.8 ** ((1 - likeness) * float(rng.choice([-1, 1])))
    shift = 2 ** float((1 - likeness) * rng.uniform(-0.2, 0.2))
    phrases = tuple(
        replace(
            p,
            length_s=p.length_s / tempo,
            gap_s=p.gap_s / tempo,
            start_hz=p.end_hz * shift,
            end_hz=p.start_hz * shift,
            tremolo_hz=p.tremolo_hz * tempo,
        )
        for p in reversed(grammar.phrases)
    )
    return replace(grammar, phrases=phrases)


def draw_voice(rng: Random, grammar: Grammar, individuality: float) -> Voice:
    """The voice of one bird; with `individuality` 0 it sings as the grammar says."""
    pitch, tempo, overtones = individuality * rng.normal(0, (0.09, 0.13, 0.5))
    return Voice(
        2 ** float(pitch),
        2 ** float(tempo),
        2 ** float(overtones),
        int(rng.integers(len(grammar.orders))),
    )


def _render_syllable(phrase: Phrase, voice: Voice, wobble: float) -> Wave:
    n = max(64, int(phrase.length_s / voice.tempo * SAMPLE_RATE_HZ))
    x = np.linspace(0, 1, n, dtype=np.float32)
    octaves = x * np.float32(np.log2(phrase.end_hz / phrase.start_hz))
    octaves += np.float32(4 * phrase.bend_oct) * x * (1 - x) + np.float32(wobble)
    hz = np.float32(phrase.start_hz * voice.pitch) * np.exp2(octaves)
    phase = np.cumsum(hz * np.float32(2 * np.pi / SAMPLE_RATE_HZ), dtype=np.float64)
    wave = np.zeros(n, dtype=np.float32)
    for k, amplitude in enumerate(phrase.partials, start=1):
        if k * float(hz.max()) < 0.45 * SAMPLE_RATE_HZ:
            loud = amplitude * (voice.overtones if k > 1 else 1.0)
            wave += np.float32(loud) * np.sin(k * phase).astype(np.float32)
    if phrase.tremolo_hz:
        beat = 2 * np.pi * phrase.tremolo_hz * phrase.length_s
        wave *= 0.5 - 0.5 * np.cos(np.float32(beat) * x)
    ramp = min(n // 3, int(0.008 * SAMPLE_RATE_HZ))
    edge = np.sin(np.linspace(0, np.pi / 2, ramp, dtype=np.float32)) ** 2
    wave[:ramp] *= edge
    wave[n - ramp :] *= edge[::-1]
    return wave


def render_song(grammar: Grammar, voice: Voice, rng: Random) -> Wave:
    """One song: [samples] float32 at 32 kHz, root mean square 1 over the sounding samples.

    Two thirds of the songs come in the order the bird likes best; pitch, tempo and the number
    of repeats vary a little from song to song.
    """
    order = voice.favourite if rng.random() < 0.67 else int(rng.integers(len(grammar.orders)))
    sung = replace(voice, tempo=voice.tempo * 2 ** float(rng.normal(0, 0.04)))
    parts = []
    for index in grammar.orders[order]:
        phrase = grammar.phrases[index]
        syllable = _render_syllable(phrase, sung, float(rng.normal(0, 0.015)))
        gap = np.zeros(int(phrase.gap_s / sung.tempo * SAMPLE_RATE_HZ), dtype=np.float32)
        spare = phrase.repeats // 4
        repeats = phrase.repeats + (int(rng.integers(-spare, spare + 1)) if spare else 0)
        parts.append(np.tile(np.concatenate([syllable, gap]), repeats))
    song = np.concatenate(parts)
    sounding = np.abs(song) > 1e-3
    return np.asarray(song / np.sqrt(np.mean(song[sounding] ** 2)), dtype=np.float32)
