"""Cleaning rules that look at the columns of a table: duplicates, ratings, species, counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import recordist_keys
from birdlab.data.clean.rules import CleanContext, recordings_of, without_recordings
from birdlab.data.clean.sound import fill_durations
from birdlab.data.clean.waterfall import IDENTITY
from birdlab.errors import DataError
from birdlab.spec.cleaning import Cap, Dedupe, License, MinRecordings, Rating, Upsample
from birdlab.spec.kinds import implements, nearest

ALIASES = {"recording_id": "xc_id", "species": "primary_label", "duration": "duration_s"}
"""Words of the field `by` for columns of the table."""


@implements(Dedupe)
def drop_duplicates(spec: Dedupe, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The table without recordings that agree in every column of `by` with an earlier one.

    With `against: base` a base recording counts as the earlier one wherever it stands, and only
    rows of other tables go. Authors agree without case and outer spaces. A recording with an
    empty value in one of the columns is always kept; a duration that the table lacks is taken
    from the header of the file. Raises DataError for a name that is neither a column nor an
    alias, NeedsBuild for `content`.
    """
    recordings = recordings_of(table)
    keys = _keys(spec, recordings, context)
    empty = (keys.isna() | (keys == "")).any(axis=1)
    if spec.against == "base":
        theirs = _keys(spec, recordings_of(context.base), context)
        found, known = (pd.MultiIndex.from_frame(part) for part in (keys, theirs))
        again = pd.Series(found.isin(known), recordings.index) & (recordings["role"] != "base")
    else:
        again = keys[~empty].duplicated().reindex(keys.index, fill_value=False)
    return without_recordings(table, recordings[again & ~empty])


def _keys(spec: Dedupe, recordings: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """What is compared, a column per name in `by`."""
    columns = [ALIASES.get(name, name) for name in spec.by]
    unknown = [name for name in columns if name not in (*recordings.columns, "content")]
    if unknown:
        known = [*(str(column) for column in recordings.columns), *ALIASES, "content"]
        raise DataError(
            f"dedupe names the unknown column {unknown[0]!r}",
            where=f"data.clean.{spec.name}.by",
            expected=nearest(unknown[0], known),
        )
    keys = recordings[[name for name in columns if name in recordings.columns]]
    if "author" in columns:
        keys = keys.assign(author=recordist_keys(keys["author"]))
    if "duration_s" in columns:
        keys = keys.assign(duration_s=fill_durations(recordings, context.facts))
    if "content" in columns:
        heard = context.facts.signals([Path(path) for path in recordings["path"]])
        n_unread = int((heard["content"] == "").sum())
        if n_unread:
            context.notes.append(f"{n_unread:,} that cannot be read kept")
        keys = keys.assign(content=heard["content"].to_numpy())
    return keys


@implements(Rating)
def keep_well_rated(spec: Rating, table: pd.DataFrame, _context: CleanContext) -> pd.DataFrame:
    """The rows rated `min` or better; rating 0 or none is no rating, and `unrated` decides."""
    unrated = table["rating"].isna() | (table["rating"] == 0)
    good = table["rating"] >= spec.min
    return table[(unrated & (spec.unrated == "keep")) | (good & ~unrated)]


@implements(License)
def keep_licensed(spec: License, table: pd.DataFrame, _context: CleanContext) -> pd.DataFrame:
    """The rows whose licence holds one of `allow` and none of `deny`, without case.

    An empty `allow` allows all. A row without a licence holds nothing.
    """
    licenses = table["license"].str.casefold()
    kept = _holds_any(licenses, spec.allow) if spec.allow else np.ones(len(table), bool)
    return table[kept & ~_holds_any(licenses, spec.deny)]


def _holds_any(texts: pd.Series, parts: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    held = np.zeros(len(texts), bool)
    for part in parts:
        held |= texts.str.contains(part.casefold(), regex=False).to_numpy(bool)
    return held


@implements(MinRecordings)
def keep_frequent(spec: MinRecordings, table: pd.DataFrame, _context: CleanContext) -> pd.DataFrame:
    """The rows of species with at least `n` recordings in the table."""
    counts = recordings_of(table)["primary_label"].value_counts()
    return table[table["primary_label"].map(counts) >= spec.n]


@implements(Cap)
def keep_at_most(spec: Cap, table: pd.DataFrame, _context: CleanContext) -> pd.DataFrame:
    """At most `n` recordings of each species, drawn by its name and the seed.

    The draw is over the names of the recordings, so that the order of rows, and what other
    species there are, decide nothing.
    """
    recordings = recordings_of(table).sort_values(IDENTITY)
    refused = []
    for species, part in recordings.groupby("primary_label", sort=False):
        if len(part) > spec.n:
            drawn = _generator(spec.seed, str(species)).random(len(part))
            refused.append(part.iloc[np.argsort(drawn, kind="stable")[spec.n :]])
    return without_recordings(table, pd.concat(refused)) if refused else table


def _generator(seed: int, species: str) -> np.random.Generator:
    text = f"cap\x1f{seed}\x1f{species}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


@implements(Upsample)
def copy_rare(spec: Upsample, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The table with `copies` such that a rarer species counts `n` rows in training.

    Where `n` is no multiple of its rows, the first of them by name count once more. Rows that
    count more often already keep that.
    """
    ranked = table.sort_values([*IDENTITY, "start_s"], kind="stable")
    rank = ranked.groupby("primary_label").cumcount().reindex(table.index).to_numpy()
    rows = table.groupby("primary_label")["primary_label"].transform("size").to_numpy()
    copies = spec.n // rows + (rank < spec.n % rows)
    copies = np.maximum(table["copies"], copies).astype(np.int64)
    context.notes.append(f"{int(copies.sum()) - len(table):,} copies for training")
    return table.assign(copies=copies)
