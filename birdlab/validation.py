"""The outputs of a cell on the rows it was not trained on, stored beside its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdlab.celljob import CellJob
from birdlab.data.audio import to_float
from birdlab.data.waves import open_waves
from birdlab.evaluate.outputs import StoredOutputs, save_outputs
from birdlab.evaluate.predictor import predict_recordings
from birdlab.lab import Lab
from birdlab.network import WEIGHTS, load_model, pick_device


def store_outputs(job: CellJob, lab: Lab, folder: Path) -> None:
    """Predict the validation rows of a cell with the weights in `folder`, and store that."""
    import torch

    from birdlab.sed.fit import TorchPredictor

    torch.set_num_threads(job.stage.train.threads_per_cell)
    model = load_model(job.spec.model, len(job.classes), folder / WEIGHTS)
    columns = job.scored.positions_in(job.classes)
    table = job.validation()
    waves = open_waves(lab, job.sample_rate_hz)
    windows = predict_recordings(
        TorchPredictor(model, columns, pick_device()),
        list(table["recording"]),
        _reader(waves, table),
        job.scored.codes,
        window_s=job.spec.competition.window_s,
        sample_rate_hz=job.sample_rate_hz,
        batch=job.spec.evaluate.batch,
    )
    columns_kept = ["recording", "primary_label", "secondary_labels"]
    if table["apart"].any():
        columns_kept.append("apart")
    save_outputs(folder / f"outputs-{job.eval_id}", StoredOutputs(windows, table[columns_kept]))


def _reader(waves: Any, table: pd.DataFrame) -> Callable[[int], Any]:
    """A function that reads the used part of row i as a float wave."""
    from birdlab.sed.loader import locate_takes

    spans = table[["start_s", "end_s"]].to_numpy(np.float64)
    takes = locate_takes(waves, table["key"].to_numpy("S32"), spans)

    def read(i: int) -> Any:
        place = int(takes.place[i])
        stored = waves.read_row(place, int(takes.first[i]), int(takes.n_samples[i]))
        return to_float(stored, waves.scale_of(place))

    return read
