"""Which arms of an ablation differ from the base, by how much, and how much of that is noise.

Scores are averaged over seeds within a fold and paired by fold. The residual variance is the
interaction left by a two-way table, arms × folds, and is pooled over the arms that share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.contrasts import MIN_FOLDS, Contrast, build_contrasts, fold_means
from birdlab.study.judging import (
    Correction,
    Judgement,
    Method,
    decide,
    first_critical,
    judge,
    on_new_data,
)
from birdlab.study.noise import NoiseFloor, paired_se
from birdlab.study.power import detectable_delta, more_seeds
from birdlab.study.shrinkage import EffectPrior
from birdlab.study.verdict_words import arm_sentences, method_sentences, noise_share
from birdlab.study.verdict_words import p_text as p_text
from birdlab.study.winner import Winner, Worth, weigh_arms

NAN = float("nan")
COLUMNS = (
    *("arm", "mean", "sd", "n_folds", "n_seeds", "delta", "low", "high", "p", "verdict"),
    *("noise_share", "low90", "high90", "own_low", "own_high", "own_p", "nb_low", "nb_high"),
    *("more_seeds", "noise_multiples", "expected", "expected_low", "expected_high"),
)
"""Those of Ranking.table, in order."""
_BASE_ROW: dict[str, object] = {
    **dict.fromkeys(COLUMNS[6:], NAN),
    "delta": 0.0,
    "verdict": "base",
    "noise_share": "",
    "more_seeds": "",
}


@dataclass(frozen=True)
class Ranking:
    """The verdicts on a table of arms.

    `table` has one row per arm, base included, highest difference first:
    arm, mean, sd (over fold means), n_folds, n_seeds, delta, low, high, p, verdict, noise_share;
    low90, high90: the 90 % interval that `within noise` looks at;
    own_low, own_high, own_p: what low, high and p would be with the variance of this arm and the
    base alone;
    nb_low, nb_high: where the difference on new data lies, 95 %, one arm at a time;
    more_seeds: of an undecided arm, in words, else empty;
    noise_multiples: the difference in standard errors by the noise floor, NaN without one;
    expected, expected_low, expected_high: what the difference is worth with the luck taken off that
    a high place needs, and 95 %; NaN where neither arms nor `prior` tell how effects scatter.
    Differences are to `base`, over the cells both have. `residual_sd` is the SD of one fold mean
    that neither arm nor fold explains; a true difference of `minimum_detectable_delta` is found in
    80 % of such studies (NaN where nothing can be said). `method` is how many arms are allowed
    for. `winner` is what the highest is worth. `sentences` say it in words, one per arm first.
    """

    base: str
    table: pd.DataFrame
    residual_sd: float
    minimum_detectable_delta: float
    sentences: tuple[str, ...]
    method: Method = "holm"
    noise: NoiseFloor | None = None
    prior: EffectPrior | None = None
    winner: Winner | None = None


def rank_arms(
    scores: pd.DataFrame,
    *,
    base: str | None,
    smallest_effect: float = 0.005,
    alpha: float = 0.05,
    correction: Correction = "holm",
    noise: NoiseFloor | None = None,
    split_folds: int | None = None,
    prior: EffectPrior | None = None,
) -> Ranking:
    """The verdict on each arm: better, worse, within noise, undecided, or no verdict.

    `scores` has columns arm, fold, seed, score (higher is better), one row per cell. An arm is
    better or worse when its adjusted p is below `alpha`, else within noise when its 90 % interval
    lies inside ±`smallest_effect`, else undecided; without verdict under 3 common folds.
    The interval low to high leaves 0 out exactly when the arm is better or worse: with Holm it is
    taken at the arm's own step. With `base=None` the arm of the highest mean is the base;
    since it was picked by its score, all pairs are allowed for (Tukey) whatever `correction` says,
    which costs power.
    An arm whose folds scatter far more than the others' is tested on its own variance.
    `noise` is the noise floor of the same data; `split_folds` how many folds the split has, where
    not all of them ran: the training part of each depends on it. `prior` is how other effects of
    the lab are distributed; arms enough tell that by themselves.
    Raises DataError for a missing column, a score that is no number, a cell that occurs twice,
    fewer than two arms, or a base that is no arm.
    """
    cells = _check_scores(scores)
    chosen = _pick_base(cells) if base is None else base
    if chosen not in cells.index:
        raise DataError(
            "the base is none of the arms", got=chosen, expected=", ".join(map(str, cells.index))
        )
    method: Method = "tukey" if base is None else correction
    arms = [str(arm) for arm in cells.index if arm != chosen]
    contrasts = build_contrasts(cells, arms, chosen)
    tested = [c for c in contrasts.values() if c.n_folds >= MIN_FOLDS]
    judged = judge(tested, alpha, method, len(cells))
    own = judge([c.alone() for c in tested], alpha, method, len(cells))
    worth = weigh_arms(contrasts, fold_means(cells), chosen, picked=base is None, lab=prior)
    n_split = split_folds or scores["fold"].nunique()
    described = _describe(cells)
    rows = [{**described[chosen], **_BASE_ROW}]
    for arm, c in contrasts.items():
        said = judged.get(arm)
        rows.append(
            {
                **described[arm],
                **_compared(c, said, own.get(arm), n_split),
                **_decided(c, said, smallest_effect, alpha, noise),
                **_worth_of(arm, worth),
            }
        )
    table = pd.DataFrame(rows)[list(COLUMNS)]
    table = table.sort_values("delta", ascending=False, kind="stable").reset_index(drop=True)
    residual_sd, detectable = _detectable(tested, alpha, method, len(cells))
    sentences = arm_sentences(table, contrasts, chosen, smallest_effect)
    sentences += worth.sentences
    sentences += method_sentences(contrasts, chosen, method, detectable, noise)
    words = tuple(sentences)
    return Ranking(
        chosen, table, residual_sd, detectable, words, method, noise, worth.prior, worth.winner
    )


def _compared(
    c: Contrast, judged: Judgement | None, own: Judgement | None, n_split: int
) -> dict[str, object]:
    """The difference of an arm with all its intervals, NaN where nothing was judged."""
    said: dict[str, object] = {"delta": c.delta, "noise_share": noise_share(c)}
    for name in ("low", "high", "p", "low90", "high90"):
        said[name] = NAN if judged is None else getattr(judged, name)
    for name in ("low", "high", "p"):
        said[f"own_{name}"] = NAN if own is None else getattr(own, name)
    said["nb_low"], said["nb_high"] = on_new_data(c, n_split)
    return said


def _decided(
    c: Contrast,
    judged: Judgement | None,
    smallest_effect: float,
    alpha: float,
    noise: NoiseFloor | None,
) -> dict[str, object]:
    """The verdict on an arm, what an undecided one lacks, and its difference in noise floors."""
    verdict = decide(c, judged, smallest_effect, alpha)
    seeds = ""
    if judged is not None and verdict == "undecided":
        seeds = more_seeds(c, judged, smallest_effect, noise)
    return {
        "verdict": verdict,
        "more_seeds": seeds,
        "noise_multiples": _multiples(c, noise),
    }


def _worth_of(arm: str, worth: Worth) -> dict[str, float]:
    """What an arm is worth, NaN where that is not known."""
    gain = worth.gains.get(arm)
    if gain is None:
        return dict.fromkeys(("expected", "expected_low", "expected_high"), NAN)
    return {"expected": gain.expected, "expected_low": gain.low, "expected_high": gain.high}


def _multiples(c: Contrast, noise: NoiseFloor | None) -> float:
    """The difference over the SD that two equal arms with these folds and seeds differ by."""
    if noise is None or c.n_folds == 0:
        return NAN
    se = paired_se(noise, c.n_folds, c.n_seeds)
    return c.delta / se if se > 0 else NAN


def _detectable(
    tested: Sequence[Contrast], alpha: float, method: Method, n_arms: int
) -> tuple[float, float]:
    """The residual SD of most arms, and the difference that such a study mostly finds."""
    pooled = [c for c in tested if not c.own_variance]
    typical = max(pooled, key=lambda c: c.df, default=None)
    if typical is None:
        return NAN, NAN
    critical = first_critical(method, alpha, len(tested), typical.df, n_arms)
    return typical.residual_sd, detectable_delta(typical.se, typical.df, critical)


def _check_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Arms × (fold, seed), NaN where an arm lacks a cell."""
    missing = [name for name in ("arm", "fold", "seed", "score") if name not in scores.columns]
    if missing:
        raise DataError("the scores lack a column", got=list(scores.columns), expected=str(missing))
    if not np.isfinite(scores["score"].to_numpy(dtype=float)).all():
        bad = scores[~np.isfinite(scores["score"].astype(float))].iloc[0]
        raise DataError(
            "a cell has no score",
            where=f"arm {bad['arm']}, fold {bad['fold']}, seed {bad['seed']}",
            got=bad["score"],
            fix="finish or leave out the arm: a failed fold means no score",
        )
    twice = scores[scores.duplicated(["arm", "fold", "seed"])]
    if len(twice):
        first = twice.iloc[0]
        raise DataError(
            "a cell occurs twice",
            where=f"arm {first['arm']}, fold {first['fold']}, seed {first['seed']}",
            fix="give each arm a name of its own",
        )
    cells = scores.pivot(index="arm", columns=["fold", "seed"], values="score").sort_index(axis=1)
    if len(cells) < 2:
        raise DataError("a comparison needs two arms", got=f"{len(cells)} arms")
    return cells.loc[list(dict.fromkeys(scores["arm"]))]


def _pick_base(cells: pd.DataFrame) -> str:
    shared = cells.dropna(axis=1)
    means = fold_means(shared if shared.shape[1] else cells).mean(axis=1)
    return str(means.idxmax())


def _describe(cells: pd.DataFrame) -> dict[str, dict[str, object]]:
    """The mean and the scatter of each arm's folds, and how many folds and seeds it has."""
    seeds = cells.columns.get_level_values("seed")
    means = fold_means(cells).to_numpy()
    described: dict[str, dict[str, object]] = {}
    for arm, row, there in zip(cells.index, means, cells.notna().to_numpy(), strict=True):
        own = row[~np.isnan(row)]
        described[str(arm)] = {
            "arm": str(arm),
            "mean": float(own.mean()),
            "sd": float(own.std(ddof=1)) if len(own) > 1 else float("nan"),
            "n_folds": len(own),
            "n_seeds": seeds[there].nunique(),
        }
    return described
