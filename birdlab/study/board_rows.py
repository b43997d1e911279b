"""The rows of a board that a posterior stands on: checked, with predictors and likeness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from birdlab.errors import DataError
from birdlab.study.board_evidence import SLOPE_MEAN, SLOPE_SD, Floats, history_predictors
from birdlab.study.cvlb_resamples import lineage_numbers

MIN_SCORED = 5
MIN_BENT = 15
LEVEL_SD, FAMILY_SD = 1.0, 0.5
"""Priors of the levels of groups and families, in SDs of the public scores."""
FAR, FAILED, ROUNDS = 2.5, 5.0, 8
MIN_HISTORY = 4


def check_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The candidates with every column that a model uses, what is not known filled in.

    Raises DataError for scores that are no numbers, a run that comes twice, under 5 public scores,
    or public scores that are all equal.
    """
    filled = pd.DataFrame(
        {
            "run": table["run"].astype(str).to_numpy(),
            "name": table.get("name", table["run"]).astype(str).to_numpy(),
            "cv": table["cv"].to_numpy(dtype=float),
            "public": table["public"].to_numpy(dtype=float),
            "lineage": table["lineage"].to_numpy() if "lineage" in table else "",
            "group": table["group"].astype(str).to_numpy() if "group" in table else "",
            "family": table["family"].astype(str).to_numpy() if "family" in table else "",
            "cv_se": table["cv_se"].to_numpy(dtype=float) if "cv_se" in table else 0.0,
        }
    )
    if not np.isfinite(filled["cv"]).all() or np.isinf(filled["public"]).any():
        raise DataError("CV and public scores must be finite numbers", got="one that is not")
    if filled["run"].duplicated().any():
        twice = sorted(set(filled.loc[filled["run"].duplicated(), "run"]))
        raise DataError(
            "a candidate comes twice", got=", ".join(twice), expected="each candidate once"
        )
    scored = filled["public"].dropna()
    if len(scored) < MIN_SCORED:
        raise DataError(
            "not enough evidence: too few runs have both a CV and a public score",
            got=f"{len(scored)}",
            expected=f"{MIN_SCORED} or more, to see how far the two go together",
            fix="birdlab lb add RUN --public 0.84",
        )
    if np.ptp(scored) == 0:
        raise DataError(
            "not enough evidence: all public scores are equal",
            got=f"{scored.iloc[0]:g}",
            fix="enter submissions of runs that differ more: birdlab lb add RUN --public 0.84",
        )
    return filled


def check_history(history: pd.DataFrame | None) -> pd.DataFrame:
    """The past submissions that tell how far public scores hold: all three scores are known, none
    failed, and their group has others. No rows where that leaves too few."""
    past = pd.DataFrame(columns=["cv", "public", "private"]) if history is None else history
    past = past.dropna(subset=["cv", "public", "private"])
    past = past.assign(group=past["group"].astype(str) if "group" in past else "")
    if len(past) < MIN_HISTORY:
        return past[:0]
    past = past[~(_is_far(past["public"]) | _is_far(past["private"]))]
    past = past[past.groupby("group")["cv"].transform("size") > 1].reset_index(drop=True)
    enough = len(past) and len(past) >= history_predictors(past).shape[1] + 2
    return past if enough else past[:0]


def _is_far(scores: pd.Series) -> pd.Series:
    """Which scores are those of failed submissions: 5 SDs below the median, or more.

    One failed both in public and in private would say that public scores are to be believed.
    """
    values = scores.to_numpy(dtype=float)
    return scores < np.median(values) - FAILED * spread_of(values)


