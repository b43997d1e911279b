"""What each class and fold has: rows, species, recordists, and signs of a truncated download."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import pdtrc

from birdlab.data.catalog import recordist_keys
from birdlab.data.classes import ClassList

DOMINATED_SHARE = 0.5
DOMINATED_ROWS = 10
"""One recordist dominates a species of at least this many rows with more than that share."""

CAP_ROWS = 20
CAP_SPECIES = 3
CAP_STEP = 50
CAP_CHANCE = 1e-3
CAP_RULE = (
    f"a number of rows of at least {CAP_ROWS} that is the largest of its table or a multiple of "
    f"{CAP_STEP}, that {CAP_SPECIES} species or more have exactly, and that would come about with "
    f"a chance of at most {CAP_CHANCE:g} if it were as frequent as the numbers within 10 % of it"
)
CAPS = ("dataset", "n_rows", "n_species", "expected", "chance", "largest", "species")


@dataclass(frozen=True, eq=False)
class Support:
    """Rows per class and fold, who recorded them, and counts that look cut.

    folds: fold, n_train, n_validation, n_apart, species_train, species_validation, missing_train
    and missing_validation (classes without a row). classes: a row per class and fold with
    n_train and n_validation. recordists: author, n_rows, share, n_species, most rows first.
    dominance: a row per species with n_rows, n_recordists, largest, share, dominated. caps: CAPS,
    by CAP_RULE. spellings: authors written in several ways (author, written, n_rows). secondary:
    label, n of secondary labels that are no class. Rows of pretraining tables count in caps only.
    """

    folds: pd.DataFrame
    classes: pd.DataFrame
    recordists: pd.DataFrame
    unknown_author_share: float
    dominance: pd.DataFrame
    spellings: pd.DataFrame
    caps: pd.DataFrame
    secondary: pd.DataFrame


def find_support(
    rows: pd.DataFrame, classes: ClassList, tables: Mapping[str, pd.DataFrame]
) -> Support:
    """The support of `rows` over their folds.

    `tables` are the data sets as they were loaded, for the signs of a truncated download: cleaning
    hides those.
    """
    per_class = count_classes(rows, classes)
    keys = recordist_keys(rows["author"])
    known = rows[keys != ""].assign(key=keys[keys != ""])
    caps = [find_caps(name, table["primary_label"]) for name, table in tables.items()]
    unknown = classes.count_unknown(rows["secondary_labels"])
    return Support(
        _folds(rows, per_class),
        per_class,
        _recordists(known, len(rows)),
        1 - len(known) / len(rows) if len(rows) else float("nan"),
        _dominance(rows, known),
        _spellings(known),
        pd.concat(caps, ignore_index=True) if caps else pd.DataFrame(columns=list(CAPS)),
        pd.DataFrame({"label": list(unknown), "n": list(unknown.values())}),
    )


def count_classes(rows: pd.DataFrame, classes: ClassList) -> pd.DataFrame:
    """species, fold, n_train, n_validation: a row per class of the list and fold of `rows`.

    Rows that are scored apart are no validation rows; they train in the other folds.
    """
    folds = sorted(set(rows.loc[rows["fold"] >= 0, "fold"]))
    species = list(classes)
    every = rows["primary_label"].value_counts().reindex(species, fill_value=0)
    parts = []
    for fold in folds:
        held = rows[rows["fold"] == fold]
        n_held = held["primary_label"].value_counts().reindex(species, fill_value=0)
        scored = held.loc[~held["apart"].astype(bool), "primary_label"]
        n_validation = scored.value_counts().reindex(species, fill_value=0)
        parts.append(
            pd.DataFrame(
                {
                    "species": species,
                    "fold": int(fold),
                    "n_train": (every - n_held).to_numpy(np.int64),
                    "n_validation": n_validation.to_numpy(np.int64),
                }
            )
        )
    columns = ["species", "fold", "n_train", "n_validation"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def find_caps(dataset: str, labels: Iterable[str]) -> pd.DataFrame:
    """CAPS of one table by CAP_RULE: numbers of rows that too many species share.

    `expected` is how many species are expected at that number: the mean over the other numbers
    within 10 % of it (at least 5 to each side), with one species added to them so that an empty
    neighbourhood proves little. `chance` is the Poisson probability of as many species or more.
    """
    counts = pd.Series([label for label in labels if label != ""], dtype=object).value_counts()
    lines = []
    for n_rows, n_species in counts.value_counts().sort_index().items():
        largest = bool(n_rows == counts.max())
        if n_rows < CAP_ROWS or n_species < CAP_SPECIES or not (largest or n_rows % CAP_STEP == 0):
            continue
        reach = max(5, n_rows // 10)
        near = counts[(counts - n_rows).abs().between(1, reach)]
        expected = (len(near) + 1) / (2 * reach)
        chance = float(pdtrc(n_species - 1, expected))
        if chance <= CAP_CHANCE:
            species = tuple(sorted(map(str, counts.index[counts == n_rows])))
            lines.append((dataset, n_rows, n_species, expected, chance, largest, species))
    return pd.DataFrame(lines, columns=list(CAPS))


def _folds(rows: pd.DataFrame, per_class: pd.DataFrame) -> pd.DataFrame:
    apart = rows["apart"].astype(bool)
    lines = []
    for fold, part in per_class.groupby("fold", sort=True):
        lines.append(
            {
                "fold": int(fold),
                "n_train": int((rows["fold"] != fold).sum()),
                "n_validation": int(((rows["fold"] == fold) & ~apart).sum()),
                "n_apart": int(((rows["fold"] == fold) & apart).sum()),
                "species_train": int((part["n_train"] > 0).sum()),
                "species_validation": int((part["n_validation"] > 0).sum()),
                "missing_train": int((part["n_train"] == 0).sum()),
                "missing_validation": int((part["n_validation"] == 0).sum()),
            }
        )
    return pd.DataFrame(lines)


def _recordists(known: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    grouped = known.groupby("key", sort=True)
    table = grouped.agg(
        author=("author", "first"), n_rows=("key", "size"), n_species=("primary_label", "nunique")
    )
    table["share"] = table["n_rows"] / max(n_rows, 1)
    ordered = table.sort_values("n_rows", ascending=False, kind="stable")
    return ordered[["author", "n_rows", "share", "n_species"]].reset_index(drop=True)


def _dominance(rows: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    total = rows["primary_label"].value_counts().sort_index()
    per = known.groupby(["primary_label", "key"], sort=True)
    sizes = per.agg(author=("author", "first"), n=("key", "size")).reset_index()
    largest = sizes.sort_values("n", ascending=False, kind="stable").drop_duplicates(
        "primary_label"
    )
    largest = largest.set_index("primary_label").reindex(total.index)
    recordists = sizes.groupby("primary_label").size().reindex(total.index, fill_value=0)
    share = (largest["n"].fillna(0) / total).to_numpy(np.float64)
    table = pd.DataFrame(
        {
            "species": total.index.astype(str),
            "n_rows": total.to_numpy(np.int64),
            "n_recordists": recordists.to_numpy(np.int64),
            "largest": largest["author"].fillna("").to_numpy(object),
            "share": share,
        }
    )
    table["dominated"] = (share > DOMINATED_SHARE) & (table["n_rows"] >= DOMINATED_ROWS)
    return table


def _spellings(known: pd.DataFrame) -> pd.DataFrame:
    grouped = known.groupby("key", sort=True)["author"]
    table = pd.DataFrame(
        {
            "author": grouped.first(),
            "written": grouped.agg(lambda names: " | ".join(sorted(set(map(repr, names))))),
            "n_rows": grouped.size(),
        }
    )
    return table[grouped.nunique() > 1].reset_index(drop=True)
