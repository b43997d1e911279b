"""Runs read back in Python: as a table, as out-of-fold predictions, as a model that predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.datasets import sample_rate_of
from birdlab.errors import ResolveError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.evaluate.predictor import Predictor
from birdlab.evaluate.score import FoldTable, fold_table
from birdlab.lab import Lab, open_lab
from birdlab.recorded import load_card, spec_of
from birdlab.runtables import iter_held_out, scored_as
from birdlab.tracking import index
from birdlab.tracking.query import RunQuery, select_runs
from birdlab.tracking.resolve import resolve_run


def load_runs(
    lab: Lab | None = None,
    *,
    where: Sequence[str] = (),
    project: str = "",
    sweep: str = "",
    name: str = "",
    sort: str = "date",
    descending: bool = False,
    limit: int | None = None,
    fields: Sequence[str] = (),
) -> pd.DataFrame:
    """One row per run of the lab (the nearest by default), as `birdlab runs` lists them.

    where: conditions such as `cv/padded_cmap>0.7` or `train.loss.kind=focal`, all of which hold;
    name: a glob; sort: `date`, `score`, a column or a field of the spec; limit: the N newest or
    highest; fields: dotted fields of the spec, or further scores, as columns. Columns are
    `tracking.index.RUN_COLUMNS`, then the fields that were named. Raises ResolveError.
    """
    query = RunQuery(tuple(where), project, sweep, name, sort, descending, limit)
    given = lab or open_lab(extensions=False)
    table = index.load_runs(given, [*query.columns, *fields])
    return (table if table.empty else select_runs(table, query)).reset_index(drop=True)


def load_oof(
    run: str, lab: Lab | None = None, *, form: Literal["wide", "long"] = "wide"
) -> pd.DataFrame:
    """The out-of-fold predictions of a run: a row per recording and seed, in the order of folds.

    wide: recording, fold, seed, primary_label, apart (whether a part of the recording is in
    training: such rows are in no headline score), then `true/<code>` (0 or 1) and `prob/<code>`
    (float32, 0 to 1: the deployed output, its maximum over the windows of the recording) for
    each class in order. long: recording, fold, seed, apart, code, true, prob. `run` is whatever
    names a run on the command line; foreign runs have a table too. Raises ResolveError for a run
    without stored outputs, OutputsError where they cannot be read.
    """
    given = lab or open_lab()
    record = resolve_run(given, run)
    scored = scored_as(record)
    parts = []
    for (fold, seed), stored in iter_held_out(given, record):
        for apart in (False, True):
            table = fold_table(stored, *scored, apart=apart)
            if table.recordings:
                parts.append(_rows(table, fold, seed, apart, form))
    return pd.concat(parts, ignore_index=True)


def load_model(
    run: str, *, fold: int | None = None, seed: int | None = None, lab: Lab | None = None
) -> Predictor:
    """One trained model of a run as a Predictor: `[B, samples]` to (P, M), each `[B, classes]`.

    fold and seed: which one, else the first. Inputs are windows as `evaluate.windows.iter_windows`
    cuts them; columns are the scored classes in order. Raises ResolveError for a cell that the run
    has not and for a foreign run, CellError where `keep:` let the weights go.
    """
    from birdlab.evaluate.predictor import build_windowing
    from birdlab.network import load_model as load_network
    from birdlab.network import pick_device, weights_path
    from birdlab.sed.predictor import TorchPredictor

    given = lab or open_lab()
    record = resolve_run(given, run)
    spec, cell = spec_of(record), _pick_cell(record, fold, seed)
    weights = weights_path(given, cell["cell_id"])
    own = ClassList(tuple(load_card(given, cell["cell_id"])["classes"]))
    scored = _scored_classes(given, cell, own)
    windowing = build_windowing(spec, sample_rate_of(spec))
    model = load_network(spec.model, len(own), weights)
    return TorchPredictor(model, scored.positions_in(own), pick_device(), windowing.centres)


def _pick_cell(record: Mapping[str, Any], fold: int | None, seed: int | None) -> dict[str, Any]:
    fitting = [
        cell
        for cell in record["cells"]
        if (fold is None or cell["fold"] == fold) and (seed is None or cell["seed"] == seed)
    ]
    if not fitting:
        known = ", ".join(f"({c['fold']}, {c['seed']})" for c in record["cells"])
        raise ResolveError(
            "the run has no such model",
            where=record["name"] or record["spec_id"],
            got=f"fold {fold}, seed {seed}",
            expected=f"(fold, seed) one of {known}",
        )
    return dict(fitting[0])


def _scored_classes(lab: Lab, cell: Mapping[str, Any], own: ClassList) -> ClassList:
    """The classes of a cell's outputs; its own where it has none."""
    if cell.get("eval_id") is None:
        return own
    stored: StoredOutputs = load_outputs(lab.cells / cell["cell_id"] / f"outputs-{cell['eval_id']}")
    return stored.classes


def _rows(table: FoldTable, fold: int, seed: int, apart: bool, form: str) -> pd.DataFrame:
    n, codes = len(table.recordings), np.asarray(table.codes, object)
    truth = table.targets.astype(np.int8)
    if form == "long":
        return pd.DataFrame(
            {
                "recording": np.repeat(np.asarray(table.recordings, object), len(codes)),
                "fold": fold,
                "seed": seed,
                "apart": apart,
                "code": np.tile(codes, n),
                "true": truth.ravel(),
                "prob": table.probs.ravel(),
            }
        )
    head = pd.DataFrame(
        {
            "recording": table.recordings,
            "fold": fold,
            "seed": seed,
            "primary_label": codes[table.primary],
            "apart": apart,
        }
    )
    true = pd.DataFrame(truth, columns=[f"true/{code}" for code in codes])
    probs = pd.DataFrame(table.probs, columns=[f"prob/{code}" for code in codes])
    return pd.concat([head, true, probs], axis=1)
