"""Recordings per species before and after a download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from birdlab.data.xenocanto.selection import Selection
from birdlab.data.xenocanto.species import SpeciesList, fold_name


def build_species_table(
    species: SpeciesList,
    selection: Selection,
    before: Counter[str],
    after: Counter[str],
    against: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """A row per label with its numbers of recordings, in the order of the species list.

    `found` on Xeno-canto, `passed` what is left of those by the filters, `in folder before` and
    `in folder after` the command; with the counts of a data set also `in data set`, and
    `together before` and `together after`, both with the folder. The last row is the sum.
    """
    names: dict[str, list[str]] = {}
    for name in species.names:
        names.setdefault(species.labels[fold_name(name)], []).append(name)
    passed = Counter(wanted.label for wanted in selection.wanted)
    table = pd.DataFrame({"label": list(names)}, dtype=str)
    table["species"] = [", ".join(synonyms) for synonyms in names.values()]
    counts: dict[str, Mapping[str, int]] = {
        "found": selection.found,
        "passed": passed,
        "in folder before": before,
        "in folder after": after,
    }
    if against is not None:
        counts["in data set"] = against
    for column, of_label in counts.items():
        table[column] = [int(of_label.get(label, 0)) for label in names]
    if against is not None:
        table["together before"] = table["in data set"] + table["in folder before"]
        table["together after"] = table["in data set"] + table["in folder after"]
    numbers = table.select_dtypes("number").sum()
    table.loc[len(table)] = pd.Series({"label": "all", "species": "", **numbers})
    return table
