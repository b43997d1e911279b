"""The outputs of a cell on what it was not trained on, stored beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdlab.cellfiles import WEIGHTS
from birdlab.celljob import CellJob
from birdlab.data.audio import Waveform
from birdlab.data.classes import ClassList
from birdlab.data.waves import open_waves
from birdlab.evaluate.outputs import StoredOutputs, save_outputs
from birdlab.evaluate.predictor import WindowOutputs, build_windowing, predict_recordings
from birdlab.lab import Lab
from birdlab.network import load_model, pick_device
from birdlab.spec.experiment import ExperimentSpec
from birdlab.synthetic import TRUTH, open_synthetic


def store_outputs(job: CellJob, lab: Lab, folder: Path) -> None:
    """Predict what a cell is scored on with the weights in `folder`, and store that there.

    The recordings of its fold, the soundscapes of `evaluate.soundscapes` and the synthetic ones.
    Outputs that are in `folder` already are not made again.
    """
    import torch

    torch.set_num_threads(job.stage.train.threads_per_cell)
    parts = {f"outputs-{job.eval_id}": job.validation}
    if job.soundscapes_id is not None:
        parts[f"soundscapes-{job.soundscapes_id}"] = job.soundscapes
    model = None
    for name, rows in parts.items():
        if not (folder / name).is_dir():
            model = model or load_model(job.spec.model, len(job.classes), folder / WEIGHTS)
            save_outputs(folder / name, _predict(job, lab, model, rows()))
    place = folder / f"synthetic-{job.synthetic_id}"
    if job.synthetic_id is not None and not place.is_dir():
        model = model or load_model(job.spec.model, len(job.classes), folder / WEIGHTS)
        _store_synthetic(job, lab, model, place)


def _store_synthetic(job: CellJob, lab: Lab, model: Any, folder: Path) -> None:
    """Predict the synthetic soundscapes of the fold, each mixed when it is heard."""
    source = open_synthetic(job, lab)
    truth = []

    def read(number: int) -> Waveform:
        wave, spans = source.render(number)
        truth.append(spans.assign(recording=source.names[number]))
        return wave

    names = source.names
    windows = predict_waves(
        job.spec, model, job.classes, job.scored, names, read, job.sample_rate_hz
    )
    labels = pd.DataFrame({"recording": names, "primary_label": ""})
    labels["secondary_labels"] = [()] * len(names)
    save_outputs(folder, StoredOutputs(windows, labels), {TRUTH: pd.concat(truth)})


def predict_fold(job: CellJob, lab: Lab, model: Any) -> StoredOutputs:
    """What `model`, in whatever state it is, says of the validation rows of a cell now.

    The same numbers as `store_outputs` stores for these weights. The model stays on its device
    and goes back to training if it was.
    """
    training = model.training
    try:
        return _predict(job, lab, model, job.validation())
    finally:
        model.train(training)


def predict_waves(
    spec: ExperimentSpec,
    model: Any,
    classes: ClassList,
    scored: ClassList,
    recordings: Sequence[str],
    read: Callable[[int], Waveform],
    sample_rate_hz: int,
) -> WindowOutputs:
    """The outputs of a network of `classes` for every window of some waveforms.

    Columns are the `scored` classes; `read(i)` gives the waveform of recording i.
    """
    from birdlab.sed.predictor import TorchPredictor

    windowing = build_windowing(spec, sample_rate_hz)
    columns = scored.positions_in(classes)
    return predict_recordings(
        TorchPredictor(model, columns, pick_device(), windowing.centres),
        recordings,
        read,
        scored.codes,
        windowing=windowing,
        batch=spec.evaluate.batch,
        hop_s=spec.evaluate.hop_s,
    )


def _predict(job: CellJob, lab: Lab, model: Any, table: pd.DataFrame) -> StoredOutputs:
    waves = open_waves(lab, job.sample_rate_hz)
    windows = predict_waves(
        job.spec,
        model,
        job.classes,
        job.scored,
        list(table["recording"]),
        open_reader(waves, table),
        job.sample_rate_hz,
    )
    columns_kept = ["recording", "primary_label", "secondary_labels"]
    if table["apart"].any():
        columns_kept.append("apart")
    return StoredOutputs(windows, table[columns_kept])


def open_reader(waves: Any, table: pd.DataFrame) -> Callable[[int], Waveform]:
    """A function that reads the used part of row i, with the peak of its whole recording."""
    from birdlab.sed.takes import locate_takes

    spans = table[["start_s", "end_s"]].to_numpy(np.float64)
    takes = locate_takes(waves, table["key"].to_numpy("S32"), spans)

    def read(i: int) -> Waveform:
        place = int(takes.place[i])
        stored = waves.read_row(place, int(takes.first[i]), int(takes.n_samples[i]))
        return Waveform(stored, waves.scale_of(place), waves.sample_rate_hz)

    return read
