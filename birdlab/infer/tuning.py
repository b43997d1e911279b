"""How many sessions of how many threads a model runs fastest with on this machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import PredictError
from birdlab.infer.jsontext import parse_json
from birdlab.infer.passes import Course, Engine, ModelChoice
from birdlab.infer.reading import Heard, read_ahead
from birdlab.infer.store import WorkStore

Floats = npt.NDArray[np.float32]

TUNING_FILE = "tuning.json"
WORTH_WINDOWS = 500
CLEARLY = 1.15
"""How many times as fast another arrangement must be to take the place of the first."""
SECONDS_EACH = 2.0
_CGROUP = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """The cores that this process may use: by its affinity, and by the quota of its container."""
    n = len(os.sched_getaffinity(0))
    return max(1, min(n, _quota() or n))


def _quota() -> int | None:
    """The cores a container is allowed, rounded up; None without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            said = " ".join((_CGROUP / name).read_text() for name in names).split()
        except OSError:
            continue
        if len(said) == 2 and all(word.isdigit() for word in said) and int(said[1]):
            return -(-int(said[0]) // int(said[1]))
    return None


def list_arrangements(cores: int) -> list[tuple[int, int]]:
    """(sessions, threads) that use all cores: many sessions of one thread to one of many."""
    return [(cores // n, n) for n in range(1, cores + 1) if cores % n == 0]


def measure_rate(engine: Engine, waves: Floats, seconds: float = SECONDS_EACH) -> float:
    """Windows a second in `seconds` of work, after a first batch in each session."""
    members = range(len(engine.predictor.card.members))
    wait([engine.submit(waves, members) for _ in range(engine.sessions)])
    began, n = time.perf_counter(), 0
    while n < 2 or time.perf_counter() - began < seconds:
        for future in [engine.submit(waves, members) for _ in range(engine.sessions)]:
            future.result()
        n += 1
    n_windows = n * engine.sessions * len(waves) * engine.predictor.card.windows_per_pass
    return n_windows / (time.perf_counter() - began)


def tune(
    model: ModelChoice,
    waves: Floats,
    *,
    cores: int | None = None,
    seconds_each: float = SECONDS_EACH,
) -> tuple[Engine, dict[tuple[int, int], float]]:
    """The fastest engine for batches like `waves`, open, and windows a second of each tried.

    The first arrangement, a session of one thread on every core, stays unless another one is
    faster by `CLEARLY`: decoding runs beside the network later, and threads of one batch that wait
    for each other lose more by it than sessions do.
    """
    rates: dict[tuple[int, int], float] = {}
    fastest: Engine | None = None
    engine: Engine | None
    for sessions, threads in list_arrangements(count_cores() if cores is None else cores):
        engine = Engine(model, sessions, threads)
        rate = measure_rate(engine, waves, seconds_each)
        if fastest is None or rate > CLEARLY * max(rates.values()):
            fastest, engine = engine, fastest
        rates[sessions, threads] = rate
        if engine is not None:
            engine.close()
        del engine  # before the next one takes its room
    if fastest is None:
        raise PredictError("there is no core to run on", got=cores, expected="at least 1")
    return fastest, rates


def arrange_engine(
    engine: Engine, course: Course, store: WorkStore, n_windows: int, say: Callable[[str], None]
) -> Engine:
    """The engine that hears the windows: as the store's settings say, else as an earlier run found,
    else measured on the first windows, else `engine`. What is chosen is kept in the store.

    A job of less than `WORTH_WINDOWS` is not worth the measuring. `engine` is closed if another one
    takes its place.
    """
    settled = store.manifest["sessions"], store.manifest["threads"]
    folder, cores = engine.model.path.parent, count_cores()
    key = tuning_key(store.manifest["model"], engine.predictor.settings, cores, course.batch)
    found = settled if None not in settled else recall_tuning(folder, key)
    if found is None and n_windows >= WORTH_WINDOWS and cores > 1:
        engine.close()
        engine, rates = tune(engine.model, first_windows(course))
        tried = ", ".join(f"{s} x {t} {rate:.1f}/s" for (s, t), rate in rates.items())
        kept = remember_tuning(folder, key, engine.sessions, engine.threads)
        where = "kept beside the model" if kept else "its folder cannot be written, so not kept"
        say(f"sessions x threads, in windows a second: {tried}; {where}")
    elif found is not None and found != (engine.sessions, engine.threads):
        engine.close()
        engine = Engine(engine.model, *found)
    store.settle(engine.sessions, engine.threads)
    return engine


def first_windows(course: Course) -> Floats:
    """A batch of the first windows that can be heard, [batch, samples]; repeated if they are few.

    Silence where there is none.
    """
    ahead = read_ahead(course.files, course.windowing, hop_samples=course.hop_samples, readers=1)
    found: list[Floats] = []
    with closing(ahead):
        for item in ahead:
            if isinstance(item, Heard):
                found += islice(item.windows, course.batch - len(found))
            if len(found) == course.batch:
                break
    found = found or [np.zeros(course.windowing.input_samples, np.float32)]
    return np.stack([found[i % len(found)] for i in range(course.batch)])


def recall_tuning(folder: Path, key: str) -> tuple[int, int] | None:
    """The arrangement that an earlier run found fastest and kept in `folder`, or None."""
    entry = _load(folder).get(key)
    if (
        not isinstance(entry, list)
        or len(entry) != 2
        or not all(isinstance(n, int) and 1 <= n <= 4096 for n in entry)
    ):
        return None
    return entry[0], entry[1]


def remember_tuning(folder: Path, key: str, sessions: int, threads: int) -> bool:
    """Was the arrangement kept in `folder`? Not where nothing can be written, as in a notebook."""
    known = {**_load(folder), key: [sessions, threads]}
    temporary = folder / f".{TUNING_FILE}.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
        temporary.replace(folder / TUNING_FILE)
    except OSError:
        return False
    return True


def tuning_key(sha256: str, settings: dict[str, str], cores: int, batch: int) -> str:
    """What a measured arrangement holds for: this model, engine, processor, number of cores."""
    said = [v for k, v in sorted(settings.items()) if k != "threads"]
    return " ".join([sha256[:16], *said, processor_name(), f"cores={cores}", f"batch={batch}"])


def processor_name() -> str:
    """The kind of processor in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _load(folder: Path) -> dict[str, Any]:
    try:
        known = parse_json((folder / TUNING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
