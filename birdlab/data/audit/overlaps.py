"""What validation shares with training: recordists, recording ids, audio, halves of one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

AUTHOR_SPECIES = "author + species"
RECORDING_ID = "recording id"
CONTENT = "content"
TRAINING = "training"
"""The source that stands for all rows of a training fold, base and extra together."""

KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    AUTHOR_SPECIES: (("author", "primary_label"),),
    RECORDING_ID: (("xc_id",), ("dataset", "recording")),
    CONTENT: (("content",), ("file_key",)),
}
"""By what two rows can agree: in all columns of one of the tuples, none of them empty."""

OVERLAPS = ("source", "role", "by", "fold", "n_validation", "n_shared", "share", "n_source")
AGAINST_BASE = ("source", "role", "by", "n_rows", "n_shared", "share")
PAIRS = ("fold", "by", "recording", "primary_label", "source", "other", "other_label")
GROUPS = ("author", "primary_label", "n_rows", "n_folds")
HALVES = ("recording", "dataset", "primary_label", "fold", "start_s", "end_s")

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Leaks:
    """What training knows of validation, as tables.

    overlaps: per source of training rows, key and fold: of `n_validation` rows `n_shared` agree
    with a training row; `n_source` training rows of that source agree with them. against_base:
    how many rows of an extra or pretraining table agree with any validated base row. pairs: each
    validation row that shares an id or content, with the first training row it agrees with.
    groups: recordist and species in more than one fold, most rows first. halves: rows whose
    other half is trained on. Validation rows that are scored apart count in `halves` alone.
    n_rows, n_with_id: rows of all tables, and those with a Xeno-canto id.
    """

    overlaps: pd.DataFrame
    against_base: pd.DataFrame
    pairs: pd.DataFrame
    groups: pd.DataFrame
    halves: pd.DataFrame
    n_rows: int
    n_with_id: int


@dataclass(frozen=True, eq=False)
class _Table:
    """All rows side by side: who may be validated on, and who trains under which name."""

    rows: pd.DataFrame
    fold: Codes
    validated: Mask
    sources: dict[tuple[str, str], Mask]

    @property
    def folds(self) -> list[int]:
        """The folds that validate on something, in order."""
        return sorted({int(fold) for fold in self.fold[self.fold >= 0]})


def find_leaks(rows: pd.DataFrame, stages: Mapping[str, pd.DataFrame]) -> Leaks:
    """The leaks between the folds of `rows`, and from each pretraining table in `stages`.

    `rows` has the catalog's columns, role, fold, start_s, end_s, apart and, where audio was
    looked at, `content` (of the samples) and `file_key` (of the bytes), "" = unknown; so have
    the stage tables. Without either there is no line for content.
    """
    table = _side_by_side(rows, stages)
    overlaps: list[tuple[object, ...]] = []
    against: list[tuple[object, ...]] = []
    pairs: list[pd.DataFrame] = []
    for by, keys in KEYS.items():
        codes = [
            key_codes(table.rows, columns)
            for columns in keys
            if set(columns) <= set(table.rows.columns)
        ]
        if not codes:
            continue
        for (role, source), mask in table.sources.items():
            overlaps += [(source, role, by, *line) for line in _overlap_lines(table, codes, mask)]
            if role in ("extra", "pretrain"):
                against.append((source, role, by, *_against_base(table, codes, mask)))
        if by != AUTHOR_SPECIES:
            pairs.extend(_pairs(table, codes, by))
    return Leaks(
        pd.DataFrame(overlaps, columns=list(OVERLAPS)),
        pd.DataFrame(against, columns=list(AGAINST_BASE)),
        pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(columns=list(PAIRS)),
        _groups(rows),
        rows.loc[rows["apart"].astype(bool), list(HALVES)].reset_index(drop=True),
        len(table.rows),
        int((table.rows["xc_id"].fillna("") != "").sum()),
    )


def key_codes(rows: pd.DataFrame, columns: tuple[str, ...]) -> Codes:
    """A number per row, equal where rows agree in all `columns`; -1 where one of them is empty."""
    keys = rows[list(columns)].fillna("").astype(str)
    codes: Codes = keys.groupby(list(columns), sort=False).ngroup().to_numpy(np.int64, copy=True)
    codes[(keys == "").any(axis=1).to_numpy()] = -1
    return codes


def _side_by_side(rows: pd.DataFrame, stages: Mapping[str, pd.DataFrame]) -> _Table:
    parts = [rows, *stages.values()]
    columns = [c for c in rows.columns if all(c in part for part in parts)]
    joined = pd.concat([part[columns] for part in parts], ignore_index=True)
    stage = np.repeat(["", *stages], [len(part) for part in parts])
    fold = joined["fold"].to_numpy(np.int64)
    role, dataset = joined["role"].to_numpy(str), joined["dataset"].to_numpy(str)
    in_rows = stage == ""
    sources: dict[tuple[str, str], Mask] = {(TRAINING, TRAINING): in_rows}
    if (in_rows & (role == "extra")).any():
        named = dict.fromkeys(zip(role[in_rows], dataset[in_rows], strict=True))
        sources |= {(r, d): in_rows & (role == r) & (dataset == d) for r, d in named}
    sources |= {("pretrain", name): stage == name for name in stages}
    validated = (role == "base") & in_rows & (fold >= 0) & ~joined["apart"].to_numpy(bool)
    return _Table(joined, fold, validated, sources)


def _agree(codes: list[Codes], here: Mask, there: Mask) -> Mask:
    """Which rows of `here`, in their order, agree with a row of `there` in one of the keys."""
    found = np.zeros(int(here.sum()), np.bool_)
    for code in codes:
        wanted = code[here]
        found |= np.isin(wanted, code[there]) & (wanted >= 0)
    return found


def _overlap_lines(
    table: _Table, codes: list[Codes], source: Mask
) -> Iterator[tuple[int, int, int, float, int]]:
    for fold in table.folds:
        held = table.validated & (table.fold == fold)
        training = source & (table.fold != fold)
        n, shared = int(held.sum()), int(_agree(codes, held, training).sum())
        back = int(_agree(codes, training, held).sum())
        yield fold, n, shared, shared / n if n else float("nan"), back


def _against_base(table: _Table, codes: list[Codes], source: Mask) -> tuple[int, int, float]:
    n, shared = int(source.sum()), int(_agree(codes, source, table.validated).sum())
    return n, shared, shared / n if n else float("nan")


def _pairs(table: _Table, codes: list[Codes], by: str) -> Iterator[pd.DataFrame]:
    """Per source and fold the validation rows that agree with a training row, and with which."""
    rows = table.rows
    names = rows["dataset"].astype(str) + "/" + rows["recording"].astype(str)
    named = [key for key in table.sources if key[0] != TRAINING]
    parts = named if any(role == "base" for role, _ in named) else list(table.sources)
    for fold in table.folds:
        held = np.flatnonzero(table.validated & (table.fold == fold))
        for key in parts:
            training = np.flatnonzero(table.sources[key] & (table.fold != fold))
            partner = np.full(len(held), -1, np.int64)
            for code in codes:
                first = pd.Series(training, index=code[training])
                first = first[~first.index.duplicated()].drop(index=-1, errors="ignore")
                found = first.reindex(code[held]).fillna(-1).to_numpy(np.int64)
                partner = np.where(partner >= 0, partner, found)
            ours, theirs = held[partner >= 0], partner[partner >= 0]
            if len(ours):
                yield pd.DataFrame(
                    {
                        "fold": fold,
                        "by": by,
                        "recording": names.to_numpy()[ours],
                        "primary_label": rows["primary_label"].to_numpy()[ours],
                        "source": key[1],
                        "other": names.to_numpy()[theirs],
                        "other_label": rows["primary_label"].to_numpy()[theirs],
                    },
                    columns=list(PAIRS),
                )


def _groups(rows: pd.DataFrame) -> pd.DataFrame:
    base = rows[(rows["role"] == "base") & (rows["author"].fillna("") != "")]
    grouped = base.groupby(["author", "primary_label"], sort=True)["fold"]
    groups = grouped.agg(n_rows="size", n_folds="nunique").reset_index()
    groups = groups[groups["n_folds"] > 1]
    return groups.sort_values("n_rows", ascending=False, kind="stable")[list(GROUPS)].reset_index(
        drop=True
    )
