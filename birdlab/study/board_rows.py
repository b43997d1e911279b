"""The rows of a board that a posterior stands on: checked, with predictors and likeness."""

from __future__ import annotations

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.board_evidence import SLOPE_MEAN, SLOPE_SD, Floats
from birdlab.study.cvlb_resamples import lineage_numbers

MIN_SCORED = 5


def check_rows(table: pd.DataFrame) -> pd.DataFrame:
    filled = pd.DataFrame(
        {
            "run": table["run"].astype(str).to_numpy(),
            "name": table.get("name", table["run"]).astype(str).to_numpy(),
            "cv": table["cv"].to_numpy(dtype=float),
            "public": table["public"].to_numpy(dtype=float),
            "lineage": table["lineage"].to_numpy() if "lineage" in table else "",
            "group": table["group"].astype(str).to_numpy() if "group" in table else "",
            "cv_se": table["cv_se"].to_numpy(dtype=float) if "cv_se" in table else 0.0,
        }
    )
    if not np.isfinite(filled["cv"]).all() or np.isinf(filled["public"]).any():
        raise DataError("CV and public scores must be finite numbers", got="one that is not")
    if filled["run"].duplicated().any():
        twice = sorted(set(filled.loc[filled["run"].duplicated(), "run"]))
        raise DataError("a candidate comes twice", got=", ".join(twice))
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
            "not enough evidence: all public scores are equal", got=f"{scored.iloc[0]:g}"
        )
    return filled


def check_history(history: pd.DataFrame | None) -> pd.DataFrame:
    if history is None:
        return pd.DataFrame(columns=["cv", "public", "private"])
    return history.dropna(subset=["cv", "public", "private"]).reset_index(drop=True)


def build_predictors(table: pd.DataFrame, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Intercept, CV within its group in SDs, and a column per group where there are several;
    with the precision and mean of the prior of their coefficients."""
    cv, groups = table["cv"].to_numpy(dtype=float), table["group"]
    scored = np.isfinite(y)
    level = pd.Series(cv).groupby(groups.to_numpy()).transform("mean").to_numpy(dtype=float)
    inside = cv - level
    inside = inside * _reliability(table, inside)
    spread = float(np.sqrt(np.mean(inside[scored] ** 2)))
    slope = inside / spread if spread > 0 else inside
    of_groups = [(groups == name).to_numpy(dtype=float) for name in np.unique(groups.to_numpy())]
    of_groups = of_groups if len(of_groups) > 1 else []
    sd = float(np.std(y[scored], ddof=1))
    x = np.column_stack([np.ones(len(cv)), slope, *of_groups])
    precision = np.array([0, (SLOPE_SD * sd) ** -2, *(sd**-2 for _ in of_groups)])
    return x, precision, np.array([0, SLOPE_MEAN * sd, *(0.0 for _ in of_groups)])


def _reliability(table: pd.DataFrame, cv: Floats) -> Floats:
    """How much of each CV score's distance to the mean is no noise: 1 where no SE is known.

    Source: regression calibration, Carroll et al. (2006), chapter 4.
    """
    noise = np.nan_to_num(table["cv_se"].to_numpy(dtype=float)) ** 2
    real = max(float(np.mean(cv**2) - noise.mean()), 0.1 * float(np.mean(cv**2)))
    return np.asarray(real / (real + noise) if real > 0 else np.ones(len(cv)))


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
