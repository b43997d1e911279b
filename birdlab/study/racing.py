"""Racing: which arms of a sweep are so much worse than the base that more seeds are wasted on them.

After each complete round of folds an arm is tested against the base as the final verdict will
test it: fold means over the seeds so far, paired by fold, residual variance pooled over the arms
that share it, one-sided. Looking several times would stop far more equal arms than one test does,
so each look has the same lower level (Pocock 1977).

Source: Pocock (1977), Biometrika 64, for equal levels; Jennison and Turnbull (2000), Group
Sequential Methods, chapter 4, for p values of t statistics at such levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import special

from birdlab.durations import in_time
from birdlab.study.contrasts import EXACT, MIN_FOLDS, Floats, arms_of_equal_variance, residual
from birdlab.study.ranking import p_text

N_DRAWS = 200_000
MANY_DF = 32


@dataclass(frozen=True)
class Look:
    """One arm against the base on the fold means so far.

    delta: its mean minus that of the base; p: one-sided, small when the arm is worse; df: the
    degrees of freedom of the variance it was tested with.
    """

    delta: float
    p: float
    df: int


@dataclass(frozen=True)
class SeedRace:
    """The racing rule for runs of which `base` is the place of the one they are compared with.

    n_rounds: how many seeds are planned; level: the share of arms equal to the base that are
    stopped at most, over all looks together; first_look: after how many rounds it is asked first.
    The base is never stopped, and nobody is on fewer than three folds. What is said depends on
    the complete rounds only.
    """

    base: int
    n_rounds: int
    level: float = 0.05
    first_look: int = 1

    @property
    def n_looks(self) -> int:
        """How often the rule is asked: not after the last round, where the verdict speaks."""
        return max(self.n_rounds - self.first_look, 0)

    def losers(self, scores: pd.DataFrame, rounds: int) -> Mapping[int, str]:
        """The runs that are clearly worse than the base after `rounds` rounds, with the reason.

        scores: run, fold, seed, score (higher is better). A run that lacks a cell of the base
        is not judged. Empty before `first_look`, after the last round, and where the base lacks a
        cell.
        """
        cells = scores.pivot(index="run", columns=["fold", "seed"], values="score")
        if not self.first_look <= rounds < self.n_rounds or self.base not in cells.index:
            return {}
        of_base = cells.columns[cells.loc[self.base].notna()]
        full = cells[of_base].dropna()
        means = full.T.groupby(level="fold").mean().T
        if means.shape[1] < MIN_FOLDS or len(of_base) != means.shape[1] * rounds:
            return {}
        runs = list(means.index)
        looks = look_at(means.to_numpy(), runs.index(self.base))
        return {
            int(runs[place]): self._reason(look, rounds)
            for place, look in looks.items()
            if look.p < look_level(self.n_looks, look.df, self.level)
        }

    def _reason(self, look: Look, rounds: int) -> str:
        bound = look_level(self.n_looks, look.df, self.level)
        return (
            f"after round {rounds} of {self.n_rounds}: {look.delta:+.4f} against base "
            f"(one-sided p {p_text(look.p)}, bound {bound:.3f})"
        )

    @property
    def sentence(self) -> str:
        """The rule in words."""
        looks = "once" if self.n_looks == 1 else f"up to {self.n_looks} times"
        return (
            f"After a round of folds an arm that is clearly worse than the base gets no further "
            f"seed. Each arm is tested {looks}; of arms that equal the base at most "
            f"{100 * self.level:.3g} % are stopped."
        )


def look_at(means: Floats, base: int) -> dict[int, Look]:
    """Every arm but the base tested against it; means: [arms, folds], seeds averaged.

    The variance is that of all arms that share it; an arm which scatters unlike the others is
    tested with its own and the base's.
    """
    sharing = arms_of_equal_variance(means, keep=base)
    pooled = residual(means[sharing])
    looks: dict[int, Look] = {}
    for arm in range(len(means)):
        if arm == base:
            continue
        sd, df = pooled if arm in sharing else residual(means[[arm, base]])
        delta = float((means[arm] - means[base]).mean())
        se = sd * np.sqrt(2 / means.shape[1])
        statistic = (
            0.0 if abs(delta) < EXACT else delta / se if se > 0 else np.copysign(np.inf, delta)
        )
        looks[arm] = Look(delta, float(special.stdtr(df, statistic)), df)
    return looks


@lru_cache(maxsize=64)
def look_level(n_looks: int, df: int, level: float) -> float:
    """The p value under which an arm is stopped, so that equal arms are at most at `level`.

    Taken from N_DRAWS simulated races without a fold × arm component, in which the looks depend
    least on each other and so stop most; rounded down to three digits, so that the bound in a
    printed reason is the one used. From 32 degrees of freedom on the level for 32 is taken, which
    is a little strict. Levels of the normal distribution (.0304 for two looks, .0232 for three)
    would be too high for the few degrees of freedom of a few folds.
    """
    if n_looks == 1:
        return level
    rng = np.random.default_rng(0)
    df = min(df, MANY_DF)
    effect = _walk(rng, n_looks)
    variance = sum(_walk(rng, n_looks) ** 2 for _ in range(df)) / df
    p = special.stdtr(df, effect / np.sqrt(variance))
    return float(np.floor(1000 * np.quantile(p.min(axis=1), level)) / 1000)


def _walk(rng: np.random.Generator, n_looks: int) -> Floats:
    return rng.standard_normal((N_DRAWS, n_looks)).cumsum(axis=1)


@dataclass(frozen=True)
class Saved:
    """What a race saved: arms stopped of all, cells not trained of all that were planned.

    seconds: what those cells would have taken at the mean of the arm's own cells, NaN if unknown.
    """

    n_stopped: int
    n_arms: int
    n_cells: int
    n_planned: int
    seconds: float

    @property
    def sentence(self) -> str:
        """It in words."""
        if not self.n_stopped:
            return f"Racing stopped none of {self.n_arms} arms."
        share = 100 * self.n_cells / self.n_planned
        time = "" if np.isnan(self.seconds) else f", about {in_time(self.seconds)} of training"
        return (
            f"Racing stopped {self.n_stopped} of {self.n_arms} arms and saved {self.n_cells} of "
            f"{self.n_planned} cells ({share:.0f} %){time}."
        )


def saved_cells(cells: pd.DataFrame, planned: Mapping[str, int]) -> Saved:
    """What a race saved of the `planned` number of cells of each arm, the base included.

    cells: arm, seconds (NaN where not known) of every finished cell of these arms. An arm with
    fewer cells than planned was stopped.
    """
    finished = cells.groupby("arm")["seconds"].agg(["size", "mean"]).reindex(list(planned))
    asked = pd.Series(planned)
    lacking = (asked - finished["size"].fillna(0)).clip(lower=0)
    stopped = lacking > 0
    seconds = float((lacking * finished["mean"])[stopped].sum(skipna=False))
    return Saved(int(stopped.sum()), len(planned), int(lacking.sum()), int(asked.sum()), seconds)
