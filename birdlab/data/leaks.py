"""What a pretraining table shares with rows to be validated on, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import recordist_keys
from birdlab.errors import DataError
from birdlab.spec.data import Leak

KEYS: Mapping[Leak, tuple[str, ...]] = {
    "recording_id": ("xc_id",),
    "content": ("key",),
    "author_species": ("author", "primary_label"),
}
"""By what two rows can agree: in all of the columns, none of them empty."""

LEAKS = ("table", "rule", "recording", "label", "author", "fold", "held_out")
RULES_OF: Mapping[Leak, str] = {
    "recording_id": "recording_id",
    "content": "content",
    "author_species": "author, species",
}
"""What `by` of a cleaning rule says for each way of sharing."""

SHOWN = 3


def find_leaks(held: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of each table that share something with a validation row: LEAKS, one per rule.

    `held` (the validation rows of all folds asked for) and `tables` have the columns of the
    catalog and `key`, the key of the waveform, "" where it is missing; `held` also has `fold`.
    Authors agree without case and outer spaces; one that is unknown agrees with nobody. `fold`
    and `held_out` name the first validation row, in the order of `held`, that a row agrees with.
    Rows stand in the order of tables, rules, rows.
    """
    parts = [part for name in tables for part in _shared(name, tables[name], held)]
    if not parts:
        return pd.DataFrame(columns=list(LEAKS)).astype({"fold": np.int64})
    return pd.concat(parts, ignore_index=True)


def _shared(name: str, table: pd.DataFrame, held: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for rule, columns in KEYS.items():
        places: dict[str, int] = {}
        for place, key in enumerate(_keys(held, columns)):
            places.setdefault(key, place)
        places.pop("", None)
        partner = np.array([places.get(key, -1) for key in _keys(table, columns)], np.int64)
        rows, theirs = table[partner >= 0], held.iloc[partner[partner >= 0]]
        if len(rows):
            yield pd.DataFrame(
                {
                    "table": name,
                    "rule": rule,
                    "recording": rows["recording"].to_numpy(),
                    "label": rows["primary_label"].to_numpy(),
                    "author": rows["author"].to_numpy(),
                    "fold": theirs["fold"].to_numpy(np.int64),
                    "held_out": theirs["recording"].to_numpy(),
                },
                columns=list(LEAKS),
            )


def find_shared(
    rows: pd.DataFrame, held: pd.DataFrame, rules: Sequence[Leak]
) -> npt.NDArray[np.bool_]:
    """[rows]: whether each shares something with a validation row, by any of some rules.

    Both have the columns of the catalog and `key`, see `find_leaks`.
    """
    shared = np.zeros(len(rows), bool)
    for rule in rules:
        theirs = set(_keys(held, KEYS[rule])) - {""}
        shared |= np.array([key in theirs for key in _keys(rows, KEYS[rule])], bool)
    return shared


def _keys(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """A text per row, equal where rows agree in all columns; "" where one of them is empty."""
    texts = [
        recordist_keys(rows[column]).tolist()
        if column == "author"
        else [str(text).strip() for text in rows[column].fillna("")]
        for column in columns
    ]
    return ["\x1f".join(parts) if all(parts) else "" for parts in zip(*texts, strict=True)]


def describe_leaks(leaks: pd.DataFrame, accepted: Sequence[str]) -> list[str]:
    """A line per table and rule: how many rows, whether that is accepted, the first of them."""
    lines = []
    for (table, rule), part in leaks.groupby(["table", "rule"], sort=False):
        shown = "; ".join(
            f"{row['recording']} ({row['label']}, {row['author'] or 'unknown author'}) and "
            f"{row['held_out']} of fold {row['fold']}"
            for row in part.head(SHOWN).to_dict("records")
        )
        rest = f"; {len(part) - SHOWN:,} more" if len(part) > SHOWN else ""
        marked = " (accepted)" if rule in accepted else ""
        lines.append(f"{table}: {len(part):,} rows by {rule}{marked}: {shown}{rest}")
    return lines


def refuse_leaks(leaks: pd.DataFrame, accepted: Sequence[str]) -> None:
    """Raise DataError for leaks that are not accepted by name, with counts, rows and the fixes."""
    wrong = leaks if leaks.empty else leaks[~leaks["rule"].isin(list(accepted))]
    if wrong.empty:
        return
    rules = [rule for rule in KEYS if rule in set(wrong["rule"])]
    fixes = [
        f"{{kind: dedupe, by: [{RULES_OF[rule]}], tables: [pretrain], against: base}}"
        for rule in rules
    ]
    n_rows = len(wrong.drop_duplicates(["table", "recording"]))
    tables = ", ".join(dict.fromkeys(wrong["table"]))
    named = "".join(f"\n      - no_{r}: {f}" for r, f in zip(rules, fixes, strict=True))
    raise DataError(
        f"{n_rows:,} recordings to pretrain on share something with the validation rows, whose "
        "scores would flatter",
        where=f"{tables}, folds {', '.join(map(str, sorted(set(wrong['fold']))))}",
        got="".join(f"\n      {line}" for line in describe_leaks(wrong, accepted)),
        expected="no recording, audio, or recordist's birds of a species in both",
        fix="drop them, as experiments/birdclef2023.yaml does, under data.clean:"
        + named
        + f"\n            or accept them by name: data.accept_leaks: [{', '.join(rules)}]",
    )
