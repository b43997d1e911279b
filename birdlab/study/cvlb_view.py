"""What the page of CV against the leaderboard shows for a choice: words, tables, figures' data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
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
from birdlab.study.cvlb_figures import CvLbInfo, RankInfo, get_cv_lb_info, get_rank_info
from birdlab.study.ledger import score_columns
from birdlab.study.submission_kinds import pick_submissions
from birdlab.study.tables import FLOORS, StudyTables, cv_columns, pair_cv_lb
from birdlab.study.words import count_words, list_some

SEARCHED = ("run", "name", "project", "delta")
FILTERS = ("split", "family", "checkpoint")
COLOURED_BY = ("split", "family", "checkpoint", "lineage")
BANDS = {
    "top half by CV": ("cv", 0.5),
    "top quarter by CV": ("cv", 0.75),
    "top half by leaderboard": ("lb", 0.5),
    "top quarter by leaderboard": ("lb", 0.75),
}
Pair = Callable[[str, str, str, str], pd.DataFrame]
"""The pairs of a leaderboard column, metric, CV estimate and kind of submission ("": the usual)."""
POOLED = "all, pooled"
CUT_WARNING = (
    "A choice of runs made after seeing the leaderboard can find correlation in pure noise, "
    "or hide it."
)
POOL_WARNING = (
    "Runs scored on other rows, classes or folds are pooled: part of the relation may be that "
    "one split scores higher on both."
)


@dataclass(frozen=True)
class CvLbChoice:
    """What a reader may choose; empty text for the first option, or for no filter.

    `like` is a kind of submission, `pool` is POOLED or "" for comparable runs only, `band` one of
    BANDS, `colour` one of COLOURED_BY, `runs` a text that id, name, project or delta contain.
    """

    lb: str = ""
    metric: str = ""
    cv: str = ""
    like: str = ""
    pool: str = ""
    split: str = ""
    family: str = ""
    checkpoint: str = ""
    band: str = ""
    colour: str = ""
    runs: str = ""


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
    choice, options = _settle(tables, wanted)
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
    choice, options = _settle(tables, CvLbChoice(lb=board))
    if choice.lb != board or not (choice.metric and choice.cv):
        raise DataError(
            "no run with a CV score has a score on this leaderboard",
            got=board,
            expected=", ".join(options["lb"]) or "a leaderboard score",
            fix="birdlab lb add RUN --public 0.84, or birdlab lb score RUN",
        )
    found, (_, apart) = (
        compare_view_estimators(tables, choice),
        pick_pairs(pair_tables(tables), tables, choice, choice.cv),
    )
    return replace(found, left_out=(*(f"Left out: {text}" for text in apart), *found.left_out))


def pair_tables(tables: StudyTables) -> Pair:
    """What pairs the runs of some tables: leaderboard column, metric, CV estimate, kind."""
    return lambda lb, metric, cv, like: pair_cv_lb(
        tables, lb=lb, metric=metric, cv=cv, like=like or None, group=None
    )


def pick_pairs(
    pair: Pair, tables: StudyTables, choice: CvLbChoice, cv: str
) -> tuple[pd.DataFrame, list[str]]:
    """The pairs of a choice for one CV estimate, and in words what is not among them.

    Filters come first, so that comparable runs are the largest group of those that they leave; a
    band is cut from these.
    """
    every = pair(choice.lb, choice.metric, cv, choice.like)
    pairs, left_out = _filter_pairs(every, tables.runs, choice)
    left_out += every.attrs["left_out"]
    groups = pairs["comparable_group"]
    if choice.pool and groups.nunique() > 1:
        left_out.append(POOL_WARNING)
    elif groups.nunique() > 1:
        others = pairs[groups != groups.value_counts().index[0]]
        pairs = pairs.drop(others.index)
        left_out.append(
            f"{count_words(len(others), 'run')} scored on other rows, classes or folds than the "
            f"{len(pairs)} compared here: {list_some(others['name'])}."
        )
    if choice.band and len(pairs):
        score, quantile = BANDS[choice.band]
        inside = pairs[pairs[score] >= pairs[score].quantile(quantile)]
        left_out.append(
            f"{len(pairs) - len(inside)} of {len(pairs)} runs below the {choice.band}. "
            "A cut alone lowers the correlation: see the bands of all runs."
        )
        pairs = inside
    pairs = pairs.reset_index(drop=True)
    pairs.attrs |= {name: every.attrs[name] for name in ("like", "n_submissions")}
    return pairs, left_out


def _settle(tables: StudyTables, wanted: CvLbChoice) -> tuple[CvLbChoice, dict[str, list[str]]]:
    """The choice that can be had, and the options of each control."""
    metrics = [str(name) for name in tables.ledger["metric"].value_counts().index]
    metric = _pick(wanted.metric, metrics)
    lbs = score_columns(tables.ledger[tables.ledger["metric"] == metric])
    cvs = cv_columns(tables.runs)
    likely = wanted.cv if wanted.cv in cvs else f"cv/{metric}"
    scored = tables.runs[tables.runs["run"].isin(set(tables.ledger["run"]))]
    known = {
        name: sorted({str(value) for value in scored[name]} - {""}) if name in scored else []
        for name in COLOURED_BY
    }
    options = {
        "lb": lbs,
        "metric": metrics,
        "cv": cvs,
        "like": [],
        "pool": [POOLED],
        **{name: known[name] for name in FILTERS},
        "band": list(BANDS),
        "colour": [name for name in COLOURED_BY if len(known[name]) > 1],
    }
    asked = {
        name: value if (value := getattr(wanted, name)) in options[name] else ""
        for name in ("pool", *FILTERS, "band", "colour")
    }
    lb, cv = _pick(wanted.lb, lbs), _pick(likely, cvs)
    choice = CvLbChoice(lb=lb, metric=metric, cv=cv, runs=wanted.runs.strip(), **asked)
    if not (lb and cv):
        return choice, options
    known_rules = tables.runs.set_index("run")["checkpoint"] if "checkpoint" in tables.runs else {}
    rules = dict(known_rules)
    kinds = [k.words for k in pick_submissions(tables.ledger, rules, lb, metric).kinds]
    like = wanted.like if wanted.like in kinds else ""
    return replace(choice, like=like), options | {"like": kinds}


def _filter_pairs(
    pairs: pd.DataFrame, runs: pd.DataFrame, choice: CvLbChoice
) -> tuple[pd.DataFrame, list[str]]:
    inside = pairs
    for name in FILTERS:
        if value := getattr(choice, name):
            inside = inside[inside[name] == value]
    if choice.runs:
        known = (runs[name].astype(str).str.lower() for name in SEARCHED)
        hits = [column.str.contains(choice.runs.lower(), regex=False) for column in known]
        found = runs.loc[np.logical_or.reduce(hits), "run"]
        inside = inside[inside["run"].isin(set(found))]
    if len(inside) == len(pairs):
        return pairs, []
    gone = len(pairs) - len(inside)
    return inside, [f"{gone} of {len(pairs)} runs by the filter. {CUT_WARNING}"]


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


def _pick(wanted: str, options: list[str]) -> str:
    return wanted if wanted in options else options[0] if options else ""


def choice_of(values: dict[str, str]) -> CvLbChoice:
    """The choice with these values; "" for what is not among them."""
    return CvLbChoice(**{name: values.get(name, "") for name in asdict(CvLbChoice())})
