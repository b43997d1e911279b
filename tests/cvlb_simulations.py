"""Simulated ledgers of known correlation, for tests; as a script it prints the tables of the docs.

python tests/cvlb_simulations.py [studies]
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.study.cvlb_bands import cut_band
from birdlab.study.cvlb_correlations import correlate_scores
from birdlab.study.cvlb_estimators import shuffle_best
from birdlab.study.cvlb_groups import pool_within
from birdlab.study.cvlb_order import pair_runs, resolve
from birdlab.study.cvlb_resamples import draw_counts
from birdlab.study.cvlb_words import judge_top

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
N_DRAWS = 500
SETTINGS = [(n, rho) for n in (20, 60) for rho in (0.0, 0.5, 0.8)]


def truth(kind: str, rho: float) -> float:
    """The correlation of one kind in a bivariate normal whose Pearson is `rho`."""
    of_kind = {
        "spearman": 6 / np.pi * np.arcsin(rho / 2),
        "kendall": 2 / np.pi * np.arcsin(rho),
        "pearson": rho,
    }
    return float(of_kind[kind])


def draw_pairs(
    rng: np.random.Generator, n: int, rho: float, *, lineages: Ints | None = None, icc: float = 0.0
) -> tuple[Floats, Floats]:
    """CV and leaderboard of `n` runs whose Pearson is `rho`; lineages share `icc` of both."""
    own = rng.normal(size=(2, n))
    if lineages is not None:
        own = np.sqrt(1 - icc) * own + np.sqrt(icc) * rng.normal(size=(2, n))[:, lineages]
    return own[0], rho * own[0] + np.sqrt(1 - rho**2) * own[1]


def coverage(
    kind: str,
    n: int,
    rho: float,
    n_studies: int,
    *,
    lineages: Ints | None = None,
    icc: float = 0.0,
    seed: int = 0,
) -> tuple[float, float, float]:
    """In what share of the studies the intervals hold the truth: formula, runs, lineages."""
    rng, true = np.random.default_rng(seed), truth(kind, rho)
    held = np.zeros(3)
    for _ in range(n_studies):
        x, y = draw_pairs(rng, n, rho, lineages=lineages, icc=icc)
        found = correlate_scores(kind, x, y, lineages, n_draws=N_DRAWS)
        ends = [
            (found.low, found.high),
            (found.boot_low, found.boot_high),
            (found.cluster_low, found.cluster_high),
        ]
        held += [low <= true <= high for low, high in ends]
    formula, runs, whole = held / n_studies
    return float(formula), float(runs), float(whole)


def resolution_coverage(n: int, rho: float, n_studies: int) -> tuple[float, float]:
    """The true resolution, and in what share of the studies its interval holds it."""
    rng = np.random.default_rng(0)
    pairs = pair_runs(*draw_pairs(rng, 2000, rho))
    shares = np.cumsum(pairs.right) / np.arange(1, len(pairs.gaps) + 1)
    true = float(pairs.gaps[np.flatnonzero(shares >= 0.8)[-1]])
    counts = draw_counts(np.arange(n), N_DRAWS)
    held = 0
    for _ in range(n_studies):
        found = resolve(pair_runs(*draw_pairs(rng, n, rho)), counts)[0]
        held += found.low <= true <= found.high
    return true, held / n_studies


def within_coverage(sizes: tuple[int, ...], rho: float, n_studies: int) -> tuple[float, float]:
    """How often the pooled interval within groups far apart holds the truth: formula, lineages."""
    rng, held = np.random.default_rng(0), np.zeros(2)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(n_studies):
        x, y = draw_pairs(rng, len(groups), rho)
        table = pd.DataFrame({"cv": x + 5 * groups, "lb": y - 5 * groups, "family": groups})
        found = pool_within(table, ["family"])
        true = truth("spearman", rho)
        held += [
            found["low"] <= true <= found["high"],
            found["boot_low"] <= true <= found["boot_high"],
        ]
    return float(held[0] / n_studies), float(held[1] / n_studies)


def judge_tops(n: int, rho: float, n_studies: int) -> dict[str, float]:
    """What is said of the top quarter of studies in which CV ranks top and field alike."""
    rng, said = np.random.default_rng(0), []
    for _ in range(n_studies):
        x, y = draw_pairs(rng, n, rho)
        said.append(judge_top(cut_band(pd.DataFrame({"cv": x, "lb": y}), "cv", "top quarter")))
    return {word: said.count(word) / n_studies for word in ("ranked", "open", "not ranked")}


def fit_columns(n_columns: int, n_kept: int, n_runs: int, n_studies: int) -> float:
    """The median Pearson of random scores and the mean of the columns kept for fitting them."""
    rng, found = np.random.default_rng(0), []
    for _ in range(n_studies):
        columns, lb = rng.normal(size=(n_columns, n_runs)), rng.normal(size=n_runs)
        order = np.argsort([-np.corrcoef(column, lb)[0, 1] for column in columns])
        found.append(np.corrcoef(columns[order[:n_kept]].mean(axis=0), lb)[0, 1])
    return float(np.median(found))


def main(n_studies: int) -> None:
    print("coverage: kind, n, rho, formula, resamples of runs")
    for kind in ("spearman", "kendall", "pearson"):
        for n, rho in SETTINGS:
            formula, runs, _ = coverage(kind, n, rho, n_studies)
            print(f"{kind:9} {n:3} {rho:.1f}  {formula:.3f} {runs:.3f}")
    print("lineages of 5 runs that share half: lineages, rho, formula, runs, lineages")
    for k in (6, 12, 24):
        for rho in (0.0, 0.5):
            lineages = np.repeat(np.arange(k), 5)
            held = coverage("spearman", 5 * k, rho, n_studies, lineages=lineages, icc=0.5)
            print(f"{k:3} {rho:.1f}  " + " ".join(f"{share:.3f}" for share in held))
    print("resolution: n, rho, true gap in SD of CV, coverage")
    for n, rho in ((20, 0.8), (60, 0.5), (60, 0.8), (108, 0.5)):
        true, held = resolution_coverage(n, rho, n_studies)
        print(f"{n:3} {rho:.1f}  {true:.2f} {held:.3f}")
    print("within groups of 20, 10, 5 and 5 runs: rho, formula, resamples")
    for rho in (0.0, 0.5, 0.8):
        print(f"{rho:.1f}", *(f"{v:.3f}" for v in within_coverage((20, 10, 5, 5), rho, n_studies)))
    print("the top quarter where CV ranks top and field alike: n, rho, said")
    for n, rho in ((60, 0.5), (108, 0.5), (108, 0.8), (200, 0.8)):
        said = judge_tops(n, rho, n_studies)
        print(f"{n:3} {rho:.1f} ", ", ".join(f"{word} {said[word]:.3f}" for word in said))
    print("best of k unrelated estimators by chance: n, k, mean, 95 %")
    for n in (12, 20, 60):
        for k in (2, 5, 10):
            estimators = np.random.default_rng(0).normal(size=(k, n))
            best = shuffle_best(estimators, np.arange(float(n)))
            print(f"{n:3} {k:3}  {best.mean():+.2f} {np.percentile(best, 95):+.2f}")
    print(f"11 of 60 columns that fit 20 scores best: {fit_columns(60, 11, 20, n_studies):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
