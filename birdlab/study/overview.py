"""What ran in a lab, what runs, what is best so far, what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from birdlab.cellfiles import CARD
from birdlab.durations import in_time
from birdlab.lab import Lab
from birdlab.recorded import load_json
from birdlab.study.activity import Activity, when_words
from birdlab.study.tables import COMPARABLE, FLOORS, StudyTables, cv_columns
from birdlab.words import count_words

SCORE = "cv/padded_cmap"
"""What is shown where any run has it; else another CV score that runs have."""
NEWEST = 50
"""How many runs are listed."""


@dataclass(frozen=True, eq=False)
class Overview:
    """A lab as its first page shows it.

    `metric`: the CV score that is shown. `best`: for each set of runs that compare, the largest
    first: project, recordings, classes, folds, runs, best, score, floor, run. `progress`: at,
    score, best, name of the runs of the largest set in the order of time. `cost`: hardware, cells,
    hours; `saved`: a sentence on cells that were not trained again. `newest`: runs, the newest
    first.
    """

    metric: str
    project: str
    projects: list[str]
    answer: str
    best: pd.DataFrame
    progress: pd.DataFrame
    cost: pd.DataFrame
    saved: str
    newest: pd.DataFrame
    activity: Activity


def build_overview(
    tables: StudyTables, activity: Activity, unscored: pd.DataFrame, project: str = ""
) -> Overview:
    """The overview of a lab, or of one project of it; "" and a project that is none mean all.

    unscored: as `load_unscored` gives them.
    """
    projects = sorted(set(tables.runs["project"]))
    project = project if project in projects else ""
    runs = tables.runs[tables.runs["project"] == project] if project else tables.runs
    cells = tables.cells[tables.cells["run"].isin(runs["run"])]
    metric = next((name for name in (SCORE, *cv_columns(runs)) if runs[name].notna().any()), SCORE)
    best, groups = _best(runs, metric)
    progress = _progress(groups[0], metric) if groups else pd.DataFrame()
    cost, saved = _cost(cells, unscored.iloc[:0] if project else unscored)
    return Overview(
        metric,
        project,
        projects,
        " ".join(
            filter(
                None,
                (activity.sentence, _best_sentence(best, metric, activity), _cost_sentence(cost)),
            )
        ),
        best,
        progress,
        cost,
        saved,
        _newest(runs, metric),
        activity,
    )


def _best(runs: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The best run of each set of runs that compare, and the sets, the largest first."""
    scored = runs[runs[metric].notna()]
    groups = [group for _, group in scored.groupby(list(COMPARABLE), sort=False)]
    groups.sort(key=len, reverse=True)
    rows = []
    for group in groups:
        best = group.loc[group[metric].idxmax()]
        rows.append(
            {
                "project": ", ".join(sorted(set(group["project"]))),
                "recordings": best["n_rows"],
                "classes": best["n_classes"],
                "folds": best["n_folds"],
                "runs": len(group),
                "best": best["name"] or best["run"],
                metric: best[metric],
                **({"floor": best[FLOORS[metric]]} if metric in FLOORS else {}),
                "run": best["run"],
            }
        )
    return pd.DataFrame(rows), groups


def _progress(group: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each run of a set and the best until then, in the order of time."""
    ordered = group.sort_values("created_at", kind="stable")
    return pd.DataFrame(
        {
            "at": [str(at) for at in ordered["created_at"]],
            "score": ordered[metric].to_numpy(),
            "best": ordered[metric].cummax().to_numpy(),
            "name": [n or r for n, r in zip(ordered["name"], ordered["run"], strict=True)],
        }
    )


def _cost(cells: pd.DataFrame, unscored: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Hours of training by hardware, each cell once, and what was not trained twice."""
    known = cells[["cell_id", "seconds", "device"]]
    once = known.drop_duplicates("cell_id")
    if len(unscored):
        once = pd.concat([once, unscored], ignore_index=True)
    timed = once[once["seconds"].notna()]
    by = timed.assign(device=timed["device"].fillna("unknown")).groupby("device")["seconds"]
    cost = by.agg(["size", "sum"]).reset_index()
    cost = pd.DataFrame(
        {"hardware": cost["device"], "cells": cost["size"], "hours": cost["sum"] / 3600}
    ).sort_values("hours", ascending=False)
    again = known[known.duplicated("cell_id")]
    if again.empty:
        return cost, ""
    seconds = float(again["seconds"].sum())
    return cost, (
        f"{count_words(len(again), 'cell')} of runs that share them with others: "
        f"{in_time(seconds)} that nobody had to train again."
    )


def find_unscored(lab: Lab, scored: pd.DataFrame) -> list[Path]:
    """The cards of finished cells that no run scores, such as those of a pretraining stage.

    scored: the cells of runs, as in StudyTables.
    """
    known = set(scored["cell_id"])
    return sorted(p for p in lab.cells.glob(f"[!.]*/{CARD}") if p.parent.name not in known)


def load_unscored(cards_at: Iterable[Path]) -> pd.DataFrame:
    """cell_id, seconds and device of the cells with these cards."""
    cards = [load_json(path) for path in cards_at]
    rows = [(c["cell_id"], c.get("seconds"), c.get("device")) for c in cards if "cell_id" in c]
    return pd.DataFrame(rows, columns=["cell_id", "seconds", "device"])


def _best_sentence(best: pd.DataFrame, metric: str, activity: Activity) -> str:
    if best.empty:
        begun = len(activity.running) or len(activity.ended) or len(activity.unfinished)
        first = "" if begun else ": begin with birdlab run experiments/baseline.yaml"
        return f"No run has a score yet{first}."
    top = best.iloc[0]
    sets = "" if len(best) == 1 else f" of the largest of {len(best)} sets that compare"
    floor = f" (floor {top['floor']:.4f})" if "floor" in best else ""
    return (
        f"Best of {count_words(int(top['runs']), 'run')}{sets}: {top['best']}, "
        f"{metric.removeprefix('cv/')} {top[metric]:.4f}{floor}."
    )


def _cost_sentence(cost: pd.DataFrame) -> str:
    if cost.empty:
        return ""
    n_cells, seconds = int(cost["cells"].sum()), 3600 * float(cost["hours"].sum())
    return f"{count_words(n_cells, 'cell')} took {in_time(seconds)} of training."


def _newest(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    newest = runs.iloc[::-1].head(NEWEST)
    return pd.DataFrame(
        {
            "when": [when_words(str(at)) for at in newest["created_at"]],
            "name": newest["name"],
            "changes": newest["delta"].where(newest["delta"] != newest["name"], ""),
            metric: newest[metric],
            **({"floor": newest[FLOORS[metric]]} if metric in FLOORS else {}),
            "folds": newest["n_folds"],
            "seeds": newest["n_seeds"],
            "state": newest["status"],
            "project": newest["project"],
            "run": newest["run"],
        }
    )
