"""The arms of a sweep: what they are called, and which of their cells compare."""

from __future__ import annotations

import pandas as pd

from birdlab.study.chosen import chosen_of, mark_chosen


def name_arms(runs: pd.DataFrame, metric: str) -> dict[str, str]:
    """A name per run: its delta, else its name; the id beside it where that is not enough.

    Arms whose scores in `metric` are chosen ones are marked.
    """
    titles = [
        delta or f"{name} (base)" for delta, name in zip(runs["delta"], runs["name"], strict=True)
    ]
    twice = {title for title in titles if titles.count(title) > 1}
    names = [
        f"{title} [{run[:6]}]" if title in twice else title
        for run, title in zip(runs["run"], titles, strict=True)
    ]
    return dict(zip(runs["run"], mark_chosen(names, chosen_of(runs, metric)), strict=True))


def keep_equal_rows(cells: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The cells scored on as many rows as most others of their fold, and what was left out."""
    size = "soundscapes_n_windows" if metric.startswith("soundscapes_") else "n_rows"
    usual = cells.groupby("fold")[size].transform(lambda n: n.mode().iloc[0])
    odd = int((cells[size] != usual).sum())
    if not odd:
        return cells, []
    told = "1 cell" if odd == 1 else f"{odd} cells"
    kept = cells[cells[size] == usual]
    return kept, [f"Left out: {told} scored on other rows than the other arms."]
