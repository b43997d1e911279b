"""What a reader of CV against the leaderboard may choose, and the pairs of scores of a choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from birdlab.study.ledger import score_columns
from birdlab.study.run_choice import pick_known
from birdlab.study.submission_kinds import pick_submissions
from birdlab.study.tables import StudyTables, checkpoint_rules, cv_columns, pair_cv_lb
from birdlab.words import count_words, list_some

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


def settle_choice(
    tables: StudyTables, wanted: CvLbChoice
) -> tuple[CvLbChoice, dict[str, list[str]]]:
    """The choice that can be had, and the options of each control."""
    metrics = [str(name) for name in tables.ledger["metric"].value_counts().index]
    metric = pick_known(wanted.metric, metrics)
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
    lb, cv = pick_known(wanted.lb, lbs), pick_known(likely, cvs)
    choice = CvLbChoice(lb=lb, metric=metric, cv=cv, runs=wanted.runs.strip(), **asked)
    if not (lb and cv):
        return choice, options
    rules = checkpoint_rules(tables.runs)
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


def choice_of(values: dict[str, str]) -> CvLbChoice:
    """The choice with these values; "" for what is not among them."""
    return CvLbChoice(**{name: values.get(name, "") for name in asdict(CvLbChoice())})
