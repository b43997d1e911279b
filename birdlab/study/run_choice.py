"""Which runs a page offers that looks into the stored outputs of runs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from birdlab.spec.diff import NO_CHANGE
from birdlab.study.tables import StudyTables

NO_OUTPUTS = (
    "No run has stored outputs yet: train one with birdlab run. A line of a ledger has none."
)
MOST_JUDGES = 6


def runs_with_cells(tables: StudyTables) -> pd.DataFrame:
    """The runs of which cells are in the lab, the newest first; lines of a ledger are not."""
    cells = tables.cells[tables.cells["cell_id"].fillna("").astype(str) != ""]
    runs = tables.runs[tables.runs["run"].isin(set(cells["run"]))]
    return runs.iloc[::-1].reset_index(drop=True)


def name_runs(runs: pd.DataFrame) -> dict[str, str]:
    """A name that no other run has for each run: its own, with the start of its id where two
    are called the same or nothing."""
    twice = runs["name"].duplicated(keep=False) | (runs["name"] == "")
    return {
        str(run): f"{name} {run[:6]}".strip() if shared else str(name)
        for run, name, shared in zip(runs["run"], runs["name"], twice, strict=True)
    }


def run_options(runs: pd.DataFrame, names: dict[str, str]) -> list[dict[str, str]]:
    """What a drop-down offers: each run by its name with its CV, as label and value."""
    return [
        {"label": names[run] + ("" if cv != cv else f" ({cv:.4f})"), "value": run}
        for run, cv in zip(runs["run"], runs["cv/padded_cmap"].astype(float), strict=True)
    ]


def list_judges(runs: pd.DataFrame, own: Sequence[str]) -> list[str]:
    """The newest runs scored on the rows of the first of `own`, without these, at most 6."""
    others = alike(runs, own[0])
    return [str(run) for run in others["run"] if run not in own][-MOST_JUDGES:]


def alike(runs: pd.DataFrame, run: str) -> pd.DataFrame:
    """The other runs scored on the rows, classes and folds of `run`, in their order."""
    own = runs[runs["run"] == run].iloc[0]
    same = runs["run"] != run
    for column in ("rows_hash", "classes_hash", "n_folds"):
        same &= runs[column] == own[column]
    return runs[same]


def pick_known(wanted: str, known: Sequence[str]) -> str:
    """What is wanted where it is known, else the first that is; "" where there is none."""
    return wanted if wanted in known else known[0] if known else ""


def newest_peer(runs: pd.DataFrame, run: str) -> str:
    """The newest run without a delta among those scored as `run` was, else the newest of them;
    "" where there is none."""
    peers = alike(runs, run)
    bases = peers[peers["delta"] == NO_CHANGE]
    return pick_known("", list((bases if len(bases) else peers)["run"]))
