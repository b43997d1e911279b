"""What a page or a report shows, worked out once: words, tables and the data of the figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from birdlab.study.arms import keep_equal_rows, name_arms
from birdlab.study.chosen import MARK, chosen_of, chosen_words, mark_chosen
from birdlab.study.cvlb import CvLb, correlate
from birdlab.study.figures import (
    CvLbInfo,
    RankingInfo,
    ResponseInfo,
    get_cv_lb_info,
    get_ranking_info,
    get_response_info,
)
from birdlab.study.ledger import score_columns
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.tables import FLOORS, StudyTables, cv_columns, pair_cv_lb

METRICS = (
    "padded_cmap",
    "macro_auc",
    "soundscapes_padded_cmap",
    "soundscapes_macro_auc",
)
CUT_WARNING = (
    "A choice of runs made after seeing the leaderboard can find correlation in pure noise, "
    "or hide it."
)


@dataclass(frozen=True)
class CvLbChoice:
    """What a reader may choose for CV against leaderboard; empty text where there is nothing."""

    lb: str = ""
    metric: str = ""
    cv: str = ""
    runs: str = ""


@dataclass(frozen=True)
class CvLbView:
    """CV against leaderboard as shown: the choice made, what else there is, and the findings."""

    choice: CvLbChoice
    lb_options: list[str]
    metric_options: list[str]
    cv_options: list[str]
    answer: str
    result: CvLb | None
    figure: CvLbInfo | None
    statistics: pd.DataFrame
    runs: pd.DataFrame
    left_out: list[str]
    chosen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AblationView:
    """One sweep as shown: its verdicts, and the response where arms differ in one number."""

    sweep: str
    metric: str
    sweep_options: list[str]
    metric_options: list[str]
    answer: str
    ranking: Ranking | None
    forest: RankingInfo | None
    response: ResponseInfo | None
    sentences: list[str]


def build_cv_lb_view(tables: StudyTables, wanted: CvLbChoice) -> CvLbView:
    """The page of CV against leaderboard for what the reader wants.

    A choice that does not exist (an old link) becomes the first that does: the metric with most
    scores, the column with scores in it, the CV estimate of that metric. `wanted.runs` keeps the
    runs whose id, name, project or delta contains it, in any case of letters.
    """
    metrics = [str(name) for name in tables.ledger["metric"].value_counts().index]
    metric = _pick(wanted.metric, metrics)
    lbs = score_columns(tables.ledger[tables.ledger["metric"] == metric])
    cvs = cv_columns(tables.runs)
    likely = wanted.cv if wanted.cv in cvs else f"cv/{metric}"
    choice = CvLbChoice(_pick(wanted.lb, lbs), metric, _pick(likely, cvs), wanted.runs.strip())
    if not (choice.lb and choice.metric and choice.cv):
        answer = (
            "No run has a CV score yet: train one with birdlab run."
            if not cvs
            else "No leaderboard score yet: add one with birdlab lb add RUN --public 0.84."
        )
        empty = pd.DataFrame()
        return CvLbView(choice, lbs, metrics, cvs, answer, None, None, empty, empty, [])
    chosen, left_out = _filter_runs(tables, choice.runs)
    pairs = pair_cv_lb(chosen, lb=choice.lb, metric=metric, cv=choice.cv)
    left_out += pairs.attrs["left_out"]
    result = correlate(pairs["cv"], pairs["lb"], metric=f"{choice.lb} {metric}")
    words = chosen_words(pairs["name"].tolist(), pairs["chosen"].tolist())
    pairs["name"] = mark_chosen(pairs["name"].tolist(), pairs["chosen"].tolist())
    figure = get_cv_lb_info(
        pairs, cv_label=choice.cv, lb_label=f"{choice.lb} leaderboard, {metric}"
    )
    floor = FLOORS.get(choice.cv)
    known = ["run", "delta", "n_seeds", *([floor] if floor else [])]
    shown = pairs.merge(tables.runs[known], on="run", how="left")
    shown = shown.sort_values("lb", ascending=False, kind="stable")
    columns = {
        "name": shown["name"],
        choice.lb: shown["lb"],
        choice.cv: shown["cv"],
        "sd over folds": shown["cv_sd"],
        **({"floor": shown[floor]} if floor else {}),
        "seeds": shown["n_seeds"],
        "run": shown["run"],
        "delta": shown["delta"],
    }
    runs = pd.DataFrame(columns)
    return CvLbView(
        choice,
        lbs,
        metrics,
        cvs,
        result.verdict,
        result,
        figure,
        statistics_words(result),
        runs,
        left_out,
        words,
    )


def build_ablation_view(tables: StudyTables, sweep: str = "", metric: str = "") -> AblationView:
    """The page of one sweep: which arms differ from the base (the run without a delta).

    Only cells scored on as many rows as most others of their fold are compared. Without a base
    among the runs, or with several, the highest arm is the base.
    """
    sweeps = sorted({str(name) for names in tables.runs["sweeps"] for name in names})
    known = [m for m in METRICS if m in tables.cells.columns]
    metrics = [m for m in known if tables.cells[m].notna().any()]
    sweep, metric = _pick(sweep, sweeps), _pick(metric, metrics)
    if not sweep or not metric:
        nothing = "No sweep has finished cells yet: run one with birdlab sweep."
        return AblationView(sweep, metric, sweeps, metrics, nothing, None, None, None, [])
    runs = tables.runs[[sweep in names for names in tables.runs["sweeps"]]]
    arms = name_arms(runs, metric)
    cells = tables.cells[tables.cells["run"].isin(arms) & tables.cells[metric].notna()]
    cells, sentences = keep_equal_rows(cells, metric)
    sentences += chosen_words(
        [arms[run].removesuffix(MARK) for run in runs["run"]], chosen_of(runs, metric)
    )
    scores = cells[["fold", "seed"]].assign(arm=cells["run"].map(arms), score=cells[metric])
    if scores["arm"].nunique() < 2:
        few = f"{sweep} has fewer than two arms with finished cells: nothing to compare yet."
        return AblationView(sweep, metric, sweeps, metrics, few, None, None, None, sentences)
    bases = [arms[run] for run in runs.loc[runs["delta"] == "", "run"]]
    bases = [arm for arm in bases if arm in set(scores["arm"])]
    ranking = rank_arms(scores, base=bases[0] if len(bases) == 1 else None)
    setting, values = parse_setting(dict(zip(arms.values(), runs["delta"], strict=True)))
    response = get_response_info(scores, values, setting=setting, metric=metric) if values else None
    return AblationView(
        sweep,
        metric,
        sweeps,
        metrics,
        _answer(ranking),
        ranking,
        get_ranking_info(ranking),
        response,
        [*ranking.sentences, *sentences],
    )


def parse_setting(deltas: dict[str, str]) -> tuple[str, dict[str, float]]:
    """The one numeric setting that the arms change, and its value per arm.

    ("", {}) when two settings change, a value is no number, or fewer than two arms have one. An
    arm without a delta is left out: its value is not in the table.
    """
    changed = {arm: delta.partition("=") for arm, delta in deltas.items() if delta}
    settings = {setting.strip() for setting, _, _ in changed.values()}
    values: dict[str, float] = {}
    for arm, (_, _, value) in changed.items():
        try:
            values[arm] = float(value)
        except ValueError:
            return "", {}
    if len(settings) != 1 or len(values) < 2 or not all(map(math.isfinite, values.values())):
        return "", {}
    return settings.pop(), values


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV; a text that a spreadsheet would run as a formula gets a leading quote."""
    safe = table.map(lambda v: f"'{v}" if isinstance(v, str) and v[:1] in tuple("=+-@\t\r") else v)
    return str(safe.to_csv(index=False))


