"""The tables an experiment trains on: base rows with folds, extra rows, stages, and the classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdlab.data.catalog import COLUMNS, Dataset
from birdlab.data.classes import ClassList
from birdlab.data.clean import IDENTITY, MAIN_TABLE, CleanContext, Waterfall, apply_rules
from birdlab.data.facts import Facts
from birdlab.data.folds import ALWAYS_TRAINING, fold_rows
from birdlab.errors import DataError
from birdlab.spec.data import DataSpec

NO_CLASS = "no class of the base"
NO_LONGER_SCORED = "species no longer scored"
ROW_COLUMNS = ("role", "fold", "start_s", "end_s", "copies", "apart")
"""What a row has besides the columns of the catalog."""


class NoiseKey(NamedTuple):
    """A stretch of a background recording: its key in the store (None: no file), seconds.

    NaN stands for the start or the end of the file.
    """

    key: str | None
    start_s: float
    end_s: float

    @property
    def content(self) -> str | list[str | float | None] | None:
        """What identifies it: the key alone for a whole file."""
        span = [None if math.isnan(s) else s for s in (self.start_s, self.end_s)]
        return self.key if span == [None, None] else [self.key, *span]


@dataclass(frozen=True, eq=False)
class DataTable:
    """Every row that may be trained on.

    `rows` has the columns of the catalog and ROW_COLUMNS: role (base, extra, pretrain), fold
    (int64; -1 = in every training fold), start_s and end_s (float64; NaN = from the start, to
    the end of the file), copies (int64 >= 1: how often it counts in training), apart (bool: its
    other half is in training, so it is scored apart). Base rows stand before extra rows, each in
    table order, index 0..n-1. `stages` has the table of each stage's data set with the same
    columns, role pretrain and fold -1; `stage_classes` its classes. `classes` owns the columns
    of targets. `waterfall` says where rows came in and where they were dropped, `dropped` names
    each dropped row with the rule.
    """

    rows: pd.DataFrame
    classes: ClassList
    waterfall: pd.DataFrame
    dropped: pd.DataFrame
    stages: Mapping[str, pd.DataFrame]
    stage_classes: Mapping[str, ClassList]


def build_table(
    base: Dataset,
    extras: Sequence[Dataset],
    spec: DataSpec,
    lab_root: Path,
    facts: Facts,
    *,
    stages: Sequence[Dataset] = (),
    window_s: float = 5.0,
    lenient: bool = False,
    complete: bool = True,
) -> DataTable:
    """The rows, folds and classes of `spec` over loaded data sets.

    Extra rows whose primary label is no class of the base are dropped on entry. The cleaning
    rules see base and extras as one table, base first, so that of two equal rows the base keeps
    its own; each stage's data set is a table of its own. Folds are made of the base rows that are
    left. The classes are all of the base's list, in its order, unless cleaning took the last
    base row of a species: then they are those with a base row left, and extra rows of the
    others go too. A stage loses a species that cleaning took from it, unless the base has it.
    With `lenient` rules that need audio which is not decoded are passed over with a note; with
    `complete=False` a data set is missing, and names in lists cannot be checked. Raises
    DataError for a table without labels, primary labels that are no class, and data sets that
    share a name.
    """
    _check_names([base, *extras])
    codes = base.class_list
    for dataset in (base, *stages):
        _check_labels(dataset)
    waterfall = Waterfall()
    for dataset, role in _with_roles(base, extras, stages):
        place = dataset.name if role == "pretrain" else MAIN_TABLE
        waterfall.refuse(place, dataset.name, dataset.refused)
    tables = {MAIN_TABLE: _join(base, extras, codes, waterfall)}
    for stage in stages:
        tables[stage.name] = _enter(stage, "pretrain")
        waterfall.add(stage.name, f"pretrain {stage.name}", None, tables[stage.name])
    entered = pd.concat(
        [_entering(d, role) for d, role in _with_roles(base, extras, stages)], ignore_index=True
    )
    context = CleanContext(lab_root, facts, entered=entered if complete else None)
    tables = apply_rules(tables, spec.clean, context, waterfall, lenient=lenient)
    rows, codes = _scored(tables.pop(MAIN_TABLE), base, codes, waterfall)
    folded = fold_rows(rows.reset_index(drop=True), spec.folds, facts, 2 * window_s)
    if len(folded) > len(rows):
        waterfall.add(MAIN_TABLE, "rare species in halves", rows, folded)
    return DataTable(
        folded,
        codes,
        waterfall.lines,
        waterfall.dropped,
        {name: table.reset_index(drop=True) for name, table in tables.items()},
        {stage.name: _stage_classes(stage, tables[stage.name], codes) for stage in stages},
    )


def _join(
    base: Dataset, extras: Sequence[Dataset], codes: ClassList, waterfall: Waterfall
) -> pd.DataFrame:
    """Base rows, then the extra rows with a known label; how they came in goes to `waterfall`."""
    joined = _enter(base, "base")
    waterfall.add(MAIN_TABLE, f"base {base.name}", None, joined)
    for extra in extras:
        wider = _concat(joined, _enter(extra, "extra"))
        waterfall.add(MAIN_TABLE, f"extra {extra.name}", joined, wider)
        joined = wider[wider["primary_label"].isin(codes.codes)]
        if len(joined) < len(wider):
            waterfall.add(MAIN_TABLE, NO_CLASS, wider, joined)
    return joined.reset_index(drop=True)


def _enter(dataset: Dataset, role: str) -> pd.DataFrame:
    """The recordings of a data set with the columns of a row, whole and once.

    A `fold` that the raw table of base or extra has stays until folds are made of it.
    """
    stated = dataset.recordings.get("fold", "")
    return dataset.recordings.assign(
        role=role,
        fold=np.int64(ALWAYS_TRAINING) if role == "pretrain" else stated,
        start_s=np.nan,
        end_s=np.nan,
        copies=np.int64(1),
        apart=False,
    )


def _concat(above: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    """Both tables in one; a further column that only one of them has is "" in the other."""
    joined = pd.concat([above, below], ignore_index=True)
    further = joined.columns.difference([*COLUMNS, *ROW_COLUMNS])
    return joined.assign(**{str(name): joined[name].fillna("") for name in further})


def _with_roles(
    base: Dataset, extras: Sequence[Dataset], stages: Sequence[Dataset]
) -> list[tuple[Dataset, str]]:
    return [
        (base, "base"),
        *((extra, "extra") for extra in extras),
        *((stage, "pretrain") for stage in stages),
    ]


def _entering(dataset: Dataset, role: str) -> pd.DataFrame:
    return dataset.recordings[[*IDENTITY, "primary_label"]].assign(role=role)


def _scored(
    table: pd.DataFrame, base: Dataset, codes: ClassList, waterfall: Waterfall
) -> tuple[pd.DataFrame, ClassList]:
    """The rows whose species still has a base row, and the classes."""
    left = set(table.loc[table["role"] == "base", "primary_label"])
    if not left:
        raise DataError(
            f"cleaning leaves no recording of the base {base.name}",
            fix="take rules out of data.clean: birdlab data table says what each drops",
        )
    if left < set(base.recordings["primary_label"]):
        codes = ClassList(tuple(code for code in codes if code in left))
    rows = table[table["primary_label"].isin(codes.codes)]
    if len(rows) < len(table):
        waterfall.add(MAIN_TABLE, NO_LONGER_SCORED, table, rows)
    return rows, codes


def _stage_classes(stage: Dataset, table: pd.DataFrame, scored: ClassList) -> ClassList:
    """The classes of a stage without those that cleaning emptied and that are not scored."""
    gone = set(stage.recordings["primary_label"]) - set(table["primary_label"]) - set(scored)
    return ClassList(tuple(code for code in stage.class_list if code not in gone))


def _check_labels(dataset: Dataset) -> None:
    unknown = dataset.class_list.unknown(dataset.recordings["primary_label"])
    if unknown:
        raise DataError(
            f"{len(unknown)} primary labels of {dataset.name} are not in its class list",
            where=str(dataset.root),
            got=", ".join(map(repr, unknown)),
            fix="correct sample_submission.csv or taxonomy.csv, or the table",
        )


def _check_names(datasets: Sequence[Dataset]) -> None:
    names = [dataset.name for dataset in datasets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the data set {', '.join(twice)} is used twice",
            where="data.base, data.extra",
            fix="name each data set once",
        )
