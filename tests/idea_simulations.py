"""Ideas whose effects are known: is the interval over bases right, does re-opening find gains?

`python tests/idea_simulations.py` prints the tables that docs/ideas.md shows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from birdlab.study.contrasts import Floats
from birdlab.study.meta_analysis import random_effects, settle_errors
from birdlab.study.prospects import fit_spread, foresee

SEED = 9
ERROR, DF = 0.008, 10
"""The SD of a verdict's error, and the degrees of freedom that it is known from."""
MEAN = 0.01


def draw_verdicts(
    rng: np.random.Generator, mean: float, tau: float, k: int
) -> tuple[Floats, Floats, Floats]:
    """True effects on k bases, what was seen of them, and the standard errors as estimated."""
    errors = ERROR * rng.uniform(0.5, 1.5, k)
    true = rng.normal(mean, tau, k)
    return true, rng.normal(true, errors), errors * np.sqrt(rng.chisquare(DF, k) / DF)


def cover(k: int, tau: float, n: int, seed: int = SEED) -> dict[str, float]:
    """How often the 95 % intervals of an idea on k bases hold its mean, and a new base's effect."""
    rng = np.random.default_rng([seed, k, round(tau * 1e6)])
    rows = []
    for _ in range(n):
        _, seen, ses = draw_verdicts(rng, MEAN, tau, k)
        found = random_effects(seen, settle_errors(ses, np.full(k, DF)))
        new = rng.normal(MEAN, tau)
        naive = abs(found.mean - MEAN) < 1.96 / np.sqrt((1 / ses**2).sum())
        rows.append(
            (
                found.low < MEAN < found.high,
                found.predict_low < new < found.predict_high,
                naive,
                found.high - found.low,
                found.low > 0,
                found.tau_low <= tau <= found.tau_high,
            )
        )
    names = ("mean", "new base", "equal effects", "width", "found", "tau held")
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def reopen(
    n_ideas: int, scatter: float, tau: float, n: int, *, taken: int = 5, seed: int = SEED
) -> dict[str, float]:
    """The mean gain on a new base of the best of the first `taken` ideas of each order.

    Every third idea was tried on two bases, the rest on one. An idea is worth its effect on the new
    base, where that is above 0. `all`: in the order of the truth.
    """
    rng = np.random.default_rng([seed, n_ideas, round(scatter * 1e6), round(tau * 1e6)])
    sums: dict[str, list[float]] = {}
    for _ in range(n):
        means = rng.normal(0, scatter, n_ideas)
        drawn = [draw_verdicts(rng, m, tau, 2 if i % 3 == 0 else 1) for i, m in enumerate(means)]
        gains = [seen for _, seen, _ in drawn]
        ends = np.cumsum([len(own) for own in gains])
        raw = np.concatenate([se for _, _, se in drawn])
        ses = np.split(settle_errors(raw, np.full(len(raw), DF)), ends[:-1])
        truth = rng.normal(means, tau)
        spread = fit_spread(gains, ses)
        assert spread is not None
        ahead = [foresee(y, se, spread).worth for y, se in zip(gains, ses, strict=True)]
        orders = {
            "worth": np.array(ahead),
            "seen": np.array([y.mean() for y in gains]),
            "random": rng.random(n_ideas),
            "all": truth,
        }
        for name, score in orders.items():
            first = np.argsort(score)[::-1][:taken]
            sums.setdefault(name, []).append(float(np.maximum(truth[first], 0).mean()))
        for name, promised in (("worth", ahead), ("seen", orders["seen"])):
            top = np.maximum(np.sort(promised)[-taken:], 0)
            sums.setdefault(f"{name} promised", []).append(float(top.mean()))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def main() -> None:
    """Print the tables of docs/ideas.md."""
    rows = [
        {"bases": k, "tau": tau, **cover(k, tau, 4000)}
        for tau in (0.0, 0.005, 0.01, 0.02)
        for k in (2, 3, 5, 10)
    ]
    print(f"mean {MEAN}, error SD {ERROR} x 0.5..1.5, {DF} df, 4000 ideas a row, seed {SEED}")
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    kept = [
        {"ideas": n, "scatter": s, "tau": t, **reopen(n, s, t, 1000)}
        for n in (12, 40)
        for s, t in ((0.01, 0.005), (0.01, 0.01), (0.005, 0.01), (0.01, 0.02))
    ]
    print(f"\ngain of the first 5 re-opened, 1000 labs a row, seed {SEED}")
    print(pd.DataFrame(kept).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
