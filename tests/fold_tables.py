"""Out-of-fold tables of made-up runs, for what is studied of them."""

from __future__ import annotations

import numpy as np

from birdlab.evaluate.score import FoldTable

MOST = 1000
CODES = ("wren", "robin", "owl", "nobody")


def build_tables(
    n: int = 60,
    *,
    folds: int = 3,
    seeds: tuple[int, ...] = (0,),
    skill: float = 0.4,
    run: int = 0,
    codes: tuple[str, ...] = CODES,
    flip: bool = False,
) -> dict[tuple[int, int], FoldTable]:
    """A run over `n` recordings `r0`, `r1`, ...; the last class has no positive.

    Labels of a recording depend on its number alone, so that runs share them. `skill` is how far
    a label lifts its probability, `run` the noise, `flip` splits otherwise.
    """
    truth = np.random.default_rng(1)
    primary = truth.integers(0, len(codes) - 1, MOST)[:n]
    targets = np.zeros((n, len(codes)), bool)
    targets[np.arange(n), primary] = True
    also = truth.random(MOST)[:n] < 0.2
    targets[also, (primary[also] + 1) % (len(codes) - 1)] = True
    fold_of = np.arange(n) % folds if not flip else np.arange(n) * folds // n
    tables = {}
    for seed in seeds:
        noise = np.random.default_rng([run, seed]).random((n, len(codes)))
        probs = (0.5 * noise + skill * targets).astype(np.float32)
        for fold in range(folds):
            rows = np.flatnonzero(fold_of == fold)
            tables[fold, seed] = FoldTable(
                tuple(f"r{row}" for row in rows), codes, primary[rows], targets[rows], probs[rows]
            )
    return tables
