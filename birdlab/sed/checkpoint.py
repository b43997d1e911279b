"""Checkpoints: all that training needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from birdlab.errors import CellError, first_line

CHECKPOINT = "checkpoint.pt"
SAVE_EVERY_S = 300.0
"""Within an epoch a checkpoint is at most so old, where it may be saved by then."""

SAVE_SHARE = 0.1
"""Saving takes at most this share of the time since the checkpoint before, but when it must be."""


@dataclass
class Standing:
    """How far training is: `step` optimiser steps into `epoch`, both counted from 0.

    loss_sum, waited_s, epoch_s: of the steps of this epoch; spent_s: of all epochs before, with
    their validation; curves: a row per finished epoch; scores: (epoch, score) of those scored.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    waited_s: float = 0.0
    epoch_s: float = 0.0
    spent_s: float = 0.0
    curves: list[dict[str, Any]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)

    def next_epoch(self, row: dict[str, Any], seconds: float) -> Standing:
        """The start of the epoch after this one, which left `row` and took so long."""
        return Standing(
            self.epoch + 1,
            spent_s=self.spent_s + seconds,
            curves=[*self.curves, row],
            scores=self.scores,
        )


class Checkpoints:
    """The newest checkpoint of one cell in `folder`; without a folder nothing is saved.

    Large networks with short epochs would spend most of their time on saving, so what saving took
    the last time says how long it is not worth the next; a crash then costs no more than that.
    """

    def __init__(self, folder: Path | None, device: torch.device) -> None:
        self.path = None if folder is None else folder / CHECKPOINT
        self.device = device
        self.saved_at, self.took_s = time.monotonic(), 0.0
        self.reached = (0, 0)

    @property
    def is_worth_it(self) -> bool:
        """Whether so much was done since the last one that saving is a small share of it."""
        return self.took_s <= SAVE_SHARE * (time.monotonic() - self.saved_at)

    @property
    def is_due(self) -> bool:
        """Whether the last one is as old as one may become, and the next is worth it."""
        return self.is_worth_it and time.monotonic() - self.saved_at > SAVE_EVERY_S

    def save(self, at: Standing, states: Mapping[str, Any]) -> None:
        """Put where training stands in place of what was saved before, whole or not at all."""
        began = time.monotonic()
        if self.path is not None:
            made_by, random = _made_by(self.device), _random_states(self.device)
            content = {"made_by": made_by, "at": asdict(at), "random": random, **states}
            save_tensors(self.path, content)
        self.saved_at = time.monotonic()
        self.took_s, self.reached = self.saved_at - began, (at.epoch, at.step)

    @contextmanager
    def saved_when_stopped(
        self, at: Standing, states: Callable[[], Mapping[str, Any]]
    ) -> Iterator[None]:
        """A part between two steps: where Ctrl-C ends it, where training stands is saved."""
        try:
            yield
        except KeyboardInterrupt:
            if self.reached != (at.epoch, at.step):
                self.save(at, states())
            raise

    def load(self) -> tuple[Standing, dict[str, Any]] | None:
        """Where training stood and its states, random generators put back; None without one.

        Raises CellError for a checkpoint that another torch or device would continue otherwise.
        """
        if self.path is None or not self.path.is_file():
            return None
        states = load_tensors(self.path)
        try:
            made_by, at, random = (states.pop(name) for name in ("made_by", "at", "random"))
            at["scores"] = [(int(epoch), float(score)) for epoch, score in at["scores"]]
            standing, told = Standing(**at), _in_words(made_by)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(self.path, error) from None
        if made_by != _made_by(self.device):
            raise CellError(
                "the checkpoint is of another torch or kind of device, so other numbers would come",
                where=str(self.path),
                got=told,
                expected=_in_words(_made_by(self.device)),
                fix="continue where it was made, or delete the folder to train the cell anew",
            )
        _restore_random(random)
        return standing, states


def _made_by(device: torch.device) -> dict[str, str]:
    return {"torch": str(torch.__version__), "device": device.type}


def _in_words(made_by: Mapping[str, str]) -> str:
    return f"torch {made_by['torch']} on {made_by['device']}"


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_random(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def saved_epoch(folder: Path) -> int:
    """The epoch, counted from 1, in which training would go on from `folder`."""
    path = folder / CHECKPOINT
    return int(load_tensors(path)["at"]["epoch"]) + 1 if path.is_file() else 1


# ---------------------------------------------------------------- files


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain data so that a reader sees the old file or all of the new.

    Raises OSError, and leaves the old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            _write(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Watched:
    """A file that remembers why it could not be written: torch only says that it could not."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(content: Mapping[str, Any], file: IO[bytes]) -> None:
    watched: Any = _Watched(file)
    try:
        torch.save(dict(content), watched)
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise


def load_tensors(path: Path) -> dict[str, Any]:
    """What `save_tensors` wrote, on the CPU; CellError for a file that is damaged."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise _unreadable(path, error) from None
    if not isinstance(content, dict):
        raise _unreadable(path, TypeError(f"a {type(content).__name__}"))
    return content


def _unreadable(path: Path, error: Exception) -> CellError:
    return CellError(
        "what was saved of a cell cannot be read",
        where=str(path),
        got=f"{type(error).__name__}: {first_line(error)}",
        fix=f"delete {path.parent} to train the cell anew",
    )
