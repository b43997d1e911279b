"""From soundscapes to one table of probabilities that is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import PredictError
from birdlab.evaluate.passes import find_windows
from birdlab.evaluate.windows import batch_windows, end_seconds
from birdlab.infer.card import ModelCard
from birdlab.infer.reading import NotHeard, list_soundscapes, read_ahead, undecodable
from birdlab.infer.rows import usual_count
from birdlab.infer.session import OnnxPredictor

Floats = npt.NDArray[np.float32]
OnBadFile = Literal["fail", "zeros", "prior"]


@dataclass(frozen=True)
class BadFile:
    """A soundscape that could not be decoded: why, and how many rows were made up for it."""

    path: Path
    reason: str
    n_windows: int


@dataclass(frozen=True, eq=False)
class SoundscapePrediction:
    """The probabilities of every window of some soundscapes.

    table: `row_id` (`<stem>_<end second>`) and one float32 column per class, files in the
    order given, windows in time. settings: what computed it.
    """

    table: pd.DataFrame
    card: ModelCard
    n_files: int
    bad_files: tuple[BadFile, ...]
    settings: dict[str, str]


def predict_soundscapes(
    model_path: Path,
    source: Path | Sequence[Path],
    *,
    on_bad_file: OnBadFile = "fail",
    batch: int = 8,
    threads: int | None = None,
    readers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> SoundscapePrediction:
    """What the model at `model_path` says about every window of the soundscapes.

    The whole table is held; `predict_to_file` is for what may be long, or broken off. Files are
    decoded ahead by `readers` threads; batches are filled across files. `progress(files_done,
    files)` is called after each. A file that cannot be decoded raises PredictError (`fail`), or
    gets rows of `zeros`, or the mean probabilities of all windows that were heard (`prior`); its
    number of rows is then that of most other files. Such files are listed in the result.
    """
    if on_bad_file not in ("fail", "zeros", "prior"):
        raise PredictError("unknown policy", got=on_bad_file, expected="fail, zeros or prior")
    predictor = OnnxPredictor(model_path, threads=threads)
    files, card = list_soundscapes(source), predictor.card
    windowing = card.windowing
    n_windows: list[int | None] = []
    reasons: dict[int, str] = {}

    def windows() -> Iterator[Floats]:
        hop = windowing.window_samples
        with closing(read_ahead(files, windowing, hop_samples=hop, readers=readers)) as ahead:
            for item in ahead:
                if isinstance(item, NotHeard):
                    if on_bad_file == "fail":
                        raise undecodable(files[item.place], item.reason)
                    reasons[item.place] = item.reason
                    n_windows.append(None)
                else:
                    n_windows.append(item.n_windows)
                    yield from item.windows
                if progress is not None:
                    progress(item.place + 1, len(files))

    answers = [predictor(waves) for waves in batch_windows(windows(), batch)]
    if not answers:
        raise PredictError(
            "no soundscape can be decoded",
            got=next(iter(reasons.values())),
            fix="give audio files that libsndfile or ffmpeg reads",
        )
    decoded = [n for n in n_windows if n is not None]
    heard = np.concatenate(answers)[find_windows(decoded, windowing.windows_per_pass)]
    usual = usual_count(decoded)
    filler = heard.mean(axis=0) if on_bad_file == "prior" else np.zeros_like(heard[0])
    probs = _with_fillers(heard, n_windows, usual, filler)
    counts = [usual if n is None else n for n in n_windows]
    bad = tuple(BadFile(files[i], reason, usual) for i, reason in reasons.items())
    table = pd.DataFrame(probs, columns=list(card.classes))
    table.insert(0, "row_id", _row_ids(files, counts, card.window_s))
    return SoundscapePrediction(table, card, len(files), bad, predictor.settings)


def _with_fillers(
    heard: Floats, n_windows: Sequence[int | None], usual: int, filler: Floats
) -> Floats:
    """`heard` with `usual` rows of `filler` where a file has no windows."""
    parts, start = [], 0
    for n in n_windows:
        if n is None:
            parts.append(np.tile(filler, (usual, 1)))
        else:
            parts.append(heard[start : start + n])
            start += n
    return np.concatenate(parts)


def _row_ids(files: Sequence[Path], counts: Sequence[int], window_s: float) -> list[str]:
    return [
        f"{path.stem}_{end}"
        for path, n in zip(files, counts, strict=True)
        for end in end_seconds(n, window_s)
    ]
