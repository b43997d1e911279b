"""Which rows validate together: folds over a table of recordings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from birdlab.data.catalog import recordist_keys
from birdlab.data.clean import IDENTITY, recordings_of
from birdlab.data.clean.sound import span_lengths
from birdlab.data.facts import Facts
from birdlab.errors import DataError
from birdlab.spec.base import Spec
from birdlab.spec.folds import Predefined, Stratified, StratifiedGroup
from birdlab.spec.kinds import function_of, implements, nearest

ALWAYS_TRAINING = -1
"""The fold of a row that no fold validates on."""

KINDS = ("stratified", "stratified_group")


def assign_folds(table: pd.DataFrame, kind: str, n_folds: int, seed: int) -> pd.Series:
    """The fold 0..n_folds-1 that validates on each row, an int64 Series on the table's index.

    `stratified` spreads each primary_label evenly (sklearn's StratifiedKFold, shuffled, in table
    order); a species with fewer rows than folds is missing from some of them.
    `stratified_group` also keeps a recordist within one fold: author without case and outer
    spaces, each row without an author a group of its own. The value -1 means always in training;
    neither kind gives it. Raises DataError for an unknown kind, an empty label, or more folds
    than rows or recordists.
    """
    if kind not in KINDS:
        raise DataError(f"unknown kind of folds {kind!r}", expected=nearest(kind, list(KINDS)))
    labels = table["primary_label"].to_numpy(str)
    groups = _recordists(table) if kind == "stratified_group" else np.arange(len(table))
    if (labels == "").any():
        raise DataError(
            f"{(labels == '').sum()} rows have no primary_label to stratify by",
            fix="give each of them a primary_label",
        )
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise DataError(
            f"{n_folds} folds cannot be made of this table",
            got=f"{len(table)} rows in {n_groups} groups that stay together",
            expected="at least 2 folds and at most one per group",
            fix="set data.folds.n",
        )
    largest = int(pd.Series(labels).value_counts().iloc[0])
    if largest < n_folds:
        raise DataError(
            f"{n_folds} folds cannot be stratified: every species has fewer recordings",
            got=f"{largest} recordings of the most frequent species",
            fix="set data.folds.n",
        )
    if kind == "stratified_group":
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        split = splitter.split(labels, labels, groups)
    else:
        split = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels)
    folds = np.full(len(table), ALWAYS_TRAINING, np.int64)
    with _rare_species():
        for fold, (_, validation) in enumerate(split):
            folds[validation] = fold
    return pd.Series(folds, index=table.index, name="fold")


def fold_rows(table: pd.DataFrame, spec: Spec, facts: Facts, halved_from_s: float) -> pd.DataFrame:
    """The table with `fold`: base rows by `spec`, all others always in training; index 0..n-1.

    All rows of a recording share a fold. Under `rare: halves` the recordings of a rare species
    of which `halved_from_s` seconds or more are used are cut in the middle: two rows, `apart`,
    in two folds. What is rare is counted over the whole table, since extra rows teach too.
    """
    base = table[table["role"] == "base"]
    recordings = recordings_of(base)
    of_recording = build_folds(recordings, spec)
    keys, known = (pd.MultiIndex.from_frame(part[IDENTITY]) for part in (base, recordings))
    folds = pd.Series(ALWAYS_TRAINING, table.index, dtype="int64")
    folds[base.index] = of_recording.to_numpy()[known.get_indexer(keys)]
    folded = table.assign(fold=folds)
    if getattr(spec, "rare", "leave") != "halves":
        return folded
    return _halve(folded, spec, facts, halved_from_s)


def build_folds(table: pd.DataFrame, spec: Spec) -> pd.Series:
    """The fold of each recording of `table` under a spec of the family `folds`.

    An int64 Series on the table's index, -1 for always in training. Raises DataError when the
    table cannot be split so.
    """
    folds: pd.Series = function_of(spec)(spec, table)
    return folds


@implements(Stratified)
def build_stratified(spec: Stratified, table: pd.DataFrame) -> pd.Series:
    """Folds with equal shares of every species."""
    return _assign_frequent(spec, table)


@implements(StratifiedGroup)
def build_stratified_group(spec: StratifiedGroup, table: pd.DataFrame) -> pd.Series:
    """Folds with near-equal shares of every species and no recordist in two of them."""
    return _assign_frequent(spec, table)


def _assign_frequent(spec: Stratified | StratifiedGroup, table: pd.DataFrame) -> pd.Series:
    """Folds of all rows, or under `rare: train` of those whose species is not rare."""
    if spec.rare != "train":
        return assign_folds(table, spec.kind, spec.n, spec.seed)
    below = spec.n if spec.rare_below is None else spec.rare_below
    rare = _rare_rows(table, below)
    if rare.all():
        raise DataError(
            f"every species has fewer than {below} recordings, so none is validated on",
            where="data.folds.rare_below",
            fix="lower it, or write rare: leave",
        )
    folds = assign_folds(table[~rare], spec.kind, spec.n, spec.seed)
    return folds.reindex(table.index, fill_value=ALWAYS_TRAINING)


@implements(Predefined)
def read_folds(spec: Predefined, table: pd.DataFrame) -> pd.Series:
    """Folds from a column of the table: 0 to n - 1; empty or -1 is always in training.

    Raises DataError for a column that is not there, any other value, and a fold without rows.
    """
    if spec.column not in table.columns:
        raise DataError(
            f"the table has no column {spec.column!r}",
            where="data.folds.column",
            expected=nearest(spec.column, [str(column) for column in table.columns]),
        )
    text = table[spec.column].astype(str).str.strip()
    numbers = pd.to_numeric(text.where(text != "", str(ALWAYS_TRAINING)), errors="coerce")
    wrong = ~numbers.isin([ALWAYS_TRAINING, *range(spec.n)])
    if wrong.any():
        shown = ", ".join(map(repr, sorted(set(text[wrong]))[:10]))
        raise DataError(
            f"{int(wrong.sum())} recordings have no fold in the column {spec.column!r}",
            where="data.folds",
            got=shown,
            expected=f"0 to {spec.n - 1}, or empty for always in training",
            fix="set data.folds.n, or correct the table",
        )
    if (numbers == ALWAYS_TRAINING).all():
        raise DataError(
            f"no recording has a fold in the column {spec.column!r}",
            where="data.folds",
            got="a column that is empty or that the table does not have",
            fix="set data.folds.column, or name the column in birdlab.toml: columns",
        )
    empty = sorted(set(range(spec.n)) - set(numbers))
    if empty:
        raise DataError(
            f"no recording is in fold {', '.join(map(str, empty))}",
            where="data.folds",
            got=f"n: {spec.n}",
            fix="set data.folds.n to the number of folds in the table",
        )
    return numbers.astype("int64").rename("fold")


def _rare_rows(table: pd.DataFrame, below: int) -> npt.NDArray[np.bool_]:
    """Which rows are of a species with fewer than `below` recordings."""
    counts = recordings_of(table)["primary_label"].value_counts()
    return np.asarray(table["primary_label"].map(counts) < below, bool)


def _halve(table: pd.DataFrame, spec: Spec, facts: Facts, halved_from_s: float) -> pd.DataFrame:
    """The table with two rows for each long recording of a rare species, the second one later."""
    below = getattr(spec, "rare_below", None) or 2
    single = ~table.duplicated(IDENTITY, keep=False)
    rare = table[_rare_rows(table, below) & (table["role"] == "base") & single]
    lengths = span_lengths(rare, facts)
    long = rare[lengths >= halved_from_s]
    middle_s = long["start_s"].fillna(0.0) + lengths[long.index] / 2
    first = long.assign(end_s=middle_s, apart=True)
    other = (long["fold"] + 1) % int(getattr(spec, "n", 2))
    second = long.assign(start_s=middle_s, apart=True, fold=other)
    parts = [table.drop(long.index), first, second]
    halved = pd.concat([part for part in parts if len(part)]).sort_index(kind="stable")
    return halved.reset_index(drop=True)


def _recordists(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """A number per recordist, and one of its own for each row without an author."""
    authors = recordist_keys(table["author"]).to_numpy(str)
    groups = np.unique(authors, return_inverse=True)[1].astype(np.int64)
    unknown = authors == ""
    groups[unknown] = len(table) + np.arange(int(unknown.sum()))
    return groups


@contextmanager
def _rare_species() -> Iterator[None]:
    """Silence sklearn's note that a species has fewer rows than there are folds."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The least populated class in y", category=UserWarning
        )
        yield
