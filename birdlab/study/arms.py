"""The arms of a sweep: what they are called, and which of their cells compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from birdlab.evaluate.score import SOUNDSCAPES, SYNTHETIC
from birdlab.spec.diff import title_of
from birdlab.spec.sweep import SweepSpec
from birdlab.study.chosen import chosen_of, mark_chosen
from birdlab.study.interactions import Interaction, sweep_interactions
from birdlab.study.noise import NoiseFloor
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.shrinkage import EffectPrior
from birdlab.words import count_words, list_some

HEARD = (SOUNDSCAPES, SYNTHETIC)
"""Begin the names of scores over windows of soundscapes."""


def rank_sweep(
    spec: SweepSpec,
    scores: pd.DataFrame,
    *,
    noise: NoiseFloor | None = None,
    split_folds: int | None = None,
    prior: EffectPrior | None = None,
) -> Ranking | None:
    """The verdicts on the arms of a sweep as its spec asks for them; None for fewer than two.

    scores: arm, fold, seed, score. Against the control where it has a score, else the best arm.
    noise, split_folds and prior: see `rank_arms`.
    """
    arms = set(scores["arm"])
    if len(arms) < 2:
        return None
    ranking = rank_arms(
        scores,
        base=spec.compared_with if spec.compared_with in arms else None,
        smallest_effect=spec.smallest_effect,
        correction=spec.correction,
        noise=noise,
        split_folds=split_folds,
        prior=prior,
    )
    return replace(ranking, sentences=(*ranking.sentences, *_neighbour_words(spec, ranking)))


def _neighbour_words(spec: SweepSpec, ranking: Ranking) -> list[str]:
    """That steps of one number are no arms like any others, where the arms are such steps."""
    axes = list(spec.grid.items())
    if ranking.winner is None or len(axes) != 1 or len(axes[0][1].values) < 3:
        return []
    key, axis = axes[0]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in axis.values):
        return []
    return [
        f"The arms are steps of {key}: neighbours score alike, which the expected gains do not use."
    ]


def word_ranking(ranking: Ranking, n_stopped: int = 0) -> str:
    """The answer of a table of arms in a sentence or two: what is better, and how many are what."""
    verdicts = ranking.table["verdict"]
    told = [
        f"{count} {verdict}"
        for verdict in ("better", "worse", "within noise", "undecided", "no verdict")
        if (count := int((verdicts == verdict).sum()))
    ]
    told += [f"{n_stopped} stopped by the race"] if n_stopped else []
    against = f"Against {ranking.base}: {', '.join(told)}."
    best = ranking.table.iloc[0]
    better = best["verdict"] == "better"
    answer = (
        f"{best['arm']} is better by {best['delta']:.4f}, {best['noise_share']}."
        if better
        else "No arm is shown to be better."
    )
    worth = "" if ranking.winner is None else f" {ranking.winner.sentence}"
    return f"{answer} {against}{worth}"


def grid_interactions(
    spec: SweepSpec, points: Mapping[str, Mapping[str, Any]], scores: pd.DataFrame
) -> tuple[Interaction, ...]:
    """What every two entries of a grid say about each other; empty for other forms of sweeps.

    points: what each scored arm takes of each entry; scores: arm, fold, seed, score.
    """
    entries = {
        key: [title_of({key: value}) for value in (*axis.values, *axis.bundles)]
        for key, axis in spec.grid.items()
    }
    titles = {
        arm: {key: title_of({key: value}) for key, value in point.items()}
        for arm, point in points.items()
    }
    return sweep_interactions(entries, titles, scores) if len(titles) > 3 else ()


def name_arms(runs: pd.DataFrame, metric: str) -> dict[str, str]:
    """A name per run: its delta, with the id beside it where that is not enough.

    Arms whose scores in `metric` are chosen ones are marked.
    """
    titles = list(runs["delta"])
    twice = {title for title in titles if titles.count(title) > 1}
    names = [
        f"{title} [{run[:6]}]" if title in twice else title
        for run, title in zip(runs["run"], titles, strict=True)
    ]
    return dict(zip(runs["run"], mark_chosen(names, chosen_of(runs, metric)), strict=True))


def keep_equal_soundscapes(runs: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The runs that were scored on the soundscapes of most others, and what was left out.

    All of them for a metric of recordings, and those that were scored on none. Runs of some of the
    folds are scored on some of the synthetic soundscapes.
    """
    which = next((name for name in HEARD if metric.startswith(name)), "")
    if not which or f"{which}hash" not in runs:
        return runs, []
    named = runs[f"{which}hash"].fillna("")
    parts = named[named != ""].str.split("-").map(set)
    if parts.empty:
        return runs, []
    usual = parts.explode().mode().iloc[0]
    alike = set().union(*(own for own in parts if usual in own))
    odd = parts.index[[not own & alike for own in parts]]
    if not len(odd):
        return runs, []
    names = list_some(runs.loc[odd, "name"])
    said = f"Left out: {count_words(len(odd), 'run')} scored on other soundscapes: {names}."
    return runs.drop(index=odd), [said]


def keep_equal_rows(cells: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The cells scored on as many rows as most others of their fold, and what was left out."""
    size = next((f"{which}n_windows" for which in HEARD if metric.startswith(which)), "n_rows")
    usual = cells.groupby("fold")[size].transform(lambda n: n.mode().iloc[0])
    odd = int((cells[size] != usual).sum())
    if not odd:
        return cells, []
    told = "1 cell" if odd == 1 else f"{odd} cells"
    kept = cells[cells[size] == usual]
    return kept, [f"Left out: {told} scored on other rows than the other arms."]
