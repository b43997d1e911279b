"""The tables a study reads, and the pairs of CV and leaderboard score that may be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.chosen import chosen_of
from birdlab.study.ledger_row import COLUMNS

COMPARABLE = ("rows_hash", "classes_hash", "n_folds")
ON_SOUNDSCAPES = "cv/soundscapes_"
"""Begins the names of scores over windows of labelled soundscapes."""
FLOORS = {"cv/padded_cmap": "floor", f"{ON_SOUNDSCAPES}padded_cmap": "soundscapes_floor"}
"""Which column of the runs holds what a constant predictor would get."""


@dataclass(frozen=True)
class StudyTables:
    """Everything a study looks at.

    `runs`: one row per recipe: run (spec_id), name, project, delta, sweeps (list), status,
    created_at, mlflow_run_id, metric, n_folds, n_seeds, n_rows, n_classes, rows_hash,
    classes_hash, floor and the `cv/...` scores; split, family, checkpoint and lineage ("" where
    unknown); chosen, soundscapes_hash and soundscapes_floor where some run has them. `cells`:
    one row per (run, fold, seed): run, name, fold, seed, cell_id, padded_cmap, macro_auc, floor,
    n_rows, seconds. `ledger`: what `load_ledger` returns.
    """

    runs: pd.DataFrame
    cells: pd.DataFrame
    ledger: pd.DataFrame


def cv_columns(runs: pd.DataFrame) -> list[str]:
    """The `cv/...` columns that estimate a score (spreads left out) and hold at least one."""
    names = [str(name) for name in runs.columns if str(name).startswith("cv/")]
    return [name for name in names if not name.endswith("_sd") and runs[name].notna().any()]


def pair_cv_lb(
    tables: StudyTables,
    *,
    lb: str = "public",
    metric: str,
    cv: str = "cv/padded_cmap",
    group: int | None = 0,
) -> pd.DataFrame:
    """One row per run with both scores: run, name, chosen, cv, cv_sd, lb, fold_scores,
    comparable_group.

    `lb` is a leaderboard column, of which only the scores of `metric` count; of several rows of
    one run the newest does. Only runs with equal rows, classes and number of folds are
    comparable, for scores of soundscapes those with equal soundscapes. They are numbered in
    groups from the largest (0) down, and `group=None` returns all of them. `fold_scores` lists
    the mean over seeds of each fold, empty where cells do not hold the score.
    `attrs["left_out"]` lists in words what is not in the table. Raises DataError for a column
    that does not exist.
    """
    for name, table, kind in ((lb, tables.ledger, "leaderboard"), (cv, tables.runs, "CV")):
        if name not in table.columns or (kind == "leaderboard" and name in COLUMNS[:3]):
            raise DataError(f"there is no {kind} column of this name", got=name)
    scored, left_out = _newest_scores(tables.ledger, lb, metric)
    unknown = sorted(set(scored.index) - set(tables.runs["run"]))
    if unknown:
        left_out.append(
            f"{_count(len(unknown), 'leaderboard run')} not among the runs: {_some(unknown)}."
        )
    runs = tables.runs[tables.runs["run"].isin(scored.index)]
    without_cv = runs[runs[cv].isna()]
    if len(without_cv):
        left_out.append(
            f"{_count(len(without_cv), 'run')} without {cv}: {_some(without_cv['name'])}."
        )
    runs = runs[runs[cv].notna()]
    folds = _fold_scores(tables.cells, cv)
    fold_scores = [list(folds.get(run, ())) for run in runs["run"]]
    pairs = pd.DataFrame(
        {
            "run": runs["run"].to_numpy(),
            "name": runs["name"].to_numpy(),
            "chosen": chosen_of(runs, cv),
            "cv": runs[cv].to_numpy(dtype=float),
            "cv_sd": _spread(runs, cv, fold_scores),
            "lb": scored.reindex(runs["run"]).to_numpy(dtype=float),
            "fold_scores": pd.Series(fold_scores, dtype=object),
            "comparable_group": _group_numbers(runs, cv),
        }
    )
    if group is not None:
        pairs, others = (
            pairs[pairs["comparable_group"] == group],
            pairs[pairs["comparable_group"] != group],
        )
        if len(others):
            left_out.append(
                f"{_count(len(others), 'run')} scored on other rows, classes or folds than the "
                f"{len(pairs)} compared here: {_some(others['name'])}."
            )
    pairs = pairs.reset_index(drop=True)
    pairs.attrs["left_out"] = left_out
    return pairs


def _newest_scores(ledger: pd.DataFrame, lb: str, metric: str) -> tuple[pd.Series, list[str]]:
    """The newest score of each run in one column and metric, and what else there was."""
    left_out: list[str] = []
    scored = ledger[ledger[lb].notna()]
    others = scored[scored["metric"] != metric]
    if len(others):
        names = ", ".join(sorted(set(others["metric"])))
        left_out.append(f"{_count(len(others), 'leaderboard score')} of another metric ({names}).")
    scored = scored[scored["metric"] == metric]
    when = pd.to_datetime(scored["date"], utc=True, format="ISO8601")
    newest = scored.loc[when.sort_values(kind="stable").index].drop_duplicates("run", keep="last")
    if len(newest) < len(scored):
        count = _count(len(scored) - len(newest), "older leaderboard score")
        left_out.append(f"{count} of runs that have a newer one.")
    return newest.set_index("run")[lb], left_out


def _fold_scores(cells: pd.DataFrame, cv: str) -> dict[str, list[float]]:
    column = cv.removeprefix("cv/")
    if column not in cells.columns:
        return {}
    means = cells.groupby(["run", "fold"])[column].mean().dropna()
    return {str(run): list(scores) for run, scores in means.groupby(level="run")}


def _spread(runs: pd.DataFrame, cv: str, fold_scores: list[list[float]]) -> list[float]:
    """The stored SD over folds, else the SD of the fold means, else NaN."""
    stored = runs[f"{cv}_sd"] if f"{cv}_sd" in runs.columns else pd.Series(np.nan, runs.index)
    return [
        float(sd) if pd.notna(sd) else float(np.std(folds, ddof=1)) if len(folds) > 1 else np.nan
        for sd, folds in zip(stored, fold_scores, strict=True)
    ]


def _group_numbers(runs: pd.DataFrame, cv: str) -> list[int]:
    columns = list(COMPARABLE)
    if cv.startswith(ON_SOUNDSCAPES):
        columns[0] = "soundscapes_hash"
    keys = [tuple(map(str, key)) for key in runs[columns].itertuples(index=False)]
    sizes = pd.Series(keys, dtype=object).value_counts()
    order = sorted(sizes.index, key=lambda key: (-sizes[key], key))
    return [order.index(key) for key in keys]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _some(names: object, most: int = 5) -> str:
    listed = [str(name) for name in list(names)]  # type: ignore[call-overload]
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
