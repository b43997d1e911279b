"""Where each row of a table came from and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from birdlab.data.clean import IDENTITY, MAIN_TABLE, NEEDS_BUILD, in_scope
from birdlab.data.table import DataTable
from birdlab.spec.cleaning import CleanSpec

KEPT, DROPPED = "kept", "dropped"
TRACE = (
    "status",
    "table",
    "role",
    "dataset",
    "recording",
    "primary_label",
    "author",
    "xc_id",
    "license",
    "fold",
    "start_s",
    "end_s",
    "copies",
    "apart",
    "dropped_by",
    "passed",
)


def trace_rows(
    data: DataTable, rules: Sequence[CleanSpec], tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """TRACE of every row: those left in the order of the tables, then those that were dropped.

    `passed` names the rules a kept row went through, in order, joined by " > "; `dropped_by` the
    rule (or the entry to the table) that dropped a row. A rule that was put off, since it needs
    audio that is not decoded, is neither. `tables` are the data sets as loaded, by name: they
    tell the labels of dropped rows. What is not known or does not apply is "".
    """
    put_off = data.waterfall.loc[data.waterfall["note"] == NEEDS_BUILD, ["table", "rule"]]
    waiting = set(put_off.itertuples(index=False, name=None))
    left = {MAIN_TABLE: data.rows, **data.stages}
    kept = [_kept(name, table, rules, waiting) for name, table in left.items()]
    parts = [part for part in (*kept, _dropped(data, tables)) if len(part)]
    whole = [part.reindex(columns=list(TRACE)).astype(object) for part in parts]
    return pd.concat(whole, ignore_index=True).fillna("")


def _kept(
    name: str, table: pd.DataFrame, rules: Sequence[CleanSpec], waiting: set[tuple[str, str]]
) -> pd.DataFrame:
    passed = np.full(len(table), "", object)
    for rule in rules:
        if (name, rule.name) not in waiting:
            inside = in_scope(rule, table)
            passed[inside] += np.where(passed[inside] == "", rule.name, " > " + rule.name)
    return table.assign(status=KEPT, table=name, dropped_by="", passed=passed)


def _dropped(data: DataTable, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    rows = data.dropped.rename(columns={"rule": "dropped_by"})
    rows = rows.assign(status=DROPPED, passed="", role="pretrain")
    in_main = rows["table"] == MAIN_TABLE
    bases = set(data.rows.loc[data.rows["role"] == "base", "dataset"])
    rows.loc[in_main, "role"] = np.where(rows.loc[in_main, "dataset"].isin(bases), "base", "extra")
    told = ["primary_label", "author", "xc_id", "license"]
    known = [table[[*IDENTITY, *told]] for table in tables.values()]
    if known and len(rows):
        lookup = pd.concat(known).drop_duplicates(IDENTITY)
        rows = rows.merge(lookup, on=IDENTITY, how="left")
    return rows
