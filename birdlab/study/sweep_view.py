"""One sweep as its page shows it: which settings matter, what was raced, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from birdlab.study.arms import word_ranking
from birdlab.study.race_rounds import Rounds
from birdlab.study.stored_sweep import StoredSweep
from birdlab.study.sweeping import Parallel, Response, get_parallel

GAINS = ("gain", "expected gain")


@dataclass(frozen=True, eq=False)
class SweepView:
    """What there is to show of a sweep, and its answer in words.

    `table`: a row per arm, best first: arm, what it takes of each entry, mean, low and high (of
    its folds), gain over the base as seen and as expected, folds, seeds, state. `rounds` where it
    had a race, `importance` where that is known; `search` says why it is not.
    """

    answer: str
    question: str
    responses: list[Response]
    parallel: Parallel | None
    importance: Mapping[str, float]
    search: str
    rounds: Rounds | None
    race: tuple[str, ...]
    failed: tuple[str, ...]
    table: pd.DataFrame


def build_sweep_view(sweep: StoredSweep) -> SweepView:
    """The view of a recorded sweep."""
    responses = sweep.responses if sweep.scored else []
    return SweepView(
        _answer(sweep, responses),
        sweep.question,
        responses,
        _parallel(sweep),
        sweep.record.get("importance", {}),
        sweep.search_sentence,
        sweep.rounds,
        sweep.race_sentences,
        sweep.failure_sentences,
        _table(sweep),
    )


def _answer(sweep: StoredSweep, responses: list[Response]) -> str:
    """The best arm, whether it is shown to be better, and what else happened."""
    if not sweep.scored:
        return "No arm has a score."
    means = fold_means_of(sweep.scores)
    best = str(means["mean"].idxmax())
    said = [f"{best} has the highest mean, {means['mean'].max():.4f}."]
    if sweep.ranking is not None:
        said.append(word_ranking(sweep.ranking, len(sweep.stopped)))
    said += [text for r in responses if r.is_line and (text := _edge_words(r))]
    if sweep.failed:
        said.append(f"{len(sweep.failed)} failed.")
    return " ".join(said)


def _parallel(sweep: StoredSweep) -> Parallel | None:
    """All settings side by side, for sweeps that change several at once."""
    if not sweep.scored or sweep.spec.form not in ("grid", "random", "optuna"):
        return None
    return get_parallel(sweep.scores, sweep.points, sweep.log_entries)


def _edge_words(response: Response) -> str:
    """A warning where the best value of a setting is the lowest or highest that was tried."""
    table = response.table
    if table["x"].nunique() < 3:
        return ""
    best = table.loc[table["mean"].idxmax(), "x"]
    ends = {table["x"].min(): "lowest", table["x"].max(): "highest"}
    if best not in ends:
        return ""
    return f"The best {response.setting}, {best:g}, is the {ends[best]} that was tried."


def fold_means_of(scores: pd.DataFrame) -> pd.DataFrame:
    """mean, low and high over the folds of each arm (seeds averaged first), by arm."""
    folds = scores.groupby(["arm", "fold"])["score"].mean()
    found = folds.groupby(level="arm").agg(["mean", "min", "max"])
    return found.rename(columns={"min": "low", "max": "high"})


def _table(sweep: StoredSweep) -> pd.DataFrame:
    if not sweep.runs:
        return pd.DataFrame()
    means = fold_means_of(sweep.scores)
    entries = dict.fromkeys(key for point in sweep.points.values() for key in point)
    rows, gains = [], _gains(sweep)
    for arm in sweep.runs:
        own = sweep.all_scores[sweep.all_scores["arm"] == arm]
        point = sweep.points.get(arm, {})
        scored = means.loc[arm] if arm in means.index else {}
        rows.append(
            {
                "arm": arm,
                **{str(key): _shown(point.get(key)) for key in entries},
                "mean": scored.get("mean", float("nan")),
                "lowest fold": scored.get("low", float("nan")),
                "highest fold": scored.get("high", float("nan")),
                **gains.get(arm, dict.fromkeys(GAINS, float("nan"))),
                "folds": own["fold"].nunique(),
                "seeds": own["seed"].nunique(),
                "state": "stopped by the race" if arm in sweep.stopped else "scored",
                "run": sweep.runs[arm]["spec_id"],
            }
        )
    table = pd.DataFrame(rows)
    return table.sort_values("mean", ascending=False, kind="stable", na_position="last")


def _gains(sweep: StoredSweep) -> dict[str, dict[str, float]]:
    """The difference of each scored arm to the base, as seen and what it is worth."""
    if sweep.ranking is None:
        return {}
    rows = sweep.ranking.table[["arm", "delta", "expected"]].itertuples(index=False)
    return {str(arm): dict(zip(GAINS, pair, strict=True)) for arm, *pair in rows}


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
