"""Soft labels: what teachers say of soundscapes, stored beside their weights.

The outputs of a teacher cell on soundscapes lie in its folder `labels-<id>` and hold nothing of
threshold, floor or power, so all pupils that learn from the same soundscapes share them. They are
made by the first pupil that needs them, under the lock of the teacher's cell, in parts of files:
what a kill may cost is one part.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from birdlab.cellfiles import labels_folder
from birdlab.celljob import CellJob, TeacherCell
from birdlab.data.waves import open_waves
from birdlab.datasets import Progress, silent
from birdlab.errors import CellError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.windows import Floats, blend
from birdlab.hearing import Heard, hear
from birdlab.lab import Lab
from birdlab.network import load_model, weights_path
from birdlab.sed.pseudo import SoftLabels
from birdlab.teaching import Labeller, Labelling
from birdlab.validation import open_reader, predict_waves

__all__ = ["SoftLabels", "hear_soundscapes", "load_soft_labels", "make_labels"]

FILES_A_PART = 16
"""No batch spans two parts, so that outputs do not depend on where someone was stopped."""
_LABELS = ["recording", "primary_label", "secondary_labels"]


def make_labels(job: CellJob, lab: Lab, progress: Progress = silent) -> None:
    """Have the teacher cells of a job label its soundscapes, unless they have.

    Those of ONNX teachers are made by `run.make_ready`. Raises CellError for weights that are gone.
    """
    if job.labelling is None or job.labelling.model is not None:
        return
    networks = {network.cell_id: network for network in job.networks}
    for labeller in job.labelling.labellers:
        if labels_folder(lab, labeller).is_dir():
            continue
        with FileLock(lab.cells / f".{labeller.cell_id}.lock"):
            network = networks[labeller.cell_id]
            if not labels_folder(lab, labeller).is_dir():
                with _threads(network.spec.stages[-1].train.threads_per_cell):
                    _label(job, lab, labeller, network, progress)


def load_soft_labels(job: CellJob, lab: Lab) -> SoftLabels | None:
    """What the teachers of a job say of its soundscapes; None for a job without pseudo-labels.

    The mean over the teachers that may label a file, of the probability that each would deploy.
    Raises CellError where the lab lacks outputs: they are made when the cell is trained.
    """
    if job.labelling is None:
        return None
    if job.labelling.model is not None:
        return _of_model(job, lab, job.labelling)
    return _of_cells(job, lab, job.labelling)


def _label(
    job: CellJob, lab: Lab, labeller: Labeller, network: TeacherCell, progress: Progress
) -> None:
    """Store the outputs of one teacher, part after part."""
    folder = labels_folder(lab, labeller)
    parts = folder.with_name(f".{folder.name}.part")
    assert job.labelling is not None
    keys, names = job.labelling.keys, job.labelling.names
    model = load_model(
        network.spec.model, len(network.classes), weights_path(lab, labeller.cell_id)
    )
    spec = network.spec.model_copy(
        update={"evaluate": network.spec.evaluate.model_copy(update={"hop_s": None})}
    )
    waves, made = open_waves(lab, job.sample_rate_hz), []
    for first in range(0, len(keys), FILES_A_PART):
        part = parts / f"{first:06d}"
        chosen = range(first, min(len(keys), first + FILES_A_PART))
        if not part.is_dir():
            rows = _rows([names[i] for i in chosen], [keys[i] for i in chosen])
            windows = predict_waves(
                spec, model, network.classes, network.classes, list(rows["recording"]),
                open_reader(waves, rows), job.sample_rate_hz,
            )  # fmt: skip
            save_outputs(part, StoredOutputs(windows, rows[_LABELS]))
        made.append(part)
        progress(f"labelling by {network.title}", chosen.stop, len(keys))
    save_outputs(folder, _joined([load_outputs(part) for part in made]))
    shutil.rmtree(parts, ignore_errors=True)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """As many threads as a teacher was trained with; then those of its pupil again."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rows(names: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """Soundscapes as rows to predict."""
    table = pd.DataFrame({"recording": names, "primary_label": "", "key": keys})
    table["secondary_labels"] = [()] * len(table)
    return table.assign(start_s=np.nan, end_s=np.nan)


def _joined(parts: Sequence[StoredOutputs]) -> StoredOutputs:
    """The outputs of parts as one, in order."""
    windows = [part.windows for part in parts]
    firsts = np.cumsum([0, *(len(w.recordings) for w in windows)])
    return StoredOutputs(
        WindowOutputs(
            tuple(name for w in windows for name in w.recordings),
            windows[0].codes,
            np.concatenate([w.recording_index + n for w, n in zip(windows, firsts, strict=False)]),
            np.concatenate([w.end_s for w in windows]),
            np.concatenate([w.clip_probs for w in windows]),
            np.concatenate([w.time_max for w in windows]),
        ),
        pd.concat([part.labels for part in parts], ignore_index=True),
    )


def _of_cells(job: CellJob, lab: Lab, labelling: Labelling) -> SoftLabels:
    networks = {network.cell_id: network for network in job.networks}
    total: Floats | None = None
    counts = np.zeros(len(labelling.keys), np.int64)
    for labeller in labelling.labellers:
        folder = labels_folder(lab, labeller)
        if not folder.is_dir():
            raise CellError(
                "the soundscapes of a cell are not labelled yet",
                where=job.title,
                got=f"no outputs of {networks[labeller.cell_id].title}",
                fix="run the experiment: its teachers are trained and label first",
            )
        w, output = load_outputs(folder).windows, networks[labeller.cell_id].spec.output
        may = np.isin(np.arange(len(counts)), labeller.files)
        probs = blend(w.clip_probs, w.time_max, output.clip, output.time_max)
        probs *= may[w.recording_index, None]
        counts += may
        if total is None:
            total = probs
        else:
            total += probs
    assert total is not None
    total /= counts[w.recording_index, None]
    window_s = networks[labelling.labellers[0].cell_id].spec.competition.window_s
    return SoftLabels(
        labelling.keys,
        w.recording_index,
        w.end_s - window_s,
        w.end_s,
        total.astype(np.float32),
        w.codes,
        labelling.teacher,
        labelling.names,
    )


def _of_model(job: CellJob, lab: Lab, labelling: Labelling) -> SoftLabels:
    heard = hear_soundscapes(labelling, lab, job.sample_rate_hz)
    starts = [heard.start_s(i) for i in range(len(heard))]
    start_s = np.concatenate(starts)
    return SoftLabels(
        labelling.keys,
        np.repeat(np.arange(len(starts)), [len(s) for s in starts]),
        start_s,
        start_s + heard.window_s,
        np.concatenate([heard.probs(i) for i in range(len(heard))]),
        heard.codes,
        labelling.teacher,
        labelling.names,
    )


def hear_soundscapes(
    labelling: Labelling,
    lab: Lab,
    sample_rate_hz: int,
    paths: Mapping[str, Path] | None = None,
    progress: Progress = silent,
) -> Heard:
    """What the ONNX teacher says of the soundscapes, window after window; made unless it is there.

    Raises as `hear`.
    """
    from birdlab.teachers import open_teacher

    teacher = open_teacher(lab, labelling.model or "", planned=labelling.teacher)
    return hear(
        teacher, lab, labelling.keys, teacher.window_s, progress,
        sample_rate_hz=sample_rate_hz, paths=paths,
    )  # fmt: skip
