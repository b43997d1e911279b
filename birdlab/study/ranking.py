"""Which arms of an ablation differ from the base, by how much, and how much of that is noise.

Scores are averaged over seeds within a fold and paired by fold. The residual variance is the
interaction left by a two-way table, arms × folds, and is pooled over the arms that share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from birdlab.errors import DataError
from birdlab.study.contrasts import (
    EXACT,
    MIN_FOLDS,
    Contrast,
    Judgement,
    build_contrasts,
    detectable_delta,
    fold_means,
    judge_holm,
    judge_tukey,
    tukey_critical,
)


@dataclass(frozen=True)
class Ranking:
    """The verdicts on a table of arms.

    `table` has one row per arm, base included, highest difference first: arm, mean, sd (over fold
    means), n_folds, n_seeds, delta, low, high, p, verdict, noise_share. Differences are to
    `base`, over the cells both have. `residual_sd` is the SD of one fold mean that neither arm
    nor fold explains; a true difference of `minimum_detectable_delta` is found in 80 % of such
    studies (NaN where nothing can be said). `sentences` say it in words, one per arm first.
    """

    base: str
    table: pd.DataFrame
    residual_sd: float
    minimum_detectable_delta: float
    sentences: tuple[str, ...]


def rank_arms(
    scores: pd.DataFrame,
    *,
    base: str | None,
    smallest_effect: float = 0.005,
    alpha: float = 0.05,
) -> Ranking:
    """The verdict on each arm: better, worse, within noise, undecided, or no verdict.

    `scores` has columns arm, fold, seed, score (higher is better), one row per cell. An arm is
    better or worse when its adjusted p is below `alpha`, within noise when its whole interval
    lies inside ±`smallest_effect`, undecided otherwise, without verdict under 3 common folds.
    The interval is taken at the arm's own step of Holm's procedure, so it leaves 0 out exactly
    when the arm is better or worse. With `base=None` the arm of the highest mean is the base;
    since it was picked by its score, all pairs are allowed for (Tukey), which costs power.
    An arm whose folds scatter far more than the others' is tested on its own variance.
    Raises DataError for a missing column, a score that is no number, a cell that occurs twice,
    fewer than two arms, or a base that is no arm.
    """
    cells = _check_scores(scores)
    chosen = _pick_base(cells) if base is None else base
    if chosen not in cells.index:
        raise DataError(
            "the base is none of the arms", got=chosen, expected=", ".join(map(str, cells.index))
        )
    arms = [str(arm) for arm in cells.index if arm != chosen]
    contrasts = build_contrasts(cells, arms, chosen)
    tested = [c for c in contrasts.values() if c.n_folds >= MIN_FOLDS]
    judged = judge_tukey(tested, alpha, len(cells)) if base is None else judge_holm(tested, alpha)
    described = _describe(cells)
    rows = [_base_row(described[chosen])]
    rows += [
        _arm_row(described[arm], c, judged.get(arm), smallest_effect, alpha)
        for arm, c in contrasts.items()
    ]
    table = (
        pd.DataFrame(rows)
        .sort_values("delta", ascending=False, kind="stable")
        .reset_index(drop=True)
    )
    pooled = [c for c in tested if not c.own_variance]
    typical = max(pooled, key=lambda c: c.df, default=None)
    if typical is None:
        residual_sd = detectable = float("nan")
    else:
        critical = (
            tukey_critical(alpha, len(cells), typical.df)
            if base is None
            else float(special.stdtrit(typical.df, 1 - alpha / (2 * len(tested))))
        )
        residual_sd, detectable = typical.residual_sd, detectable_delta(typical, critical)
    sentences = _arm_sentences(table, contrasts, chosen)
    sentences += _method_sentences(contrasts, chosen, base is None, detectable)
    return Ranking(chosen, table, residual_sd, detectable, tuple(sentences))


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


def _base_row(described: dict[str, object]) -> dict[str, object]:
    nan = float("nan")
    judged = {"delta": 0.0, "low": nan, "high": nan, "p": nan, "verdict": "base"}
    return {**described, **judged, "noise_share": ""}


def _arm_row(
    described: dict[str, object],
    c: Contrast,
    judged: Judgement | None,
    smallest_effect: float,
    alpha: float,
) -> dict[str, object]:
    nan = float("nan")
    if judged is None:
        verdict, p, low, high = "no verdict", nan, nan, nan
    else:
        p, low, high = judged.p, judged.low, judged.high
        if p < alpha:
            verdict = "better" if c.delta > 0 else "worse"
        elif max(abs(low), abs(high)) <= smallest_effect:
            verdict = "within noise"
        else:
            verdict = "undecided"
    said = {"delta": c.delta, "low": low, "high": high, "p": p, "verdict": verdict}
    return {**described, **said, "noise_share": _noise_share(c)}


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


def _noise_share(c: Contrast) -> str:
    """How much of the squared difference noise alone would make: se² of it is expected."""
    if c.n_folds < MIN_FOLDS or np.isnan(c.se):
        return "not known"
    if abs(c.delta) < EXACT:
        return "no difference"
    share = (c.se / c.delta) ** 2
    if share >= 1:
        return "all of it may be noise"
    return f"about {100 * share:.0f} % is noise" if share >= 0.01 else "under 1 % is noise"


def _arm_sentences(table: pd.DataFrame, contrasts: dict[str, Contrast], base: str) -> list[str]:
    sentences: list[str] = []
    for row in table.to_dict("records"):
        if row["verdict"] == "base":
            continue
        c = contrasts[str(row["arm"])]
        if c.n_folds == 0:
            sentences.append(f"{c.arm} shares no cell with {base}: nothing to compare.")
            continue
        text = f"{c.arm}: {c.delta:+.4f} against {base}"
        if row["verdict"] == "no verdict":
            folds = "1 common fold" if c.n_folds == 1 else f"{c.n_folds} common folds"
            sentences.append(f"{text} on {folds}: no verdict under {MIN_FOLDS} folds.")
        else:
            interval = f"({row['low']:+.4f} to {row['high']:+.4f}), p {p_text(row['p'])}"
            sentences.append(f"{text} {interval}: {row['verdict']}, {row['noise_share']}.")
    return sentences


def _method_sentences(
    contrasts: dict[str, Contrast], base: str, picked: bool, detectable: float
) -> list[str]:
    sentences: list[str] = []
    if not np.isnan(detectable):
        sentences.append(
            f"A true difference of {detectable:.4f} would be found in 80 % of such studies; "
            "smaller ones mostly stay hidden."
        )
    if picked:
        sentences.append(
            f"{base} is the base because its mean is the highest; all pairs are allowed for."
        )
    for c in contrasts.values():
        if c.left_out and c.n_folds:
            cells = "1 cell is" if c.left_out == 1 else f"{c.left_out} cells are"
            sentences.append(f"{c.arm}: {cells} left out that only it or only {base} has.")
        if c.own_variance:
            sentences.append(
                f"{c.arm} and {base} scatter unlike the other arms and are tested on their own."
            )
    return sentences


def p_text(p: float) -> str:
    """A p value as shown: three digits, or that it is below them."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
