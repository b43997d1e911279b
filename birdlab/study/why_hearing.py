"""One recording as two runs hear it: what each says over time, on one clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from birdlab.errors import OutputsError
from birdlab.evaluate.outputs import load_outputs
from birdlab.lab import Lab
from birdlab.study.heard_files import HeardFile, list_heard
from birdlab.study.listening import Hearing, Load, load_hearing
from birdlab.study.sounds import SoundFile, Sounds
from birdlab.study.why import Why

MOST_CODES = 4
"""So many species of a recording are drawn."""
KEPT_OUTPUTS = 4
"""So many folders of stored outputs stay in memory; one can be 20 MB."""


@dataclass(frozen=True, eq=False)
class Line:
    """What one run says of one species over a file: [W] windows in time, seconds of the file."""

    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    probs: tuple[float, ...]

    @property
    def highest(self) -> int:
        """The window of the highest probability, which is what the recording is scored by."""
        return int(np.argmax(self.probs))


@dataclass(frozen=True, eq=False)
class HeardTwice:
    """A recording as base (a) and arm (b) hear it.

    codes: the species that are drawn, the primary one first; known: which of them are labels;
    lines: by code, of a and b; begin_s and end_s: what any window covers; sound: None where no data
    set of the lab names the file; notes: what is to be known of the lines, in words.
    """

    recording: str
    codes: tuple[str, ...]
    known: frozenset[str]
    labels: tuple[str, ...]
    lines: Mapping[str, tuple[Line, Line]]
    begin_s: float
    end_s: float
    sound: SoundFile | None
    notes: tuple[str, ...]

    @property
    def focus_s(self) -> float:
        """The middle of the window in which the two differ most on the first species."""
        if not self.codes:
            return (self.begin_s + self.end_s) / 2
        a, b = self.lines[self.codes[0]]
        finer, other = (a, b) if len(a.probs) >= len(b.probs) else (b, a)
        middles = (np.asarray(finer.start_s) + np.asarray(finer.end_s)) / 2
        apart = np.abs(np.asarray(finer.probs) - [_at(other, t) for t in middles])
        return float(middles[int(np.argmax(apart))])


def hear_twice(
    row: Mapping[str, Any], a: Hearing, b: Hearing, names: tuple[str, str], most: int = MOST_CODES
) -> HeardTwice:
    """The two hearings of a recording, drawn on one clock.

    row: of `Why.recordings`; names: of base and arm. A run that has one probability of the whole
    file gets a level line. Species are those of both runs: the primary one, then those on which
    the recording moves the difference most, at most `most`.
    """
    both = set(a.codes) & set(b.codes)
    wanted = [str(row["primary"]), *str(row["moved"]).split(", ")]
    codes = tuple(dict.fromkeys(code for code in wanted if code in both))[:most]
    timed = [hearing for hearing in (a, b) if not hearing.whole] or [a]
    begin_s = min(float(hearing.start_s[0]) for hearing in timed)
    end_s = max(float(hearing.end_s[-1]) for hearing in timed)
    labels = (a.primary, *a.secondary)
    return HeardTwice(
        a.file.name,
        codes,
        frozenset(code for code in codes if code in labels),
        labels,
        {code: (_line(a, code, begin_s, end_s), _line(b, code, begin_s, end_s)) for code in codes},
        begin_s,
        end_s,
        a.sound or b.sound,
        tuple(_notes(a, b, names)),
    )


def iter_heard_twice(
    lab: Lab,
    why: Why,
    records: Mapping[str, Mapping[str, Any]],
    sounds: Sounds,
    load: Load | None = None,
) -> Iterator[HeardTwice | str]:
    """Each recording of `why` as both runs hear it; in words where a run has no outputs of it.

    records: of base and arm by their names in `why`. A line is the mean over the seeds that are
    compared. Outputs are read as they are needed.
    """
    load = load or lru_cache(KEPT_OUTPUTS)(load_outputs)
    chosen = {name: of_seeds(records[name], why.seeds[name]) for name in (why.base, why.arm)}
    heard = {name: list_heard(lab, record, "recording") for name, record in chosen.items()}
    for row in why.recordings.to_dict("records"):
        name = str(row["recording"])
        lacking = [run for run in chosen if name not in heard[run]]
        if lacking:
            yield f"The stored outputs of {' and '.join(lacking)} on {name} are gone."
            continue
        yield hear_row(row, chosen, {run: heard[run][name] for run in chosen}, sounds, load)


def hear_row(
    row: Mapping[Any, Any],
    records: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, HeardFile],
    sounds: Sounds,
    load: Load,
) -> HeardTwice | str:
    """One recording as both runs hear it, base first; in words why not."""
    try:
        a, b = (load_hearing(records[run], files[run], sounds, load) for run in records)
    except OutputsError as error:
        return f"Nothing to show of {row['recording']}: {error.what}."
    base, arm = records
    return hear_twice({str(key): value for key, value in row.items()}, a, b, (base, arm))


def of_seeds(record: Mapping[str, Any], seeds: Collection[int]) -> dict[str, Any]:
    """The record with its cells of these seeds alone."""
    return {**record, "cells": [cell for cell in record["cells"] if cell["seed"] in seeds]}


def _line(hearing: Hearing, code: str, begin_s: float, end_s: float) -> Line:
    probs = hearing.probs[:, hearing.codes.index(code)].astype(float).tolist()
    if hearing.whole:
        return Line((begin_s,), (end_s,), (max(probs),))
    return Line(tuple(hearing.start_s.tolist()), tuple(hearing.end_s.tolist()), tuple(probs))


def _at(line: Line, second: float) -> float:
    """The highest probability of the windows that hold a second; of the nearest where none does."""
    start, end = np.asarray(line.start_s), np.asarray(line.end_s)
    holds = (start <= second) & (second < end)
    if not holds.any():
        holds = np.arange(len(start)) == np.abs((start + end) / 2 - second).argmin()
    return float(np.asarray(line.probs)[holds].max())


def _notes(a: Hearing, b: Hearing, names: Sequence[str]) -> Iterator[str]:
    for hearing, name in zip((a, b), names, strict=True):
        if hearing.whole:
            yield f"{name} has one probability of the whole file, drawn as a level line."
    cuts = [_cut_words(hearing) for hearing in (a, b)]
    if cuts[0] != cuts[1] and not (a.whole or b.whole):
        said = ", ".join(f"{name} {cut}" for name, cut in zip(names, cuts, strict=True))
        yield f"They cut it into other windows ({said}): lines are laid on the time of the file."


def _cut_words(hearing: Hearing) -> str:
    lengths = hearing.end_s - hearing.start_s
    hop = f" every {hearing.end_s[1] - hearing.end_s[0]:g} s" if len(lengths) > 1 else ""
    return f"{lengths[0]:g} s{hop}"
