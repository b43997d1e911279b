"""Which rows validate together: folds over a table of recordings, and what leaks between them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from birdlab.errors import DataError
from birdlab.spec.base import Spec
from birdlab.spec.data import Stratified, StratifiedGroup
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
        raise DataError(f"{(labels == '').sum()} rows have no primary_label to stratify by")
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise DataError(
            f"{n_folds} folds cannot be made of this table",
            got=f"{len(table)} rows in {n_groups} groups that stay together",
            expected="at least 2 folds and at most one per group",
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


def build_folds(table: pd.DataFrame, spec: Spec) -> pd.Series:
    """The fold of each row of `table` under a spec of the family `folds`, as in assign_folds."""
    folds: pd.Series = function_of(spec)(spec, table)
    return folds


@implements(Stratified)
def build_stratified(spec: Stratified, table: pd.DataFrame) -> pd.Series:
    """Folds with equal shares of every species."""
    return assign_folds(table, "stratified", spec.n, spec.seed)


@implements(StratifiedGroup)
def build_stratified_group(spec: StratifiedGroup, table: pd.DataFrame) -> pd.Series:
    """Folds with near-equal shares of every species and no recordist in two of them."""
    return assign_folds(table, "stratified_group", spec.n, spec.seed)


def overlap_share(
    table: pd.DataFrame,
    folds: pd.Series,
    fold: int,
    by: Sequence[str] = ("author", "primary_label"),
) -> float:
    """The share of the validation rows of `fold` that agree in `by` with a training row, 0 to 1.

    A row in which a column of `by` is empty agrees with none. NaN when the fold has no rows.
    """
    keys = table[list(by)]
    known = ~((keys == "") | keys.isna()).any(axis=1).to_numpy()
    codes = keys.groupby(list(by), sort=False, dropna=False).ngroup().to_numpy()
    held = folds.to_numpy() == fold
    if not held.any():
        return float("nan")
    return float((np.isin(codes[held], codes[~held]) & known[held]).mean())


def _recordists(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """A number per recordist, and one of its own for each row without an author."""
    authors = table["author"].fillna("").str.strip().str.casefold().to_numpy(str)
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
