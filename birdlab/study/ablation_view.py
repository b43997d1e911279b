"""What the page of ablations shows of a sweep: verdicts, stopped arms, interactions, words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from birdlab.spec.sweep import SweepSpec
from birdlab.study.arms import keep_equal_rows, name_arms
from birdlab.study.chosen import chosen_of, chosen_words, mark_chosen
from birdlab.study.figures import (
    RankingInfo,
    ResponseInfo,
    get_ranking_info,
    get_response_info,
)
from birdlab.study.noise import NoiseFloor
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.tables import StudyTables

METRICS = (
    "padded_cmap",
    "macro_auc",
    "soundscapes_padded_cmap",
    "soundscapes_macro_auc",
)
SWEEP_METRIC = "padded_cmap"
"""What sweeps race and rank by, and noise floors are measured in."""

FindNoise = Callable[[str, str], NoiseFloor | None]
"""The noise floor of data, by the hashes of rows and classes; None where none was measured."""


@dataclass(frozen=True, eq=False)
class AblationView:
    """One sweep as shown: its verdicts, and the response where arms differ in one number.

    `arms`: the run of each arm that has a score. `scores`: arm, fold, seed, score. `stopped`: arm
    and where the race stopped it. `failed`: arm and error. `interactions`: of every two entries of
    a grid: names, table, sentences. `question` and `expect` are those of the sweep's file.
    """

    sweep: str
    metric: str
    options: dict[str, list[str]]
    answer: str
    ranking: Ranking | None = None
    forest: RankingInfo | None = None
    response: ResponseInfo | None = None
    arms: Mapping[str, str] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    stopped: pd.DataFrame = field(default_factory=pd.DataFrame)
    failed: pd.DataFrame = field(default_factory=pd.DataFrame)
    interactions: tuple[tuple[str, pd.DataFrame, tuple[str, ...]], ...] = ()
    sentences: tuple[str, ...] = ()
    question: str = ""
    expect: str = ""


def build_ablation_view(
    tables: StudyTables,
    sweep: str = "",
    metric: str = "",
    *,
    records: Mapping[str, Mapping[str, Any]] | None = None,
    find_noise: FindNoise = lambda rows, classes: None,
) -> AblationView:
    """The page of one sweep: which arms differ from the base (the run without a delta).

    `records` are those of the sweeps that ended: they name arms, control, correction and smallest
    effect; an arm of another sweep is called by its delta. Only cells scored on as many rows as
    most others of their fold are compared. Without a base, or with several, the highest arm is the
    base. Arms that a race stopped are listed apart.
    """
    sweeps = sorted({str(name) for names in tables.runs["sweeps"] for name in names})
    known = [m for m in METRICS if m in tables.cells.columns]
    metrics = [m for m in known if tables.cells[m].notna().any()]
    sweep, metric = _pick(sweep, sweeps), _pick(metric, metrics)
    options = {"sweep": sweeps, "metric": metrics}
    if not sweep or not metric:
        nothing = "No sweep has finished cells yet: run one with birdlab sweep."
        return AblationView(sweep, metric, options, nothing)
    record = (records or {}).get(sweep, {})
    runs = tables.runs[[sweep in names for names in tables.runs["sweeps"]]]
    titles = _name_arms(runs, record)
    marks = mark_chosen([titles[run] for run in runs["run"]], chosen_of(runs, metric))
    names = dict(zip(runs["run"], marks, strict=True))
    racing = _stopped_runs(runs, record)
    scored = runs[~runs["run"].isin(set(racing))]
    stopped = pd.DataFrame(
        [(titles[run], at) for run, at in racing.items()], columns=["arm", "stopped"]
    )
    cells = tables.cells[tables.cells["run"].isin(scored["run"]) & tables.cells[metric].notna()]
    cells, left_out = keep_equal_rows(cells, metric)
    chosen = chosen_words([titles[run] for run in scored["run"]], chosen_of(scored, metric))
    scores = cells[["fold", "seed"]].assign(arm=cells["run"].map(names), score=cells[metric])
    spec = SweepSpec.model_validate_json(json.dumps(record["spec"])) if record else None
    common: dict[str, Any] = {
        "arms": {names[run]: run for run in scored["run"] if names[run] in set(scores["arm"])},
        "scores": scores,
        "stopped": stopped,
        "failed": pd.DataFrame(
            [(arm["title"], arm["error"]) for arm in record.get("failed", ())],
            columns=["arm", "error"],
        ),
        "question": spec.notes if spec else "",
        "expect": spec.expect if spec else "",
    }
    if scores["arm"].nunique() < 2:
        few = f"{sweep} has fewer than two arms with finished cells: nothing to compare yet."
        words = (*left_out, *chosen)
        return AblationView(sweep, metric, options, few, sentences=words, **common)
    noise = find_noise(*_data_of(scored)) if metric == SWEEP_METRIC else None
    base = _base_of(scored, titles, set(cells["run"]), spec)
    ranking = rank_arms(scores, base=base and names[base], noise=noise, **_asked(spec))
    effect = spec.smallest_effect if spec else 0.005
    setting, values = parse_setting(
        {names[run]: delta for run, delta in zip(scored["run"], scored["delta"], strict=True)}
    )
    return AblationView(
        sweep,
        metric,
        options,
        _answer(ranking, len(stopped)),
        ranking,
        get_ranking_info(ranking, smallest_effect=effect),
        get_response_info(scores, values, setting=setting, metric=metric) if values else None,
        interactions=_interactions(record) if metric == SWEEP_METRIC else (),
        sentences=(*ranking.sentences, *record.get("race", ()), *left_out, *chosen),
        **common,
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


def _name_arms(runs: pd.DataFrame, record: Mapping[str, Any]) -> dict[str, str]:
    """A name per run: its title in the sweep, else what its delta says."""
    arms = (*record.get("arms", ()), *record.get("stopped", ()))
    titles = {arm["spec_id"]: arm["title"] for arm in arms}
    return name_arms(runs.drop(columns="chosen", errors="ignore"), "") | titles


def _stopped_runs(runs: pd.DataFrame, record: Mapping[str, Any]) -> dict[str, str]:
    """The runs that the race of this sweep stopped, and where."""
    if record:
        return {arm["spec_id"]: arm["at"] for arm in record["stopped"]}
    stopped = runs[runs["status"] == "stopped"]
    return dict(zip(stopped["run"], stopped["stopped_at"], strict=True))


def _base_of(
    runs: pd.DataFrame, titles: Mapping[str, str], there: set[str], spec: SweepSpec | None
) -> str | None:
    """The run that the others are compared with, of those `there`; None for the best."""
    if spec is not None:
        bases = [run for run in runs["run"] if titles[run] == spec.compared_with]
    else:
        bases = runs.loc[runs["delta"] == "", "run"].tolist()
    bases = [run for run in bases if run in there]
    return bases[0] if len(bases) == 1 else None


def _asked(spec: SweepSpec | None) -> dict[str, Any]:
    if spec is None:
        return {}
    return {"smallest_effect": spec.smallest_effect, "correction": spec.correction}


def _data_of(runs: pd.DataFrame) -> tuple[str, str]:
    first = runs.iloc[0]
    return str(first["rows_hash"]), str(first["classes_hash"])


def _interactions(
    record: Mapping[str, Any],
) -> tuple[tuple[str, pd.DataFrame, tuple[str, ...]], ...]:
    return tuple(
        (" and ".join(found["names"]), pd.DataFrame(found["table"]), tuple(found["sentences"]))
        for found in record.get("interactions", ())
    )


def _answer(ranking: Ranking, n_stopped: int) -> str:
    verdicts = ranking.table["verdict"]
    told = [
        f"{count} {verdict}"
        for verdict in ("better", "worse", "within noise", "undecided", "no verdict")
        if (count := int((verdicts == verdict).sum()))
    ]
    told += [f"{n_stopped} stopped by the race"] if n_stopped else []
    against = f"Against {ranking.base}: {', '.join(told)}."
    best = ranking.table.iloc[0]
    if best["verdict"] == "better":
        return f"{best['arm']} is better by {best['delta']:.4f}, {best['noise_share']}. {against}"
    return f"No arm is shown to be better. {against}"


def _pick(wanted: str, options: Sequence[str]) -> str:
    return wanted if wanted in options else options[0] if options else ""
