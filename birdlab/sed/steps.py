"""How long a stage trains, in optimiser steps. No torch, so that plans need none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from birdlab.spec.recipe import Length

NORM_BATCHES = 100
"""Batch-norm statistics of averaged weights come from so many batches, or one epoch's."""


@dataclass(frozen=True)
class Steps:
    """Optimiser steps in all, steps per epoch, clips per optimiser step."""

    total: int
    per_epoch: int
    batch: int

    @property
    def epochs(self) -> int:
        """Epochs begun, the last one possibly cut short."""
        return math.ceil(self.total / self.per_epoch)

    def in_epoch(self, epoch: int) -> int:
        """The optimiser steps of an epoch, counted from 0; the last one may be cut short."""
        return min(self.per_epoch, self.total - epoch * self.per_epoch)


def count_steps(length: Length, batch: int, n_rows: int, accumulate: int = 1) -> Steps:
    """The optimiser steps of a stage over `n_rows` training rows.

    A step takes `accumulate` batches of `batch` clips. An epoch draws as many full steps as
    `n_rows` clips hold, at least one; a table smaller than a step makes steps of its own size.
    `steps` and `clips` fix the total whatever the table.
    """
    batch = min(batch * accumulate, n_rows)
    per_epoch = max(1, n_rows // batch)
    if length.epochs is not None:
        total = length.epochs * per_epoch
    elif length.steps is not None:
        total = length.steps
    else:
        total = math.ceil((length.clips or 0) / batch)
    return Steps(total, per_epoch, batch)
