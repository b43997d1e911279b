"""Scores of planned cells, from their stored outputs, and the name of all they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellfiles import CARD, outputs_folder, soundscapes_folder, synthetic_folder
from birdlab.cellplan import CellPlan
from birdlab.evaluate.deployed import count_rows
from birdlab.evaluate.estimators import estimate_all
from birdlab.evaluate.evidence import Evidence, FoldPlaces, FoldTable, Heard
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.score import (
    SYNTHETIC,
    deployed_windows,
    fold_table,
    score_apart,
    score_evidence,
    score_fold,
    score_fold_apart,
    score_soundscape_windows,
    score_soundscapes,
)
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.recorded import load_card
from birdlab.spec.identity import component_versions, digest
from birdlab.synthetic import TRUTH, load_synthetic


@dataclass(frozen=True, eq=False)
class ScoredCell:
    """One finished cell: its row of RunResult.cells, and what its scores come from."""

    row: dict[str, Any]
    table: FoldTable | None = None
    apart: FoldTable | None = None
    heard: dict[str, float] = field(default_factory=dict)
    windows: Heard | None = None
    synthetic: Heard | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Its fold and seed."""
        return self.row["fold"], self.row["seed"]


def score_cell(plan: Plan, cell: CellPlan, lab: Lab) -> ScoredCell:
    """A finished cell with its scores; one that was validated on nothing has a row alone."""
    card = load_card(lab, cell.cell_id)
    row: dict[str, Any] = {"fold": cell.fold, "seed": cell.seed, "cell_id": cell.cell_id}
    made = {key: card[key] for key in ("seconds", "device")}
    if cell.fold is None:
        return ScoredCell({**row, **made})
    stored = load_outputs(outputs_folder(lab, cell))
    given = (stored, plan.spec.output, plan.spec.evaluate, plan.spec.postprocess)
    table, halves = fold_table(*given), fold_table(*given, apart=True)
    windows = None if cell.soundscapes_id is None else _soundscape_windows(plan, cell, lab)
    heard = {} if windows is None else score_soundscape_windows(windows)
    synthetic = None
    if cell.synthetic_id is not None:
        synthetic = load_synthetic(synthetic_folder(lab, cell), plan.spec)
        heard |= score_soundscape_windows(synthetic, SYNTHETIC)
        made["synthetic_id"] = cell.synthetic_id
    row |= {"eval_id": cell.eval_id, **asdict(score_fold(table)), **score_fold_apart(halves)}
    return ScoredCell({**row, **heard, **made}, table, halves, heard, windows, synthetic)


def score_cells(plan: Plan, lab: Lab, seeds: Sequence[int]) -> pd.DataFrame:
    """fold, seed, score (padded cmAP) of the finished cells of some seeds of a run."""
    rows = [
        (c.fold, c.seed, score_cell(plan, c, lab).row["padded_cmap"])
        for c in plan.final_cells
        if c.seed in seeds and c.fold is not None
    ]
    return pd.DataFrame(rows, columns=["fold", "seed", "score"])


