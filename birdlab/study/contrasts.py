"""One arm of an ablation against another: the paired difference and the noise it stands in.

Source: randomised block design; Cochran (1941) for the idea of testing one variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

Floats = npt.NDArray[np.float64]

MIN_FOLDS = 3
POWER = 0.8
UNEQUAL_P = 0.01
EXACT = 1e-12


@dataclass(frozen=True)
class Contrast:
    """One arm against the base on the cells both have.

    se and df: the standard error of `delta` and its degrees of freedom; residual_sd: the SD of one
    fold mean of one arm that neither arm nor fold explains; n_seeds: seeds of a fold (their
    harmonic mean over folds); repeat_sd, repeat_df: the SD of one cell about its fold mean, NaN
    (0) with one seed or where the arm stands alone; own_sd: `residual_sd` as this arm and the
    base alone give it.
    """

    arm: str
    n_folds: int
    delta: float
    se: float
    df: int
    left_out: int
    own_variance: bool
    residual_sd: float
    n_seeds: float = 1.0
    repeat_sd: float = float("nan")
    repeat_df: int = 0
    own_sd: float = float("nan")

    def alone(self) -> Contrast:
        """The same difference with the variance of these two arms, whatever the others do."""
        se = self.own_sd * np.sqrt(2 / self.n_folds)
        return replace(self, se=float(se), df=self.n_folds - 1, residual_sd=self.own_sd)


def fold_means(cells: pd.DataFrame) -> pd.DataFrame:
    """Arms × folds: the mean over the seeds of each fold in a table arms × (fold, seed)."""
    return cells.T.groupby(level="fold").mean().T


def build_contrasts(cells: pd.DataFrame, arms: Sequence[str], base: str) -> dict[str, Contrast]:
    """The contrast of each arm with the base; arms that have the same cells share a block."""
    there = dict(zip(cells.index, cells.notna().to_numpy(), strict=True))
    blocks: dict[bytes, Block] = {}
    contrasts: dict[str, Contrast] = {}
    for arm in arms:
        common = there[arm] & there[base]
        left_out = int((there[arm] ^ there[base]).sum())
        if not common.any():
            nan = float("nan")
            contrasts[arm] = Contrast(arm, 0, nan, nan, 0, left_out, False, nan)
            continue
        if common.tobytes() not in blocks:
            blocks[common.tobytes()] = _block_of_cells(cells.loc[:, common].dropna(), base)
        contrasts[arm] = blocks[common.tobytes()].contrast(arm, left_out)
    return contrasts


@dataclass(frozen=True, eq=False)
class Block:
    """Arms that have the same cells: their fold means, and which of them scatter alike."""

    means: Floats
    rows: dict[str, int]
    base: int
    alike: frozenset[int]
    residual: tuple[float, int]
    n_seeds: float = 1.0
    repeat: tuple[float, int] = (float("nan"), 0)

    def contrast(self, arm: str, left_out: int = 0) -> Contrast:
        """An arm of the block against its base."""
        pair = self.means[[self.rows[arm], self.base]]
        own_sd, own_df = residual(pair)
        own = self.rows[arm] not in self.alike
        sd, df = (own_sd, own_df) if own else self.residual
        n_folds, delta = pair.shape[1], float((pair[0] - pair[1]).mean())
        return Contrast(
            arm,
            n_folds,
            delta,
            float(sd * np.sqrt(2 / n_folds)),
            df,
            left_out,
            own,
            sd,
            self.n_seeds,
            *((float("nan"), 0) if own else self.repeat),
            own_sd,
        )


def build_block(means: Floats, names: Sequence[str], base: str) -> Block:
    """The block of arms whose fold means are `means` [arms, folds].

    Of arms that are equal in every fold one counts: a copy would make the scatter look known from
    more arms than there are.
    """
    rows = {arm: row for row, arm in enumerate(names)}
    twins = _first_equal(means, rows[base])
    distinct = sorted(set(twins))
    kept = arms_of_equal_variance(means[distinct], keep=distinct.index(rows[base]))
    counted = {distinct[i] for i in kept}
    alike = [row for row, twin in enumerate(twins) if twin in counted]
    scattered = sorted(counted) if len(counted) > 1 else alike
    return Block(means, rows, rows[base], frozenset(alike), residual(means[scattered]))


def _first_equal(means: Floats, base: int) -> list[int]:
    """For each row of [arms, folds] the base where it is equal to it, else the first equal row."""
    equal = np.abs(means[:, None] - means[None]).max(axis=2) < EXACT
    first = np.where(equal[:, base], base, equal.argmax(axis=1))
    return [int(row) for row in first]


def _block_of_cells(cells: pd.DataFrame, base: str) -> Block:
    means = fold_means(cells)
    counts = cells.columns.get_level_values("fold").value_counts().to_numpy()
    n_seeds = round(float(len(counts) / (1 / counts).sum()), 6)
    block = build_block(means.to_numpy(), list(means.index), base)
    alike = cells.iloc[sorted(block.alike)]
    distinct = alike.drop_duplicates()
    repeat = _repeat(distinct if len(distinct) > 1 else alike)
    return replace(block, n_seeds=n_seeds, repeat=repeat)


def _repeat(cells: pd.DataFrame) -> tuple[float, int]:
    """The SD of a cell about its fold's mean, without what a (fold, seed) gives all arms."""
    folds = cells.columns.get_level_values("fold")
    df = (len(cells) - 1) * (cells.shape[1] - folds.nunique())
    if df == 0:
        return float("nan"), 0
    paired = (cells - cells.mean()).T
    rest = (paired - paired.groupby(level="fold").transform("mean")).to_numpy()
    return float(np.sqrt((rest**2).sum() / df)), df


