"""What the page of ablations shows of a sweep: verdicts, stopped arms, interactions, words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from birdlab.spec.diff import NO_CHANGE
from birdlab.spec.sweep import SweepSpec
from birdlab.study.arms import (
    keep_equal_rows,
    keep_equal_soundscapes,
    name_arms,
    word_ranking,
)
from birdlab.study.chosen import MARK, chosen_of, chosen_words, mark_chosen
from birdlab.study.figures import RankingInfo, get_ranking_info
from birdlab.study.interactions import Interaction
from birdlab.study.noise import NoiseFloor
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.run_choice import pick_known
from birdlab.study.shrinkage import EffectPrior
from birdlab.study.sweep_records import GONE
from birdlab.study.tables import StudyTables

METRICS = (
    "padded_cmap",
    "macro_auc",
    "soundscapes_padded_cmap",
    "soundscapes_macro_auc",
    "synthetic_padded_cmap",
    "synthetic_macro_auc",
)
SWEEP_METRIC = "padded_cmap"
"""What sweeps race and rank by, and noise floors are measured in."""

NOTHING = "No sweep has finished cells yet: run one with birdlab sweep."

FindNoise = Callable[[str, str], NoiseFloor | None]
"""The noise floor of data, by the hashes of rows and classes; None where none was measured."""
FindPrior = Callable[[str, str], EffectPrior | None]
"""How effects of other sweeps than this one are distributed, by its name and the hash of rows."""
CountFolds = Callable[[str], int | None]
"""How many folds the split of a run has; None where that is not known."""


@dataclass(frozen=True, eq=False)
class AblationView:
    """One sweep as shown: its verdicts, and what has none.

    `arms`: the run of each arm that has a score. `scores`: arm, fold, seed, score. `stopped`: arm
    and where the race stopped it. `failed`: arm and error. `interactions`: of every two entries of
    a grid. `question` and `expect` are those of the sweep's file.
    """

    sweep: str
    metric: str
    options: dict[str, list[str]]
    answer: str
    ranking: Ranking | None = None
    forest: RankingInfo | None = None
    arms: Mapping[str, str] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    stopped: pd.DataFrame = field(default_factory=pd.DataFrame)
    failed: pd.DataFrame = field(default_factory=pd.DataFrame)
    interactions: tuple[Interaction, ...] = ()
    sentences: tuple[str, ...] = ()
    question: str = ""
    expect: str = ""


@dataclass(frozen=True, eq=False)
class _Arms:
    """The arms of a sweep in one metric: runs that are not stopped, and their cells by arm."""

    runs: pd.DataFrame
    names: Mapping[str, str]
    scores: pd.DataFrame
    stopped: pd.DataFrame
    sentences: tuple[str, ...]


def build_ablation_view(
    tables: StudyTables,
    sweep: str = "",
    metric: str = "",
    *,
    records: Mapping[str, Mapping[str, Any]] | None = None,
    find_noise: FindNoise = lambda rows, classes: None,
    find_prior: FindPrior = lambda sweep, rows: None,
    count_folds: CountFolds = lambda run: None,
) -> AblationView:
    """The page of one sweep: which arms differ from the base (the run without a delta).

    `records` are those of the sweeps that ended: they name arms, control, correction and smallest
    effect; an arm of another sweep is called by its delta. Only cells scored on as many rows as
    most others of their fold are compared. The interval for new data depends on `count_folds`,
    what few arms are worth on `find_prior`.
    Without a base, or with several, the highest arm is the base. Arms that a race stopped are
    listed apart.
    """
    sweeps = list_sweeps(tables.runs)
    columns = [m for m in METRICS if m in tables.cells.columns]
    metrics = [m for m in columns if tables.cells[m].notna().any()]
    sweep, metric = pick_known(sweep, sweeps), pick_known(metric, metrics)
    view = AblationView(sweep, metric, {"sweep": sweeps, "metric": metrics}, NOTHING)
    if not sweep or not metric:
        return view
    record = (records or {}).get(sweep, {})
    spec = SweepSpec.model_validate_json(json.dumps(record["spec"])) if record else None
    arms = _read_arms(tables, sweep, metric, record)
    there = set(arms.scores["arm"])
    failed = [(arm["title"], arm["error"]) for arm in record.get("failed", ())]
    known = set(tables.runs["run"])
    failed += [(a["title"], GONE) for a in record.get("arms", ()) if a["spec_id"] not in known]
    view = replace(
        view,
        answer=f"{sweep} has fewer than two arms with finished cells: nothing to compare yet.",
        arms={name: run for run, name in arms.names.items() if name in there},
        scores=arms.scores,
        stopped=arms.stopped,
        failed=pd.DataFrame(failed, columns=["arm", "error"]),
        sentences=arms.sentences,
        question=spec.notes if spec else "",
        expect=spec.expected if spec else "",
    )
    if len(there) < 2:
        return view
    return _judge(view, arms, record, spec, find_noise, find_prior, count_folds)


def list_sweeps(runs: pd.DataFrame) -> list[str]:
    """The sweeps that have runs, the one with the newest run first."""
    newest = {str(name): row for row, names in enumerate(runs["sweeps"]) for name in names}
    return sorted(newest, key=newest.__getitem__, reverse=True)


def _judge(
    view: AblationView,
    arms: _Arms,
    record: Mapping[str, Any],
    spec: SweepSpec | None,
    find_noise: FindNoise,
    find_prior: FindPrior,
    count_folds: CountFolds,
) -> AblationView:
    """The view with the verdicts on its arms; noise and interactions are of the sweep's metric."""
    own = view.metric == SWEEP_METRIC
    data = arms.runs.iloc[0]
    noise = find_noise(str(data["rows_hash"]), str(data["classes_hash"])) if own else None
    effect = spec.smallest_effect if spec else 0.005
    ranking = rank_arms(
        view.scores,
        base=_base_of(arms, spec),
        smallest_effect=effect,
        correction=spec.correction if spec else "holm",
        noise=noise,
        split_folds=count_folds(str(data["run"])),
        prior=find_prior(view.sweep, str(data["rows_hash"])) if own else None,
    )
    return replace(
        view,
        answer=word_ranking(ranking, len(view.stopped)),
        ranking=ranking,
        forest=get_ranking_info(ranking, smallest_effect=effect),
        interactions=_interactions(record, view.scores["fold"].nunique()) if own else (),
        sentences=(*ranking.sentences, *record.get("race", ()), *view.sentences),
    )


