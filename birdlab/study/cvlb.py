"""How far cross-validation can be trusted to rank models on the leaderboard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.cvlb_bands import MIN_RUNS, PARTS, Band, band_table, cut_band, list_bands
from birdlab.study.cvlb_best import BestRun, find_best, list_fold_noise
from birdlab.study.cvlb_correlations import FORMULAS, Correlation, correlate_scores
from birdlab.study.cvlb_estimators import EstimatorComparison, compare_estimators
from birdlab.study.cvlb_groups import list_groups, list_partial
from birdlab.study.cvlb_influence import list_influence
from birdlab.study.cvlb_order import (
    EXACT_RUNS,
    Resolution,
    pair_runs,
    resolve,
    share_by_gap,
)
from birdlab.study.cvlb_resamples import (
    DENSE_RUNS,
    Floats,
    draw_counts,
    drawn_together,
    known_names,
    lineage_numbers,
    number_of_draws,
)
from birdlab.study.cvlb_rounding import Rounding, find_rounding
from birdlab.study.cvlb_shake import Shake, find_shake
from birdlab.study.cvlb_words import (
    word_answer,
    word_best,
    word_claim,
    word_field,
    word_refusal,
    word_resolution,
    word_shake,
    word_top,
)

__all__ = [
    "Band",
    "Correlation",
    "CvLbStudy",
    "EstimatorComparison",
    "answer_cv_lb",
    "compare_estimators",
    "study_cv_lb",
]


@dataclass(frozen=True, eq=False)
class CvLbStudy:
    """Everything said about CV against the leaderboard over `n` runs, in one metric.

    `answer` is the verdict in one sentence, and `sentences` are those that go with it: field, top,
    resolution, the claim of 2023, the CV-best, the shake. Under 10 runs both hold a refusal and
    nothing else, whatever the figures. Tables: `bands` (the fields of `Band`), `groups`
    (`list_groups`), `partial` (`list_partial`), `influence` (`list_influence`), `curve`
    (`resolve`), `shares` (`share_by_gap`), `fold_noise` (`list_fold_noise`). `top` is the band
    that the answer speaks of. `methods` say in words which were used at this size.
    """

    metric: str
    n: int
    n_lineages: int
    answer: str
    sentences: tuple[str, ...]
    spearman: Correlation
    kendall: Correlation
    pearson: Correlation
    rounding: Rounding
    top: Band | None
    bands: pd.DataFrame
    groups: pd.DataFrame
    partial: pd.DataFrame
    influence: pd.DataFrame
    resolution: Resolution
    curve: pd.DataFrame
    shares: pd.DataFrame
    fold_noise: pd.DataFrame
    best: BestRun
    shake: Shake | None
    methods: tuple[str, ...]


def study_cv_lb(
    pairs: pd.DataFrame,
    *,
    metric: str,
    lb_from: float | None = None,
    n_submissions: int | None = None,
) -> CvLbStudy:
    """What the runs of `pairs` say about CV as a judge of leaderboard scores.

    `pairs` has a row per run: cv and lb (finite, higher is better), and where known run, name,
    private, fold_scores, split, checkpoint, family, lineage, selected, submitted_at; what is
    missing is not looked at. `lb_from` adds the band of runs with that leaderboard score or more.
    `n_submissions` had a public score in all; without it each run counts as one. Raises
    DataError for scores that are missing or no number.
    """
    cv, lb = _checked(pairs["cv"], pairs["lb"])
    pairs = pairs.reset_index(drop=True)
    lineages = lineage_numbers(pairs)
    run_pairs = pair_runs(cv, lb)
    counts = draw_counts(drawn_together(pairs), number_of_draws(len(cv)))
    bands = list_bands(pairs, lb_from=lb_from)
    resolution, curve = resolve(run_pairs, counts)
    spearman, kendall, pearson = (
        correlate_scores(kind, cv, lb, lineages) for kind in ("spearman", "kendall", "pearson")
    )
    shares = share_by_gap(run_pairs, counts, known_names(pairs, "split"))
    best, shake, top = find_best(pairs), find_shake(pairs, n_submissions), _top(bands)
    refusal = word_refusal(len(cv), spearman.value, metric)
    sentences = (
        word_field(spearman, metric),
        word_top(top, _tops_within(bands)),
        word_resolution(resolution),
        word_claim(shares),
        word_best(best),
        *word_shake(shake, n_submissions),
    )
    return CvLbStudy(
        metric,
        len(cv),
        spearman.n_lineages,
        refusal or word_answer(spearman, top),
        (refusal,) if refusal else tuple(sentence for sentence in sentences if sentence),
        spearman,
        kendall,
        pearson,
        find_rounding(cv, lb),
        None if refusal else top,
        band_table(bands),
        list_groups(pairs),
        list_partial(pairs),
        list_influence(pairs),
        resolution,
        curve,
        shares,
        list_fold_noise(pairs),
        best,
        shake,
        _methods(len(cv)),
    )


def answer_cv_lb(pairs: pd.DataFrame, *, metric: str) -> str:
    """The answer of `study_cv_lb` without the rest of the study."""
    cv, lb = _checked(pairs["cv"], pairs["lb"])
    pairs = pairs.reset_index(drop=True)
    spearman = correlate_scores("spearman", cv, lb, lineage_numbers(pairs))
    refusal = word_refusal(len(cv), spearman.value, metric)
    return refusal or word_answer(spearman, _top(cut_band(pairs, "cv", part) for part in PARTS))


def _checked(cv: npt.ArrayLike, lb: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(cv, dtype=float), np.asarray(lb, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise DataError(
            "CV and leaderboard scores do not pair up",
            got=f"shapes {x.shape} and {y.shape}",
            expected="two equally long lists of finite numbers",
        )
    return x, y


def _top(bands: Iterable[Band]) -> Band | None:
    """The top quarter by CV, else the top half, that has enough runs for a verdict."""
    tops = (band for band in bands if band.cut == "cv" and not band.split and band.n >= MIN_RUNS)
    return next(tops, None)


def _tops_within(bands: tuple[Band, ...]) -> tuple[Band, ...]:
    return tuple(b for b in bands if b.split and b.part == "top half" and b.n >= MIN_RUNS)


def _methods(n: int) -> tuple[str, ...]:
    """How the intervals of `n` runs were made."""
    drawn = f"{number_of_draws(n)} resamples of runs and of whole lineages, percentiles"
    large = (f"Over {DENSE_RUNS} runs Kendall's resamples use the linear part of its pair sums.",)
    return (
        f"Intervals: {', '.join(f'{kind} {how}' for kind, how in FORMULAS.items())}; {drawn}.",
        *(large if n > DENSE_RUNS else ()),
        *(
            ("The pairs of the resolution are resampled by their linear part.",)
            if n > EXACT_RUNS
            else ()
        ),
    )
