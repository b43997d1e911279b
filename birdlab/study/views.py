"""What a page or a report shows, worked out once: words, tables and the data of the figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from birdlab.study.arms import keep_equal_rows, name_arms
from birdlab.study.chosen import MARK, chosen_of, chosen_words
from birdlab.study.figures import (
    RankingInfo,
    ResponseInfo,
    get_ranking_info,
    get_response_info,
)
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.tables import StudyTables

METRICS = (
    "padded_cmap",
    "macro_auc",
    "soundscapes_padded_cmap",
    "soundscapes_macro_auc",
)


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


def _pick(wanted: str, options: list[str]) -> str:
    return wanted if wanted in options else options[0] if options else ""
