"""Scores on labelled soundscapes: the mean of a run's fold models, window by window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cell import finish_cell
from birdlab.cellfiles import is_finished
from birdlab.cellplan import CellPlan
from birdlab.data.audio import decode
from birdlab.data.catalog import Dataset
from birdlab.data.hashes import hash_files
from birdlab.data.waves import open_waves
from birdlab.data.windows_truth import check_stems
from birdlab.errors import DataError
from birdlab.evaluate.deployed import deploy_windows
from birdlab.evaluate.metrics import constant_floor, macro_auc, padded_cmap
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.score import N_PAD
from birdlab.evaluate.windows import blend
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab
from birdlab.network import load_model, weights_path
from birdlab.plan import Plan, Progress, open_dataset, silent
from birdlab.soundscapes import BOARDS, soundscape_truth, soundscapes_id
from birdlab.validation import predict_waves

METRICS = {"padded_cmap": padded_cmap, "macro_auc": macro_auc}


@dataclass(frozen=True)
class HeldOutScore:
    """The score of a run on one split of a data set's labelled soundscapes.

    `name` is what the score is called: the split alone for the base's own soundscapes, with the
    data set before it for those of others. `unknown` counts labels that are no class of the run.
    """

    dataset: str
    split: str
    name: str
    metric: str
    score: float
    floor: float
    n_windows: int
    n_files: int
    n_models: int
    unknown: Mapping[str, int] = field(default_factory=dict)


def score_soundscapes(
    plan: Plan,
    lab: Lab,
    *,
    splits: tuple[str, ...] = BOARDS,
    progress: Progress = silent,
) -> list[HeldOutScore]:
    """The competition's metric on each split that has labels, from the mean of all fold models.

    The soundscapes are those of the data sets that `data.soundscapes` names, each with scores of
    its own; else the base's. Outputs are stored in each cell's folder and read back the next
    time. Raises DataError when a data set has no labelled soundscapes or the metric is not one
    that birdlab computes.
    """
    metric = plan.spec.competition.metric
    if metric not in METRICS:
        raise DataError(
            f"the metric {metric} of {plan.spec.competition.name} cannot be computed here",
            expected=", ".join(METRICS),
            fix="enter the leaderboard's own score: birdlab lb add RUN --public ...",
        )
    return [
        score
        for data in _datasets(plan, lab, progress)
        for score in _score_dataset(plan, lab, data, splits, progress)
    ]


def _datasets(plan: Plan, lab: Lab, progress: Progress) -> list[Dataset]:
    names = plan.spec.data.soundscapes or (plan.base.name,)
    return [
        plan.base if name == plan.base.name else open_dataset(lab, name, progress) for name in names
    ]


def _score_dataset(
    plan: Plan, lab: Lab, data: Dataset, splits: tuple[str, ...], progress: Progress
) -> list[HeldOutScore]:
    metric, scapes = plan.spec.competition.metric, data.soundscapes
    scapes = scapes[scapes["split"].isin(splits)].reset_index(drop=True)
    if scapes.empty or (data.soundscape_labels.empty and data.annotations.empty):
        raise DataError(
            f"the data set {data.name} has no labelled soundscapes",
            where=str(data.root),
            expected="public or private soundscapes, with labels of windows or labels in time",
            fix="name a data set that has them: birdlab lb score RUN --on NAME",
        )
    check_stems(scapes["filename"].tolist())
    _refuse_labelled(plan, lab, data, scapes)
    probs, scape_index = _mean_probs(plan, lab, scapes, progress)
    n_windows = np.bincount(scape_index, minlength=len(scapes))
    truth, unknown = soundscape_truth(
        data, scapes, n_windows, plan.data.classes, plan.spec.competition.window_s
    )
    targets = truth.to_numpy() > 0
    out = []
    for split in splits:
        chosen = (scapes["split"] == split).to_numpy()[scape_index]
        if chosen.any():
            out.append(
                HeldOutScore(
                    data.name,
                    split,
                    split if data is plan.base else f"{data.name} {split}",
                    metric,
                    METRICS[metric](targets[chosen], probs[chosen]),
                    constant_floor(targets[chosen], N_PAD) if metric == "padded_cmap" else 0.5,
                    int(chosen.sum()),
                    int((scapes["split"] == split).sum()),
                    len(plan.final_cells),
                    unknown,
                )
            )
    return out


def _refuse_labelled(plan: Plan, lab: Lab, data: Dataset, scapes: pd.DataFrame) -> None:
    """Raise DataError for soundscapes that teachers labelled, so that models trained on them."""
    heard = {one.cell_id: one.labelling for cell in plan.cells for one in cell.line}
    labelled = {key for told in heard.values() if told is not None for key in told.keys}
    if not labelled:
        return
    store = open_waves(lab, plan.sample_rate_hz)
    hashes = hash_files([Path(path) for path in scapes["path"]], lab.waves / "hashes.sqlite")
    known = [content is not None and store.key(content) in labelled for content in hashes]
    if any(known):
        raise DataError(
            f"{sum(known)} soundscapes of {data.name} were labelled by a teacher, and the models "
            "trained on them: they can score nothing",
            got=", ".join(scapes["filename"][known].iloc[:5]),
            fix="run the experiment without them under pseudo.soundscapes",
        )


def _mean_probs(
    plan: Plan, lab: Lab, scapes: pd.DataFrame, progress: Progress
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The deployed probability of every row, and its row of `scapes`: in this order and in time.

    The models are averaged window by window, then the steps are applied, as `birdlab predict` does
    with the members of a model.
    """
    output, total = plan.spec.output, None
    stored = None
    for done, cell in enumerate(plan.final_cells):
        stored = _outputs(plan, cell, lab, scapes, progress, done)
        w = stored.windows
        probs = blend(w.clip_probs, w.time_max, output.clip, output.time_max)
        total = probs.astype(np.float64) if total is None else total + probs
    progress("scoring soundscapes", len(plan.final_cells), len(plan.final_cells))
    assert stored is not None and total is not None
    mean = (total / len(plan.final_cells)).astype(np.float32)
    w = stored.windows
    rows = deploy_windows(stored.windows, mean, plan.spec.postprocess)
    order = np.lexsort((rows.end_s, rows.recording_index))
    return rows.probs[order], rows.recording_index[order]


