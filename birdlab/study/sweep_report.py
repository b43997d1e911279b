"""The report of a sweep: what was asked, what came out, how sure that is, how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from birdlab.spec.diff import title_of
from birdlab.study import figures
from birdlab.study.arms import word_ranking
from birdlab.study.chosen import chosen_words
from birdlab.study.cost_report import cost_parts
from birdlab.study.document import (
    Commands,
    Document,
    Drawing,
    Listing,
    Part,
    Section,
    Table,
    Words,
    build_document,
    build_section,
    file_name,
)
from birdlab.study.evidence_words import code_sentence, environment_table, evidence_sentences
from birdlab.study.figures import RANKING_LEGEND
from birdlab.study.interactions import Interaction
from birdlab.study.lab_bets import judge_sweep
from birdlab.study.race_rounds import Rounds
from birdlab.study.ranking import Ranking
from birdlab.study.recipe_words import recipe_lines
from birdlab.study.report import other_intervals, ranking_words
from birdlab.study.stored_sweep import StoredSweep
from birdlab.study.sweep_figures import (
    plot_importance,
    plot_interaction,
    plot_response,
    plot_rounds,
)
from birdlab.study.sweeping import Response

FOREST = f"Difference of each arm to the base. {RANKING_LEGEND}"


@dataclass(frozen=True, eq=False)
class SweepReportInfo:
    """One sweep as its report shows it.

    `scores`: arm, fold, seed, score. `bets`: how each went. `ranking`: None with fewer than two
    scored arms. `recipe`: what is said of each part of the base. `arms`: arm, changes, run, cells,
    state. `responses`: the score over each number that arms set. `interactions`: of the entries of
    a grid. `cost`: what arms cost beside what they gain. `race`: the rule, what it saved and which
    arms it stopped; `rounds`: what each arm ran of it. `importance`: the share of each searched
    entry, and `search` the sentence on it. `chosen`: on scores whose weights were picked by them.
    `evidence`: rows, classes, floor. `environment`: where it ran, on what data. `left_out`: arms
    that do not hold over another base than the file's. `code` and `commands`: how to repeat it.
    """

    name: str
    question: str
    metric: str
    ranking: Ranking | None
    scores: pd.DataFrame
    expect: str = ""
    bets: tuple[str, ...] = ()
    smallest_effect: float = 0.005
    recipe: Mapping[str, str] = field(default_factory=dict)
    arms: pd.DataFrame = field(default_factory=pd.DataFrame)
    responses: Sequence[Response] = ()
    interactions: Sequence[Interaction] = ()
    cost: Sequence[Part] = ()
    chosen: tuple[str, ...] = ()
    race: tuple[str, ...] = ()
    rounds: Rounds | None = None
    importance: Mapping[str, float] = field(default_factory=dict)
    search: str = ""
    failed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    environment: pd.DataFrame = field(default_factory=pd.DataFrame)
    code: str = ""
    commands: tuple[str, ...] = ()


def describe_sweep(sweep: StoredSweep) -> SweepReportInfo:
    """What the report of a recorded sweep shows."""
    spec, runs = sweep.spec, [sweep.runs[arm] for arm in sweep.scored]
    stopped, base = sweep.stopped, sweep.base if runs else None
    return SweepReportInfo(
        name=sweep.name,
        question=sweep.question,
        metric="padded cmAP",
        ranking=sweep.ranking,
        interactions=sweep.interactions,
        cost=cost_parts(sweep.values, sweep.costs, sweep.savings, "padded cmAP") if runs else (),
        scores=sweep.scores,
        expect=spec.expected,
        bets=judge_sweep(sweep).sentences,
        smallest_effect=spec.smallest_effect,
        recipe={} if base is None else recipe_lines(base),
        arms=_arms_table(sweep),
        responses=sweep.responses if runs else (),
        chosen=tuple(chosen_words(sweep.scored, [run.get("chosen", "") for run in runs])),
        race=sweep.race_sentences,
        rounds=sweep.rounds,
        importance=sweep.record.get("importance", {}),
        search=sweep.search_sentence,
        failed=sweep.failure_sentences,
        left_out=sweep.left_out,
        evidence=evidence_sentences(runs, [sweep.runs[arm] for arm in stopped]),
        environment=environment_table(runs),
        code=code_sentence(runs),
        commands=(sweep.command,) if sweep.command else _reruns(sweep),
    )


def _arms_table(sweep: StoredSweep) -> pd.DataFrame:
    arms = [*sweep.record["arms"], *sweep.record["stopped"]]
    rows = [
        {
            "arm": arm["title"],
            "changes": _changes(sweep.runs[arm["title"]]["sweeps"][sweep.name]["delta"]),
            "padded cmAP": sweep.runs[arm["title"]]["scores"].get("cv/padded_cmap", float("nan")),
            "run": arm["spec_id"],
            "cells": len(sweep.runs[arm["title"]]["cells"]),
            "state": "stopped by the race" if "at" in arm else "scored",
        }
        for arm in arms
    ]
    return pd.DataFrame(rows)


def _changes(delta: Mapping[str, object]) -> str:
    """The changes to the base by full names, as `--set` takes them."""
    return ", ".join(f"{key}{title_of({'': value})}" for key, value in delta.items()) or "none"


def _reruns(sweep: StoredSweep) -> tuple[str, ...]:
    return tuple(f"birdlab rerun {run['spec_id']}" for run in sweep.runs.values())


def build_sweep_document(info: SweepReportInfo) -> Document:
    """The report of a sweep as a document; what there is nothing to say of is left out."""
    ranking = info.ranking
    n_stopped = 0 if info.rounds is None else len(info.rounds.reasons)
    return build_document(
        info.name,
        info.question,
        "Fewer than two arms have a score: nothing is compared."
        if ranking is None
        else word_ranking(ranking, n_stopped),
        [
            build_section("The bet", Words(info.expect), Listing(info.bets)),
            build_section("Verdicts", *_verdicts(info)),
            *_figures(info),
            build_section("Cost and value", *info.cost),
            build_section("Interactions", *_interactions(info)),
            build_section("Race", Listing(info.race), *_race_figure(info)),
            build_section("Search", Words(info.search), *_importance(info)),
            build_section("What failed", Listing(info.failed)),
            build_section("Left out over this base", Listing(info.left_out)),
            build_section("How much evidence", Listing(info.evidence)),
            build_section("The base", Table("recipe", _two_columns(info.recipe))),
            build_section("The arms", Table("arms", info.arms)),
            build_section("Where it ran, and on what", Table("environment", info.environment)),
            build_section("How to repeat it", Words(info.code), Commands(info.commands)),
        ],
    )


def _verdicts(info: SweepReportInfo) -> list[Part]:
    if info.ranking is None:
        return [Listing(info.chosen)]
    said = (*info.ranking.sentences, *info.chosen)
    return [
        Table("verdicts", ranking_words(info.ranking)),
        Listing(said),
        Words("The same differences by other intervals, as docs/statistics.md explains them:"),
        Table("other-intervals", other_intervals(info.ranking)),
    ]


def _figures(info: SweepReportInfo) -> list[Section | None]:
    drawn: list[Drawing] = []
    if info.ranking is not None:
        forest = figures.get_ranking_info(info.ranking, smallest_effect=info.smallest_effect)
        drawn.append(Drawing("forest", figures.plot_ranking(forest), FOREST))
    for response in info.responses:
        said = f"{info.metric} over {response.setting}. Bars: lowest to highest fold."
        if not response.is_line:
            said += " The arms differ in other settings as well."
        figure = plot_response(response, metric=info.metric)
        drawn.append(Drawing(f"response-{file_name(response.setting)}", figure, said))
    return [build_section("Figures", *drawn)]


def _interactions(info: SweepReportInfo) -> list[Part]:
    parts: list[Part] = []
    for found in info.interactions:
        parts.append(Listing(found.sentences))
        if len(found.table):
            name = file_name(" ".join(found.names))
            said = f"{info.metric} of {found.names[0]} for each {found.names[1]}, mean over folds."
            parts.append(Drawing(f"interaction-{name}", plot_interaction(found), said))
            parts.append(Table(f"interaction-{name}", found.table))
    return parts


def _race_figure(info: SweepReportInfo) -> list[Part]:
    if info.rounds is None:
        return []
    said = "What each arm ran of the race: a round is one seed of every fold."
    return [Drawing("race", plot_rounds(info.rounds), said)]


def _importance(info: SweepReportInfo) -> list[Part]:
    if not info.importance:
        return []
    said = "The share of the variance of the scores that each searched entry explains by itself."
    return [Drawing("importance", plot_importance(info.importance), said)]


def _two_columns(said: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"part": list(said), "as run": list(said.values())})
