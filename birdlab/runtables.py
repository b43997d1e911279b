"""The tables that go with a run: beside its record, and from its cells what it was scored on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from birdlab.cellfiles import CARD, CURVES
from birdlab.errors import ResolveError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.evaluate.score import FoldTable, fold_table
from birdlab.lab import Lab
from birdlab.recorded import AS_IS, is_foreign, is_ledger_line, load_card, reading_spec
from birdlab.spec.parts import EvaluateSpec, OutputSpec
from birdlab.spec.postprocess import PostStep, chain_of

if TYPE_CHECKING:
    from birdlab.rows import Rows

TABLES = ("classes", "waterfall", "dropped", "recordings")
"""What cannot be read from the cells alone: scores per species, how cleaning came to the rows, who
made the recordings."""


def tables_folder(lab: Lab, spec_id: str) -> Path:
    """Where the tables of a run lie, beside its record."""
    return lab.runs / spec_id


def list_recordings(rows: Rows) -> pd.DataFrame:
    """The rows that folds hold out, as stored outputs name them.

    recording, fold, recordist (as `Rows.recordists`: the recording's own name where the author is
    not known), primary_label.
    """
    held = (rows.table["fold"] >= 0).to_numpy(bool)
    columns = {"recording": rows.names, "fold": rows.table["fold"].to_numpy()}
    columns |= {"recordist": rows.recordists, "primary_label": rows.table["primary_label"]}
    return pd.DataFrame(columns)[held].reset_index(drop=True)


def save_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as `<name>.parquet`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        part = folder / f".{name}.{os.getpid()}.part"
        table.to_parquet(part, index=False, compression="zstd")
        part.replace(folder / f"{name}.parquet")


def load_table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a run; an empty one for a run whose record was written without it."""
    path = folder / f"{name}.parquet"
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def load_curves(lab: Lab, cell_ids: Iterable[str]) -> pd.DataFrame:
    """The curves of cells and of all they start from or average, each once, with stage, fold, seed.

    Starts come first. A soup has none of its own, nor has a cell whose folder is gone; the columns
    are those of a cell's curves, and no column at all where nothing is left.
    """
    parts: dict[str, pd.DataFrame] = {}
    for cell_id in cell_ids:
        for cell, card in _line(lab, cell_id):
            if cell not in parts and not card.get("sources"):
                parts[cell] = pd.read_parquet(lab.cells / cell / CURVES).assign(
                    stage=card["stage"], fold=card["fold"], seed=card["seed"]
                )
    return pd.concat(parts.values(), ignore_index=True) if parts else pd.DataFrame()


def _line(lab: Lab, cell_id: str | None) -> list[tuple[str, dict[str, Any]]]:
    """The cell with its card, after those it starts from or whose weights it averages."""
    if cell_id is None or not (lab.cells / cell_id / CARD).is_file():
        return []
    card = load_card(lab, cell_id)
    before = [card.get("start"), *card.get("sources", ())]
    return [*(pair for one in before for pair in _line(lab, one)), (cell_id, card)]


def scored_as(
    record: Mapping[str, Any],
) -> tuple[OutputSpec, EvaluateSpec, tuple[PostStep, ...]]:
    """The deployed output, the truth and the steps of a run; those of a foreign one as they came.

    Nothing else of its spec is read: the kinds of an extension need not be loaded, save those of
    its steps. Raises ResolveError for a line of a ledger, which has none of it.
    """
    if is_ledger_line(record):
        raise ResolveError(
            "the run is a line of an imported ledger: it has scores, and no predictions",
            where=record["name"],
            fix="birdlab import --oof TABLE takes in predictions of a foreign model",
        )
    if is_foreign(record):
        return AS_IS, EvaluateSpec(secondary=record["foreign"]["secondary"]), ()
    spec = record["spec"]
    with reading_spec(record):
        output = OutputSpec.model_validate(spec["output"])
        evaluate = EvaluateSpec(secondary=spec["evaluate"]["secondary"])
    return output, evaluate, steps_of(record)


def steps_of(record: Mapping[str, Any]) -> tuple[PostStep, ...]:
    """The post-processing that belongs to a run; SpecError for a kind that is not loaded."""
    listed = (record.get("spec") or {}).get("postprocess")
    if not listed:
        return ()
    return chain_of(listed, f"postprocess of {record['name'] or record['spec_id']}").steps


def load_fold_tables(
    lab: Lab, record: Mapping[str, Any], steps: Sequence[PostStep] | None = None
) -> dict[tuple[int, int], FoldTable]:
    """The held-out recordings of a run by (fold, seed), as it was scored on them.

    With `steps` these stand in place of its own. Recordings of which a part is in training are left
    out. Raises ResolveError that says why for a run without stored outputs, OutputsError where they
    cannot be read.
    """
    output, evaluate, own = scored_as(record)
    given = (output, evaluate, own if steps is None else steps)
    return {cell: fold_table(stored, *given) for cell, stored in iter_held_out(lab, record)}


def iter_held_out(
    lab: Lab, record: Mapping[str, Any]
) -> Iterator[tuple[tuple[int, int], StoredOutputs]]:
    """(fold, seed) and what that model said of the recordings that it did not train on.

    Raises as `load_fold_tables`.
    """
    scored = [cell for cell in record["cells"] if cell.get("eval_id") is not None]
    if not scored:
        raise ResolveError(
            "the run has no out-of-fold predictions",
            where=record["name"] or record["spec_id"],
            got="it was trained on all data",
            fix="birdlab run its experiment with --set cells.folds=all",
        )
    for cell in scored:
        stored = load_outputs(lab.cells / cell["cell_id"] / f"outputs-{cell['eval_id']}")
        yield (int(cell["fold"]), int(cell["seed"])), stored
