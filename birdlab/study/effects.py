"""What every sweep of a lab found: a row per arm, with what it changes and what that was worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from birdlab.errors import BirdlabError
from birdlab.lab import Lab
from birdlab.spec.changes import list_changes
from birdlab.spec.field_changes import Change
from birdlab.spec.identity import canonical_json
from birdlab.study.contrasts import MIN_FOLDS, build_contrasts
from birdlab.study.idea_identity import name_family, name_idea
from birdlab.study.splits import count_split_folds
from birdlab.study.stored_sweep import StoredSweep
from birdlab.study.sweep_records import load_sweep, load_sweep_spec

METRIC = "padded_cmap"
"""What sweeps are ranked by: padded cmAP of a fold, averaged over folds."""

COLUMNS = (
    *("sweep", "arm", "run", "base_run", "delta", "effect", "se", "df", "n_folds", "n_seeds"),
    *("verdict", "low", "high", "metric", "project", "rows_hash", "classes_hash", "competition"),
    *("decided_at", "changed", "chosen", "idea", "idea_title", "family", "sign", "data"),
    *("split_folds", "floor", "smallest_effect", "cells", "base_cells", "hours"),
)
"""Those of `load_effects`, in order."""


def load_effects(lab: Lab, *, controlled: bool = False, besides: str = "") -> pd.DataFrame:
    """`effects_of` every sweep that the lab has a record of, the oldest first.

    controlled: only of sweeps that name a control; of searches, which may be large, no run is read.
    besides: the name of a sweep that is left alone.
    Sweeps that cannot be read are named with the reason in `.attrs["left_out"]` (name to words), so
    are those of fewer than two scored arms.
    """
    tables, left_out = [], {}
    names = {path.stem for path in (lab.stores / "sweeps").glob("*.json")} - {besides}
    for name in sorted(names):
        try:
            if controlled and load_sweep_spec(lab, name).compared_with is None:
                continue
            table = effects_of(load_sweep(lab, name))
        except BirdlabError as error:
            left_out[name] = error.what
            continue
        if table.empty:
            left_out[name] = "fewer than two arms are scored"
        else:
            tables.append(table)
    return join_effects(tables, left_out)


def join_effects(tables: list[pd.DataFrame], left_out: Mapping[str, str]) -> pd.DataFrame:
    """The rows of all tables, the oldest verdict first."""
    filled = [table for table in tables if len(table)]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(COLUMNS))
    joined = joined.sort_values(["decided_at", "sweep"], kind="stable").reset_index(drop=True)
    joined.attrs["left_out"] = dict(left_out)
    return joined


def effects_of(sweep: StoredSweep) -> pd.DataFrame:
    """A row per scored arm other than its control, with COLUMNS; none for fewer than two arms.

    delta: the changes to the control as canonical JSON, field to [before, after] of resolved
    values; effect, se, df: the difference in `metric`, NaN (0) where one fold says nothing of its
    error; chosen: the control was picked by its score, so its rivals look too low. idea,
    idea_title, family, sign: see `idea_identity`; an effect times its sign is that of the idea.
    data: the base data set; cells, base_cells: what was compared; hours: what the arm's cells took.
    """
    ranking = sweep.ranking
    if ranking is None:
        return pd.DataFrame(columns=list(COLUMNS))
    table = ranking.table.set_index("arm")
    cells = sweep.scores.pivot(index="arm", columns=["fold", "seed"], values="score")
    arms = [arm for arm in sweep.scored if arm != ranking.base]
    contrasts = build_contrasts(cells.sort_index(axis=1), arms, ranking.base)
    base = sweep.runs[ranking.base]
    rows = []
    for arm in arms:
        run, said, found = sweep.runs[arm], table.loc[arm], contrasts[arm]
        row = {name: said[name] for name in ("n_seeds", "verdict", "low", "high")}
        row |= {"sweep": sweep.name, "arm": arm, "effect": found.delta}
        row |= {"se": found.se, "df": found.df, "n_folds": found.n_folds}
        row |= {"run": run["spec_id"], "base_run": base["spec_id"], "cells": _cells(run)}
        row |= {"base_cells": _cells(base), "hours": _hours(run)}
        row |= {"decided_at": str(sweep.record["updated_at"])[:10], "metric": METRIC}
        row |= {"chosen": sweep.spec.compared_with != ranking.base}
        row |= {"smallest_effect": sweep.spec.smallest_effect}
        rows.append(row | _place(base) | _identify(list_changes(base["spec"], run["spec"])))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def is_decided(effects: pd.DataFrame) -> pd.Series:
    """Whether an effect has a standard error from enough folds to be weighed beside others."""
    return effects["se"].notna() & (effects["n_folds"] >= MIN_FOLDS)


def _identify(changes: tuple[Change, ...]) -> dict[str, Any]:
    idea = name_idea(changes)
    return {
        "delta": canonical_json({c.field: [c.before, c.after] for c in changes}),
        "changed": tuple(c.field for c in changes),
        "idea": idea.name,
        "idea_title": idea.title,
        "family": name_family(changes),
        "sign": idea.sign,
    }


def _place(base: Mapping[str, Any]) -> dict[str, Any]:
    """Where a verdict holds: competition, data, rows, classes, folds of the split, floor."""
    spec, evaluation = base["spec"], base["evaluation"]
    return {
        "project": base["project"],
        "competition": spec["competition"]["name"],
        "data": spec["data"]["base"],
        "rows_hash": evaluation["rows_hash"],
        "classes_hash": evaluation["classes_hash"],
        "split_folds": count_split_folds(base) or len(evaluation["folds"]),
        "floor": base["scores"].get("cv/floor", float("nan")),
    }


def _cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(cell["cell_id"] for cell in run["cells"] if cell["fold"] is not None)


def _hours(run: Mapping[str, Any]) -> float:
    return sum(float(cell.get("seconds") or 0) for cell in run["cells"]) / 3600
