"""How quick a machine is with a promoted model: decoding, mel, every member, all cores at once."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import soundfile

from birdlab.data.audio import decode
from birdlab.errors import PredictError
from birdlab.evaluate.windows import batch_windows, iter_windows
from birdlab.infer.budget import FORMAT
from birdlab.infer.card import ModelCard
from birdlab.infer.checksums import file_sha256
from birdlab.infer.session import OnnxPredictor, SoundPredictor, open_predictor
from birdlab.infer.variants import FP32, Variant

Floats = npt.NDArray[np.float32]
BATCH = 8
"""Windows a call of the network, as in `predict`."""
SOUND_S = 60.0
_FEWEST = 3
"""Passes of everything that is timed, however little time there is."""


def measure_machine(
    model_path: Path,
    *,
    cores: int | None = None,
    seconds: float = 20.0,
    variant: Variant | None = None,
    by: Literal["clock", "processor"] = "clock",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The machine file of this machine and this model, as JSON-able data; see `read_machine`.

    `variant`: the form of the model, default the file itself; `cores`: how many work (default:
    all that this process may use); `seconds`: about how long it takes, more for slow models.
    Sound is made up, since times do not depend on it. Times of the mel and of members are those
    of one thread alone, the least of some passes; `crowding` is how much more of a core a window
    takes when all cores work, in the best of the ways to share them among sessions: `by` the
    clock, as the machine is now, or by the processor's time, as if nothing else ran on it. Raises
    PredictError for more cores than there are.
    """
    available = count_cores()
    n_cores = available if cores is None else cores
    if not 1 <= n_cores <= available:
        raise PredictError(
            "so many cores cannot be measured here", got=n_cores, expected=f"1 to {available}"
        )
    tell = progress or (lambda text: None)
    began = time.perf_counter()
    first = open_predictor(model_path, threads=1, variant=variant)
    startup_s = time.perf_counter() - began
    card = first.card
    with tempfile.TemporaryDirectory(prefix="birdlab-benchmark-") as folder:
        sound = write_soundscape(Path(folder) / "sound.ogg", SOUND_S, card.sample_rate_hz)
        batch = next(
            batch_windows(iter_windows(decode(sound, card.sample_rate_hz), card.windowing), BATCH)
        )
        tell("decoding")
        decode_s = _time_decoding(sound, card, n_cores, seconds / 8) * 60 / SOUND_S
    tell("mel and members, one by one")
    mel_ms, members_ms = _time_members(first, batch, seconds / 2)
    del first
    rates, busy_ms = {}, []
    ways = share_cores(n_cores)
    for sessions, threads in ways:
        tell(f"all members, {sessions} sessions of {threads} threads")
        predictors = [
            open_predictor(model_path, threads=threads, variant=variant) for _ in range(sessions)
        ]
        rate, busy = _time_together(predictors, batch, seconds / 3 / len(ways))
        rates[f"{sessions}x{threads}"] = rate
        busy_ms.append(busy)
    core_ms = 1000 * n_cores / max(rates.values()) if by == "clock" else min(busy_ms)
    return {
        "birdlab_machine": FORMAT,
        "processor": processor_name(),
        "cores": n_cores,
        "cores_available": available,
        "python": platform.python_version(),
        "versions": _versions(),
        "model": {
            "sha256": file_sha256(model_path.with_name(variant.file) if variant else model_path),
            "variant": variant.name if variant else FP32.name,
        },
        "window_s": card.window_s,
        "batch": BATCH,
        "decode_s_per_audio_minute": decode_s,
        "mel_ms_per_window": mel_ms,
        "members": [
            {"name": member.name, "ms_per_window": ms}
            for member, ms in zip(card.members, members_ms, strict=True)
        ],
        "windows_per_s": rates,
        "measured_by": by,
        "crowding": core_ms / (mel_ms + sum(members_ms)),
        "startup_s": startup_s,
    }


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The kind of processor in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def share_cores(cores: int) -> list[tuple[int, int]]:
    """The ways to share cores: (sessions, threads of each), none left over."""
    return [(cores // t, t) for t in range(1, cores + 1) if cores % t == 0]


def write_soundscape(path: Path, duration_s: float, sample_rate_hz: int, seed: int = 0) -> Path:
    """The path of a written Ogg file: chirps over noise, about as large as a real recording."""
    rng = np.random.default_rng(seed)
    with soundfile.SoundFile(path, "w", sample_rate_hz, 1, format="OGG") as file:
        left = round(duration_s * sample_rate_hz)
        while left > 0:  # second by second: libsndfile's encoder takes no long writes
            t = np.arange(min(left, sample_rate_hz)) / sample_rate_hz
            pitch_hz = rng.uniform(0.05, 0.3) * sample_rate_hz
            chirp = np.sin(2 * np.pi * pitch_hz * t * (1 + 0.2 * t)) * np.exp(-8 * t)
            file.write(0.3 * chirp + 0.02 * rng.standard_normal(len(t)))
            left -= len(t)
    return path


def _time_decoding(sound: Path, card: ModelCard, cores: int, seconds: float) -> float:
    """Seconds of one core to decode a file and cut its windows while all cores do so: median."""

    def read() -> list[float]:
        took: list[float] = []
        began = time.perf_counter()
        while len(took) < _FEWEST or time.perf_counter() - began < seconds:
            start = time.thread_time()
            for _ in batch_windows(
                iter_windows(decode(sound, card.sample_rate_hz), card.windowing), BATCH
            ):
                pass
            took.append(time.thread_time() - start)
        return took

    with ThreadPoolExecutor(cores) as pool:
        started = [pool.submit(read) for _ in range(cores)]
    return statistics.median(s for future in started for s in future.result())


def _time_members(
    predictor: SoundPredictor, batch: Floats, seconds: float
) -> tuple[float, list[float]]:
    """Milliseconds a window of the front-ends and of each member without: the least, by turns."""
    n = predictor.n_members
    calls: list[Callable[[], object]] = [
        partial(predictor.member_probs, batch, members)
        for members in (range(n), *([i] for i in range(n)))
    ]
    if isinstance(predictor, OnnxPredictor) and predictor.run_frontends(batch):
        calls.append(partial(predictor.run_frontends, batch))
    least = [float("inf")] * len(calls)
    began, passes = time.perf_counter(), 0
    while passes <= _FEWEST or time.perf_counter() - began < seconds:
        for i, call in enumerate(calls):
            start = time.process_time()  # of one thread: other programs do not lengthen it
            call()
            took = 1000 * (time.process_time() - start) / len(batch)
            least[i] = min(least[i], took) if passes else least[i]  # the first one warms up
        passes += 1
    return split_times(least[0], least[1 : n + 1], least[n + 1] if len(least) > n + 1 else None)


def split_times(
    whole_ms: float, each_ms: Sequence[float], mel_ms: float | None
) -> tuple[float, list[float]]:
    """The time of the front-ends, and of each member without, so that they sum to the whole.

    `whole_ms`: of a call for all members, which makes each mel once; `each_ms`: of a call for
    one, which makes its own mel; `mel_ms`: of the front-ends alone, None where that cannot be
    had. Then one front-end is taken to serve all members, and that of a single member counts as
    part of it.
    """
    n, again = len(each_ms), sum(each_ms) - whole_ms
    if mel_ms is None:
        mel_ms = max(0.0, again / (n - 1)) if n > 1 else 0.0
    own = min(max((mel_ms + again) / n, 0.0), mel_ms)
    return mel_ms, [max(0.0, ms - own) for ms in each_ms]


def _time_together(
    predictors: Sequence[SoundPredictor], batch: Floats, seconds: float
) -> tuple[float, float]:
    """Windows a second of all sessions at work, and the processor's milliseconds a window."""
    for predictor in predictors:
        predictor(batch)
    ready = threading.Barrier(len(predictors))

    def work(predictor: SoundPredictor) -> tuple[int, float]:
        ready.wait()
        began, calls = time.perf_counter(), 0
        while calls < _FEWEST or time.perf_counter() - began < seconds:
            predictor(batch)
            calls += 1
        return calls * len(batch), time.perf_counter() - began

    start = time.process_time()
    with ThreadPoolExecutor(len(predictors)) as pool:
        done = list(pool.map(work, predictors))
    busy_ms = 1000 * (time.process_time() - start) / sum(windows for windows, _ in done)
    return sum(windows / took for windows, took in done), busy_ms


def _versions() -> dict[str, str]:
    return {
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }
