"""Soundscapes on disk: which there are, what their headers say, their windows decoded ahead."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import MOST_STRETCH, WaveStream, open_stream
from birdlab.data.audiofile import SUFFIXES, open_audio
from birdlab.errors import AudioError, PredictError
from birdlab.evaluate.windows import Windowing, count_windows, stream_windows

Floats = npt.NDArray[np.float32]

HELD_SAMPLES = 24_000_000
"""A file of up to 12.5 minutes at 32 kHz is decoded once and held; a longer one is decoded twice
and streams by. So a reader holds less than 150 MB."""
_PIECES_AHEAD = 16
_FEWEST_BYTES_A_SECOND = 5
"""Even of digital silence every coder takes more; a header that states more seconds is damaged, and
one of millions of windows would take minutes to name them."""


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded: `n_windows` it should give, None if it can't say."""

    path: Path
    size_bytes: int
    modified_ns: int
    sample_rate_hz: int | None
    n_windows: int | None


@dataclass(frozen=True, eq=False)
class Heard:
    """A file of a pass: its place among the files, how many windows it has, what is heard of them.

    windows: the inputs of `stream_windows`, each of one window or of several.
    """

    place: int
    n_windows: int
    windows: Iterator[Floats]


@dataclass(frozen=True)
class NotHeard:
    """A file that cannot be decoded, and why."""

    place: int
    reason: str


def find_soundscapes(source: Path | Sequence[Path]) -> list[Path]:
    """The audio files of a folder by name, or the files given, in their order; there may be none.

    Raises PredictError when the folder is not there, when two files share a stem and so their row
    ids, and for a name that is no UTF-8, which no table can hold.
    """
    if isinstance(source, Path):
        if not source.is_dir():
            what = "is a file" if source.exists() else "is not there"
            raise PredictError(
                f"the folder of soundscapes {what}",
                where=str(source),
                expected="a folder with the recordings in it",
            )
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    else:
        files = list(source)
    odd = [path for path in files if not _is_utf8(path.name)]
    if odd:
        raise PredictError(
            "the name of a soundscape is not UTF-8", got=repr(odd[0].name), fix="rename it"
        )
    twice = sorted(stem for stem, n in Counter(p.stem for p in files).items() if n > 1)
    if twice:
        raise PredictError(
            "soundscapes share a name, so their row ids would be the same",
            got=", ".join(str(p) for p in files if p.stem == twice[0]),
            fix="rename one of them, or predict them apart",
        )
    return files


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_soundscapes(source: Path | Sequence[Path]) -> list[Path]:
    """The files of `find_soundscapes`; PredictError when there are none."""
    files = find_soundscapes(source)
    if not files:
        raise PredictError(
            "there are no soundscapes",
            where=str(source) if isinstance(source, Path) else None,
            expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
        )
    return files


def read_headers(files: Sequence[Path], windowing: Windowing, hop_samples: int) -> list[Header]:
    """What each file says of itself; nothing is decoded."""
    return [_read_header(path, windowing, hop_samples) for path in files]


def _read_header(path: Path, windowing: Windowing, hop_samples: int) -> Header:
    try:
        stat = path.stat()
    except OSError:
        return Header(path, 0, 0, None, None)
    try:
        with open_audio(path) as file:
            rate, frames = int(file.samplerate), int(file.frames)
    except AudioError:
        return Header(path, stat.st_size, stat.st_mtime_ns, None, None)
    too_long = frames / rate > stat.st_size / _FEWEST_BYTES_A_SECOND
    if too_long or rate * MOST_STRETCH < windowing.sample_rate_hz:  # is refused when decoded
        return Header(path, stat.st_size, stat.st_mtime_ns, rate, None)
    n_samples = math.ceil(frames * windowing.sample_rate_hz / rate)
    n = count_hops(n_samples, windowing, hop_samples)
    return Header(path, stat.st_size, stat.st_mtime_ns, rate, n)


def count_hops(n_samples: int, windowing: Windowing, hop_samples: int) -> int:
    """How many windows a recording of `n_samples` has, a hop from one to the next."""
    width = windowing.window_samples
    return (count_windows(n_samples, width) - 1) * (width // hop_samples) + 1


def read_ahead(
    files: Sequence[Path],
    windowing: Windowing,
    *,
    hop_samples: int,
    readers: int = 2,
    first: int = 0,
) -> Generator[Heard | NotHeard]:
    """The files from `first` on, in order, decoded by `readers` threads before they are needed.

    The windows of a file must be taken before the next file is. They raise AudioError where a
    file can no longer be read half-way. At most `readers` files are held besides the one that
    is being heard, each of at most `HELD_SAMPLES`. Close the generator to end it early.
    """
    stopped = Event()
    coming: deque[Queue[Any]] = deque()
    left = iter(files[first:])
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:

        def call_next() -> None:
            if (path := next(left, None)) is not None:
                coming.append(Queue(_PIECES_AHEAD))
                pool.submit(_read, path, windowing.sample_rate_hz, coming[-1], stopped)

        try:
            for _ in range(readers + 1):
                call_next()
            for place in range(first, len(files)):
                pieces = coming.popleft()
                yield _as_heard(place, pieces, windowing, hop_samples)
                call_next()
        finally:
            stopped.set()


def undecodable(path: Path, reason: str) -> PredictError:
    """The error of a file that cannot be decoded, where that is not allowed."""
    return PredictError(
        "a soundscape cannot be decoded",
        where=str(path),
        got=reason,
        fix="repair or remove it, or fill its rows: --on-bad-file prior (or zeros)",
    )


def _as_heard(
    place: int, pieces: Queue[Any], windowing: Windowing, hop_samples: int
) -> Heard | NotHeard:
    try:
        stream = _take(pieces)
    except AudioError as error:
        return NotHeard(place, str(error.what if error.got is None else error.got))
    n = count_hops(stream.n_samples, windowing, hop_samples)
    windows = stream_windows(
        _take_all(pieces), stream.n_samples, stream.scale, windowing, hop_samples
    )
    return Heard(place, n, windows)


def _take_all(pieces: Queue[Any]) -> Iterator[npt.NDArray[np.int16]]:
    while (piece := _take(pieces)) is not None:
        yield piece


def _take(pieces: Queue[Any]) -> Any:
    """What the reader of a file says next; its error is raised here."""
    item = pieces.get()
    if isinstance(item, BaseException):
        raise item
    return item


def _read(path: Path, sample_rate_hz: int, pieces: Queue[Any], stopped: Event) -> None:
    """Decode a file into `pieces`: a WaveStream without its own, arrays, None; or an error."""

    def put(item: Any) -> None:
        while not stopped.is_set():
            try:
                pieces.put(item, timeout=0.2)
            except Full:
                continue
            return

    try:
        stream = open_stream(path, sample_rate_hz, HELD_SAMPLES)
        made = stream.pieces
        if stream.n_samples <= HELD_SAMPLES:
            made = iter([np.concatenate(list(made))])
        put(WaveStream(stream.n_samples, stream.scale, iter(())))
        while not stopped.is_set() and (piece := next(made, None)) is not None:
            put(piece)
        put(None)
    except BaseException as error:  # handed to the one who waits for the file
        put(error)
