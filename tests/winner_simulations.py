"""Simulated tables of arms with known effects: what the winner shows, is said to be worth, and is.

python tests/winner_simulations.py prints the tables of docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.study.contrasts import build_block
from birdlab.study.shrinkage import EffectPrior, fit_effects
from birdlab.study.winner import Winner, weigh_arms

Floats = npt.NDArray[np.float64]
ERROR_SD, N_FOLDS = 0.006, 5
"""The SD of the error of one arm's mean, and the folds it is a mean of."""


@dataclass(frozen=True)
class Outcome:
    """Means over studies of what winners show, are worth by us, by a known scatter, and in truth.

    inside: the share of studies whose interval holds the truth.
    """

    shown: float
    by_luck: float
    expected: float
    by_known: float
    true: float
    inside: float

    @property
    def left(self) -> float:
        """The part of the winner's luck that is still in what it is said to be worth."""
        return (self.expected - self.true) / (self.shown - self.true)


def draw_study(
    rng: np.random.Generator,
    n_arms: int,
    scatter: float,
    base_scatter: float = 0.0,
    unequal: float = 1.0,
) -> tuple[Floats, Floats]:
    """Fold means [base and arms, fold] and true scores [base and arms]; the base is first.

    The noise of every second arm, from the second one on, is `unequal` times that of the others.
    """
    true = np.concatenate([rng.normal(0, base_scatter, 1), rng.normal(0, scatter, n_arms)])
    noise = rng.normal(0, ERROR_SD * np.sqrt(N_FOLDS), (n_arms + 1, N_FOLDS))
    noise[2::2] *= unequal
    return true[:, None] + rng.normal(0.8, 0.02, N_FOLDS) + noise, true


def find_winner(
    means: Floats, base: int, *, picked: bool = False, lab: EffectPrior | None = None
) -> Winner:
    """What is said of the winner of fold means [arm, fold]."""
    names = [str(row) for row in range(len(means))]
    block = build_block(means, names, names[base])
    contrasts = {name: block.contrast(name) for name in names if name != names[base]}
    table = pd.DataFrame(means, index=names)
    winner = weigh_arms(contrasts, table, names[base], picked=picked, lab=lab).winner
    assert winner is not None
    return winner


def simulate(
    scatters: Sequence[float],
    n_arms: int,
    *,
    seed: int,
    picked: bool = False,
    lab_effects: int = 0,
    unequal: float = 1.0,
) -> Outcome:
    """A study for each true scatter.

    With `lab_effects`, of other sweeps of 3 arms each: there bases scatter as arms do.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for scatter in scatters:
        lab = _draw_lab(rng, lab_effects, scatter) if lab_effects else None
        means, true = draw_study(rng, n_arms, scatter, scatter if lab_effects else 0.0, unequal)
        means, true = (means[1:], true[1:]) if picked else (means, true)
        scores = means.mean(axis=1)
        best = int(scores.argmax()) if picked else 1 + int(scores[1:].argmax())
        found = find_winner(means, best if picked else 0, picked=picked, lab=lab)
        assert found.arm == str(best)
        over = true.mean() if picked else true[0]
        worth, kept = found.worth, scatter**2 / (scatter**2 + ERROR_SD**2)
        middle = 0.0 if picked or lab_effects else scores[1:].mean() - scores[0]
        by_known = middle + kept * (found.shown - middle)
        inside = worth.low <= true[best] - over <= worth.high
        rows.append(
            (found.shown, found.by_luck, worth.expected, by_known, true[best] - over, inside)
        )
    return Outcome(*(float(value) for value in np.mean(rows, axis=0)))


def _draw_lab(rng: np.random.Generator, n: int, scatter: float) -> EffectPrior | None:
    """The prior from `n` effects of other sweeps, each of 3 arms and a base of its own."""
    effects, ses, dfs, groups = [], [], [], []
    for sweep in range(n // 3):
        means, _ = draw_study(rng, 3, scatter, scatter)
        block = build_block(means, ["base", "a", "b", "c"], "base")
        for arm in "abc":
            found = block.contrast(arm)
            effects.append(found.delta)
            ses.append(found.se)
            dfs.append(float(found.df))
            groups.append(sweep)
    return fit_effects(np.array(effects), np.array(ses), np.array(dfs), groups=groups)


def draw_scatters(n: int, seed: int) -> list[float]:
    """True scatters whose share of noise is anything from 0 to 1 alike."""
    share = np.random.default_rng(seed).uniform(0.02, 1, n)
    return list(ERROR_SD * np.sqrt((1 - share) / share))


def _lines(n: int) -> Iterator[tuple[str, Outcome]]:
    for picked in (False, True):
        base = "picked" if picked else "control"
        for arms in (4, 10, 40):
            for scatter in (0.0, 0.002, 0.004, 0.008):
                seed = arms * 1000 + round(scatter * 1000)
                found = simulate([scatter] * n, arms, seed=seed, picked=picked)
                yield f"{base} | {arms} | {scatter:.3f} | own", found
            found = simulate(draw_scatters(n, arms), arms, seed=arms, picked=picked)
            yield f"{base} | {arms} | any | own", found
    for arms in (1, 2, 3):
        for scatter in (0.0, 0.002, 0.004, 0.008):
            seed = arms * 1000 + round(scatter * 1000) + 7
            found = simulate([scatter] * n, arms, seed=seed, lab_effects=30)
            yield f"control | {arms} | {scatter:.3f} | 30 of the lab", found
    for arms in (4, 10):
        for unequal in (4.0, 0.25):
            found = simulate([0.004] * n, arms, seed=arms, unequal=unequal)
            yield f"control | {arms} | 0.004 | noise of every second arm x {unequal}", found


def main(n: int = 1000) -> None:
    """Print what winners show and are worth; errors of arms have the SD ERROR_SD, 5 folds."""
    print("base | arms | scatter | prior | shows | luck | we say | known | is worth | left | 95 %")
    for name, o in _lines(n):
        numbers = (o.shown, o.by_luck, o.expected, o.by_known, o.true)
        told = " | ".join(f"{value:+.4f}" for value in numbers)
        print(f"{name} | {told} | {100 * o.left:+.0f} % | {100 * o.inside:.1f} %", flush=True)


if __name__ == "__main__":
    main()
