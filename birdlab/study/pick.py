"""Which two submissions to choose as the final ones: the pair with the highest expected best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from birdlab.errors import DataError
from birdlab.study.private_posterior import Posterior
from birdlab.words import list_some, name_apart

Floats = npt.NDArray[np.float64]
N_DRAWS = 4000
PARTED = 0.9
"""Two candidates are told apart when one is better with this probability."""
CENTRAL_80 = 1.2816


@dataclass(frozen=True, eq=False)
class Pick:
    """The chosen candidates, the expected best private score among them, and all of them.

    table: run, name, cv, public, mean, low, high (80 % interval of the private score), chance (to
    be the best of all), picked; the highest mean first. compared: choice, runs, expected_best,
    of this pick and of the highest by public and by CV. unparted: the runs that cannot be told
    from the first.
    """

    pair: tuple[str, ...]
    expected_best: float
    table: pd.DataFrame
    compared: pd.DataFrame
    unparted: tuple[str, ...]
    sentences: tuple[str, ...]


def pick_two(post: Posterior, n: int = 2) -> Pick:
    """The two candidates (or 1 to 5, `n`) with the highest expected best private score.

    For two it is exact over all pairs; a third and more are added one by one over joint draws.
    Raises DataError for fewer candidates than are to be picked, or an `n` beyond 1 to 5.
    """
    if not 1 <= n <= 5 or n > len(post.mean):
        raise DataError(
            "so many cannot be picked", got=n, expected=f"1 to {min(5, len(post.mean))}"
        )
    draws = draw_private(post)
    values = expect_best(post)
    chosen = _choose(values, draws, n)
    winners = np.bincount(draws.argmax(axis=1), minlength=len(post.mean)) / len(draws)
    rank = np.argsort(-post.mean, kind="stable")
    table = post.table[["run", "name", "cv", "public"]].assign(
        mean=post.mean,
        low=post.mean - CENTRAL_80 * post.sd,
        high=post.mean + CENTRAL_80 * post.sd,
        chance=winners,
        picked=np.isin(np.arange(len(post.mean)), chosen),
    )
    compared = _compare(post, values, draws, chosen)
    unparted = _unparted(post, draws, rank)
    return Pick(
        tuple(post.table["run"].iloc[chosen]),
        float(compared["expected_best"].iloc[0]),
        table.iloc[rank].reset_index(drop=True),
        compared,
        tuple(post.table["run"].iloc[unparted]),
        _word_pick(post, chosen, compared, unparted, winners),
    )


def expect_best(post: Posterior) -> Floats:
    """The expected higher of the private scores of each two candidates: [n, n], the mean of one
    on the diagonal."""
    values = np.zeros_like(post.cov)
    for weight, mean, cov in zip(post.weights, post.means, post.covs, strict=True):
        variance = np.diag(cov)
        spread = np.sqrt(np.maximum(variance[:, None] + variance - 2 * cov, 0))
        values += weight * expect_higher(mean[:, None], mean[None], spread)
    return values


def expect_higher(a: Floats, b: Floats, spread: Floats) -> Floats:
    """The expected higher of two jointly normal numbers of means a and b, `spread` being the SD
    of their difference (0 gives the higher mean). Source: Clark (1961), Operations Research 9."""
    gap = a - b
    apart = np.where(spread > 0, spread, 1.0)
    z = gap / apart
    higher = b + gap * special.ndtr(z) + apart * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(np.where(spread > 0, higher, np.maximum(a, b)))


def draw_private(post: Posterior, n_draws: int = N_DRAWS, *, seed: int = 0) -> Floats:
    """Joint draws [n_draws, n] of the private scores; the same for the same seed."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_draws, post.weights / post.weights.sum())
    parts = []
    for count, mean, cov in zip(counts, post.means, post.covs, strict=True):
        if count:
            values, vectors = np.linalg.eigh(cov)
            root = vectors * np.sqrt(np.maximum(values, 0))
            parts.append(mean + rng.normal(size=(count, len(mean))) @ root.T)
    return np.concatenate(parts)


def top_by(score: Floats, n: int) -> npt.NDArray[np.int64]:
    """The places of the n highest scores, the first of equal ones; NaN never."""
    order = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")
    return np.asarray(order[: min(n, int(np.isfinite(score).sum()))], dtype=np.int64)


def _choose(values: Floats, draws: Floats, n: int) -> npt.NDArray[np.int64]:
    """The places of the chosen, the one with the highest mean first."""
    if n == 1:
        return np.array([int(np.diag(values).argmax())])
    pairs = np.where(np.eye(len(values), dtype=bool), -np.inf, values)
    chosen = [int(place) for place in np.unravel_index(int(pairs.argmax()), pairs.shape)]
    while len(chosen) < n:
        best = draws[:, chosen].max(axis=1, keepdims=True)
        gains = np.maximum(draws, best).mean(axis=0)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
    return np.array(sorted(chosen, key=lambda place: -values[place, place]))


def _compare(
    post: Posterior, values: Floats, draws: Floats, chosen: npt.NDArray[np.int64]
) -> pd.DataFrame:
    choices = {
        "pick": chosen,
        "highest public": top_by(post.public, len(chosen)),
        "highest CV": top_by(post.table["cv"].to_numpy(dtype=float), len(chosen)),
    }
    rows = [
        {
            "choice": choice,
            "runs": tuple(post.table["run"].iloc[places]),
            "names": tuple(post.table["name"].iloc[places]),
            "expected_best": _expected(values, draws, places),
        }
        for choice, places in choices.items()
        if len(places)
    ]
    return pd.DataFrame(rows)


def _expected(values: Floats, draws: Floats, places: npt.NDArray[np.int64]) -> float:
    if len(places) <= 2:
        return float(values[places[0], places[-1]])
    return float(draws[:, places].max(axis=1).mean())


def _unparted(post: Posterior, draws: Floats, rank: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first and those that it is not better than with a probability of 90 %, by their means."""
    first = rank[0]
    better = (draws[:, [first]] > draws).mean(axis=0)
    return np.array([place for place in rank if place == first or better[place] < PARTED])


def _word_pick(
    post: Posterior,
    chosen: npt.NDArray[np.int64],
    compared: pd.DataFrame,
    unparted: npt.NDArray[np.int64],
    winners: Floats,
) -> tuple[str, ...]:
    names = name_apart(post.table["name"], post.table["run"])
    found = compared["expected_best"]
    told = " and ".join(names[place] for place in chosen)
    picked = set(compared["runs"][0])
    against = [
        f"the {row.choice} would be the same"
        if set(row.runs) == picked
        else f"with the {row.choice} at {row.expected_best:.4f}"
        for row in compared.iloc[1:].itertuples()
    ]
    best = "the best of them" if len(chosen) > 1 else "it"
    sentences = [
        f"Pick {told}: {best} is expected at {found[0]:.4f}; {', '.join(against)}.",
        f"The best of all {len(names)} is among them with a probability of "
        f"{100 * winners[chosen].sum():.0f} %.",
    ]
    if len(unparted) > 1:
        listed = list_some([names[place] for place in unparted])
        sentences.append(
            f"Not enough evidence to part the first {len(unparted)}: {listed}. The first is better "
            f"than each of the others with a probability of less than {100 * PARTED:.0f} %."
        )
    return tuple(sentences)
