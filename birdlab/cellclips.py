"""The training clips of a cell: recordings, noise and soft-labelled windows out of the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from birdlab.celljob import CellJob
from birdlab.data.waves import open_waves
from birdlab.lab import Lab
from birdlab.softlabels import load_soft_labels

LABELS = "labels.npy"


def clip_source(job: CellJob, lab: Lab) -> Any:
    """Where the training clips of a cell come from.

    Raises CellError where its soundscapes are not labelled yet, DataError where none of their
    windows could be drawn.
    """
    from birdlab.sed.loader import ClipSource
    from birdlab.sed.pseudo import build_pseudo_rows, map_labels
    from birdlab.sed.takes import Takes, locate_takes

    waves, rate = open_waves(lab, job.sample_rate_hz), job.sample_rate_hz

    def takes(keys: Sequence[str | None], spans_s: Any) -> Takes:
        return locate_takes(waves, np.array(keys, "S32"), np.asarray(spans_s, np.float64))

    noise = {
        name: takes([key.key for key in keys], [(key.start_s, key.end_s) for key in keys])
        for name, keys in job.noise.items()
    }
    labels, spec, pseudo = load_soft_labels(job, lab), job.stage.pseudo, None
    if labels is not None and spec is not None:
        files = takes(labels.keys, np.full((len(labels.keys), 2), np.nan))
        labels = map_labels(labels, job.folder / LABELS)
        pa.default_memory_pool().release_unused()  # it keeps six times what the labels hold
        pseudo = build_pseudo_rows(labels, spec, job.classes, files, rate)
    return ClipSource(
        waves,
        locate_takes(waves, job.arrays["keys"], job.arrays["spans_s"]),
        job.targets,
        noise,
        round(job.stage.train.window_s * rate),
        normalise=job.spec.model.normalise,
        pseudo=pseudo,
    )