def _answer(ranking: Ranking) -> str:
    verdicts = ranking.table["verdict"]
    told = [
        f"{count} {verdict}"
        for verdict in ("better", "worse", "within noise", "undecided", "no verdict")
        if (count := int((verdicts == verdict).sum()))
    ]
    against = f"Against {ranking.base}: {', '.join(told)}."
    best = ranking.table.iloc[0]
    if best["verdict"] == "better":
        return f"{best['arm']} is better by {best['delta']:.4f}, {best['noise_share']}. {against}"
    return f"No arm is shown to be better. {against}"


def _filter_runs(tables: StudyTables, text: str) -> tuple[StudyTables, list[str]]:
    if not text:
        return tables, []
    runs = tables.runs
    words = runs[["run", "name", "project", "delta"]].astype(str).agg("\n".join, axis=1)
    inside = runs[words.str.lower().str.contains(text.lower(), regex=False)]
    left_out = [f"{len(runs) - len(inside)} of {len(runs)} runs by the filter. {CUT_WARNING}"]
    gone = set(runs["run"]) - set(inside["run"])
    ledger = tables.ledger[~tables.ledger["run"].isin(gone)]
    return StudyTables(inside, tables.cells, ledger), left_out


def _pick(wanted: str, options: list[str]) -> str:
    return wanted if wanted in options else options[0] if options else ""


def statistics_words(result: CvLb) -> pd.DataFrame:
    """The statistics of a CV-leaderboard study as a table of text."""
    rows = []
    for name in ("spearman", "kendall", "pearson"):
        c = getattr(result, name)
        rows.append(
            {
                "statistic": name.capitalize() + (" tau-b" if name == "kendall" else ""),
                "value": _number(c.value),
                "95 % interval": f"{_number(c.low)} to {_number(c.high)}",
                "by bootstrap": f"{_number(c.boot_low)} to {_number(c.boot_high)}",
            }
        )
    return pd.DataFrame(rows)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.2f}"
