"""What the page of CV against the leaderboard shows for a choice: words, tables, figures' data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pandas as pd

from birdlab.study.chosen import chosen_words, mark_chosen
from birdlab.study.cvlb import CvLbStudy, EstimatorComparison, compare_estimators, study_cv_lb
from birdlab.study.cvlb_figures import CvLbInfo, RankInfo, get_cv_lb_info, get_rank_info
from birdlab.study.ledger import score_columns
from birdlab.study.tables import FLOORS, StudyTables, cv_columns, pair_cv_lb

FILTERS = ("split", "family", "checkpoint")
COLOURED_BY = ("split", "family", "checkpoint", "lineage")
BANDS = {
    "top half by CV": ("cv", 0.5),
    "top quarter by CV": ("cv", 0.75),
    "top half by leaderboard": ("lb", 0.5),
    "top quarter by leaderboard": ("lb", 0.75),
}
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

    `pairs` are the runs of the study. `estimators` is None where there is one CV estimate only.
    """

    choice: CvLbChoice
    options: dict[str, list[str]]
    answer: str
    study: CvLbStudy | None
    figure: CvLbInfo | None
    ranks: RankInfo | None
    pairs: pd.DataFrame
    runs: pd.DataFrame
    left_out: list[str]
    chosen: list[str]


def build_cv_lb_view(tables: StudyTables, wanted: CvLbChoice) -> CvLbView:
    """The page of CV against leaderboard for what the reader wants.

    A choice that does not exist (an old link) becomes the first that does: the metric with most
    scores, the column with scores in it, the CV estimate of that metric, no filter.
    """
    choice, options = _settle(tables, wanted)
    if not (choice.lb and choice.metric and choice.cv):
        answer = (
            "No run has a CV score yet: train one with birdlab run."
            if not options["cv"]
            else "No leaderboard score yet: add one with birdlab lb add RUN --public 0.84."
        )
        empty = pd.DataFrame()
        return CvLbView(choice, options, answer, None, None, None, empty, empty, [], [])
    pairs, left_out = pick_pairs(tables, choice, choice.cv)
    kinds = [kind.words for kind in pairs.attrs["kinds"]]
    choice, options = replace(choice, like=pairs.attrs["like"]), options | {"like": kinds}
    n_submissions = pairs.attrs["n_submissions"]
    study = study_cv_lb(pairs, metric=f"{choice.lb} {choice.metric}", n_submissions=n_submissions)
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
        study.answer,
        study,
        figure,
        get_rank_info(shown),
        pairs,
        _list_runs(tables, shown, choice),
        left_out,
        words,
    )


def compare_view_estimators(tables: StudyTables, choice: CvLbChoice) -> EstimatorComparison:
    """Every CV estimate of the lab over the runs of a choice, the best predictor first."""
    found = {cv: pick_pairs(tables, choice, cv)[0] for cv in cv_columns(tables.runs)}
    return compare_estimators(found)


def pick_pairs(tables: StudyTables, choice: CvLbChoice, cv: str) -> tuple[pd.DataFrame, list[str]]:
    """The pairs of a choice for one CV estimate, and in words what is not among them."""
    kept, left_out = _filter_runs(tables, choice)
    pairs = pair_cv_lb(
        kept,
        lb=choice.lb,
        metric=choice.metric,
        cv=cv,
        group=None if choice.pool else 0,
        like=choice.like or None,
    )
    left_out += pairs.attrs["left_out"]
    if choice.pool and pairs["comparable_group"].nunique() > 1:
        left_out.append(POOL_WARNING)
    if choice.band and len(pairs):
        score, quantile = BANDS[choice.band]
        inside = pairs[pairs[score] >= pairs[score].quantile(quantile)].reset_index(drop=True)
        left_out.append(
            f"{len(pairs) - len(inside)} of {len(pairs)} runs below the {choice.band}. "
            "A cut alone lowers the correlation: see the bands of all runs."
        )
        pairs = inside
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
    kinds = pair_cv_lb(tables, lb=lb, metric=metric, cv=cv).attrs["kinds"]
    known_kind = wanted.like if wanted.like in [kind.words for kind in kinds] else ""
    return replace(choice, like=known_kind), options


def _filter_runs(tables: StudyTables, choice: CvLbChoice) -> tuple[StudyTables, list[str]]:
    runs = tables.runs
    inside = runs
    for name in FILTERS:
        if value := getattr(choice, name):
            inside = inside[inside[name] == value]
    if choice.runs:
        words = inside[["run", "name", "project", "delta"]].astype(str).agg("\n".join, axis=1)
        inside = inside[words.str.lower().str.contains(choice.runs.lower(), regex=False)]
    if len(inside) == len(runs):
        return tables, []
    left_out = [f"{len(runs) - len(inside)} of {len(runs)} runs by the filter. {CUT_WARNING}"]
    ledger = tables.ledger[~tables.ledger["run"].isin(set(runs["run"]) - set(inside["run"]))]
    return StudyTables(inside, tables.cells, ledger), left_out


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


def _pick(wanted: str, options: list[str]) -> str:
    return wanted if wanted in options else options[0] if options else ""


def choice_of(values: dict[str, str]) -> CvLbChoice:
    """The choice with these values; "" for what is not among them."""
    return CvLbChoice(**{name: values.get(name, "") for name in asdict(CvLbChoice())})
