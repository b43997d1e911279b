"""What is known of the private score of each candidate from CV, public scores and their noise.

Candidate i has an ability θ_i, the expectation of its private score. CV predicts it with a slope
and leaves a deviation; the public score adds noise of its own, and so does the private one:

    public_i  = θ_i + e_i         θ_i = intercept + slope · CV_i + group + d_i
    private_i = θ_i + f_i         var d = σ² t,   var e = σ² (1 - t),   var f = var e · p / (1 - p)

t is the part of the deviation that is real, p the public share of the files. Alike submissions (of
one lineage, or with alike outputs) share a part of d, e and f. CV and public scores alone tell σ,
the slope and what is shared, and nothing of t: that comes from past private scores, from a given
or measured noise, or from a prior that is stated. All of them are averaged over, not plugged in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.board_evidence import Floats
from birdlab.study.board_model import BoardModel, Component, fit_board

__all__ = ["BoardModel", "Component", "Posterior", "fit_board", "posterior"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """The private scores of n candidates: mean [n] and cov [n, n], the moments of a mixture.

    weights [G], means [G, n] and covs [G, n, n] are its normal parts. public: [n] the scores that
    are known, NaN elsewhere; public_mean and public_var [n]: of the public score that a candidate
    without one would get; public_cov [n, n]: of each private score (row) with it (column).
    """

    table: pd.DataFrame
    mean: Floats
    cov: Floats
    weights: Floats
    means: Floats
    covs: Floats
    public: Floats
    public_mean: Floats
    public_var: Floats
    public_cov: Floats

    @property
    def sd(self) -> Floats:
        """The SD [n] of each private score."""
        return np.asarray(np.sqrt(np.diag(self.cov)))


def posterior(model: BoardModel, candidates: Sequence[str] | None = None) -> Posterior:
    """The private scores of the candidates (runs of the model's table; all by default).

    Every public score of the table is conditioned on, also those of rows that are no candidates.
    Scores are on the scale of the public board: an offset that all share moves no choice. Raises
    DataError for a run that the table does not have.
    """
    at = _places(model, candidates)
    kept = np.union1d(at, np.flatnonzero(np.isfinite(model.y)))
    inner, inner_at = _narrow(model, kept), np.searchsorted(kept, at)
    weights = np.array([part.weight for part in model.components])
    rows = [_condition(inner, part, inner_at) for part in model.components]
    means, covs, public_means, public_vars, crosses = (np.stack(c) for c in zip(*rows, strict=True))
    mean, public_mean = weights @ means, weights @ public_means
    off, public_off = means - mean, public_means - public_mean
    cov = np.tensordot(weights, covs, 1) + (weights[:, None] * off).T @ off
    cross = np.tensordot(weights, crosses, 1) + (weights[:, None] * off).T @ public_off
    public_var = weights @ (public_vars + public_off**2)
    return Posterior(
        model.table.iloc[at].reset_index(drop=True),
        mean + model.centre,
        cov,
        weights,
        means + model.centre,
        covs,
        model.y[at] + model.centre,
        public_mean + model.centre,
        public_var,
        cross,
    )


def _condition(
    model: BoardModel, part: Component, at: Ints
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Of one component: mean and covariance of private; mean, variance and cross of public.

    What an outlying submission has more than usual is its own: the noise of all is alike.
    """
    scored, odds = np.isfinite(model.y), model.public_share / (1 - model.public_share)
    alike = (1 - part.shared) * np.eye(len(model.y)) + part.shared * model.likeness
    wide = np.sqrt(np.maximum(model.width**2 - (1 - part.trust), 0))
    real = part.variance * alike * wide[:, None] * wide
    noise = part.variance * (1 - part.trust) * alike
    known = np.linalg.inv((real + noise)[np.ix_(scored, scored)])
    own, public = real[np.ix_(at, scored)], (real + noise)[np.ix_(at, scored)]
    follow, follow_public = own @ known, public @ known
    x, x_scored = model.x[at], model.x[scored]
    rest = model.y[scored] - x_scored @ part.beta
    tied, free = x - follow @ x_scored, x - follow_public @ x_scored
    both = np.ix_(at, at)
    return (
        x @ part.beta + follow @ rest,
        real[both] - follow @ own.T + tied @ part.cov @ tied.T + odds * noise[both],
        x @ part.beta + follow_public @ rest,
        np.diag((real + noise)[both])
        - np.einsum("ij,ij->i", follow_public, public)
        + np.einsum("ij,jk,ik->i", free, part.cov, free),
        real[both] - follow @ public.T + tied @ part.cov @ free.T,
    )


def _narrow(model: BoardModel, kept: Ints) -> BoardModel:
    """The model with these rows only: those without a score that are not asked for say nothing."""
    return replace(
        model,
        table=model.table.iloc[kept],
        x=model.x[kept],
        y=model.y[kept],
        likeness=model.likeness[np.ix_(kept, kept)],
        width=model.width[kept],
    )


def _places(model: BoardModel, candidates: Sequence[str] | None) -> Ints:
    """The rows of the candidates."""
    places = {str(run): place for place, run in enumerate(model.table["run"])}
    if candidates is None:
        return np.arange(len(places))
    unknown = [run for run in candidates if run not in places]
    if unknown:
        raise DataError(
            "a candidate is not among the runs of the model",
            got=", ".join(unknown),
            expected="runs that have a CV score that compares",
        )
    return np.array([places[run] for run in candidates], dtype=np.int64)
