"""One arm of a sweep against the base: folds and seeds, recordings, species, curves, the spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from birdlab.errors import DataError
from birdlab.evaluate.score import FoldTable
from birdlab.recorded import is_foreign
from birdlab.spec.diff import diff_dumps
from birdlab.study.recordings import Cell, RecordingInterval, weigh_recordists
from birdlab.study.species_differences import compare_species

N_DRAWS = 300
SHOWN_SPECIES = 12
FOUND_Q = 0.05
NO_CURVE = frozenset(
    {"stage", "fold", "seed", "epoch", "n_epochs", "lr", "clips_per_s", "wait_share", "seconds"}
)
"""Columns of training curves that say when, where and how fast, not how well."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One logged value over the epochs of the last stage: mean, lowest, highest cell of each arm.

    `lines`: epoch, mean, low, high by arm.
    """

    key: str
    lines: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, eq=False)
class ArmOutputs:
    """What stored outputs say of an arm beside the base.

    `species` is what `compare_species` returns; no rows, and no `recordings`, where outputs do not
    compare. `sentences` say in words what is found, and what cannot be said and why.
    """

    recordings: RecordingInterval | None
    species: pd.DataFrame
    sentences: tuple[str, ...]


def pair_cells(scores: pd.DataFrame, base: str, arm: str) -> pd.DataFrame:
    """fold, seed, base, arm, difference of the cells that both have."""
    wide = scores.pivot(index=["fold", "seed"], columns="arm", values="score")
    both = wide[[base, arm]].dropna().rename(columns={base: "base", arm: "arm"})
    both.columns.name = None
    return both.assign(difference=both["arm"] - both["base"]).reset_index()


def list_changes(base: Mapping[str, Any], arm: Mapping[str, Any]) -> pd.DataFrame:
    """field, base, arm of every field of the experiments that differs; names and notes left out."""
    columns = ["field", "base", "arm"]
    if is_foreign(base) or is_foreign(arm):
        return pd.DataFrame(columns=columns)
    found = [
        (field, _text(one), _text(two))
        for field, one, two in diff_dumps(base["spec"], arm["spec"])
        if field not in ("name", "notes")
    ]
    return pd.DataFrame(found, columns=columns)


def list_curves(curves: Mapping[str, pd.DataFrame]) -> tuple[Curve, ...]:
    """A curve for each value that the last stage of the arms logged; none where nothing is left."""
    last = {
        arm: table[table["stage"] == table["stage"].iloc[-1]]
        for arm, table in curves.items()
        if len(table)
    }
    numeric = [set(t.select_dtypes("number").columns) - NO_CURVE for t in last.values()]
    keys = sorted(set.intersection(*numeric)) if numeric else []
    return tuple(
        Curve(key, {arm: _curve(table, key) for arm, table in last.items()}) for key in keys
    )


def compare_outputs(
    base: Mapping[Cell, FoldTable], arm: Mapping[Cell, FoldTable], recordists: Mapping[str, str]
) -> ArmOutputs:
    """The difference over other recordings like these, and over each species.

    `recordists` says who made each recording, and may be empty: then each recording counts as by
    a person of its own.
    """
    pairs = {cell: (base[cell], arm[cell]) for cell in sorted(base.keys() & arm.keys())}
    if not pairs:
        said = "No stored outputs of the same folds and seeds: species cannot be compared."
        return ArmOutputs(None, pd.DataFrame(), (said,))
    try:
        recordings = weigh_recordists(pairs, recordists, n_draws=N_DRAWS)
        species = compare_species(base, arm, recordists, n_draws=N_DRAWS)
    except DataError as error:
        said = f"Species cannot be compared: {error.what}."
        return ArmOutputs(None, pd.DataFrame(), (said,))
    alone = (
        "Who made the recordings is not in the record, so each counts as by a person of its own: "
        "intervals are narrower than they should be."
    )
    words = (recordings.sentence, _word_species(species), *(() if recordists else (alone,)))
    return ArmOutputs(recordings, species, words)


def shown_species(species: pd.DataFrame, most: int = SHOWN_SPECIES) -> pd.DataFrame:
    """The species that gained most and those that lost most, half each, in the order of `delta`."""
    ordered = species.sort_values("delta", ascending=False, kind="stable")
    if len(ordered) <= most:
        return ordered
    return pd.concat([ordered.head(most // 2), ordered.tail(most - most // 2)])


def _word_species(species: pd.DataFrame) -> str:
    """How many species are shown to differ, allowing for how many were looked at."""
    judged = species[species["q"].notna()]
    sure = judged[judged["q"] < FOUND_Q]
    up, down = int((sure["delta"] > 0).sum()), int((sure["delta"] < 0).sum())
    found = f"{up} shown to be better and {down} worse" if len(sure) else "none shown to differ"
    return (
        f"Of {len(species)} species {len(judged)} have enough recordists to be judged: {found} "
        f"(q below {FOUND_Q:g})."
    )


def _curve(table: pd.DataFrame, key: str) -> pd.DataFrame:
    return table.groupby("epoch")[key].agg(mean="mean", low="min", high="max").reset_index()


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
