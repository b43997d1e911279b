"""Which candidate to submit next: what each one promises, and what its public score would teach."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.study.pick import CENTRAL_80, expect_best, expect_higher
from birdlab.study.private_posterior import Posterior
from birdlab.words import count_words, list_some, name_apart

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
COLUMNS = ("run", "name", "cv", "mean", "low", "high", "public_mean", "promise", "teaches", "worth")
N_NODES = 9
NOTHING = 0.0002
"""What a submission gains, or has more than another, is called next to nothing below this."""
FINALISTS = 20
"""So many of the submitted candidates can become one of the final pair after one more score."""


def rank_next(post: Posterior) -> pd.DataFrame:
    """The candidates without a public score, the most worth submitting first, in COLUMNS.

    promise: by how much it is expected to beat the best submitted one, 0 where it is worse.
    teaches: by how much the expected best of the final pair rises, on average, once its public
    score is known and the pair is chosen anew, over choosing with it in the pool and its score
    unknown. worth: the same over the pair of today, which cannot hold it; teaches and what it
    adds to the pool. low and high: 80 % interval of its private score, public_mean: its public
    score as expected. Moments of the posterior are used, which lets all of them be compared
    quickly. Source: knowledge gradient, Frazier, Powell & Dayanik (2009).
    """
    submitted = np.flatnonzero(np.isfinite(post.public))
    others = np.flatnonzero(~np.isfinite(post.public))
    best = submitted[np.argsort(-post.mean[submitted], kind="stable")][:FINALISTS]
    now = _best_pair(post.mean[best][None], post.cov[np.ix_(best, best)])[0]
    pairs, rows = expect_best(post), []
    first = best[0]
    for place in others:
        pool = np.append(best, place)
        before, after = _value_of(post, pool, int(place))
        rows.append(
            {
                "run": post.table["run"].iloc[place],
                "name": post.table["name"].iloc[place],
                "cv": post.table["cv"].iloc[place],
                "mean": post.mean[place],
                "low": post.mean[place] - CENTRAL_80 * post.sd[place],
                "high": post.mean[place] + CENTRAL_80 * post.sd[place],
                "public_mean": post.public_mean[place],
                "promise": pairs[first, place] - post.mean[first],
                "teaches": after - before,
                "worth": after - now,
            }
        )
    return sort_worth(pd.DataFrame(rows, columns=list(COLUMNS)))


def sort_worth(table: pd.DataFrame) -> pd.DataFrame:
    """The candidates that `rank_next` found, the most worth submitting first."""
    return table.sort_values("worth", ascending=False, kind="stable").reset_index(drop=True)


def word_next(ranked: pd.DataFrame, n_submitted: int) -> tuple[str, ...]:
    """What `rank_next` says in sentences."""
    if ranked.empty:
        return (
            "Every candidate has a public score: there is nothing left to learn by submitting.",
        )
    first, names = ranked.iloc[0], name_apart(ranked["name"], ranked["run"])
    gain = f"the final pair is expected to gain {first['worth']:+.4f}"
    if first["worth"] < NOTHING:
        sentences = [
            f"Not enough evidence for a submission: with {names[0]}, the first of "
            f"{count_words(len(ranked), 'run')} without a score, {gain}: next to nothing."
        ]
    else:
        taught = f"of which {first['teaches']:.4f} by what its public score teaches"
        sentences = [f"Submit {names[0]} next: {gain}, {taught}."]
        as_good = np.flatnonzero(ranked["worth"] > first["worth"] - NOTHING)
        if len(as_good) > 1:
            sentences.append(
                f"The first {len(as_good)} are worth the same within {NOTHING:g}: "
                f"{list_some([names[place] for place in as_good])}."
            )
    place = int(ranked["promise"].to_numpy().argmax())
    if place:
        sentences.append(
            f"{names[place]} promises most: {ranked['promise'][place]:+.4f} over the best of the "
            f"{n_submitted} submitted."
        )
    sentences.append(
        "A submission that has a public score is not listed: the same models return the same score."
    )
    return tuple(sentences)


def _value_of(post: Posterior, pool: Ints, place: int) -> tuple[float, float]:
    """The expected best of the best pair of a pool before and, on average, after the public score
    of one of them; by Gauss-Hermite quadrature over that score."""
    mean, cov = post.mean[pool], post.cov[np.ix_(pool, pool)]
    before = float(_best_pair(mean[None], cov)[0])
    variance = float(post.public_var[place])
    if variance <= 0:
        return before, before
    pull = post.public_cov[pool, place] / np.sqrt(variance)
    nodes, weights = np.polynomial.hermite_e.hermegauss(N_NODES)
    left = cov - np.outer(pull, pull)
    after = _best_pair(mean + nodes[:, None] * pull, left)
    return before, max(before, float(weights @ after / weights.sum()))


def _best_pair(means: Floats, cov: Floats) -> Floats:
    """The expected best of the best pair for each row of means [m, p] with one covariance."""
    if means.shape[1] == 1:
        return means[:, 0]
    i, j = np.triu_indices(means.shape[1], 1)
    spread = np.sqrt(np.maximum(np.diag(cov)[i] + np.diag(cov)[j] - 2 * cov[i, j], 0))
    return np.asarray(expect_higher(means[:, i], means[:, j], spread[None]).max(axis=1))
