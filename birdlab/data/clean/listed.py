"""Cleaning rules that read a list of the user's own: exclusions, kept time ranges, species."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.clean.rules import CleanContext, in_scope
from birdlab.data.csvfile import (
    N_EXAMPLES,
    Findings,
    number_column,
    read_text_table,
    text_column,
)
from birdlab.data.paths import lab_file
from birdlab.errors import DataError
from birdlab.spec.cleaning import CleanSpec, Exclude, KeepRanges, Species
from birdlab.spec.kinds import implements, nearest

_QUOTED_FORMULA = r"^'(?=[=+\-@\t\r])"


@implements(Exclude)
def drop_listed(spec: Exclude, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The table without the recordings in the `filename` column of a CSV file of the lab.

    A column `dataset` in that file, where it has one, limits a line to that data set. A name
    that no table has is no error, since one list may serve many experiments, but noted. The quote
    that lists of birdlab put before a name that a spreadsheet would run is no part of the name.
    Raises DataError when the file lies outside the lab or cannot be read.
    """
    listed = read_text_table(_list_path(spec, spec.list, context), ["filename"])
    names, datasets = text_column(listed, "filename"), text_column(listed, "dataset")
    names = names.str.replace(_QUOTED_FORMULA, "", regex=True)
    lost = _unmatched(spec, pd.DataFrame({"recording": names, "only": datasets}), context)
    if lost:
        context.notes.append(f"{len(lost):,} listed names match nothing, such as {lost[0]}")
    return table[~_is_named(table, names, datasets)]


@implements(KeepRanges)
def keep_ranges(spec: KeepRanges, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The table with a row per listed time range instead of each listed recording.

    An empty start_s or end_s is the start or the end of the recording. A range is taken within
    what is left of its recording; a row that no range touches goes. Recordings that are not
    listed stay whole. Raises DataError with everything that is wrong in the list: bad numbers,
    ranges that are empty, overlap or begin after the end, and names that match nothing.
    """
    path = _list_path(spec, spec.list, context)
    listed = read_text_table(path, ["filename", "start_s", "end_s"])
    findings = Findings(path)
    ranges = pd.DataFrame(
        {
            "recording": text_column(listed, "filename"),
            "only": text_column(listed, "dataset"),
            "from_s": number_column(listed, "start_s", findings).fillna(0.0),
            "to_s": number_column(listed, "end_s", findings).fillna(np.inf),
        }
    )
    findings.add("start_s is negative", _shown(ranges[ranges["from_s"] < 0]))
    wrong = ranges["from_s"] >= ranges["to_s"]
    findings.add("start_s is not before end_s", _shown(ranges[wrong]))
    findings.add("ranges of one recording overlap", _shown(_overlapping(ranges[~wrong])))
    unmatched = _unmatched(spec, ranges, context)
    for some in range(0, len(unmatched), N_EXAMPLES):  # all of them, not the first few
        findings.add("filename matches no recording", unmatched[some : some + N_EXAMPLES])
    late = ranges.merge(table[["recording", "dataset", "duration_s"]], on="recording")
    late = late[(late["only"] == "") | (late["only"] == late["dataset"])]
    late = late[late["from_s"] >= late["duration_s"]]
    findings.add("range begins after the end of its recording", _shown(late))
    findings.raise_if_any()
    return _cut(table, ranges)


def _cut(table: pd.DataFrame, ranges: pd.DataFrame) -> pd.DataFrame:
    """A row per row and range that overlap, in table order and by time; others as they are."""
    numbered = table.assign(_row=np.arange(len(table)), _index=table.index)
    both = numbered.merge(ranges.sort_values("from_s"), on="recording", how="inner")
    both = both[(both["only"] == "") | (both["only"] == both["dataset"])]
    rest = numbered[~numbered["_row"].isin(both["_row"])]
    start_s = np.fmax(both["start_s"], both["from_s"])
    end_s = np.fmin(both["end_s"], both["to_s"])
    both = both.assign(
        start_s=start_s.where(start_s > 0),
        end_s=end_s.where(np.isfinite(end_s) & ~(end_s >= both["duration_s"])),
    )
    both = both[start_s < end_s]
    cut = pd.concat([rest, both[numbered.columns]]).sort_values("_row", kind="stable")
    return cut.set_index(cut["_index"].rename(table.index.name)).drop(columns=["_row", "_index"])


def _overlapping(ranges: pd.DataFrame) -> pd.DataFrame:
    """The ranges that begin before an earlier one of the same recording ends."""
    ordered = ranges.sort_values(["recording", "only", "from_s"], kind="stable")
    ends = ordered.groupby(["recording", "only"])["to_s"].shift()
    return ordered[ordered["from_s"] < ends]


def _unmatched(spec: CleanSpec, ranges: pd.DataFrame, context: CleanContext) -> list[str]:
    """The listed names that no recording of a table in scope had on entry."""
    if context.entered is None:
        return []
    known = context.entered[in_scope(spec, context.entered)]
    anywhere = ranges["recording"].isin(known["recording"]) & (ranges["only"] == "")
    there = _is_named(ranges.assign(dataset=ranges["only"]), known["recording"], known["dataset"])
    return [repr(name) for name in ranges["recording"][~(anywhere | there)].unique()]


def _is_named(table: pd.DataFrame, names: pd.Series, datasets: pd.Series) -> npt.NDArray[np.bool_]:
    """Which rows of `table` a listed line names; a line without a data set names any."""
    anywhere = table["recording"].isin(names[datasets == ""]).to_numpy(bool)
    pairs = pd.MultiIndex.from_arrays([datasets, names])
    rows = pd.MultiIndex.from_arrays([table["dataset"], table["recording"]])
    return np.asarray(anywhere | rows.isin(pairs))


def _shown(ranges: pd.DataFrame) -> list[str]:
    columns = zip(ranges["recording"], ranges["from_s"], ranges["to_s"], strict=True)
    return [f"{name!r} {start:g}..{end:g} s" for name, start, end in columns]


@implements(Species)
def keep_species(spec: Species, table: pd.DataFrame, context: CleanContext) -> pd.DataFrame:
    """The rows of the species in `keep` and in the list, without those in `drop`.

    With neither `keep` nor a list every species is kept. Raises DataError for a code in `keep`
    or `drop` that is in no table.
    """
    if context.entered is not None:
        codes = sorted(set(context.entered["primary_label"]))
        unknown = [code for code in (*spec.keep, *spec.drop) if code not in codes]
        if unknown:
            raise DataError(
                f"{len(unknown)} species of a cleaning rule are in no table",
                where=f"data.clean.{spec.name}",
                got=", ".join(map(repr, unknown)),
                expected=nearest(unknown[0], codes)[:300],
            )
    wanted = list(spec.keep)
    if spec.list is not None:
        path = _list_path(spec, spec.list, context)
        wanted += text_column(read_text_table(path, ["species"]), "species").tolist()
    kept = table["primary_label"].isin(wanted) if wanted else True
    return table[kept & ~table["primary_label"].isin(list(spec.drop))]


def _list_path(spec: CleanSpec, name: str, context: CleanContext) -> Path:
    return lab_file(context.lab_root, name, f"data.clean.{spec.name}.list")
