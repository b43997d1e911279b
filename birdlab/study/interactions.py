"""Whether the effect of one choice depends on another one: tables of rows x columns of arms.

Source: analysis of variance of a factorial in randomised blocks (folds): the interaction as a
contrast of four cell means, and over the whole table as an F test; Holm (1979) over contrasts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from birdlab.errors import DataError
from birdlab.study.contrasts import (
    EXACT,
    MIN_FOLDS,
    Contrast,
    Floats,
    arms_of_equal_variance,
    fold_means,
    residual,
)
from birdlab.study.judging import judge_holm
from birdlab.study.verdict_words import p_text

NAN = float("nan")
COLUMNS = ("row", "column", "mean", "effect", "interaction", "low", "high", "p")


@dataclass(frozen=True)
class Interaction:
    """What two choices say about each other.

    `table` has one line for each pair of values: row, column, mean; effect, the mean minus that of
    the first row in the same column; interaction, the effect minus the effect in the first
    column, with low, high and p (95 %, Holm over all of them). NaN in the first row and column,
    which the others are compared with; under 3 folds low, high and p are NaN everywhere.
    f and p: the test that effects are the same in all columns, NaN under 3 folds. `names`
    are the two choices.
    """

    names: tuple[str, str]
    table: pd.DataFrame
    f: float
    p: float
    n_folds: int
    sentences: tuple[str, ...]


def find_interactions(
    scores: pd.DataFrame, *, names: tuple[str, str] = ("row", "column"), alpha: float = 0.05
) -> Interaction:
    """The interaction of two choices; `scores` has columns row, column, fold, seed, score.

    Folds are blocks, seeds are averaged within a fold, and the residual variance is that of all
    combinations, as in `rank_arms`. Only (fold, seed) that all of them have count. The row and
    the column that come first in `scores` are what the others are compared with.
    Raises DataError where a combination has no scores, one occurs twice, they share no fold and
    seed, or there are fewer than two rows or columns.
    """
    means, rows, columns = _means(scores)
    n_folds = means.shape[2]
    sd, df = residual(means.reshape(-1, n_folds))
    mean = means.mean(axis=2)
    effect = mean - mean[0]
    interaction = effect - effect[:, :1]
    se = float(sd * np.sqrt(4 / n_folds))
    tested = [
        Contrast(f"{r},{c}", n_folds, float(interaction[r, c]), se, df, 0, False, sd)
        for r in range(1, len(rows))
        for c in range(1, len(columns))
    ]
    judged = judge_holm(tested, alpha) if n_folds >= MIN_FOLDS else {}
    lines = []
    for r, c in np.ndindex(*mean.shape):
        said = judged.get(f"{r},{c}")
        interval = (NAN, NAN, NAN) if said is None else (said.low, said.high, said.p)
        compared = (effect[r, c] if r else NAN, interaction[r, c] if r and c else NAN)
        lines.append((rows[r], columns[c], mean[r, c], *compared, *interval))
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    f, p = _f_test(mean, n_folds, sd, df)
    sentences = _sentences(table, names, p, alpha) if judged else [_too_few(names, n_folds)]
    sentences += _scatter(means, rows, columns)
    return Interaction(names, table, f, p, n_folds, tuple(sentences))


def sweep_interactions(
    entries: Mapping[str, Sequence[str]],
    points: Mapping[str, Mapping[str, str]],
    scores: pd.DataFrame,
) -> tuple[Interaction, ...]:
    """The interaction of every two entries of a grid, over the mean of its other entries.

    entries: the values of each entry in order; points: which of them each arm takes; scores:
    columns arm, fold, seed, score. Entries of one value are left out. Where a combination has no
    score, or all share no fold and seed, a sentence says so, and the table is empty. Nothing is
    said of a grid with conditions, in which entries do not meet everywhere.
    """
    asked = [entry for entry, values in entries.items() if len(values) > 1]
    crossed = pd.DataFrame.from_dict(dict(points), orient="index").reindex(columns=list(entries))
    if crossed[asked].isna().any(axis=None):
        return ()
    shared = scores.groupby(["fold", "seed"])["arm"].transform("nunique") == len(crossed)
    found = []
    for row, column in combinations(asked, 2):
        others = [e for e in asked if e not in (row, column)]
        n_full = len(crossed[others].drop_duplicates()) if others else 1
        sizes = crossed.groupby([row, column]).size()
        n_cells = len(entries[row]) * len(entries[column])
        if len(sizes) < n_cells or (sizes < n_full).any() or not shared.any():
            found.append(_incomplete((row, column)))
            continue
        cells = scores[shared]
        cells = cells.assign(
            row=pd.Categorical(cells["arm"].map(crossed[row]), entries[row]),
            column=pd.Categorical(cells["arm"].map(crossed[column]), entries[column]),
        )
        grouped = cells.groupby(["row", "column", "fold", "seed"], observed=True)
        averaged = grouped["score"].mean().reset_index()
        named = averaged.astype({"row": str, "column": str})
        found.append(find_interactions(named, names=(row, column)))
    return tuple(found)


def _means(scores: pd.DataFrame) -> tuple[Floats, list[str], list[str]]:
    """Fold means [rows, columns, folds] over what all combinations share, and their labels."""
    rows, columns = (list(dict.fromkeys(scores[c])) for c in ("row", "column"))
    if min(len(rows), len(columns)) < 2:
        raise DataError(
            "an interaction needs two rows and two columns",
            got=f"{len(rows)} rows, {len(columns)} columns",
        )
    twice = scores[scores.duplicated(["row", "column", "fold", "seed"])]
    if len(twice):
        raise DataError("a combination has two scores of one cell", got=dict(twice.iloc[0]))
    cells = scores.pivot(index=["row", "column"], columns=["fold", "seed"], values="score")
    cells = cells.reindex(pd.MultiIndex.from_product([rows, columns])).sort_index(axis=1)
    missing = cells.index[cells.isna().all(axis=1)]
    if len(missing):
        raise DataError("a combination has no scores", got=", ".join(map(str, missing[0])))
    shared = cells.dropna(axis=1)
    if shared.shape[1] == 0:
        raise DataError("the combinations share no fold and seed")
    return fold_means(shared).to_numpy().reshape(len(rows), len(columns), -1), rows, columns


def _f_test(mean: Floats, n_folds: int, sd: float, df: int) -> tuple[float, float]:
    """F and p of no interaction in the table of means; NaN under 3 folds.

    Without any scatter every interaction is sure: p is 0, or 1 (and F NaN) where there is none.
    """
    if n_folds < MIN_FOLDS:
        return NAN, NAN
    rest = mean - mean.mean(axis=0) - mean.mean(axis=1, keepdims=True) + mean.mean()
    if sd == 0:
        return (np.inf, 0.0) if np.abs(rest).max() > EXACT else (NAN, 1.0)
    between = (mean.shape[0] - 1) * (mean.shape[1] - 1)
    f = float(n_folds * (rest**2).sum() / between / sd**2)
    return f, float(special.fdtrc(between, df, f))


def _sentences(table: pd.DataFrame, names: tuple[str, str], p: float, alpha: float) -> list[str]:
    contrasts = table[table["interaction"].notna()]
    effects = table.set_index(["row", "column"])["effect"]
    rows, columns = table["row"].iloc[0], table["column"].iloc[0]
    said = [
        _contrast_sentence(line, effects, rows, columns, alpha)
        for line in contrasts.to_dict("records")
    ]
    if len(said) == 1:
        return said
    real = [text for text, sure in zip(said, contrasts["p"] < alpha, strict=True) if sure]
    depends = "depends" if p < alpha else "is not shown to depend"
    place = "Over the whole table the" if real and p >= alpha else "The"
    test = f"F test, p {p_text(p)}" + ("; single differences are" if real and p >= alpha else "")
    return [f"{place} effect of {names[0]} {depends} on {names[1]} ({test}).", *real]


def _contrast_sentence(
    line: Mapping[Hashable, Any], effects: pd.Series[float], row: str, column: str, alpha: float
) -> str:
    here, there = effects[line["row"], line["column"]], effects[line["row"], column]
    meaning = "is real" if line["p"] < alpha else "may be noise"
    return (
        f"{line['row']} instead of {row} changes the score by {there:+.4f} with {column} and by "
        f"{here:+.4f} with {line['column']}; the difference of the two, {line['interaction']:+.4f} "
        f"({line['low']:+.4f} to {line['high']:+.4f}), {meaning}."
    )


def _too_few(names: tuple[str, str], n_folds: int) -> str:
    folds = "1 common fold" if n_folds == 1 else f"{n_folds} common folds"
    return (
        f"Whether the effect of {names[0]} depends on {names[1]}: no verdict on {folds}, "
        f"it takes {MIN_FOLDS}."
    )


def _scatter(means: Floats, rows: Sequence[str], columns: Sequence[str]) -> list[str]:
    """A warning for each combination whose folds scatter unlike those of the others."""
    flat = means.reshape(-1, means.shape[2])
    alike = set(arms_of_equal_variance(flat, keep=None))
    odd = [divmod(i, len(columns)) for i in range(len(flat)) if i not in alike]
    return [
        f"{rows[r]} with {columns[c]} scatters unlike the others, which widens every interval."
        for r, c in odd
    ]


def _incomplete(names: tuple[str, str]) -> Interaction:
    text = (
        f"{names[0]} and {names[1]}: nothing is said, since not every combination has a score of "
        "the same fold and seed."
    )
    return Interaction(names, pd.DataFrame(columns=list(COLUMNS)), NAN, NAN, 0, (text,))
