"""From a folder of soundscapes to a table of probabilities, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.audio import SUFFIXES, Waveform, decode
from birdlab.errors import AudioError, PredictError
from birdlab.evaluate.windows import batch_windows, count_windows, end_seconds, iter_windows
from birdlab.infer.card import ModelCard
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


def list_soundscapes(source: Path | Sequence[Path]) -> list[Path]:
    """The audio files of a folder by name, or the files given, in their order.

    Raises PredictError when there are none, or when two share a stem and so their row ids.
    """
    if isinstance(source, Path):
        if not source.is_dir():
            raise PredictError("the folder of soundscapes is not there", where=str(source))
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    else:
        files = list(source)
    if not files:
        raise PredictError(
            "there are no soundscapes",
            where=str(source) if isinstance(source, Path) else None,
            expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
        )
    twice = sorted(stem for stem, n in Counter(p.stem for p in files).items() if n > 1)
    if twice:
        raise PredictError(
            "soundscapes share a name, so their row ids would be the same",
            got=", ".join(str(p) for p in files if p.stem == twice[0]),
            fix="rename one of them, or predict them apart",
        )
    return files


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

    Files are decoded ahead by `readers` threads; batches are filled across files; at most
    `readers` + 1 decoded files are held. `progress(files_done, files)` is called after each.
    A file that cannot be decoded raises PredictError (`fail`), or gets rows of `zeros`, or
    the mean probabilities of all windows that were heard (`prior`); its number of rows is
    then that of most other files. Such files are listed in the result.
    """
    if on_bad_file not in ("fail", "zeros", "prior"):
        raise PredictError("unknown policy", got=on_bad_file, expected="fail, zeros or prior")
    predictor = OnnxPredictor(model_path, threads=threads)
    files, card = list_soundscapes(source), predictor.card
    windowing = card.windowing
    n_windows: list[int | None] = []
    reasons: dict[int, str] = {}

    def windows() -> Iterator[Floats]:
        for i, wave in enumerate(_decode_ahead(files, card.sample_rate_hz, readers)):
            if isinstance(wave, AudioError):
                if on_bad_file == "fail":
                    raise _undecodable(files[i], wave)
                reasons[i] = str(wave)
                n_windows.append(None)
            else:
                n_windows.append(count_windows(wave.n_samples, windowing.window_samples))
                yield from iter_windows(wave, windowing)
            if progress is not None:
                progress(i + 1, len(files))

    answers = [predictor(waves) for waves in batch_windows(windows(), batch)]
    if not answers:
        raise PredictError("no soundscape can be decoded", got=next(iter(reasons.values())))
    heard = np.concatenate(answers)
    usual = _usual(n for n in n_windows if n is not None)
    filler = heard.mean(axis=0) if on_bad_file == "prior" else np.zeros_like(heard[0])
    probs = _with_fillers(heard, n_windows, usual, filler)
    counts = [usual if n is None else n for n in n_windows]
    bad = tuple(BadFile(files[i], reason, usual) for i, reason in reasons.items())
    table = pd.DataFrame(probs, columns=list(card.classes))
    table.insert(0, "row_id", _row_ids(files, counts, card.window_s))
    return SoundscapePrediction(table, card, len(files), bad, predictor.settings)


def _decode_ahead(
    files: Sequence[Path], sample_rate_hz: int, readers: int
) -> Iterator[Waveform | AudioError]:
    """The decoded files in order; errors are handed over, not raised."""

    def read(path: Path) -> Waveform | AudioError:
        try:
            return decode(path, sample_rate_hz)
        except AudioError as error:
            return error

    waiting: deque[Future[Waveform | AudioError]] = deque()
    with ThreadPoolExecutor(max_workers=readers) as pool:
        try:
            for path in files:
                waiting.append(pool.submit(read, path))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _usual(n_windows: Iterable[int]) -> int:
    """The commonest number of windows, the larger one in a tie."""
    counts = Counter(n_windows)
    return max(counts, key=lambda n: (counts[n], n))


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


def _undecodable(path: Path, error: AudioError) -> PredictError:
    return PredictError(
        "a soundscape cannot be decoded",
        where=str(path),
        got=error.got if error.got is not None else error.what,
        fix="repair or remove it, or fill its rows: --on-bad-file prior (or zeros)",
    )
