"""A pass: the windows that some members have not heard yet, into the network and the store."""

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
from birdlab.infer.reading import Heard, NotHeard, read_ahead, undecodable
from birdlab.infer.session import SoundPredictor, open_predictor
from birdlab.infer.store import WorkStore
from birdlab.infer.variants import FP32, choose_variant

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelChoice:
    """A promoted model and the variant of it that is to be run; see `open_predictor`."""

    path: Path
    variant: str | None = None
    force: bool = False

    @property
    def file(self) -> Path:
        """The file that is run; PredictError as `choose_variant`."""
        if self.variant in (None, FP32.name):
            return self.path
        chosen = choose_variant(self.path.parent, str(self.variant), force=self.force)
        return self.path.parent / chosen.file

    def open(self, threads: int) -> SoundPredictor:
        """The model ready to predict."""
        return open_predictor(self.path, threads=threads, variant=self.variant, force=self.force)


class Engine:
    """`sessions` batches at a time through a model, each on `threads` cores.

    ONNX Runtime answers several callers out of one session, so its weights are held once;
    other engines are opened once per caller.
    """

    def __init__(self, model: ModelChoice, sessions: int, threads: int) -> None:
        self.model, self.sessions, self.threads = model, sessions, threads
        self.predictor = model.open(threads)
        shared = self.predictor.settings.get("engine") == "onnxruntime"
        others = [self.predictor if shared else model.open(threads) for _ in range(sessions - 1)]
        self._free = deque([self.predictor, *others])
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
    """What every pass of a prediction goes through; `refuse_bad`: a file that fails ends it."""

    files: tuple[Path, ...]
    windowing: Windowing
    hop_samples: int
    batch: int
    readers: int = 2
    refuse_bad: bool = False


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
    inputs are kept, each of one window or of several, and ends the pass by saying no.
    """
    done = store.begin(members)
    running: deque[Future[list[Floats]]] = deque()

    def keep_oldest() -> bool:
        nonlocal done
        answers = running.popleft().result()
        store.append(members, answers)
        done += len(answers[0]) // course.windowing.windows_per_pass
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
    """The inputs of all files after the first `n_done`; files turn out as the store knows them."""
    known = store.known
    first, skip = 0, n_done
    while first in known and first < len(course.files):
        n_inputs = store.count_inputs(known[first].n_windows)
        if skip < n_inputs:
            break
        skip -= n_inputs
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
    """The inputs of a file, as many as are known of it; silence where it can no longer be read."""
    if isinstance(item, NotHeard):
        if course.refuse_bad:
            raise undecodable(course.files[item.place], item.reason)
        store.note_file(item.place, known_n or 0, item.reason)
        yield from _silence(course, store.count_inputs(known_n or 0))
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
    left = store.count_inputs(item.n_windows)
    try:
        for window in item.windows:
            if known_n != 0:
                left -= 1
                yield window
    except AudioError as error:
        reason = str(error.got or error.what)
        if course.refuse_bad:
            raise undecodable(course.files[item.place], reason) from None
        store.note_file(item.place, item.n_windows, reason)
        yield from _silence(course, left if known_n != 0 else 0)


def _silence(course: Course, n: int) -> Iterator[Floats]:
    for _ in range(n):
        yield np.zeros(course.windowing.input_samples, np.float32)
