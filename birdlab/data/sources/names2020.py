"""The table of 2020, in which other birds are named `Scientific name_Common name`."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from birdlab.data.csvfile import Findings, label_lists, text_column

RENAMED = {
    "ebird_code": "primary_label",
    "sci_name": "scientific_name",
    "species": "common_name",
    "duration": "duration_s",
}


def codes_for_names(raw: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The table of 2020 under the column names of later years, birds named by their codes.

    A name has the code that most rows of the table give it; a name with two codes equally often
    is a fault. Secondary labels of birds that the table has no code for are left out, with a
    note that counts them: the competition names more birds than it asks for.
    """
    named = "primary_label" in raw.columns
    out = raw.drop(columns="primary_label") if named else raw
    out = out.rename(columns={old: new for old, new in RENAMED.items() if old in out.columns})
    known = _codes_by_name(raw, findings)
    lists = label_lists(raw, "secondary_labels", findings)
    unknown = Counter(name for names in lists for name in names if name not in known)
    counted = (f"{name} ({count})" for name, count in unknown.most_common())
    findings.note("other bird has no code in this table: left out", counted)
    out["secondary_labels"] = [
        str([known[name] for name in names if name in known]) for names in lists
    ]
    return out


def _codes_by_name(raw: pd.DataFrame, findings: Findings) -> dict[str, str]:
    """The code of each `Scientific name_Common name`, from primary_label or from both columns."""
    codes = text_column(raw, "ebird_code")
    both = text_column(raw, "sci_name") + "_" + text_column(raw, "species")
    given = text_column(raw, "primary_label")
    counts: dict[str, Counter[str]] = {}
    for names in (both, given):
        for name, code in zip(names.tolist(), codes.tolist(), strict=True):
            if name.strip("_") and code:
                counts.setdefault(name, Counter())[code] += 1
    known, unclear = {}, []
    for name, found in counts.items():
        (code, most), *others = found.most_common(2)
        known[name] = code
        if others and others[0][1] == most:
            unclear.append(f"{name} ({code}, {others[0][0]})")
    findings.add("name has two codes equally often", unclear)
    return known
