"""The candidates of a final pick in a lab's tables, and what else is known of the board."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from birdlab.errors import BirdlabError, DataError
from birdlab.spec.kinds import nearest
from birdlab.study.ledger import score_columns
from birdlab.study.output_likeness import Likeness
from birdlab.study.submission_blends import BlendedTables
from birdlab.study.submission_kinds import pick_submissions
from birdlab.study.tables import (
    NO_SCORES,
    StudyTables,
    checkpoint_rules,
    cv_columns,
    group_numbers,
    pair_cv_lb,
)
from birdlab.words import count_words, list_some

COLUMNS = (
    *("run", "name", "cv", "public", "private", "row"),
    *("lineage", "family", "group", "cv_se"),
)


@dataclass(frozen=True, eq=False)
class BoardRows:
    """Candidates and what they are judged by.

    rows: of all runs with a CV score that can be compared, in COLUMNS: public is the score on
    the board that is seen, private that on the board to be predicted, both NaN where there is
    none; row is the id in the ledger of the submission, "" without one. candidates: the runs to
    pick from. history: the rows whose private score may be learned from. left_out in words, told:
    how the CV scores of blends came about, and what says which rows are alike: likeness, by the
    outputs of all rows in their order, else their lineages.
    """

    metric: str
    cv: str
    seen: str
    board: str
    rows: pd.DataFrame
    candidates: tuple[str, ...]
    history: pd.DataFrame
    left_out: tuple[str, ...]
    told: tuple[str, ...] = ()
    likeness: Likeness | None = None

    @property
    def submitted(self) -> tuple[str, ...]:
        """The candidates that have a score on the board that is seen."""
        scored = set(self.rows.loc[self.rows["public"].notna(), "run"])
        return tuple(run for run in self.candidates if run in scored)


def list_board(
    tables: StudyTables | BlendedTables,
    *,
    runs: Sequence[str] = (),
    seen: str = "public",
    board: str = "private",
    metric: str = "",
    cv: str = "",
    learn: bool = False,
) -> BoardRows:
    """The candidates among a lab's runs: those named by `runs`, or all.

    `metric` is by default that of most scores in `seen`, `cv` the CV score of that metric. A
    score on `board` never is of use for the run's own pick: those of runs that are no candidates
    are history, with `learn` those of all. Raises DataError where no run has both scores, a
    named run has no CV score that compares, or `board` is no board or the one that is seen.
    """
    blended = tables if isinstance(tables, BlendedTables) else BlendedTables(tables)
    tables = blended.tables
    _check_board(tables.ledger, seen, board)
    metric, cv = _settle(tables, seen, metric, cv)
    pairs = pair_cv_lb(tables, lb=seen, metric=metric, cv=cv, group=None)
    submitted = pick_submissions(tables.ledger, checkpoint_rules(tables.runs), seen, metric).picked
    rows, apart = _build_rows(tables, submitted.set_index("run"), seen, board, cv)
    unknown = [run for run in runs if run not in set(rows["run"])]
    if unknown:
        raise DataError(
            f"a run has no {cv} that compares with those of submitted runs",
            got=list_some(unknown),
            fix="name runs of the same data and folds as those submitted",
        )
    elsewhere = rows["public"].isna() & rows["run"].isin(_submitted_runs(tables, seen, metric))
    if elsewhere.any() and not runs:
        n = count_words(int(elsewhere.sum()), "run")
        apart.append(f"{n} submitted as another kind only: {list_some(rows['name'][elsewhere])}.")
        rows = rows[~elsewhere]
    candidates = tuple(runs) if runs else tuple(rows["run"])
    named = rows["run"].isin(candidates)
    history = rows[rows["private"].notna() & rows["public"].notna() & (learn | ~named)]
    return BoardRows(
        metric,
        cv,
        seen,
        board,
        rows[named | rows["public"].notna()].reset_index(drop=True),
        candidates,
        history.reset_index(drop=True),
        (*pairs.attrs["left_out"], *apart, *blended.left_out),
        blended.told,
    )


def add_likeness(board: BoardRows, measure: Callable[[tuple[str, ...]], Likeness]) -> BoardRows:
    """The board with how alike its rows are by `measure`, of all of them in their order; as it was,
    with the reason, where that cannot be had."""
    runs = tuple(map(str, board.rows["run"]))
    try:
        likeness = measure(runs)
    except BirdlabError as error:
        why = f"{error.what}: {error.got}" if error.got is not None else error.what
        told = f"Lineages say which of the {len(runs)} are alike, not their outputs: {why}."
        return replace(board, told=(*board.told, told))
    told = f"How alike the {len(runs)} are is measured on their stored held-out outputs."
    return replace(board, told=(*board.told, told), likeness=likeness)


def _check_board(ledger: pd.DataFrame, seen: str, board: str) -> None:
    """DataError for a board that decides and does not exist, or is the one that is seen."""
    boards = [name for name in ledger.columns if name not in NO_SCORES]
    if board not in boards:
        raise DataError(
            "there is no leaderboard column of this name",
            got=board,
            expected=nearest(board, boards),
            fix="name it with --board",
        )
    if board == seen:
        others = ", ".join(name for name in boards if name != seen)
        raise DataError(
            "the leaderboard that is seen cannot be the one that decides",
            got=f"{seen} for both",
            expected=f"another one: {others}",
            fix="--seen public --board private",
        )


def _settle(tables: StudyTables, seen: str, metric: str, cv: str) -> tuple[str, str]:
    """The metric and the CV score, those that were asked for or the usual ones."""
    known = score_columns(tables.ledger)
    if seen not in known:
        raise DataError(
            "no submission has a score on this leaderboard",
            got=seen,
            expected=", ".join(known) or "a leaderboard score",
            fix="birdlab lb add RUN --public 0.84",
        )
    counts = tables.ledger.loc[tables.ledger[seen].notna(), "metric"].value_counts()
    metric = metric or str(counts.index[0])
    estimates = cv_columns(tables.runs)
    cv = cv or (f"cv/{metric}" if f"cv/{metric}" in estimates else "")
    if metric not in counts.index or cv not in estimates:
        raise DataError(
            "there is no such metric on this leaderboard, or no such CV score",
            got=f"{metric}, {cv or f'cv/{metric}'}",
            expected=f"{', '.join(map(str, counts.index))}; {', '.join(estimates)}",
            fix="name the CV score with --cv",
        )
    return metric, cv


def _submitted_runs(tables: StudyTables, seen: str, metric: str) -> set[str]:
    """The runs that were submitted alone and have a score of any kind."""
    ledger = tables.ledger[tables.ledger[seen].notna() & (tables.ledger["metric"] == metric)]
    return set(ledger.loc[ledger["members"].map(len) == 1, "run"])


def _build_rows(
    tables: StudyTables, submitted: pd.DataFrame, seen: str, board: str, cv: str
) -> tuple[pd.DataFrame, list[str]]:
    """A row per run with a CV score, in COLUMNS; without those that compare to none submitted."""
    runs = tables.runs[tables.runs[cv].notna()].reset_index(drop=True)
    groups = pd.Series(group_numbers(runs, cv), index=runs.index)
    of_run = runs["run"]
    rows = pd.DataFrame(
        {
            "run": of_run,
            "name": runs["name"],
            "cv": runs[cv].astype(float),
            "public": of_run.map(submitted[seen]).astype(float),
            "private": of_run.map(submitted[board]).astype(float),
            "row": of_run.map(submitted["id"]).fillna(""),
            "lineage": runs.get("lineage", ""),
            "family": runs.get("family", ""),
            "group": groups.astype(str),
            "cv_se": _cv_errors(tables.cells, runs, groups, cv),
        },
        columns=list(COLUMNS),
    )
    known = set(rows.loc[rows["public"].notna(), "group"])
    foreign = rows[~rows["group"].isin(known)]
    words = (
        [
            f"{count_words(len(foreign), 'run')} scored on other rows, classes or folds than all "
            f"submitted ones: {list_some(foreign['name'])}."
        ]
        if len(foreign)
        else []
    )
    return rows[rows["group"].isin(known)].reset_index(drop=True), words


def _cv_errors(cells: pd.DataFrame, runs: pd.DataFrame, groups: pd.Series, cv: str) -> list[float]:
    """The SE of each run's CV score: by how much runs differ from one another fold by fold.

    Deviations from the means of run and fold, pooled over the runs of a group with as many seeds;
    one without a second is taken as noisy as the noisiest of its group would be with its seeds,
    and NaN is where the group tells nothing. What a fold does to all runs alike moves no choice.
    """
    column = cv.removeprefix("cv/")
    if column not in cells.columns:
        return [np.nan] * len(runs)
    means = cells.groupby(["run", "fold"])[column].mean().unstack()
    seeds = runs["n_seeds"] if "n_seeds" in runs else pd.Series(1, index=runs.index)
    errors = pd.Series(np.nan, index=runs.index)
    for _, inside in runs.groupby([groups, seeds]):
        table = means.reindex(inside["run"]).dropna()
        n, folds = table.shape
        if n > 1 and folds > 1:
            values = table.to_numpy(dtype=float)
            rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
            variance = float((rest**2).sum()) / ((n - 1) * (folds - 1))
            errors[inside.index] = np.sqrt(variance / folds)
    noisiest = (errors * np.sqrt(seeds)).groupby(groups).transform("max")
    errors = errors.fillna(noisiest / np.sqrt(seeds))
    return [float(value) for value in errors]
