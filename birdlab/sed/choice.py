"""Which epochs' weights a cell ends with: the last, the best, or the mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from birdlab.sed.averaging import mean_of
from birdlab.sed.checkpoint import load_tensors, save_tensors
from birdlab.spec.recipe import TrainSpec

Scores = Sequence[tuple[int, float]]
"""(epoch, score) of the epochs that were scored, in order; higher is better."""

LAST = "last"


def best_epochs(scores: Scores, k: int = 1) -> list[int]:
    """The `k` epochs with the highest scores, the best first; of equal ones the earlier."""
    return [epoch for epoch, _ in sorted(scores, key=lambda pair: (-pair[1], pair[0]))[:k]]


def is_exhausted(scores: Scores, patience: int | None) -> bool:
    """Whether `patience` scores in a row were no better than the best before them."""
    if patience is None or not scores:
        return False
    best = best_epochs(scores)[0]
    return sum(epoch > best for epoch, _ in scores) >= patience


def wanted_epochs(train: TrainSpec, scores: Scores, n_done: int, n_epochs: int) -> list[int]:
    """The epochs whose weights are worth a file once `n_done` of `n_epochs` are trained.

    Empty when the weights at the end are all that counts.
    """
    if train.checkpoint == "best":
        return best_epochs(scores)
    if train.average is None:
        return []
    if train.average.of == "best":
        return best_epochs(scores, train.average.k)
    first = n_done if train.early_stop is not None else n_epochs  # the end may come any time
    return list(range(max(0, first - train.average.k), n_done))


def describe_choice(train: TrainSpec, epochs: Sequence[int], n_done: int, n_epochs: int) -> str:
    """The weights of a cell in words, as its card says them: "last", "best epoch 7 of 30", ..."""
    stopped = ", stopped early" if n_done < n_epochs else ""
    if train.checkpoint == "best":
        return f"best epoch {epochs[0] + 1} of {n_done}{stopped}"
    if train.average is not None:
        return f"mean of the {train.average.of} {len(epochs)} of {n_done}{stopped}"
    return f"epoch {n_done} of {n_epochs}{stopped}" if stopped else LAST


class Snapshots:
    """The weights of some epochs as files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, epoch: int, weights: dict[str, Tensor]) -> None:
        """Keep the weights of an epoch; raises OSError."""
        save_tensors(self._path(epoch), weights)

    def drop_all_but(self, epochs: Sequence[int]) -> None:
        """Delete the files of all other epochs."""
        for path in set(self.folder.glob("epoch-*.pt")) - {self._path(e) for e in epochs}:
            path.unlink()

    def mean(self, epochs: Sequence[int]) -> dict[str, Tensor]:
        """The mean of the weights of some epochs; of one epoch, its weights."""
        if len(epochs) == 1:
            return load_tensors(self._path(epochs[0]))
        return mean_of(load_tensors(self._path(epoch)) for epoch in sorted(epochs))

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.pt"