def residual(means: Floats) -> tuple[float, int]:
    """SD and degrees of freedom of what arm and fold leave unexplained in [arms, folds].

    (NaN, 0) for a single arm or fold.
    """
    df = (means.shape[0] - 1) * (means.shape[1] - 1)
    if df == 0:
        return float("nan"), 0
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    sd = float(np.sqrt((rest**2).sum() / df))
    return (0.0 if sd < EXACT else sd), df


def arms_of_equal_variance(means: Floats, keep: int | None) -> list[int]:
    """The rows of [arms, folds] whose scatter fits the others'; `keep`, the base, always stays.

    The arm whose differences to the mean of the others scatter most is left out while an F test
    says (p < .01 / arms) that it does not share their variance: a diverged arm would otherwise
    hide every difference between the sound ones. When it is the base that does not fit, no arm
    shares its variance, and each pair stands for itself.
    """
    inside = list(range(len(means)))
    while len(inside) >= 3 and means.shape[1] >= MIN_FOLDS:
        worst = inside[_most_apart(means[inside])]
        others = means[[i for i in inside if i != worst]]
        own = float(np.var(means[worst] - others.mean(axis=0), ddof=1)) / (1 + 1 / len(others))
        pooled, df = residual(others)
        ratio = own / pooled**2 if pooled > 0 else (np.inf if own > EXACT**2 else 0.0)
        p = float(special.fdtrc(means.shape[1] - 1, df, ratio))
        if p >= UNEQUAL_P / len(inside):
            break
        if worst == keep:
            return [keep]
        inside.remove(worst)
    return inside


def _most_apart(means: Floats) -> int:
    """The row of [arms, folds] whose scatter about the others is largest against theirs.

    With the residuals r of the two-way table and S the sum of their squares, that of row i about
    the others is as |r_i|^2, and the others' own S - n / (n - 1) |r_i|^2.
    """
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    own = (rest**2).sum(axis=1)
    others = np.maximum(own.sum() - own * len(means) / (len(means) - 1), 0)
    apart = np.divide(own, others, out=np.full(len(own), np.inf), where=others > 0)
    return int(np.argmax(np.where(own > 0, apart, 0)))