def score_together(
    plan: Plan, scored: Sequence[ScoredCell]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The scores of a run from all its cells, and their rows with what estimators say of each.

    No scores where nothing was validated.
    """
    tables = {s.key: s.table for s in scored if s.table is not None}
    if not tables:
        return {}, [s.row for s in scored]
    heard = {s.key: s.windows for s in scored if s.windows is not None}
    mixed = {s.key: s.synthetic for s in scored if s.synthetic is not None}
    new, places = new_recordings(plan.final_cells), fold_places(plan.final_cells)
    evidence = Evidence(tables, heard, new, mixed, places)
    apart = {s.key: s.apart for s in scored if s.apart is not None}
    scores = score_evidence(evidence) | score_apart(apart)
    if heard or mixed:
        scores |= score_soundscapes({s.key: s.heard for s in scored if s.heard})
    declared, of_cells = estimate_all(plan.spec.evaluate.estimators, evidence)
    return scores | declared, [{**s.row, **of_cells.get(s.key, {})} for s in scored]


def new_recordings(cells: Sequence[CellPlan]) -> dict[int, frozenset[str]]:
    """For each fold, the held-out recordings of people of whom no training row is.

    Rows of every stage that a cell goes back to count as training rows.
    """
    new: dict[int, frozenset[str]] = {}
    for fold, cell, held in _one_a_fold(cells):
        heard: set[str] = set()
        for node in cell.line:
            heard.update(node.rows.recordists[node.chosen])
        pairs = zip(cell.rows.names[held], cell.rows.recordists[held], strict=True)
        new[fold] = frozenset(str(name) for name, who in pairs if who not in heard)
    return new


def fold_places(cells: Sequence[CellPlan]) -> dict[int, FoldPlaces]:
    """For each fold, where its held-out recordings and those of its training rows were made.

    Rows of every stage that a cell goes back to count as training rows. Folds of whose held-out
    recordings no place is known are not in it.
    """
    found: dict[int, FoldPlaces] = {}
    for fold, cell, held in _one_a_fold(cells):
        places = cell.rows.places[held]
        known = ~np.isnan(places).any(axis=1)
        trained = [node.rows.places[np.unique(node.chosen)] for node in cell.line]
        heard = np.unique(np.concatenate(trained), axis=0)
        names = cell.rows.names[held][known]
        if known.any():
            found[fold] = FoldPlaces(
                {str(n): (a, b) for n, (a, b) in zip(names, places[known].tolist(), strict=True)},
                heard[~np.isnan(heard).any(axis=1)],
            )
    return found


def _one_a_fold(
    cells: Sequence[CellPlan],
) -> Iterator[tuple[int, CellPlan, npt.NDArray[np.int64]]]:
    """Each fold that holds rows out, the first of its cells, and these rows."""
    seen: set[int] = set()
    for cell in cells:
        if cell.fold is not None and cell.fold not in seen and cell.validation is not None:
            seen.add(cell.fold)
            yield cell.fold, cell, cell.validation


def _soundscape_windows(plan: Plan, cell: CellPlan, lab: Lab) -> Heard:
    """The truth and the deployed probabilities of the rows of soundscapes, [rows, classes] each.

    Files in order, rows in time.
    """
    assert plan.soundscapes is not None
    stored = load_outputs(soundscapes_folder(lab, cell))
    n_rows = count_rows(stored.windows)
    targets = plan.soundscapes.targets(n_rows, plan.data.classes, plan.spec.competition.window_s)
    return deployed_windows(stored, targets, plan.spec.output, plan.spec.postprocess)


def chosen_words(plan: Plan, cells: Sequence[CellPlan], lab: Lab) -> str:
    """How validation rows picked the weights of a run, from the cards of finished `cells`.

    "" where every cell keeps its last weights, as all did that were trained before cards said.
    """
    words = {
        (cell.stage.name, load_card(lab, cell.cell_id).get("chosen", "last")): None
        for cell in cells
        if cell.stage.train.is_steered
    }
    several = len(plan.spec.stages) > 1
    said = [f"{name}: {w}" if several else w for name, w in words if w != "last"]
    return "; ".join(said[:4]) + (f"; and {len(said) - 4} more" if len(said) > 4 else "")


def name_sources(plan: Plan, lab: Lab) -> str:
    """A hash over all that the scores of a run whose cells are finished depend on.

    That is the code that scores, the spec with its estimators, who made the recordings, and the
    very files that are read: one that was written anew or copied is another one, also with the same
    content. "" where a file is missing, and where labels of soundscapes count, which no file of a
    cell holds.
    """
    if plan.soundscapes is not None:
        return ""
    try:
        cells = [[c.fold, c.seed, c.cell_id, c.eval_id, *_stamps(lab, c)] for c in plan.cells]
    except OSError:
        return ""
    spec, estimators = plan.spec, list(plan.spec.evaluate.estimators)
    made_by = [rows.made_digest for rows in {id(c.rows): c.rows for c in plan.cells}.values()]
    declared = [estimators, component_versions(estimators, spec.postprocess), made_by]
    counted = [spec.output, spec.postprocess, spec.evaluate, list(spec.cells.seeds), cells]
    return digest([_scoring_code(), *counted, *declared], 32)


def _stamps(lab: Lab, cell: CellPlan) -> list[list[int]]:
    paths = [lab.cells / cell.cell_id / CARD]
    if cell.eval_id is not None:
        folder = outputs_folder(lab, cell)
        paths += [folder / "windows.parquet", folder / "recordings.parquet"]
    if cell.synthetic_id is not None:
        folder = synthetic_folder(lab, cell)
        paths += [folder / name for name in ("windows.parquet", f"{TRUTH}.parquet")]
    found = [path.stat() for path in paths]
    return [[s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in found]


@cache
def _scoring_code() -> str:
    """What names the code that makes scores from outputs, and the packages it counts on."""
    here = Path(__file__).parent
    beside = (here / "synthetic.py", here / "data" / "classes.py")
    files = [Path(__file__), *beside, *sorted(here.glob("evaluate/*.py"))]
    parts = [np.__version__, pd.__version__, *(file.read_text("utf-8") for file in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
