"""Cleaning rules in the order of the spec, over every table that they concern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.clean.waterfall import IDENTITY, Waterfall
from birdlab.data.facts import Facts, NeedsBuild
from birdlab.errors import DataError
from birdlab.spec.cleaning import CleanSpec
from birdlab.spec.kinds import function_of

MAIN_TABLE = "base+extra"
"""The table of base and extra rows; every other table has the name of its data set."""

NEEDS_BUILD = "needs data build"


@dataclass(frozen=True, eq=False)
class CleanContext:
    """What a rule may need besides its fields and the table.

    facts: what is known of audio files; base: the base rows that are left; entered: the
    recordings of every table as they came in (dataset, recording, role, primary_label), or None
    when a data set is not there; notes: what a rule adds here stands beside it in the waterfall.
    """

    lab_root: Path
    facts: Facts
    base: pd.DataFrame = field(default_factory=pd.DataFrame)
    entered: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)


def apply_rules(
    tables: Mapping[str, pd.DataFrame],
    rules: Sequence[CleanSpec],
    context: CleanContext,
    waterfall: Waterfall,
    *,
    lenient: bool = False,
) -> dict[str, pd.DataFrame]:
    """The rows of each table that pass every rule, in their order.

    A rule is a function `(spec, table, context) -> table` registered for its kind; it sees the
    rows within its `tables` and keeps their index. Each rule passes all tables before the next
    one does, MAIN_TABLE first. With `lenient` a rule that needs audio which is not decoded
    leaves a table as it is, with the note NEEDS_BUILD. Raises DataError when a rule leaves
    nothing of a table, or cannot be applied.
    """
    left = dict(tables)
    for rule in rules:
        for name, table in left.items():
            main = left[MAIN_TABLE]
            given = replace(context, base=main[main["role"] == "base"], notes=[])
            left[name] = _apply(rule, name, table, given, waterfall, lenient)
    return left


def _apply(
    rule: CleanSpec,
    name: str,
    table: pd.DataFrame,
    context: CleanContext,
    waterfall: Waterfall,
    lenient: bool,
) -> pd.DataFrame:
    inside = in_scope(rule, table)
    if not inside.any():
        return table
    try:
        kept = function_of(rule)(rule, table[inside], context)
    except NeedsBuild:
        if not lenient:
            raise
        waterfall.add(name, rule.name, table, table, NEEDS_BUILD)
        return table
    if not inside.all():
        kept = pd.concat([table[~inside], kept]).sort_index(kind="stable")
    if kept.empty:
        raise DataError(
            f"the cleaning rule {rule.name} leaves no recording",
            where=name,
            got=f"{len(table)} rows before it",
            fix=f"loosen or remove data.clean.{rule.name}",
        )
    if not kept.index.is_unique:
        kept = kept.reset_index(drop=True)
    waterfall.add(name, rule.name, table, kept, "; ".join(context.notes))
    return kept


def in_scope(rule: CleanSpec, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows a rule concerns: all, or those whose role or data set its `tables` names."""
    if not rule.tables:
        return np.ones(len(table), bool)
    named = list(rule.tables)
    return np.asarray(table["role"].isin(named) | table["dataset"].isin(named), bool)


def recordings_of(table: pd.DataFrame) -> pd.DataFrame:
    """The first row of each recording."""
    return table[~table.duplicated(IDENTITY)]


def without_recordings(table: pd.DataFrame, refused: pd.DataFrame) -> pd.DataFrame:
    """The table without any row of the recordings of `refused`."""
    if refused.empty:
        return table
    keys, gone = (pd.MultiIndex.from_frame(part[IDENTITY]) for part in (table, refused))
    return table[~keys.isin(gone)]
