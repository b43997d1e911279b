"""Scores on labelled soundscapes: the mean of a run's fold models, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cell import WEIGHTS, finish_cell, load_model, pick_device
from birdlab.cellplan import CellPlan
from birdlab.data.audio import decode
from birdlab.data.hashes import hash_files
from birdlab.errors import DataError
from birdlab.evaluate.metrics import constant_floor, macro_auc, padded_cmap
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import predict_recordings
from birdlab.evaluate.score import N_PAD
from birdlab.evaluate.windows import blend
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, silent
from birdlab.spec.identity import digest

METRICS = {"padded_cmap": padded_cmap, "macro_auc": macro_auc}


@dataclass(frozen=True)
class HeldOutScore:
    """The score of a run on one split of its labelled soundscapes."""

    split: str
    metric: str
    score: float
    floor: float
    n_windows: int
    n_files: int
    n_models: int


def score_soundscapes(
    plan: Plan,
    lab: Lab,
    *,
    splits: tuple[str, ...] = ("public", "private"),
    progress: Progress = silent,
) -> list[HeldOutScore]:
    """The competition's metric on each split that has labels, from the mean of all fold models.

    Outputs are stored in each cell's folder and read back the next time. Raises DataError when
    the data set has no labelled soundscapes or the metric is not one that birdlab computes.
    """
    metric = plan.spec.competition.metric
    if metric not in METRICS:
        raise DataError(
            f"the metric {metric} of {plan.spec.competition.name} cannot be computed here",
            expected=", ".join(METRICS),
            fix="enter the leaderboard's own score: birdlab lb add RUN --public ...",
        )
    labels = plan.base.soundscape_labels
    scapes = plan.base.soundscapes
    scapes = scapes[scapes["split"].isin(splits)].reset_index(drop=True)
    if labels.empty or scapes.empty:
        raise DataError(
            f"the data set {plan.base.name} has no labelled soundscapes",
            where=str(plan.base.root),
            expected="soundscapes.csv with public and private files, and soundscape_labels.csv",
        )
    probs, rows = _mean_probs(plan, lab, scapes, progress)
    truth = labels.set_index("row_id").reindex(rows["row_id"])
    if truth.isna().any(axis=None):
        lost = truth.index[truth.isna().any(axis=1)][:3]
        raise DataError("windows have no labels", got=", ".join(lost), where=str(plan.base.root))
    targets = truth[list(plan.data.classes)].to_numpy() > 0
    out = []
    for split in splits:
        chosen = (rows["split"] == split).to_numpy()
        if chosen.any():
            out.append(
                HeldOutScore(
                    split,
                    metric,
                    METRICS[metric](targets[chosen], probs[chosen]),
                    constant_floor(targets[chosen], N_PAD) if metric == "padded_cmap" else 0.5,
                    int(chosen.sum()),
                    int((scapes["split"] == split).sum()),
                    len(plan.final_cells),
                )
            )
    return out


def _mean_probs(
    plan: Plan, lab: Lab, scapes: pd.DataFrame, progress: Progress
) -> tuple[npt.NDArray[np.float32], pd.DataFrame]:
    """The deployed probability of every window, averaged over models, and what each row is."""
    output, total = plan.spec.output, None
    stored = None
    for done, cell in enumerate(plan.final_cells):
        progress("scoring soundscapes", done, len(plan.final_cells))
        stored = _outputs(plan, cell, lab, scapes)
        w = stored.windows
        probs = blend(w.clip_probs, w.time_max, output.clip, output.time_max)
        total = probs.astype(np.float64) if total is None else total + probs
    progress("scoring soundscapes", len(plan.final_cells), len(plan.final_cells))
    assert stored is not None and total is not None
    w = stored.windows
    names = np.asarray([Path(name).stem for name in w.recordings], object)[w.recording_index]
    rows = pd.DataFrame(
        {
            "row_id": [f"{n}_{int(end)}" for n, end in zip(names, w.end_s, strict=True)],
            "split": scapes["split"].to_numpy()[w.recording_index],
        }
    )
    return (total / len(plan.final_cells)).astype(np.float32), rows


def _outputs(plan: Plan, cell: CellPlan, lab: Lab, scapes: pd.DataFrame) -> StoredOutputs:
    paths = [Path(path) for path in scapes["path"]]
    hashes = hash_files(paths, lab.waves / "hashes.sqlite")
    if None in hashes:
        gone = [p.name for p, h in zip(paths, hashes, strict=True) if h is None]
        raise DataError("soundscapes are missing", got=", ".join(gone[:5]))
    window_s = plan.spec.competition.window_s
    which = digest(
        {"soundscapes": hashes, "window_s": window_s, "classes": plan.data.classes.digest}, 12
    )
    folder = lab.cells / cell.cell_id / f"soundscapes-{which}"
    if not folder.is_dir():
        finish_cell(plan, cell, lab, lambda *_: None)
        _store(plan, cell, lab, folder, paths, scapes)
    return load_outputs(folder)


def _store(
    plan: Plan, cell: CellPlan, lab: Lab, folder: Path, paths: list[Path], scapes: pd.DataFrame
) -> None:
    import torch

    from birdlab.sed.fit import TorchPredictor

    torch.set_num_threads(cell.stage.train.threads_per_cell)
    model = load_model(plan.spec.model, len(cell.classes), lab.cells / cell.cell_id / WEIGHTS)
    columns = plan.data.classes.positions_in(cell.classes)
    windows = predict_recordings(
        TorchPredictor(model, columns, pick_device()),
        list(scapes["filename"]),
        lambda i: decode(paths[i], plan.sample_rate_hz).to_float(),
        plan.data.classes.codes,
        window_s=plan.spec.competition.window_s,
        sample_rate_hz=plan.sample_rate_hz,
        batch=plan.spec.evaluate.batch,
    )
    labels = pd.DataFrame(
        {
            "recording": windows.recordings,
            "primary_label": "",
            "secondary_labels": [()] * len(windows.recordings),
        }
    )
    save_outputs(folder, StoredOutputs(windows, labels))
