"""What the page of CV against the leaderboard shows for a choice: words, tables, figures' data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from birdlab.errors import DataError
from birdlab.study.chosen import chosen_words, mark_chosen
from birdlab.study.cvlb import (
    CvLbStudy,
    EstimatorComparison,
    answer_cv_lb,
    compare_estimators,
    study_cv_lb,
)
from birdlab.study.cvlb_choice import (
    FILTERS,
    CvLbChoice,
    Pair,
    pair_tables,
    pick_pairs,
    settle_choice,
)
from birdlab.study.cvlb_figures import CvLbInfo, RankInfo, get_cv_lb_info, get_rank_info
from birdlab.study.tables import FLOORS, StudyTables, cv_columns


@dataclass(frozen=True, eq=False)
class CvLbView:
    """CV against leaderboard as shown: the choice made, what else there is, and the findings.

    `pairs` are the runs that are studied. `figure` is None where there is nothing to study.
    """

    choice: CvLbChoice
    options: dict[str, list[str]]
    answer: str
    figure: CvLbInfo | None = None
    ranks: RankInfo | None = None
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()


def build_cv_lb_view(
    tables: StudyTables, wanted: CvLbChoice, *, pair: Pair | None = None
) -> CvLbView:
    """The page of CV against leaderboard for what the reader wants.

    A choice that does not exist (an old link) becomes the first that does: the metric with most
    scores, the column with scores in it, the CV estimate of that metric, no filter. `pair` gives
    the pairs of the tables; a page keeps them from one filter to the next.
    """
    pair = pair or pair_tables(tables)
    choice, options = settle_choice(tables, wanted)
    if not (choice.lb and choice.metric and choice.cv):
        answer = (
            "No run has a CV score yet: train one with birdlab run."
            if not options["cv"]
            else "No leaderboard score yet: add one with birdlab lb add RUN --public 0.84."
        )
        return CvLbView(choice, options, answer)
    pairs, left_out = pick_pairs(pair, tables, choice, choice.cv)
    choice = replace(choice, like=pairs.attrs["like"])
    words = chosen_words(pairs["name"].tolist(), pairs["chosen"].tolist())
    shown = pairs.assign(name=mark_chosen(pairs["name"].tolist(), pairs["chosen"].tolist()))
    figure = get_cv_lb_info(
        shown,
        cv_label=choice.cv,
        lb_label=f"{choice.lb} leaderboard, {choice.metric}",
        colour=choice.colour,
    )
    return CvLbView(
        choice,
        options,
        answer_cv_lb(pairs, metric=_metric(choice)),
        figure,
        get_rank_info(shown),
        pairs,
        _list_runs(tables, shown, choice),
        tuple(left_out),
        tuple(words),
    )


def study_view(tables: StudyTables, choice: CvLbChoice, *, pair: Pair | None = None) -> CvLbStudy:
    """The study of the runs that a view of this choice shows.

    Private scores are held against public ones only, and every submission that had one counts as
    a chance to choose by it, also those of several runs and those that a filter takes away.
    """
    pairs, _ = pick_pairs(pair or pair_tables(tables), tables, choice, choice.cv)
    if choice.lb != "public":
        return study_cv_lb(pairs.drop(columns="private"), metric=_metric(choice))
    n_submissions = pairs.attrs["n_submissions"]
    return study_cv_lb(pairs, metric=_metric(choice), n_submissions=n_submissions)


def compare_view_estimators(
    tables: StudyTables, choice: CvLbChoice, *, pair: Pair | None = None
) -> EstimatorComparison:
    """Every CV estimate of the lab over the runs of a choice, the best predictor first.

    A band is cut once, by the CV of the choice: cut by each of them it would be other runs.
    """
    pair = pair or pair_tables(tables)
    shown = set(pick_pairs(pair, tables, choice, choice.cv)[0]["run"])
    uncut = replace(choice, band="")
    every = {cv: pick_pairs(pair, tables, uncut, cv)[0] for cv in cv_columns(tables.runs)}
    return compare_estimators({cv: p[p["run"].isin(shown)] for cv, p in every.items()})


def compare_validators(
    tables: StudyTables, board: str, runs: Sequence[str] = ()
) -> EstimatorComparison:
    """Every CV estimate over the runs that have a score on a board, the best predictor first.

    `runs` limits them to these ids, without any all count. They are the largest group of comparable
    ones, in the metric in which the board has most scores, and of the usual kind of submission;
    what that leaves out is said. Raises DataError for a board on which none of them has a score.
    """
    if board in tables.ledger:
        tables = replace(tables, ledger=tables.ledger[tables.ledger[board].notna()])
    if runs:
        own, submitted = (t[t["run"].isin(runs)] for t in (tables.runs, tables.ledger))
        tables = replace(tables, runs=own.reset_index(drop=True), ledger=submitted)
    choice, options = settle_choice(tables, CvLbChoice(lb=board))
    if choice.lb != board or not (choice.metric and choice.cv):
        raise DataError(
            "no run with a CV score has a score on this leaderboard",
            got=board,
            expected=", ".join(options["lb"]) or "a leaderboard score",
            fix="birdlab lb add RUN --public 0.84, or birdlab lb score RUN",
        )
    found = compare_view_estimators(tables, choice)
    _, apart = pick_pairs(pair_tables(tables), tables, choice, choice.cv)
    return replace(found, left_out=(*(f"Left out: {text}" for text in apart), *found.left_out))


def _list_runs(tables: StudyTables, pairs: pd.DataFrame, choice: CvLbChoice) -> pd.DataFrame:
    """The runs of the study as the page lists them, the best on the leaderboard first."""
    floor = FLOORS.get(choice.cv)
    known = ["run", "delta", "n_seeds", *([floor] if floor else [])]
    shown = pairs.merge(tables.runs[known], on="run", how="left")
    shown = shown.sort_values("lb", ascending=False, kind="stable")
    told_apart = [name for name in FILTERS if (shown[name] != "").any()]
    private = ["private"] if choice.lb != "private" and shown["private"].notna().any() else []
    columns = {
        "name": shown["name"],
        choice.lb: shown["lb"],
        **{name: shown[name] for name in private},
        choice.cv: shown["cv"],
        "sd over folds": shown["cv_sd"],
        **({"floor": shown[floor]} if floor else {}),
        "seeds": shown["n_seeds"],
        **{name: shown[name] for name in told_apart},
        "run": shown["run"],
        "delta": shown["delta"],
    }
    return pd.DataFrame(columns)


def _metric(choice: CvLbChoice) -> str:
    return f"{choice.lb} {choice.metric}"
