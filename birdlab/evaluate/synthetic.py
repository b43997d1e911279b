"""Synthetic soundscapes: what is to be heard in them and when, mixing, and the truth of windows.

Everything is drawn from generators named by the seed of the mixture, the number of the soundscape
and what is drawn, so that a soundscape depends on no other one, and changing how loud the parts are
moves none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.activity import band_powers, find_active
from birdlab.data.classes import ClassList
from birdlab.spec.synthetic import SyntheticSpec

SEMANTICS = 1
"""Raised when the same fields and recordings start to give other soundscapes."""

TRUTH_COLUMNS = ("start_s", "end_s", "label")
LISTENED_S = 30.0
"""So much of a longer recording is looked through for its song, from a drawn start."""

_LEAD_S = 0.25
_FADE_S = 0.02
_OCCUPIED = 0.8
_ROUNDING_S = 1e-6

Floats = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Arrival:
    """A part of a recording that is to be heard in a soundscape.

    row: of the recordings that may be used; at_s: when it begins; length_s; snr_db; piece and song:
    draws in 0..1 of which piece of a long recording is looked through, and which song is taken.
    """

    row: int
    at_s: float
    length_s: float
    snr_db: float
    piece: float
    song: float


@dataclass(frozen=True, eq=False)
class Part:
    """What is placed: wave [n] float32, when it sings ([K, 2] seconds), the power of its bands."""

    wave: Floats
    stretches: Float64
    song: Float64


def draw_arrivals(spec: SyntheticSpec, number: int, columns: Int64) -> tuple[Arrival, ...]:
    """What is to be heard in soundscape `number`, in order of time.

    `columns` [N] has the class of each recording that may be used; without any nothing is heard.
    """
    count = int(_generator(spec, number, "count").poisson(spec.per_minute * spec.seconds / 60))
    if not len(columns):
        return ()
    names = ("at", "species", "row", "length", "snr", "piece", "song")
    u = {name: _generator(spec, number, name).random(count) for name in names}
    rows = _draw_rows(spec, columns, u["species"], u["row"]).tolist()
    spread = np.stack([u["at"] * spec.seconds, _between(spec.part_s, u["length"]),
                       _between(spec.snr_db, u["snr"]), u["piece"], u["song"]], axis=1)  # fmt: skip
    arrivals = [Arrival(row, *one) for row, one in zip(rows, spread.tolist(), strict=True)]
    return tuple(sorted(arrivals, key=lambda arrival: arrival.at_s))


def draw_background(spec: SyntheticSpec, number: int) -> tuple[float, float]:
    """Which background soundscape `number` has and from where, as two draws in 0..1."""
    which, start = _generator(spec, number, "background").random(2)
    return float(which), float(start)


def cut_part(piece: Floats, sample_rate_hz: int, arrival: Arrival) -> Part | None:
    """The part of a piece of a recording that an arrival takes; None where nothing sings.

    It begins shortly before one of its songs. What sounds before and after goes with it.
    """
    activity = find_active(piece, sample_rate_hz)
    n_songs = len(activity.stretches)
    if not n_songs:
        return None
    onset_s = float(activity.stretches[min(int(arrival.song * n_songs), n_songs - 1), 0])
    first = round(max(0.0, onset_s - _LEAD_S) * sample_rate_hz)
    wave = piece[first : first + round(arrival.length_s * sample_rate_hz)]
    start_s, length_s = first / sample_rate_hz, len(wave) / sample_rate_hz
    stretches = np.clip(activity.stretches - start_s, 0, length_s)
    stretches = stretches[stretches[:, 1] > stretches[:, 0]]
    song = activity.song_between(start_s, start_s + length_s)
    return Part(wave, stretches, song) if song.any() else None


def mix_soundscape(
    background: Floats,
    sample_rate_hz: int,
    arrivals: Iterable[tuple[Arrival, str]],
    cut: Callable[[Arrival], Part | None],
) -> tuple[Floats, pd.DataFrame]:
    """A soundscape [n] float32 over a background [n], and when which label sings in it.

    `arrivals` with their labels; `cut` gives the part of one, or None for what has no song and is
    left out. The truth has TRUTH_COLUMNS in seconds; what one label sings twice at a time counts
    once. What lies beyond the end is cut off. Any level is possible: scale before storing.
    """
    wave, noise = background.copy(), band_powers(background, sample_rate_hz).mean(axis=0)
    end_s, spans = len(wave) / sample_rate_hz, []
    for arrival, label in arrivals:
        part = cut(arrival)
        if part is None:
            continue
        first = round(arrival.at_s * sample_rate_hz)
        piece = _fade(part.wave, sample_rate_hz)[: len(wave) - first]
        wave[first : first + len(piece)] += np.float32(_gain(part.song, noise, arrival)) * piece
        for start_s, stop_s in np.minimum(first / sample_rate_hz + part.stretches, end_s).tolist():
            spans.append((start_s, stop_s, label))
    return wave, _merge(pd.DataFrame(spans, columns=list(TRUTH_COLUMNS)))


def mark_truth(
    truth: pd.DataFrame,
    soundscapes: npt.NDArray[np.object_],
    end_s: Float64,
    window_s: float,
    classes: ClassList,
    min_s: float,
) -> Bool:
    """[W, classes]: in which windows a class sings for `min_s` or more.

    `truth` has TRUTH_COLUMNS and `recording`, no two stretches of a label overlapping; window w is
    the `window_s` before `end_s[w]` of `soundscapes[w]`. Labels that are no class are left out.
    """
    seconds = np.zeros((len(end_s), len(classes)))
    known = truth[truth["label"].isin(classes.codes)]
    for name, spans in known.groupby("recording"):
        rows = np.flatnonzero(soundscapes == name)
        stop = np.minimum(end_s[rows, None], spans["end_s"].to_numpy()[None])
        start = np.maximum(end_s[rows, None] - window_s, spans["start_s"].to_numpy()[None])
        columns = np.asarray([classes.index[label] for label in spans["label"]], np.int64)
        heard = np.zeros((len(rows), len(classes)))
        np.add.at(heard.T, columns, np.maximum(stop - start, 0).T)
        seconds[rows] = heard
    return np.asarray(seconds >= min_s - _ROUNDING_S)


def _draw_rows(spec: SyntheticSpec, columns: Int64, species: Float64, row: Float64) -> Int64:
    """A recording for each of the draws, the class first where species are drawn evenly."""
    if spec.species == "as_recorded":
        return (row * len(columns)).astype(np.int64)
    order = np.argsort(columns, kind="stable")
    present, first, counts = np.unique(columns[order], return_index=True, return_counts=True)
    chosen = (species * len(present)).astype(np.int64)
    return np.asarray(order[first[chosen] + (row * counts[chosen]).astype(np.int64)])


def _generator(spec: SyntheticSpec, number: int, name: str) -> np.random.Generator:
    text = f"synthetic\x1f{spec.seed}\x1f{number}\x1f{name}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _between(ends: tuple[float, float], u: Float64) -> Float64:
    return ends[0] + u * (ends[1] - ends[0])


def _gain(song: Float64, noise: Float64, arrival: Arrival) -> float:
    """What brings a song to its level over a background, in the bands that hold most of its power.

    1 where the background is silent there.
    """
    order = np.argsort(-song)
    within = np.cumsum(song[order]) - song[order] < _OCCUPIED * song.sum()
    over, under = song[order[within]].sum(), noise[order[within]].sum()
    return float(np.sqrt(10 ** (arrival.snr_db / 10) * under / over)) if under > 0 else 1.0


def _fade(wave: Floats, sample_rate_hz: int) -> Floats:
    """The wave with short slopes at both ends, so that no edge clicks."""
    n = min(round(_FADE_S * sample_rate_hz), len(wave) // 2)
    slope = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    out = wave.copy()
    out[:n] *= slope
    out[len(out) - n :] *= slope[::-1]
    return out


def _merge(spans: pd.DataFrame) -> pd.DataFrame:
    """The stretches of each label with those that overlap or touch made one, by time."""
    merged: list[tuple[float, float, str]] = []
    for label, own in spans.sort_values("start_s", kind="stable").groupby("label"):
        current: list[list[float]] = []
        for start_s, end_s in own[["start_s", "end_s"]].to_numpy().tolist():
            if current and start_s <= current[-1][1]:
                current[-1][1] = max(current[-1][1], end_s)
            elif end_s > start_s:
                current.append([start_s, end_s])
        merged += [(start_s, end_s, str(label)) for start_s, end_s in current]
    table = pd.DataFrame(sorted(merged), columns=list(TRUTH_COLUMNS))
    return table.astype({"start_s": np.float64, "end_s": np.float64, "label": object})
