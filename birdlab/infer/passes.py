"""A pass: every window that some members have not heard yet, through the network, into the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birdlab.errors import AudioError, PredictError
from birdlab.evaluate.windows import Windowing, batch_windows
from birdlab.infer.reading import Heard, NotHeard, read_ahead
from birdlab.infer.session import SoundPredictor, open_predictor
from birdlab.infer.store import WorkStore

Floats = npt.NDArray[np.float32]


class Engine:
    """`sessions` batches at a time through a model, each on `threads` cores.

    ONNX Runtime answers several callers out of one session, so its weights are held once;
    other engines are opened once per caller.
    """

    def __init__(
        self, path: Path, sessions: int, threads: int, *, variant: str | None, force: bool = False
    ) -> None:
        self.sessions, self.threads = sessions, threads
        first = open_predictor(path, threads=threads, variant=variant, force=force)
        several = 1 if first.settings.get("engine") == "onnxruntime" else sessions
        more = (
            open_predictor(path, threads=threads, variant=variant, force=force)
            for _ in range(several - 1)
        )
        self._free = deque([first, *more] * (sessions // several))
        self.predictor: SoundPredictor = first
        self._pool = ThreadPoolExecutor(sessions, thread_name_prefix="session")

    def submit(self, waves: Floats, members: Sequence[int]) -> Future[list[Floats]]:
        """The coming answers of the members to a batch, which must not change meanwhile."""
        return self._pool.submit(self._answer, waves, members)

    def _answer(self, waves: Floats, members: Sequence[int]) -> list[Floats]:
        predictor = self._free.popleft()
        try:
            return predictor.member_probs(waves, members)
        finally:
            self._free.append(predictor)

    def close(self) -> None:
        """Wait for what runs and let go of the rest."""
        self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Course:
    """What every pass of a prediction goes through."""

    files: tuple[Path, ...]
    windowing: Windowing
    hop_samples: int
    batch: int
    readers: int = 2


def run_pass(
    course: Course,
    engine: Engine,
    store: WorkStore,
    members: Sequence[int],
    go_on: Callable[[int], bool],
) -> bool:
    """Have these members heard every window at the end? What they hear is kept in the store.

    They start where the store ends; batches always begin at the same windows, so a pass that
    was broken off gives the same bits. `go_on(n)` is asked after each batch with how many
    windows are kept, and ends the pass by saying no.
    """
    done = store.begin(members)
    running: deque[Future[list[Floats]]] = deque()

    def keep_oldest() -> bool:
        nonlocal done
        answers = running.popleft().result()
        store.append(members, answers)
        done += len(answers[0])
        return go_on(done)

    try:
        with closing(_windows_from(course, store, done)) as windows:
            for waves in batch_windows(windows, course.batch):
                running.append(engine.submit(waves.copy(), members))
                if len(running) > engine.sessions and not keep_oldest():
                    return False
        while running:
            if not keep_oldest() and running:
                return False
        return True
    finally:
        for future in running:
            future.cancel()


def _windows_from(course: Course, store: WorkStore, n_done: int) -> Generator[Floats]:
    """The windows of all files after the first `n_done`; files turn out as the store knows them."""
    known = store.known
    first, skip = 0, n_done
    while first in known and skip >= known[first].n_windows and first < len(course.files):
        skip -= known[first].n_windows
        first += 1
    ahead = read_ahead(
        course.files,
        course.windowing,
        hop_samples=course.hop_samples,
        readers=course.readers,
        first=first,
    )
    with closing(ahead):
        for item in ahead:
            known_n = known[item.place].n_windows if item.place in known else None
            yield from islice(_as_known(course, store, item, known_n), skip, None)
            skip = 0


def _as_known(
    course: Course, store: WorkStore, item: Heard | NotHeard, known_n: int | None
) -> Iterator[Floats]:
    """The windows of a file, as many as are known of it; silence where it can no longer be read."""
    if isinstance(item, NotHeard):
        store.note_file(item.place, known_n or 0, item.reason)
        yield from _silence(course, known_n or 0)
        return
    if known_n is not None and known_n not in (0, item.n_windows):
        raise PredictError(
            "a soundscape changed while it was predicted",
            where=str(course.files[item.place]),
            got=f"{item.n_windows} windows",
            expected=f"{known_n}",
            fix="give the same command again: it starts anew",
        )
    if known_n is None:
        store.note_file(item.place, item.n_windows)
    left = item.n_windows
    try:
        for window in item.windows:
            if known_n != 0:
                left -= 1
                yield window
    except AudioError as error:
        store.note_file(item.place, item.n_windows, str(error.got or error.what))
        yield from _silence(course, left if known_n != 0 else 0)


def _silence(course: Course, n: int) -> Iterator[Floats]:
    for _ in range(n):
        yield np.zeros(course.windowing.input_samples, np.float32)
