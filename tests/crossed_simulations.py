"""Runs of equal skill that were split otherwise: how often they are told apart, and how.

`python tests/crossed_simulations.py` prints the table of docs/estimators.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator

from birdlab.evaluate.estimators import Evidence, estimate
from birdlab.evaluate.evidence import FoldTable
from birdlab.spec.estimators import EstimatorSpec
from birdlab.study.compare import compare_runs
from birdlab.study.ranking import rank_arms
from birdlab.study.rescoring import build_estimator
from birdlab.study.run_tables import Cut, RunTables

N_ROWS, N_CLASSES, N_FOLDS = 500, 15, 5
CODES = tuple(f"species{i}" for i in range(N_CLASSES))
Array = np.ndarray[Any, Any]
NAMES = [f"recording{i}" for i in range(N_ROWS)]


def draw_run(
    name: str,
    split: Array,
    truth: Array,
    shared: Array,
    level: float,
    rng: Generator,
) -> RunTables:
    """A run of five models that know as much as any others of this function.

    Each model has a level of its own for each class (SD `level`, in logits) and a skill that
    varies a little; `shared` is how hard each recording is for everybody.
    """
    tables = {}
    for fold in range(N_FOLDS):
        held = np.flatnonzero(split == fold)
        skill = 2.2 + rng.normal(0, 0.4)
        logits = skill * truth[held] + shared[held] + rng.normal(0, 1, (len(held), N_CLASSES)) - 3
        logits += rng.normal(0, level, (1, N_CLASSES))
        probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
        names = tuple(NAMES[i] for i in held)
        primary = np.zeros(len(held), np.int64)
        tables[fold, 0] = FoldTable(names, CODES, primary, truth[held], probs)
    return RunTables(name, tables)


def simulate(
    n_draws: int, level: float, *, metric: EstimatorSpec, seed: int = 0
) -> dict[str, float]:
    """Shares of `n_draws` studies under no effect that find one.

    better, worse: by pieces; whole_better, whole_worse: on whole folds of the base, where several
    models of the other are ranked together; delta, whole_delta: the mean difference.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, float] = dict.fromkeys(
        ("better", "worse", "delta", "whole_better", "whole_worse", "whole_delta"), 0.0
    )
    for _ in range(n_draws):
        kinds = np.minimum(rng.geometric(0.12, N_ROWS) - 1, N_CLASSES - 1)
        truth = np.eye(N_CLASSES, dtype=bool)[kinds]
        shared = rng.normal(0, 0.7, truth.shape)
        a, b = (
            draw_run(name, rng.permutation(N_ROWS) % N_FOLDS, truth, shared, level, rng)
            for name in "ab"
        )
        (said,) = compare_runs([a, b], {}, metric=metric, n_draws=0).crossed
        found["delta"] += said.delta / n_draws
        if said.verdict in found:
            found[said.verdict] += 1 / n_draws
        whole = rank_arms(on_whole_folds(a, b, metric), base="a").table.set_index("arm").loc["b"]
        found["whole_delta"] += whole["delta"] / n_draws
        if f"whole_{whole['verdict']}" in found:
            found[f"whole_{whole['verdict']}"] += 1 / n_draws
    return found


def on_whole_folds(a: RunTables, b: RunTables, metric: EstimatorSpec) -> pd.DataFrame:
    """What `compare_runs` does not do: the other run's predictions on the folds of the base."""
    cut = Cut(b, b.homes(), CODES)
    tables = {
        cell: cut.table(table.recordings, cell[1], table.targets, table.primary)
        for cell, table in a.tables.items()
    }
    rows = [
        (name, fold, seed, score)
        for name, cells in (("a", a.tables), ("b", tables))
        for (fold, seed), score in estimate(metric, Evidence(cells)).cells.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])


def main() -> None:
    """Print the shares for models of more and less different levels."""
    print("level  metric        pieces: delta better  worse  whole folds: delta better  worse")
    for level in (0.0, 0.5, 1.0):
        for name in ("padded_cmap", "macro_auc"):
            found = simulate(500, level, metric=build_estimator(name))
            line = f"{level:5.1f}  {name:<12}"
            for way in ("", "whole_"):
                line += f"  {found[way + 'delta']:+18.4f}"
                line += f" {found[way + 'better']:6.3f} {found[way + 'worse']:6.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
