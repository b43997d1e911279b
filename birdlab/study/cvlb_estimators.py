"""Several CV estimators over the same runs: which of them predicts the leaderboard best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.study.cvlb_bands import MIN_RUNS
from birdlab.study.cvlb_correlations import VALUES, formula_interval
from birdlab.study.cvlb_resamples import (
    Floats,
    draw_counts,
    drawn_together,
    number_of_draws,
    percentiles,
    spearman,
)
from birdlab.words import count_words, list_some

COLUMNS = (
    *("estimator", "n_runs", "spearman", "low", "high", "boot_low", "boot_high", "kendall"),
    *("pearson", "behind", "behind_low", "behind_high", "first"),
)


@dataclass(frozen=True, eq=False)
class EstimatorComparison:
    """CV estimators over the `n` runs that all of them score, the best predictor first.

    `table`: estimator, n_runs (that it scores), spearman, kendall, pearson; of Spearman low, high
    (formula), boot_low, boot_high (lineages drawn whole); behind, behind_low, behind_high (how far
    it stays behind that of the first, paired over the same resamples), first (in what share of
    the resamples it is first). `chance` is what the best of these estimators reaches on average
    when the leaderboard is shuffled over the runs, `chance_high` what it stays under in 95 % of
    the shuffles, and `p` the share of shuffles whose best is as good as the best here.
    `optimism` is how much too high the first one's Spearman is for having been picked: what the
    first of a resample has more there than over all runs, on average.
    Source: Efron (1983).
    """

    n: int
    table: pd.DataFrame
    chance: float
    chance_high: float
    p: float
    optimism: float
    left_out: tuple[str, ...]
    sentences: tuple[str, ...]


def compare_estimators(pairs_by_estimator: Mapping[str, pd.DataFrame]) -> EstimatorComparison:
    """How well each estimator's CV predicts the leaderboard, over the runs that all of them score.

    Each value is a table of run, cv, lb (and lineage) for one estimator. An estimator that scores
    under half as many runs as the fullest one is left out and said. The leaderboard scores are
    those of the first table kept. Shuffling and resampling always start from the same seed.
    """
    kept, left_out = _keep_full(pairs_by_estimator)
    names, runs = list(kept), _shared_runs(kept)
    n, nan = len(runs), float("nan")
    lost = sum(len(table) > n for table in kept.values())
    if lost:
        left_out += (f"Only the {n} runs that every estimator scores are compared.",)
    if n < 3:
        table = pd.DataFrame({"estimator": names, "n_runs": [len(kept[name]) for name in names]})
        words = word_comparison(table, n, nan, nan)
        table = table.reindex(columns=list(COLUMNS))
        return EstimatorComparison(n, table, nan, nan, nan, nan, left_out, words)
    tables = [kept[name].set_index("run").loc[runs] for name in names]
    lb = tables[0]["lb"].to_numpy(dtype=float)
    scores = np.array([table["cv"].to_numpy(dtype=float) for table in tables])
    counts = draw_counts(drawn_together(tables[0]), number_of_draws(n))
    once = np.ones((1, n))
    table = pd.DataFrame(
        {
            "estimator": names,
            "n_runs": [len(kept[name]) for name in names],
            **{kind: [float(of(cv, lb, once)[0]) for cv in scores] for kind, of in VALUES.items()},
        }
    ).sort_values("spearman", ascending=False, kind="stable")
    drawn = np.array([spearman(cv, lb, counts) for cv in scores[table.index]])
    table = _add_intervals(table.reset_index(drop=True), drawn, n)
    left_out += tuple(
        f"{name} is no judge: it scores all {n} runs alike."
        for name, row in zip(names, scores, strict=True)
        if np.ptp(row) == 0
    )
    best = shuffle_best(scores, lb)
    chance, high = float(best.mean()), float(np.percentile(best, 95))
    first = float(table["spearman"].iloc[0])
    p = nan if np.isnan(first) else float((1 + (best >= first).sum()) / (1 + len(best)))
    optimism = _find_optimism(table["spearman"].to_numpy(), drawn)
    words = word_comparison(table, n, high, optimism)
    return EstimatorComparison(n, table, chance, high, p, optimism, left_out, words)


def _add_intervals(table: pd.DataFrame, drawn: Floats, n: int) -> pd.DataFrame:
    """The table with the intervals of Spearman and of the differences to the first row.

    `drawn` has Spearman of each row of the table in each resample [estimators, draws].
    """
    value = table["spearman"].to_numpy()
    ends = {
        "": [formula_interval("spearman", rho, n) for rho in value],
        "boot_": [percentiles(row) for row in drawn],
        "behind_": [percentiles(drawn[0] - row) for row in drawn],
    }
    winners = np.bincount(np.nan_to_num(drawn, nan=-2).argmax(axis=0), minlength=len(table))
    return table.assign(
        **{f"{name}low": [low for low, _ in found] for name, found in ends.items()},
        **{f"{name}high": [high for _, high in found] for name, found in ends.items()},
        behind=value[0] - value,
        first=winners / drawn.shape[1],
    )[list(COLUMNS)]


def _find_optimism(values: Floats, drawn: Floats) -> float:
    filled = np.nan_to_num(drawn, nan=-2)
    return float(np.mean(filled.max(axis=0) - values[filled.argmax(axis=0)]))


def shuffle_best(scores: Floats, lb: Floats) -> Floats:
    """Spearman of the best of the estimators [estimators, runs] in each shuffle of `lb` [runs].

    The estimators stay as alike as they are, so ten that nearly agree count for little more than
    one. Estimators that never change are left out. Source: Westfall & Young (1993), max-T.
    """
    n, rng = len(lb), np.random.default_rng(0)
    ranks = np.array([pd.Series(row).rank().to_numpy() for row in scores if np.ptp(row) > 0])
    if not len(ranks) or np.ptp(lb) == 0:
        return np.full(1, np.nan)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    ranks /= np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    order = pd.Series(lb).rank().to_numpy()
    order = (order - order.mean()) / np.sqrt(((order - order.mean()) ** 2).sum())
    shuffles = rng.permuted(np.tile(order, (number_of_draws(n), 1)), axis=1)
    return np.asarray((shuffles @ ranks.T).max(axis=1))


def word_comparison(table: pd.DataFrame, n: int, high: float, optimism: float) -> tuple[str, ...]:
    """What the comparison says, and what choosing among the estimators costs."""
    known = table[table["spearman"].notna()] if "spearman" in table else table
    k = len(known)
    fit = (
        f"Choosing among {k} estimators by the leaderboard is itself a fit: the figure of the "
        f"first is about {max(optimism, 0.0):.2f} too high, and with scores shuffled over these "
        f"{n} runs the best of them reaches {high:+.2f} one time in 20. Fix the estimator before "
        "the leaderboard is seen."
    )
    if n < MIN_RUNS:
        have = f"{count_words(n, 'run')} {'has' if n == 1 else 'have'}"
        return (
            f"No verdict: {have} a score of every estimator; under {MIN_RUNS} nearly any order of "
            "them could be chance.",
        )
    first = table.iloc[0]
    if np.isnan(first["spearman"]):
        return (f"No verdict: over {n} runs one of the scores never changes.",)
    said = f"{first['estimator']} predicts the leaderboard best here ({first['spearman']:+.2f})"
    if not first["spearman"] >= high:
        none = (
            "No estimator is shown to predict the leaderboard better than chance: "
            f"{first['estimator']} is the first with {first['spearman']:+.2f}."
        )
        return (none, fit) if k > 1 else (none,)
    if k == 1:
        return (f"{said}: there is no other estimator to compare it with.",)
    clear = known["behind_low"].iloc[1:] > 0
    if clear.all():
        return (f"{said}, and better than each of the others.", fit)
    close = known["estimator"].iloc[1:][~clear]
    return (f"{said}, and cannot be told from {list_some(close)}.", fit)


def _keep_full(
    tables: Mapping[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    fullest = max((len(table) for table in tables.values()), default=0)
    kept = {
        name: table for name, table in tables.items() if len(table) and 2 * len(table) >= fullest
    }
    left_out = tuple(
        f"{name} is left out: it scores {len(table)} of {fullest} runs."
        for name, table in tables.items()
        if name not in kept
    )
    return kept, left_out


def _shared_runs(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    first, *others = tables.values() if tables else [pd.DataFrame({"run": []})]
    inside = first["run"]
    for table in others:
        inside = inside[inside.isin(table["run"])]
    return list(inside)
