"""The tables a study reads, and the pairs of CV and leaderboard score that may be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.chosen import chosen_of
from birdlab.study.ledger_row import COLUMNS
from birdlab.study.submission_kinds import pick_submissions
from birdlab.tracking.attributes import ATTRIBUTES
from birdlab.words import count_words, list_some

COMPARABLE = ("rows_hash", "classes_hash", "n_folds")
PAIR_COLUMNS = (
    *("run", "name", "chosen", "cv", "cv_sd", "lb", "private", "fold_scores", "comparable_group"),
    *ATTRIBUTES,
    *("selected", "submitted_at", "n_submissions"),
)
NO_SCORES = frozenset(COLUMNS) - {"public", "private"}
"""The columns of a ledger that hold no score."""
ON_SOUNDSCAPES = "cv/soundscapes_"
"""Begins the names of scores over windows of labelled soundscapes."""
ON_SYNTHETIC = "cv/synthetic_"
"""The same for windows of synthetic soundscapes."""
FLOORS = {
    "cv/padded_cmap": "floor",
    f"{ON_SOUNDSCAPES}padded_cmap": "soundscapes_floor",
    f"{ON_SYNTHETIC}padded_cmap": "synthetic_floor",
}
"""Which column of the runs holds what a constant predictor would get."""


@dataclass(frozen=True)
class StudyTables:
    """Everything a study looks at.

    `runs`: one row per recipe: run (spec_id), name, project, delta, sweeps (list), status,
    stopped_at, created_at, mlflow_run_id, metric, n_folds, n_seeds, n_rows, n_classes, rows_hash,
    classes_hash, floor and the `cv/...` scores; split, family, checkpoint and lineage ("" where
    unknown); chosen, soundscapes_hash, soundscapes_floor, synthetic_hash and synthetic_floor where
    some run has them. `cells`: one row per (run, fold, seed): run, name, fold, seed, cell_id,
    padded_cmap, macro_auc, floor, n_rows, seconds, device. `ledger`: what `load_ledger` returns.
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
    like: str | None = None,
) -> pd.DataFrame:
    """One row per run with both scores, in PAIR_COLUMNS.

    `lb` is a leaderboard column, of which only the scores of `metric` count. Submissions of
    several runs at once are left out: no run is what was scored. Of the others only those of one
    kind are paired: `like`, one of `attrs["kinds"]`, by default the kind that most runs have; of
    several of one run the newest does, and `private` is of the same submission. `selected`: one
    of the run's submissions, of any kind, was chosen as a final one. `n_submissions` counts those
    of the run in this column and metric, `attrs["n_submissions"]` all of them.

    Only runs with equal rows, classes and number of folds are comparable, for scores of
    soundscapes, labelled or synthetic, those with equal soundscapes. They are numbered in groups
    from the largest (0) down, and `group=None` returns all of them. `fold_scores` lists the mean
    over seeds of each fold, empty where cells do not hold the score. `attrs["left_out"]` lists in
    words what is not in the table. Raises DataError for a column or a kind that does not exist.
    """
    for name, table, kind in ((lb, tables.ledger, "leaderboard"), (cv, tables.runs, "CV")):
        if name not in table.columns or (kind == "leaderboard" and name in NO_SCORES):
            raise DataError(
                f"there is no {kind} column of this name",
                got=name,
                fix="birdlab lb list shows leaderboard columns, birdlab runs --json those of CV",
            )
    scored = pick_submissions(tables.ledger, checkpoint_rules(tables.runs), lb, metric, like)
    left_out = list(scored.left_out)
    picked = scored.picked.set_index("run")
    unknown = sorted(set(picked.index) - set(tables.runs["run"]))
    if unknown:
        left_out.append(
            f"{count_words(len(unknown), 'leaderboard run')} not among the runs: "
            f"{list_some(unknown)}."
        )
    runs = tables.runs[tables.runs["run"].isin(picked.index)]
    without_cv = runs[runs[cv].isna()]
    if len(without_cv):
        left_out.append(
            f"{count_words(len(without_cv), 'run')} without {cv}: {list_some(without_cv['name'])}."
        )
    pairs = _pair(runs[runs[cv].notna()], picked, tables.cells, lb, cv)
    if group is not None:
        others = pairs[pairs["comparable_group"] != group]
        pairs = pairs[pairs["comparable_group"] == group]
        if len(others):
            left_out.append(
                f"{count_words(len(others), 'run')} scored on other rows, classes or folds than "
                f"the {len(pairs)} compared here: {list_some(others['name'])}."
            )
    pairs = pairs.reset_index(drop=True)
    pairs.attrs |= {
        "left_out": left_out,
        "kinds": list(scored.kinds),
        "like": scored.like,
        "n_submissions": scored.n_submissions,
    }
    return pairs


def checkpoint_rules(runs: pd.DataFrame) -> dict[str, str]:
    """The checkpoint rule of each run, as `name_kinds` wants them."""
    return dict(zip(runs["run"], runs["checkpoint"], strict=True)) if "checkpoint" in runs else {}


def _pair(
    runs: pd.DataFrame, picked: pd.DataFrame, cells: pd.DataFrame, lb: str, cv: str
) -> pd.DataFrame:
    """The pairs of the runs, all of which have a CV score and a submission by run."""
    submitted = picked.reindex(runs["run"])
    folds = _fold_scores(cells, cv)
    fold_scores = [list(folds.get(run, ())) for run in runs["run"]]
    columns: dict[str, object] = {
        "run": runs["run"].to_numpy(),
        "name": runs["name"].to_numpy(),
        "chosen": chosen_of(runs, cv),
        "cv": runs[cv].to_numpy(dtype=float),
        "cv_sd": _spread(runs, cv, fold_scores),
        "lb": submitted[lb].to_numpy(dtype=float),
        "private": submitted["private"].to_numpy(dtype=float),
        "fold_scores": pd.Series(fold_scores, dtype=object),
        "comparable_group": group_numbers(runs, cv),
    }
    for name in ATTRIBUTES:
        columns[name] = runs[name].to_numpy() if name in runs else ""
    columns["selected"] = submitted["selected"].to_numpy(dtype=bool)
    columns["submitted_at"] = submitted["date"].to_numpy()
    columns["n_submissions"] = submitted["n_submissions"].to_numpy(dtype=int)
    return pd.DataFrame(columns, columns=list(PAIR_COLUMNS))


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


def group_numbers(runs: pd.DataFrame, cv: str) -> list[int]:
    """A number for each run, equal where CV scores may be compared, 0 for the largest group."""
    columns = list(COMPARABLE)
    if cv.startswith(ON_SOUNDSCAPES):
        columns[0] = "soundscapes_hash"
    if cv.startswith(ON_SYNTHETIC):
        columns[0] = "synthetic_hash"
    keys = [tuple(map(str, key)) for key in runs[columns].itertuples(index=False)]
    sizes = pd.Series(keys, dtype=object).value_counts()
    order = sorted(sizes.index, key=lambda key: (-sizes[key], key))
    return [order.index(key) for key in keys]
