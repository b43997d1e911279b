"""Cleaning rules that look into the files: durations, sample rates, equal audio, silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.clean.rules import CleanContext, recordings_of, without_recordings
from birdlab.data.duplicates import near_pairs
from birdlab.data.facts import Facts
from birdlab.data.signals import FRAME_S
from birdlab.spec.cleaning import Duration, NearDuplicates, SampleRate, Trim
from birdlab.spec.kinds import implements


def fill_durations(table: pd.DataFrame, facts: Facts) -> pd.Series:
    """The length of each file in seconds: by the table, else by its header; NaN when neither."""
    known = table["duration_s"].astype(np.float64)
    lacking = known.isna()
    if not lacking.any():
        return known
    headers = facts.headers([Path(path) for path in table.loc[lacking, "path"]])
    known = known.copy()
    known[lacking] = headers["duration_s"].to_numpy(np.float64)
    return known


def span_lengths(table: pd.DataFrame, facts: Facts) -> pd.Series:
    """The length of what each row uses of its file in seconds; NaN when unknown."""
    ends = table["end_s"].copy()
    to_the_end = ends.isna()
    ends[to_the_end] = fill_durations(table[to_the_end], facts)
    return ends - table["start_s"].fillna(0.0)


@implements(Duration)
def keep_lengths(spec: Duration, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The rows that use `min_s` to `max_s` seconds; one of unknown length is kept and noted."""
    lengths = span_lengths(table, context.facts)
    _note_unknown(context, lengths.isna(), "length")
    limit = np.inf if spec.max_s is None else spec.max_s
    return table[lengths.between(spec.min_s, limit) | lengths.isna()]


@implements(SampleRate)
def keep_rates(spec: SampleRate, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The rows of files at `min_hz` or more; a file whose rate is unknown is kept and noted."""
    headers = context.facts.headers([Path(path) for path in table["path"]])
    unreadable = pd.Series(headers["reason"].to_numpy() != "", table.index)
    _note_unknown(context, unreadable, "sample rate")
    fast = pd.Series(headers["sample_rate_hz"].to_numpy() >= spec.min_hz, table.index)
    return table[fast | unreadable]


def _note_unknown(context: CleanContext, unknown: pd.Series, what: str) -> None:
    if unknown.any():
        context.notes.append(f"{int(unknown.sum()):,} of unknown {what} kept")


@implements(NearDuplicates)
def drop_near_duplicates(
    spec: NearDuplicates, table: pd.DataFrame, context: CleanContext
) -> pd.DataFrame:
    """The table without recordings that share `overlap_s` of sound with an earlier one that stays.

    With `against: base` a base recording counts as the earlier one wherever it stands, and only
    rows of other tables go. A file that cannot be read is like no other.
    """
    recordings = recordings_of(table)
    paths = [Path(path) for path in recordings["path"]]
    prints = context.facts.fingerprints(paths)
    unread = context.facts.headers(paths)["reason"] != ""
    if unread.any():
        context.notes.append(f"{int(unread.sum()):,} that cannot be read kept")
    if spec.against == "base":
        base = recordings_of(context.base)
        theirs = context.facts.fingerprints([Path(path) for path in base["path"]])
        alike = near_pairs(prints, spec.overlap_s, theirs)["first"].unique()
        again = np.isin(np.arange(len(recordings)), alike) & (recordings["role"] != "base")
        return without_recordings(table, recordings[again])
    gone: set[int] = set()
    pairs = near_pairs(prints, spec.overlap_s)
    for earlier, later in pairs.sort_values(["second", "first"])[["first", "second"]].to_numpy():
        if earlier not in gone:
            gone.add(int(later))
    return without_recordings(table, recordings.iloc[sorted(gone)])


@implements(Trim)
def trim_silence(spec: Trim, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The table with start_s and end_s within which each recording is not silent.

    An end of which less than a frame would go stays as it is. A row whose own time range lies
    wholly in what would be cut off keeps it.
    """
    recordings = recordings_of(table)
    paths = [Path(path) for path in recordings["path"]]
    loud = context.facts.trims(paths, spec.top_db, spec.margin_s)
    duration_s = context.facts.headers(paths)["duration_s"]
    loud = pd.DataFrame(
        {
            "start_s": loud["start_s"].where(loud["start_s"] > 0).to_numpy(),
            "end_s": loud["end_s"].mask(loud["end_s"] > duration_s - FRAME_S).to_numpy(),
        },
        index=recordings["path"],
    )
    start_s = np.fmax(table["start_s"], table["path"].map(loud["start_s"]))
    end_s = np.fmin(table["end_s"], table["path"].map(loud["end_s"]))
    silent = start_s >= end_s
    return table.assign(
        start_s=table["start_s"].where(silent, start_s),
        end_s=table["end_s"].where(silent, end_s),
    )
