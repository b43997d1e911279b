"""Soundscapes that teachers label, and the refusal of those that any score is taken from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.hashes import hash_files
from birdlab.datasets import Collector
from birdlab.errors import DataError
from birdlab.soundscapes import BOARDS, VALIDATORS
from birdlab.spec.identity import digest

UNLABELLED = "unlabelled"
"""The split of soundscapes that nobody looked through."""
SHOWN = 3


@dataclass(frozen=True, eq=False)
class UnlabelledSet:
    """Soundscapes to label, each waveform once, in the order of their keys.

    names: `<data set>/<file>`; durations_s: as the data set states them, NaN where it does not.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    durations_s: tuple[float, ...]

    @cached_property
    def content(self) -> str:
        """A hash over the waveforms, whatever their files and data sets are called."""
        return digest(list(self.keys))

    def n_windows(self, window_s: float, keys: Collection[str]) -> int | None:
        """How many windows those of `keys` have; None where a length is not stated."""
        lengths = [s for k, s in zip(self.keys, self.durations_s, strict=True) if k in keys]
        if not np.isfinite(lengths).all():
            return None
        return int(sum(max(1, np.ceil(s / window_s - 1e-6)) for s in lengths))


class _Scored(NamedTuple):
    """A soundscape that a score is taken from: what it is in words, its stem, its waveform."""

    what: str
    stem: str
    key: str | None


def join_sets(sets: Sequence[UnlabelledSet]) -> UnlabelledSet:
    """The soundscapes of several data sets as one; a waveform that several have counts once."""
    rows = {
        key: (name, length)
        for one in sets
        for name, key, length in zip(one.names, one.keys, one.durations_s, strict=True)
    }
    keys = sorted(rows)
    return UnlabelledSet(
        tuple(rows[k][0] for k in keys), tuple(keys), tuple(rows[k][1] for k in keys)
    )


def collect_unlabelled(
    collector: Collector, opened: Iterable[Dataset | None]
) -> dict[str, UnlabelledSet]:
    """The soundscapes of each data set that stages have labelled, by its name.

    `opened` are the data sets that the experiment uses anyway. Raises DataError for a set without
    unlabelled soundscapes, for a file that stands for a leaderboard or judges models, in any data
    set that the experiment names, by its name or its sound, and for files that are missing when the
    plan is strict.
    """
    names = collector.needs.unlabelled
    if not names:
        return {}
    known = {data.name: data for data in opened if data is not None}
    for name in (*names, *collector.needs.validators, *collector.needs.data.soundscapes):
        found = known.get(name) or collector.dataset(name, "soundscapes")
        if found is not None:
            known[name] = found
    scored = _list_scored(collector, known.values())
    return {name: _collect(collector, known[name], scored) for name in names if name in known}


def _collect(collector: Collector, data: Dataset, scored: Sequence[_Scored]) -> UnlabelledSet:
    chosen = data.soundscapes[data.soundscapes["split"] == UNLABELLED]
    if chosen.empty:
        raise _none_unlabelled(data)
    paths = [Path(path) for path in chosen["path"]]
    keys = collector.keys(paths)
    refuse_scored(data, list(chosen["filename"]), keys, scored)
    kept = [i for i, out in enumerate(collector.left_out_of(paths, keys)) if not out]
    gone = [str(paths[i]) for i in kept if keys[i] is None]
    if gone and collector.strict:
        raise DataError(
            f"{len(gone)} soundscapes to label are missing",
            where=f"data set {data.name}",
            got=", ".join(gone[:5]),
            fix="correct the path of the data set in birdlab.toml",
        )
    if gone:
        collector.missing.append(f"audio of {len(gone):,} soundscapes of {data.name}")
    n_labelled = int((data.soundscapes["split"] == VALIDATORS).sum())
    if n_labelled:
        collector.notes.append(
            f"{data.name}: {n_labelled:,} labelled soundscapes are not labelled by a teacher; as a "
            "data set of recordings they could be data.extra"
        )
    lengths = pd.to_numeric(chosen["duration_s"], errors="coerce").to_numpy(np.float64)
    rows = [
        UnlabelledSet((f"{data.name}/{chosen['filename'].iloc[i]}",), (key,), (float(lengths[i]),))
        for i in kept
        if (key := keys[i]) is not None
    ]
    return join_sets(rows)


def _list_scored(collector: Collector, datasets: Iterable[Dataset]) -> list[_Scored]:
    """The soundscapes of a leaderboard in any data set, and those that judge models."""
    scored = []
    for data in datasets:
        splits = (*BOARDS, *([VALIDATORS] if data.name in collector.needs.validators else []))
        chosen = data.soundscapes[data.soundscapes["split"].isin(splits)]
        hashes = hash_files([Path(path) for path in chosen["path"]], collector.hashes)
        for file, split, content in zip(chosen["filename"], chosen["split"], hashes, strict=True):
            key = None if content is None else collector.store.key(content)
            what = "a validator" if split == VALIDATORS else split
            scored.append(_Scored(f"{data.name}/{file} ({what})", _stem(file), key))
    return scored


def refuse_scored(
    data: Dataset, files: Sequence[str], keys: Sequence[str | None], scored: Sequence[_Scored]
) -> None:
    """Raise DataError for a file that a score is taken from: the same sound, or the same name."""
    by_key = {one.key: one.what for one in scored if one.key is not None}
    by_stem = {one.stem: one.what for one in scored}
    wrong = []
    for file, key in zip(files, keys, strict=True):
        if key in by_key:
            wrong.append(f"{file} is the sound of {by_key[key]}")
        elif _stem(file) in by_stem:
            wrong.append(f"{file} is called like {by_stem[_stem(file)]}")
    if wrong:
        more = f"; {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise DataError(
            f"{len(wrong):,} soundscapes to label are scored, so no model may train on them",
            where=f"pseudo.soundscapes: {data.name}",
            got="; ".join(wrong[:SHOWN]) + more,
            expected="soundscapes that no leaderboard and no validator is scored on",
            fix=f"take these files out of {data.name}, or name another data set; a file that only "
            "has the name of another sound can be called otherwise",
        )


def _none_unlabelled(data: Dataset) -> DataError:
    splits: Mapping[str, int] = data.soundscapes["split"].value_counts().to_dict()
    labelled = VALIDATORS in splits
    return DataError(
        f"the data set {data.name} has no unlabelled soundscapes",
        where="pseudo.soundscapes",
        got=", ".join(f"{n} {split}" for split, n in splits.items()) or "no soundscape",
        expected=f"soundscapes of the split `{UNLABELLED}`; those of a leaderboard are never "
        "labelled",
        fix="labels that exist are worth more than a teacher's: name the data set in data.extra"
        if labelled
        else f"describe them: {{kind: soundscapes, path: ..., split: {UNLABELLED}}}",
    )


def _stem(file: object) -> str:
    return Path(str(file)).stem.casefold()
