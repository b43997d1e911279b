"""Two runs whose folds cross: the difference on the pieces where each has one model.

A piece is what one fold of the base and one fold of the arm have in common, so that within it one
model of each speaks, and neither had heard the recordings. On whole folds of the base several
models of the arm would be ranked together, which costs it score for no fault of its own: runs of
equal skill are then called worse in up to 37 % of simulated studies. All pieces of one fold share a
model, so that pieces are no repeats. What models add is therefore estimated for both sides.
Source: two-way random effects without repeats, var(mean) = (MS_rows + MS_columns - MS_rest) / n;
degrees of freedom by Satterthwaite (1946), Biometrics Bulletin 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from birdlab.study.contrasts import EXACT, MIN_FOLDS, Floats
from birdlab.study.verdict_words import p_text

NAN = float("nan")


@dataclass(frozen=True)
class CrossedVerdict:
    """The difference of an arm to the base over pieces, with its interval and verdict.

    mean_base, mean: of the scores of pieces; p and interval allow for all arms (Bonferroni). The
    verdict is better, worse, undecided, or no verdict under three folds of either, or where
    folds that have nothing in common leave pieces empty. It is never `within noise`: scores of
    pieces lie closer together than those of folds.
    """

    arm: str
    mean_base: float
    mean: float
    delta: float
    low: float
    high: float
    p: float
    verdict: str
    n_folds: tuple[int, int]
    n_empty: int

    def sentence(self, base: str) -> str:
        """It in words."""
        n_base, n_arm = self.n_folds
        on = f"on the pieces of {n_base} by {n_arm} folds"
        text = f"{self.arm}: {self.delta:+.4f} against {base} {on}"
        if self.n_empty:
            return f"{text}, of which {self.n_empty} are empty: no verdict."
        if np.isnan(self.p):
            return f"{text}: no verdict under {MIN_FOLDS} folds of each."
        interval = f"({self.low:+.4f} to {self.high:+.4f}), p {p_text(self.p)}"
        return f"{text} {interval}: {self.verdict}."


def judge_crossed(
    arm: str, base_scores: Floats, arm_scores: Floats, *, n_arms: int = 1, alpha: float = 0.05
) -> CrossedVerdict:
    """The verdict from the scores of pieces, [folds of the base, folds of the arm] each.

    Seeds are averaged before; NaN stands for a piece without recordings.
    """
    deltas = arm_scores - base_scores
    empty = int(np.isnan(deltas).sum())
    delta, p, half = float(np.nanmean(deltas)), NAN, NAN
    if not empty and min(deltas.shape) >= MIN_FOLDS:
        se, df = mean_error(deltas)
        level = alpha / n_arms
        t = abs(delta) / se if se > EXACT else (np.inf if abs(delta) > EXACT else 0.0)
        p = min(1.0, 2 * float(special.stdtr(df, -t)) * n_arms)
        half = float(special.stdtrit(df, 1 - level / 2)) * se
    verdict = "no verdict" if np.isnan(p) else "undecided"
    if p < alpha:
        verdict = "better" if delta > 0 else "worse"
    return CrossedVerdict(
        arm,
        float(np.nanmean(base_scores)),
        float(np.nanmean(arm_scores)),
        delta,
        delta - half,
        delta + half,
        p,
        verdict,
        (deltas.shape[0], deltas.shape[1]),
        empty,
    )


def mean_error(table: Floats) -> tuple[float, float]:
    """The standard error of the mean of a two-way table, and its degrees of freedom.

    Rows and columns are both drawn, as the models of two runs are. The variance is never taken
    below that of the rest alone, nor the degrees of freedom below those of the fewer folds.
    """
    n_rows, n_columns = table.shape
    rows = table.mean(axis=1) - table.mean()
    columns = table.mean(axis=0) - table.mean()
    rest = table - table.mean() - rows[:, None] - columns
    free = np.asarray([n_rows - 1, n_columns - 1, (n_rows - 1) * (n_columns - 1)], float)
    squares = np.asarray(
        [n_columns * (rows**2).sum(), n_rows * (columns**2).sum(), (rest**2).sum()]
    )
    of_rows, of_columns, of_rest = squares / free
    total = of_rows + of_columns - of_rest
    if total <= of_rest:
        return float(np.sqrt(of_rest / table.size)), float(free[2])
    df = total**2 / ((np.asarray([of_rows, of_columns, of_rest]) ** 2) / free).sum()
    return float(np.sqrt(total / table.size)), max(float(df), float(free[:2].min()))
