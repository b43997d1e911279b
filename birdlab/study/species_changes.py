"""Which species one run knows better than another, on the recordings that both were scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from birdlab.study.arm_view import FOUND_Q, N_DRAWS
from birdlab.study.recordings import MIN_RECORDISTS
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables
from birdlab.study.species import FoldTables
from birdlab.study.species_differences import compare_species
from birdlab.words import count_words, list_some


@dataclass(frozen=True, eq=False)
class SpeciesChanges:
    """Differences per species: code, support, n_recordists, ap_a, ap_b, delta, low, high, p, q.

    The largest gain of the run (b) over the other one (a) first; `sentences` say what is found and
    what is not compared.
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]


def find_changes(
    name: str,
    own: FoldTables,
    other_name: str,
    other: FoldTables,
    recordists: Mapping[str, str],
) -> SpeciesChanges:
    """By how much the run `name` knows each species better than the other one.

    On the recordings, classes and seeds that both have; where they share no seed, on every seed of
    one with every seed of the other. Raises DataError where they share nothing.
    """
    shared = share_tables([RunTables(other_name, other), RunTables(name, own)])
    pairs = shared.pairs(name)
    table = compare_species(
        {cell: pair[0] for cell, pair in pairs.items()},
        {cell: pair[1] for cell, pair in pairs.items()},
        recordists,
        n_draws=N_DRAWS,
    )
    sentences = [_found(name, other_name, table)]
    if not recordists:
        sentences.append(
            "The record does not say who made the recordings, so each counts as by a person of "
            "its own: intervals are narrower than they should be."
        )
    return SpeciesChanges(table, (*sentences, *shared.left_out, *shared.notes))


def _found(name: str, other: str, table: pd.DataFrame) -> str:
    """In words what is found; q values allow for the number of species."""
    tested = table[table["q"].notna()]
    sure = tested[tested["q"] < FOUND_Q]
    better, worse = sure[sure["delta"] > 0], sure[sure["delta"] < 0]
    few = len(table) - len(tested)
    untold = (
        f" {count_words(few, 'species', 'species')} of fewer than {MIN_RECORDISTS} recordists "
        "cannot be judged."
        if few
        else ""
    )
    if sure.empty:
        return (
            f"No species is shown to be known better or worse by {name} than by {other}: of "
            f"{len(tested)} that can be judged none has q below {FOUND_Q:g}.{untold}"
        )
    told = [
        f"{list_some(part['code'])} {word}"
        for part, word in ((better, "better"), (worse[::-1], "worse"))
        if len(part)
    ]
    return (
        f"{name} knows {' and '.join(told)} than {other} does (q below {FOUND_Q:g}; "
        f"{count_words(len(tested), 'species', 'species')} can be judged).{untold}"
    )
