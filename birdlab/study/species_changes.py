"""Which species one run knows better than another, on the recordings that both were scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from birdlab.data.audit.sentences import count, name_some
from birdlab.lab import Lab
from birdlab.runtables import load_table, tables_folder
from birdlab.study.ensemble import align_members
from birdlab.study.species import FoldTables
from birdlab.study.species_differences import MIN_RECORDISTS, compare_species

FOUND_Q = 0.05
N_DRAWS = 300


@dataclass(frozen=True, eq=False)
class SpeciesChanges:
    """Differences per species: code, support, n_recordists, ap_a, ap_b, delta, low, high, p, q.

    The largest gain of the run (b) over the other one (a) first; `sentences` say what is found and
    what is not compared.
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]


def load_recordists(lab: Lab, run: str) -> dict[str, str]:
    """Who made each validation recording of a run, where its record says; empty for older ones."""
    table = load_table(tables_folder(lab, run), "recordings")
    if table.empty:
        return {}
    return dict(zip(table["recording"], table["recordist"], strict=True))


def find_changes(
    name: str,
    own: FoldTables,
    other_name: str,
    other: FoldTables,
    recordists: Mapping[str, str],
) -> SpeciesChanges:
    """By how much the run `name` knows each species better than the other one.

    Probabilities are means over the seeds that both have (over all of each where they share
    none), on the recordings and classes that both have. Raises OutputsError where they share
    nothing.
    """
    seeds = {seed for _, seed in own} & {seed for _, seed in other}
    sentences = [] if seeds else ["The runs share no seed: each counts with all of its own."]
    pair = [
        {key: table for key, table in tables.items() if not seeds or key[1] in seeds}
        for tables in (other, own)
    ]
    members = align_members({other_name: pair[0], name: pair[1]})
    table = compare_species(
        members.fold_tables(0), members.fold_tables(1), recordists, n_draws=N_DRAWS
    )
    if not recordists:
        sentences.append(
            "The record does not say who made the recordings, so each counts as by a person of "
            "its own: intervals are narrower than they should be."
        )
    return SpeciesChanges(table, (_found(name, other_name, table), *sentences, *members.left_out))


def _found(name: str, other: str, table: pd.DataFrame) -> str:
    """In words what is found; q values allow for the number of species."""
    tested = table[table["q"].notna()]
    sure = tested[tested["q"] < FOUND_Q]
    better, worse = sure[sure["delta"] > 0], sure[sure["delta"] < 0]
    few = len(table) - len(tested)
    untold = (
        f" {count(few, 'species', 'species')} of fewer than {MIN_RECORDISTS} recordists cannot be "
        "judged."
        if few
        else ""
    )
    if sure.empty:
        return (
            f"No species is shown to be known better or worse by {name} than by {other}: of "
            f"{len(tested)} that can be judged none has q below {FOUND_Q:g}.{untold}"
        )
    told = [
        f"{name_some(part['code'])} {word}"
        for part, word in ((better, "better"), (worse[::-1], "worse"))
        if len(part)
    ]
    return (
        f"{name} knows {' and '.join(told)} than {other} does (q below {FOUND_Q:g}; "
        f"{count(len(tested), 'species', 'species')} can be judged).{untold}"
    )
