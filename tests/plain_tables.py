"""The tables of docs/statistics_plain.md: small simulations of known truth, by birdlab's own code.

python tests/plain_tables.py prints them; a few seconds, always the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from simulations import FOLD_ARM_SD, SEED_SD, draw_scores, found_share, judge_studies
from winner_simulations import ERROR_SD, simulate

from birdlab.evaluate.metrics import constant_floor
from birdlab.study.cvlb_correlations import formula_interval

N = 2_000
"""Simulated studies for each row."""


def equal_rows() -> Iterator[str]:
    """Two equal recipes: how far apart they look, and how often a verdict is wrong."""
    yield "| folds x seeds | look .005 apart or more | look .01 apart or more | verdict wrong |"
    yield "|---|---|---|---|"
    for folds, seeds in ((1, 1), (3, 1), (5, 1), (5, 3)):
        means = draw_scores(np.random.default_rng(folds + seeds), N, [0, 0], folds, seeds).mean(-1)
        apart = np.abs(np.diff(means.mean(axis=-1), axis=1))
        wrong = f"{100 * found_share(judge_studies(means)):.0f} %" if folds > 2 else "none is given"
        far = " | ".join(f"{100 * (apart >= gap).mean():.0f} %" for gap in (0.005, 0.01))
        yield f"| {folds} x {seeds} | {far} | {wrong} |"


def paired_rows() -> Iterator[str]:
    """The SD of the difference of two equal recipes, on the same folds and on others."""
    rng = np.random.default_rng(0)
    first, second = (draw_scores(rng, N, [0, 0], 5, 1)[..., 0].mean(axis=-1) for _ in range(2))
    yield "| two equal recipes, 5 folds, 1 seed | SD of the difference |"
    yield "|---|---|"
    yield f"| each on folds of its own | {np.std(first[:, 0] - second[:, 1]):.4f} |"
    yield f"| both on the same folds | {np.std(first[:, 0] - first[:, 1]):.4f} |"


def best_rows() -> Iterator[str]:
    """The best of some equal arms: what it shows, what birdlab says, and what it is worth."""
    yield "| equal arms | the best shows | `expected` says | it is worth |"
    yield "|---|---|---|---|"
    for arms in (4, 10, 20, 40):
        found = simulate([0.0] * 500, arms, seed=arms)
        yield f"| {arms} | {found.shown:+.4f} | {found.expected:+.4f} | {found.true:+.4f} |"


def many_rows() -> Iterator[str]:
    """How often one of some equal arms passes a test at 5 %, and birdlab's."""
    yield "| equal arms beside the base | one of them passes a plain 5 % test | birdlab's verdict |"
    yield "|---|---|---|"
    for arms in (1, 3, 10):
        scores = draw_scores(np.random.default_rng(arms), N, [0.0] * (arms + 1), 5, 2).mean(-1)
        gaps = scores[:, 1:] - scores[:, :1]
        t = gaps.mean(axis=-1) / (gaps.std(axis=-1, ddof=1) / np.sqrt(5))
        plain = (np.abs(t) > 2.776).any(axis=1).mean()
        yield f"| {arms} | {100 * plain:.0f} % | {100 * found_share(judge_studies(scores)):.0f} % |"


def floor_rows() -> Iterator[str]:
    """The padded cmAP of a model that says the same of everything."""
    yield "| species | recordings of each | floor |"
    yield "|---|---|---|"
    for species, each in ((12, 5), (12, 20), (12, 100), (200, 5), (200, 20)):
        targets = np.repeat(np.eye(species, dtype=bool), each, axis=0)
        yield f"| {species} | {each} | {constant_floor(targets):.3f} |"


def correlation_rows() -> Iterator[str]:
    """The 95 % interval of a Spearman correlation of .7 that some submissions show."""
    yield "| submissions | Spearman | 95 % interval |"
    yield "|---|---|---|"
    for n in (8, 10, 20, 60, 200):
        low, high = formula_interval("spearman", 0.7, n)
        yield f"| {n} | +.70 | {low:+.2f} to {high:+.2f} |"


if __name__ == "__main__":
    print(f"SD of a seed {SEED_SD}, of recipe by fold {FOLD_ARM_SD}; error of an arm {ERROR_SD}")
    for rows in (equal_rows, paired_rows, best_rows, many_rows, floor_rows, correlation_rows):
        print(f"\n{rows.__doc__}\n")
        print("\n".join(rows()))
