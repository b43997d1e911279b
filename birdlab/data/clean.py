"""Cleaning rules in the order of the spec, with the rows and species that each one left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.csvfile import read_text_table, text_column
from birdlab.errors import DataError
from birdlab.spec.data import CleanSpec, Dedupe, Exclude, MinRecordings
from birdlab.spec.kinds import function_of, implements, nearest

ALIASES = {"recording_id": "xc_id", "species": "primary_label"}
"""Words of the field for columns of the table."""

WATERFALL = ("rule", "rows_before", "rows_after", "species_before", "species_after")


@dataclass(frozen=True)
class CleanContext:
    """What a rule may need besides its fields and the table."""

    lab_root: Path


@dataclass(frozen=True, eq=False)
class Cleaned:
    """What the rules left of a table, and the WATERFALL with a line per rule."""

    table: pd.DataFrame
    waterfall: pd.DataFrame


def apply_rules(table: pd.DataFrame, rules: Sequence[CleanSpec], lab_root: Path) -> Cleaned:
    """The rows that pass every rule, in their order and with their index.

    A rule is a function `(spec, table, context) -> table` registered for its kind. Raises
    DataError when a rule leaves nothing, or cannot be applied.
    """
    context = CleanContext(lab_root)
    lines = []
    for rule in rules:
        kept = function_of(rule)(rule, table, context)
        lines.append(waterfall_line(rule.name, table, kept))
        if kept.empty:
            raise DataError(
                f"the cleaning rule {rule.name} leaves no recording",
                got=f"{len(table)} rows before it",
                fix=f"loosen or remove data.clean.{rule.name}",
            )
        table = kept
    return Cleaned(table, pd.DataFrame(lines, columns=list(WATERFALL)))


def waterfall_line(
    rule: str, before: pd.DataFrame | None, after: pd.DataFrame | None
) -> tuple[str, int, int, int, int]:
    """One line of the WATERFALL; None stands for an empty table."""
    rows = [0 if table is None else len(table) for table in (before, after)]
    species = [
        0 if table is None else int(table["primary_label"].nunique()) for table in (before, after)
    ]
    return (rule, *rows, *species)  # type: ignore[return-value]


@implements(Dedupe)
def drop_duplicates(spec: Dedupe, table: pd.DataFrame, _context: CleanContext) -> pd.DataFrame:
    """The table without rows that agree in every column of `by` with an earlier row.

    A row with an empty cell in one of the columns is always kept. Raises DataError for a name
    that is neither a column nor an alias.
    """
    columns = [ALIASES.get(name, name) for name in spec.by]
    unknown = [name for name in columns if name not in table.columns]
    if unknown:
        known = [*(str(column) for column in table.columns), *ALIASES]
        raise DataError(
            f"dedupe names the unknown column {unknown[0]!r}",
            where=f"data.clean.{spec.name}.by",
            expected=nearest(unknown[0], known),
        )
    keys = table[columns]
    empty = (keys.isna() | (keys == "")).any(axis=1)
    return table[empty | ~keys.duplicated()]


@implements(Exclude)
def drop_listed(spec: Exclude, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The table without the recordings in the `filename` column of a CSV file of the lab.

    A column `dataset` in that file, where it has one, limits a line to that data set. Raises
    DataError when the file lies outside the lab or cannot be read.
    """
    root = context.lab_root.resolve()
    path = (root / spec.list).resolve()
    if not path.is_relative_to(root):
        raise DataError(
            "an exclusion list lies outside the lab",
            where=f"data.clean.{spec.name}.list",
            got=spec.list,
            expected="a CSV file below the folder of birdlab.toml",
        )
    listed = read_text_table(path, ["filename"])
    names, datasets = text_column(listed, "filename"), text_column(listed, "dataset")
    anywhere = table["recording"].isin(names[datasets == ""])
    pairs = pd.MultiIndex.from_arrays([datasets, names])
    rows = pd.MultiIndex.from_arrays([table["dataset"], table["recording"]])
    return table[~(anywhere.to_numpy(bool) | np.asarray(rows.isin(pairs)))]


@implements(MinRecordings)
def keep_frequent(spec: MinRecordings, table: pd.DataFrame, _context: CleanContext) -> pd.DataFrame:
    """The rows of species with at least `n` rows in the table."""
    counts = table["primary_label"].map(table["primary_label"].value_counts())
    return table[counts >= spec.n]