def _outputs(
    plan: Plan, cell: CellPlan, lab: Lab, scapes: pd.DataFrame, progress: Progress, done: int
) -> StoredOutputs:
    progress("scoring soundscapes", done, len(plan.final_cells))
    paths = [Path(path) for path in scapes["path"]]
    hashes = hash_files(paths, lab.waves / "hashes.sqlite")
    if None in hashes:
        gone = [p.name for p, h in zip(paths, hashes, strict=True) if h is None]
        raise DataError(
            "soundscapes are missing",
            got=", ".join(gone[:5]),
            fix="put the files back into the folder of the data set",
        )
    windowing = build_windowing(plan.spec, plan.sample_rate_hz)
    which = soundscapes_id(hashes, windowing, plan.data.classes, plan.spec.evaluate.hop_s)
    folder = lab.cells / cell.cell_id / f"soundscapes-{which}"
    if not folder.is_dir():
        if not is_finished(lab, cell):  # of a run that a race stopped, say
            progress("training cells that the run lacks", done, len(plan.final_cells))
            with job_folder(lab) as jobs:
                finish_cell(save_job(plan, cell, jobs), lab, lambda *_: None)
        _store(plan, cell, lab, folder, paths, scapes)
    return load_outputs(folder)


def _store(
    plan: Plan, cell: CellPlan, lab: Lab, folder: Path, paths: list[Path], scapes: pd.DataFrame
) -> None:
    import torch

    torch.set_num_threads(cell.stage.train.threads_per_cell)
    windows = predict_waves(
        plan.spec,
        load_model(plan.spec.model, len(cell.classes), weights_path(lab, cell.cell_id)),
        cell.classes,
        plan.data.classes,
        list(scapes["filename"]),
        lambda i: decode(paths[i], plan.sample_rate_hz),
        plan.sample_rate_hz,
    )
    labels = pd.DataFrame(
        {
            "recording": windows.recordings,
            "primary_label": "",
            "secondary_labels": [()] * len(windows.recordings),
        }
    )
    save_outputs(folder, StoredOutputs(windows, labels))
