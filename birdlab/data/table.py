"""The table an experiment trains on: base rows with folds, then extra rows, and the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.classes import ClassList
from birdlab.data.clean import WATERFALL, apply_rules, waterfall_line
from birdlab.data.folds import ALWAYS_TRAINING, build_folds
from birdlab.errors import DataError
from birdlab.spec.data import DataSpec


@dataclass(frozen=True, eq=False)
class DataTable:
    """Every row that may be trained on.

    `rows` has the columns of the catalog and `fold` (int64; -1 = in every training fold), base
    rows in table order before extra rows in the order of the spec, index 0..n-1. `classes` owns
    the columns of targets. `waterfall` says where rows came in and where they were dropped.
    """

    rows: pd.DataFrame
    classes: ClassList
    waterfall: pd.DataFrame


def build_table(
    base: Dataset, extras: Sequence[Dataset], spec: DataSpec, lab_root: Path
) -> DataTable:
    """The rows, folds and classes of `spec` over loaded data sets.

    Extra rows whose primary label is no class of the base are dropped on entry. The cleaning
    rules see base and extras as one table, base first, so that of two equal rows the base keeps
    its own. Folds are made of the base rows that are left. The classes are all of the base's
    list, in its order, unless cleaning took the last base row of a species: then they are
    those with a base row left, and extra rows of the others go too. Raises DataError for a base
    without labels, primary labels that are no class, and data sets that share a name.
    """
    _check_names([base, *extras])
    codes = base.class_list
    unknown = codes.unknown(base.recordings["primary_label"])
    if unknown:
        raise DataError(
            f"{len(unknown)} primary labels of {base.name} are not in its class list",
            where=str(base.root),
            got=", ".join(map(repr, unknown)),
            fix="correct sample_submission.csv or taxonomy.csv, or the table",
        )
    joined, entries = _join(base, extras, codes)
    cleaned = apply_rules(joined, spec.clean, lab_root)
    is_base = cleaned.table["dataset"] == base.name
    if not is_base.any():
        raise DataError(f"cleaning leaves no recording of the base {base.name}")
    left = set(cleaned.table.loc[is_base, "primary_label"])
    if left < set(base.recordings["primary_label"]):
        codes = ClassList(tuple(code for code in codes if code in left))
    rows = cleaned.table[cleaned.table["primary_label"].isin(codes.codes)]
    exits = []
    if len(rows) < len(cleaned.table):
        exits.append(waterfall_line("extra: species no longer scored", cleaned.table, rows))
    rows = rows.reset_index(drop=True)
    base_rows = rows[rows["dataset"] == base.name]
    folds = build_folds(base_rows, spec.folds)
    rows["fold"] = folds.reindex(rows.index, fill_value=ALWAYS_TRAINING).astype("int64")
    lines = [entries, cleaned.waterfall, pd.DataFrame(exits, columns=list(WATERFALL))]
    waterfall = pd.concat([part for part in lines if len(part)], ignore_index=True)
    return DataTable(rows, codes, waterfall)


def _join(
    base: Dataset, extras: Sequence[Dataset], codes: ClassList
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Base rows, then the extra rows with a known label; and the lines of how they came in."""
    joined = base.recordings
    lines = [waterfall_line(f"base {base.name}", None, joined)]
    for extra in extras:
        rows = extra.recordings
        wider = pd.concat([joined, rows], ignore_index=True)
        lines.append(waterfall_line(f"extra {extra.name}", joined, wider))
        known = rows[rows["primary_label"].isin(codes.codes)]
        if len(known) < len(rows):
            joined = pd.concat([joined, known], ignore_index=True)
            lines.append(waterfall_line(f"{extra.name}: labels that are no class", wider, joined))
        else:
            joined = wider
    return joined, pd.DataFrame(lines, columns=list(WATERFALL))


def _check_names(datasets: Sequence[Dataset]) -> None:
    names = [dataset.name for dataset in datasets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the data set {', '.join(twice)} is used twice",
            where="data.base, data.extra",
            fix="name each data set once",
        )