def build_predictors(table: pd.DataFrame, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Intercept, CV in SDs, its part above 0, and a column per group and per family where there
    are several; with the precision and mean of the prior of their coefficients.

    CV is taken from the median of its group. The third column lets CV rank the upper half
    otherwise than the field, which is where picks are made; it is 0 under 15 scores.
    """
    groups, scored = table["group"].to_numpy(dtype=str), np.isfinite(y)
    cv = table["cv"]
    inside = (cv - cv.groupby(groups).transform("median")).to_numpy(dtype=float)
    inside = inside * _reliability(table, inside)
    spread = spread_of(inside[scored])
    slope = inside / spread if spread > 0 else inside
    bend = np.maximum(slope, 0) * (scored.sum() >= MIN_BENT)
    sd = spread_of(y[scored])
    levels, families = _columns_of(groups), _columns_of(table["family"].to_numpy(dtype=str))
    x = np.column_stack([np.ones(len(cv)), slope, bend, *levels, *families])
    sds = [*[SLOPE_SD] * 2, *[LEVEL_SD] * len(levels), *[FAMILY_SD] * len(families)]
    mean = np.zeros(x.shape[1])
    mean[1] = SLOPE_MEAN * sd
    return x, np.r_[0, (np.array(sds) * sd) ** -2.0], mean


def _columns_of(names: npt.NDArray[np.str_]) -> list[Floats]:
    """A column per name, 1 for its rows; none where all have one name."""
    known = np.unique(names)
    return [np.asarray(names == name, dtype=float) for name in known if len(known) > 1]


def _reliability(table: pd.DataFrame, cv: Floats) -> Floats:
    """How much of each CV score's distance to the mean is no noise: 1 where no SE is known.

    Source: regression calibration, Carroll et al. (2006), chapter 4.
    """
    noise = np.nan_to_num(table["cv_se"].to_numpy(dtype=float)) ** 2
    variance = spread_of(cv) ** 2
    real = max(variance - float(noise.mean()), 0.1 * variance)
    return np.asarray(real / (real + noise) if real > 0 else np.ones(len(cv)))


def widen_outlying(y: Floats, x: Floats, precision: Floats, mean: Floats) -> Floats:
    """By which factor [n] the variance of each deviation is wider than usual: 1 for most.

    A submission that failed, or a jump, lies far from what the others have: beyond 2.5 SDs it
    counts as one of 2.5 SDs, so that it decides neither slope nor scale. 1 without a score.
    Source: reweighted least squares, Huber & Ronchetti (2009), section 7.8.
    """
    scored = np.isfinite(y)
    rest, factors = y[scored] - np.median(y[scored]), np.ones(len(y))
    for _ in range(ROUNDS):
        scale = max(spread_of(rest), 1e-9)
        inside = np.maximum(1, (rest / scale / FAR) ** 2)
        weighted = x[scored].T / (scale**2 * inside)
        left = weighted @ x[scored] + np.diag(precision)
        rest = y[scored] - x[scored] @ np.linalg.solve(
            left, weighted @ y[scored] + precision * mean
        )
    factors[scored] = inside
    return factors


def spread_of(values: Floats) -> float:
    """The SD; where it is over twice what the median distance says, that says it, since a few
    values lie far out."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    middle = float(stats.median_abs_deviation(values, scale="normal"))
    return middle if 0 < middle < sd / 2 else sd


def lineage_likeness(table: pd.DataFrame) -> Floats:
    """1 for rows of one lineage, 0 for others."""
    lineages = lineage_numbers(table)
    return np.asarray(lineages[:, None] == lineages[None], dtype=float)


def tells_apart(alike: Floats) -> bool:
    """Whether some submissions are more alike than others."""
    apart = alike[~np.eye(len(alike), dtype=bool)]
    return bool(len(apart) and np.ptp(apart) > 1e-9)


def as_correlation(likeness: Floats, n: int) -> Floats:
    """The likeness as a correlation matrix: symmetric and non-negative definite."""
    alike = np.asarray(likeness, dtype=float)
    if alike.shape != (n, n) or not np.isfinite(alike).all():
        raise DataError("the likeness is no table of the candidates", got=f"shape {alike.shape}")
    values, vectors = np.linalg.eigh((alike + alike.T) / 2)
    alike = (vectors * np.maximum(values, 0)) @ vectors.T
    sd = np.sqrt(np.maximum(np.diag(alike), 1e-12))
    return np.asarray(alike / sd[:, None] / sd)
