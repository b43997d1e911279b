"""Which verdicts on one idea count, and what those that share a base say together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from birdlab.study.contrasts import MIN_FOLDS

SHARED = 0.5
"""The correlation of two differences to one base, where all arms scatter alike."""


def mark_verdicts(effects: pd.DataFrame, by: str) -> pd.DataFrame:
    """The effects with `gain` and `left_out`: the effect in the idea's own direction, and why a
    verdict does not count, "" for one that does.

    by: the column that says which effects are of one kind. Not counted are effects in another
    metric than most, arms that differ in nothing, verdicts on fewer than 3 folds, those against a
    control that was picked by its score, and of two that compare the same cells the one with fewer
    of them, of equal ones the older.
    """
    marked = effects.copy()
    marked["gain"] = marked["effect"] * marked["sign"]
    few = marked["se"].isna() | (marked["n_folds"] < MIN_FOLDS)
    usual = marked["metric"].mode()
    odd = ~marked["metric"].isin(usual.head(1))
    marked["left_out"] = np.select(
        [odd, marked["sign"] == 0, marked["chosen"].astype(bool), few],
        [
            "it is in another metric",
            "it differs from its control in nothing",
            "its control was picked by its score",
            f"it has under {MIN_FOLDS} folds",
        ],
        default="",
    )
    for _, same in marked[marked["left_out"] == ""].groupby(by, sort=False):
        repeats = _find_repeats(same)
        marked.loc[repeats, "left_out"] = "another verdict compares the same cells"
    return marked


def _find_repeats(verdicts: pd.DataFrame) -> list[object]:
    """The index of verdicts whose cells another one compares as well."""
    size = verdicts["cells"].map(len)
    order = (
        verdicts.assign(size=size).sort_values(["size", "decided_at"], kind="stable").index[::-1]
    )
    kept: list[tuple[set[str], set[str]]] = []
    repeats: list[object] = []
    for at in order:
        with_it, without = _sides(verdicts.loc[at])
        if any(with_it & one and without & other for one, other in kept):
            repeats.append(at)
        else:
            kept.append((with_it, without))
    return repeats


def _sides(verdict: pd.Series) -> tuple[set[str], set[str]]:
    """The cells with the idea and those without it."""
    sides = set(verdict["cells"]), set(verdict["base_cells"])
    return sides if verdict["sign"] > 0 else sides[::-1]


def join_bases(verdicts: pd.DataFrame) -> pd.DataFrame:
    """A row per base: gain, se, df, data, competition, verdicts (their index), of counted verdicts.

    Verdicts share a base where they share a run or a cell, on either side. Their mean, weighted by
    precision, counts once, as if any two correlated by .5.
    """
    rows = []
    for group in _share(verdicts):
        own = verdicts.loc[group]
        se = own["se"].to_numpy(dtype=float)
        weights = 1 / np.maximum(se, 1e-6) ** 2
        weights /= weights.sum()
        parts = weights * se
        variance = (1 - SHARED) * (parts**2).sum() + SHARED * parts.sum() ** 2
        newest = own.sort_values("decided_at", kind="stable").iloc[-1]
        gain = float(weights @ own["gain"].to_numpy(dtype=float))
        row = {"gain": gain, "se": float(np.sqrt(variance)), "verdicts": tuple(group)}
        row |= {name: newest[name] for name in ("data", "competition", "floor", "split_folds")}
        rows.append(row | {"df": int(own["df"].max())})
    names = ["gain", "se", "df", "verdicts", "data", "competition", "floor", "split_folds"]
    return pd.DataFrame(rows, columns=names)


def _share(verdicts: pd.DataFrame) -> list[list[object]]:
    """The index in groups that are linked by what they share, in the order of the first of each."""
    groups: list[tuple[set[str], list[object]]] = []
    for at, verdict in verdicts.iterrows():
        tokens = {*verdict["cells"], *verdict["base_cells"], verdict["run"], verdict["base_run"]}
        linked = [group for group in groups if group[0] & tokens]
        joined = (tokens.union(*(own for own, _ in linked)), [*_flat(linked), at])
        groups = [group for group in groups if group not in linked] + [joined]
    return sorted((members for _, members in groups), key=lambda members: str(members[0]))


def _flat(groups: Iterable[tuple[set[str], list[object]]]) -> list[object]:
    return [member for _, members in groups for member in members]
