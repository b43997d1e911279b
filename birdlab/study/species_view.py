"""What the species page shows, worked out once: words, tables and the data of its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from birdlab.data.audit.sentences import percent
from birdlab.errors import DataError
from birdlab.study.run_choice import (
    NO_OUTPUTS,
    name_runs,
    newest_peer,
    pick_known,
    run_options,
    runs_with_cells,
)
from birdlab.study.run_figures import ClassInfo, get_class_info
from birdlab.study.species import (
    FoldTables,
    find_confusions,
    padded_floor,
    pool_folds,
    score_species,
)
from birdlab.study.species_changes import SpeciesChanges, find_changes
from birdlab.study.species_differences import differences_words
from birdlab.study.tables import StudyTables
from birdlab.words import count_words

MOST_PAIRS = 2000
"""Of many species nearly all pairs occur; a file of the most frequent ones is enough."""
NOBODY = "none"
"""Chosen to compare with no other run."""


@dataclass(frozen=True, eq=False)
class SpeciesView:
    """The species of a run as shown: the choice made, what else there is, and the findings.

    species: a row per species with a positive recording, the least known first; pairs: which are
    taken for which, the most frequent first; silent: species that no recording holds; changes:
    against the other run, None without one.
    """

    run: str
    other: str
    options: list[dict[str, str]]
    answer: str
    name: str = ""
    other_name: str = ""
    support: ClassInfo | None = None
    species: pd.DataFrame = field(default_factory=pd.DataFrame)
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    silent: tuple[str, ...] = ()
    changes: SpeciesChanges | None = None
    sentences: tuple[str, ...] = ()


def build_species_view(
    tables: StudyTables,
    read: Callable[[str], FoldTables],
    recordists: Callable[[str], Mapping[str, str]],
    run: str = "",
    other: str = "",
) -> SpeciesView:
    """The page of the species of `run`, beside `other`.

    `read` gives the out-of-fold tables of a run, empty for none, `recordists` who made its
    recordings. A run that does not exist becomes the newest; without another one it is compared
    with the newest run without a delta among those that compare with it, else the newest.
    """
    runs = runs_with_cells(tables)
    names = name_runs(runs)
    run = pick_known(run, list(names))
    other = _pick_other(runs, run, other)
    view = SpeciesView(run, other, run_options(runs, names), NO_OUTPUTS)
    if not run:
        return view
    view = replace(view, name=names[run], other_name=names.get(other, ""))
    own = read(run)
    if not own:
        return replace(view, answer=f"The stored outputs of {names[run]} are gone.")
    view = _with_species(view, own)
    if other == NOBODY:
        return view
    theirs = read(other)
    if not theirs:
        gone = f"The stored outputs of {names[other]} are gone, so nothing is compared."
        return replace(view, sentences=(gone,))
    try:
        changes = find_changes(names[run], own, names[other], theirs, recordists(run))
    except DataError as error:
        return replace(view, sentences=(f"Nothing is compared: {error.what}.",))
    return replace(view, changes=changes, answer=f"{view.answer} {changes.sentences[0]}")


def _pick_other(runs: pd.DataFrame, run: str, other: str) -> str:
    if not run or other == NOBODY:
        return NOBODY
    if other in set(runs["run"]) and other != run:
        return other
    return newest_peer(runs, run) or NOBODY


def _with_species(view: SpeciesView, own: FoldTables) -> SpeciesView:
    table = score_species(own)
    known = table[table["support"] > 0].sort_values(["above", "ap"], kind="stable")
    pairs = find_confusions(own).pairs.head(MOST_PAIRS)
    support = get_class_info(
        known.rename(columns={"code": "class"}), score_label="padded average precision"
    )
    n_rows = len(pool_folds(own).recordings)
    counts = np.unique(np.geomspace(1, max(support.support), 60).round().astype(int)).tolist()
    floor = padded_floor(counts, n_rows).tolist()
    return replace(
        view,
        answer=_answer(view.name, known, pairs),
        support=replace(support, floor=list(zip(counts, floor, strict=True))),
        species=known.reset_index(drop=True),
        pairs=pairs,
        silent=tuple(table.loc[table["support"] == 0, "code"]),
    )


def _answer(name: str, known: pd.DataFrame, pairs: pd.DataFrame) -> str:
    least, most = known.iloc[0], known.iloc[-1]
    told = (
        f"{name} knows {least['code']} least: {percent(least['above'])} of the way from a constant "
        f"to a perfect predictor over {count_words(int(least['support']), 'recording')}, and "
        f"{most['code']} best ({percent(most['above'])} of {int(most['support'])})."
    )
    if pairs.empty:
        return f"{told} No recording has another species above its own."
    first = pairs.iloc[0]
    return (
        f"{told} Most often {first['species']} is taken for {first['other']}: in "
        f"{first['mistaken']} of {count_words(int(first['recordings']), 'recording')}."
    )


def species_words(view: SpeciesView) -> pd.DataFrame:
    """The species of a run as a table to show, the least known first."""
    table = view.species
    return pd.DataFrame(
        {
            "species": table["code"],
            "recordings": table["support"],
            "padded AP": table["ap"].map("{:.3f}".format),
            "a constant gets": table["floor"].map("{:.3f}".format),
            "constant to perfect": table["above"].map(percent),
            "AUC": ["" if np.isnan(auc) else f"{auc:.3f}" for auc in table["auc"]],
        }
    )


def pairs_words(view: SpeciesView) -> pd.DataFrame:
    """Which species is taken for which, as a table to show."""
    table = view.pairs
    return pd.DataFrame(
        {
            "recordings of": table["species"],
            "taken for": table["other"],
            "in": table["mistaken"],
            "of": table["recordings"],
            "share": table["share"].map(percent),
            "mean excess": table["excess"].map("{:.3f}".format),
            "the clearest": table["example"],
        }
    )


def changes_words(view: SpeciesView) -> pd.DataFrame:
    """The differences of two runs per species as a table to show, the largest gain first."""
    if view.changes is None:
        return pd.DataFrame()
    return differences_words(view.changes.table, view.other_name, view.name)
