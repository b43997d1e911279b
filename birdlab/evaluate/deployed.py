"""The rows that are scored and deployed, made of stored windows: the output, then every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.evaluate.outputs import StoredOutputs
from birdlab.evaluate.pooling import Floats, blend
from birdlab.evaluate.postprocess import finish_rows, grid_rows
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.steps import applicable_mappings
from birdlab.spec.parts import OutputSpec
from birdlab.spec.postprocess import PostStep


@dataclass(frozen=True, eq=False)
class DeployedRows:
    """The deployed probability of every scored row, one for each window that overlaps no other.

    recording_index: [R] the recording of each row; end_s: [R] when it ends; probs: [R, C].
    """

    recording_index: npt.NDArray[np.int64]
    end_s: npt.NDArray[np.float64]
    probs: Floats


def deployed_probs(
    stored: StoredOutputs, output: OutputSpec, steps: Sequence[PostStep] = ()
) -> DeployedRows:
    """The rows of one model's outputs after `output` and the steps, as `birdlab predict` has them.

    In the order of the stored windows where there is no step and no overlap, else files in order
    and rows in time. Raises as `apply_steps`.
    """
    w = stored.windows
    probs = blend(w.clip_probs, w.time_max, output.clip, output.time_max)
    return deploy_windows(w, probs, steps)


def deploy_windows(
    windows: WindowOutputs, probs: Floats, steps: Sequence[PostStep]
) -> DeployedRows:
    """The same of probabilities [W, C] that some models already share, `windows` saying of what."""
    w = windows
    if not steps and is_grid(w):
        return DeployedRows(w.recording_index, w.end_s, probs)
    order = np.lexsort((w.end_s, w.recording_index))
    index, end_s = w.recording_index[order], w.end_s[order]
    grid, out = finish_rows(
        probs[order], index, end_s, w.codes, applicable_mappings(steps), _window_s(w)
    )
    return DeployedRows(index[grid], end_s[grid], out)


def count_rows(windows: WindowOutputs) -> npt.NDArray[np.int64]:
    """How many rows each recording has: the windows that follow each other without overlap."""
    own = windows.recording_index[grid_rows(windows.end_s, _window_s(windows))]
    return np.bincount(own, minlength=len(windows.recordings))


def is_grid(windows: WindowOutputs) -> bool:
    """Whether no windows overlap, so that each of them is a row."""
    return bool(grid_rows(windows.end_s, _window_s(windows)).all())


def _window_s(windows: WindowOutputs) -> float:
    """The length of a window: a recording's first one begins with it."""
    return float(windows.end_s.min()) if len(windows.end_s) else 1.0