def _read_arms(tables: StudyTables, sweep: str, metric: str, record: Mapping[str, Any]) -> _Arms:
    every = tables.runs[[sweep in names for names in tables.runs["sweeps"]]]
    titles = _name_arms(every, record)
    racing = _stopped_runs(every, record)
    runs = every[~every["run"].isin(set(racing))]
    runs, elsewhere = keep_equal_soundscapes(runs, metric)
    plain, chosen = [titles[run] for run in runs["run"]], chosen_of(runs, metric)
    names = dict(zip(runs["run"], mark_chosen(plain, chosen), strict=True))
    cells = tables.cells[tables.cells["run"].isin(names) & tables.cells[metric].notna()]
    cells, left_out = keep_equal_rows(cells, metric)
    stopped = [(titles[run], at) for run, at in racing.items()]
    return _Arms(
        runs,
        names,
        cells[["fold", "seed"]].assign(arm=cells["run"].map(names), score=cells[metric]),
        pd.DataFrame(stopped, columns=["arm", "stopped"]),
        (*elsewhere, *left_out, *chosen_words(plain, chosen)),
    )


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


def _base_of(arms: _Arms, spec: SweepSpec | None) -> str | None:
    """The arm that the others are compared with; None for the best."""
    there = set(arms.scores["arm"])
    if spec is not None:
        bases = [name for name in there if name.removesuffix(MARK) == spec.compared_with]
    else:
        plain = arms.runs.loc[arms.runs["delta"] == NO_CHANGE, "run"]
        bases = [arms.names[run] for run in plain if arms.names[run] in there]
    return bases[0] if len(bases) == 1 else None


def _interactions(record: Mapping[str, Any], n_folds: int) -> tuple[Interaction, ...]:
    """Those that the sweep found when it ended."""
    nan = float("nan")
    return tuple(
        Interaction(
            tuple(found["names"]),
            pd.DataFrame(found["table"]),
            nan,
            nan,
            n_folds,
            tuple(found["sentences"]),
        )
        for found in record.get("interactions", ())
    )
