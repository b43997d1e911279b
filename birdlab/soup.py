"""A cell that trains nothing: the mean of the weights of other cells, with batch norms that fit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from birdlab.celljob import CellJob
from birdlab.lab import Lab
from birdlab.network import pick_device, weights_path
from birdlab.sed.steps import count_steps

if TYPE_CHECKING:
    from birdlab.sed.fit import Fitted
    from birdlab.sed.loader import ClipSource
    from birdlab.sed.model import SEDModel


def average_sources(job: CellJob, lab: Lab, source: ClipSource) -> tuple[SEDModel, Fitted]:
    """The network of a soup, on the device of cells, and what there is to say of it.

    Its weights are the mean of those of the job's sources; its batch-norm statistics are made anew
    on the batches of the job, training clips augmented as in training and drawn by the soup's own
    seed and fold: the same every time. Norms that training left frozen stay. It has no curves.
    Raises CellError where weights are gone or are those of two networks.
    """
    from safetensors.torch import load_file

    from birdlab.sed.averaging import mean_of
    from birdlab.sed.fit import Fitted
    from birdlab.sed.model import SEDModel

    began = time.perf_counter()
    bare = job.spec.model.model_copy(update={"pretrained": False})
    model = SEDModel(bare, len(job.classes))
    model.load_state_dict(mean_of(load_file(weights_path(lab, cell)) for cell in job.sources))
    _fit_norms(model, job, source, lab.file.readers)
    seconds = time.perf_counter() - began
    return model, Fitted([], f"mean of {len(job.sources)} seeds", seconds)


def _fit_norms(model: SEDModel, job: CellJob, source: ClipSource, workers: int) -> None:
    """Make the batch-norm statistics anew on clips such as the last epoch of training had."""
    from birdlab.sed.draws import EpochDraws
    from birdlab.sed.learner import Learner
    from birdlab.sed.loader import epoch_batches

    train, augment, device = job.stage.train, job.stage.augment, pick_device()
    n_rows = len(job.arrays["keys"])
    trained = count_steps(train.length, train.batch, n_rows, train.accumulate)
    draws = EpochDraws(job.seed, job.fold, trained.epochs - 1)
    learner = Learner(model, train, augment, job.steps, device)
    learner.begin_epoch(trained.epochs - 1)  # frozen as it was when training ended
    steps = job.steps
    batches = epoch_batches(
        source, train.sampler, augment, draws, steps.total, steps.batch, device, workers
    )
    learner.renew_norms(batches, draws)
