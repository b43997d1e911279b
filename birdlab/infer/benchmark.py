"""How quick a machine is with a promoted model: decoding, mel, every member, all cores at once."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import soundfile

from birdlab.errors import PredictError
from birdlab.evaluate.windows import Windowing, batch_windows
from birdlab.infer.budget import FORMAT
from birdlab.infer.checksums import file_sha256
from birdlab.infer.passes import Engine, ModelChoice
from birdlab.infer.reading import HELD_SAMPLES, Heard, read_ahead
from birdlab.infer.session import OnnxPredictor, SoundPredictor
from birdlab.infer.tuning import count_cores, list_arrangements, processor_name
from birdlab.infer.variants import FP32

Floats = npt.NDArray[np.float32]
BATCH = 8
"""Inputs a call of the network, as in `predict`: windows, or passes of several."""
SOUND_S = 60.0
_FEWEST = 3
"""Passes of everything that is timed, however little time there is."""


def measure_machine(
    model: ModelChoice,
    *,
    cores: int | None = None,
    seconds: float = 20.0,
    by: Literal["clock", "processor"] = "clock",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The machine file of this machine and this model, as JSON-able data; see `read_machine`.

    `cores`: how many work (default: all that this process may use); `seconds`: about how long it
    takes, more for slow models. Sound is made up, since times do not depend on it. Times of the
    mel and of members are those of one thread alone, the least of some passes; `crowding` is how
    much more of a core a window takes when all cores work as `predict` has them work, in the best
    of the ways to share them among sessions: `by` the clock, as the machine is now, or by the
    processor's time, as if nothing else ran on it. Raises PredictError for more cores than there
    are.
    """
    available = count_cores()
    n_cores = available if cores is None else cores
    if not 1 <= n_cores <= available:
        raise PredictError(
            "so many cores cannot be measured here", got=n_cores, expected=f"1 to {available}"
        )
    tell = progress or (lambda text: None)
    began = time.perf_counter()
    first = model.open(1)
    startup_s, card = time.perf_counter() - began, first.card
    tell("decoding")
    decode_s, batch = _time_decoding(card.windowing, n_cores, seconds / 6)
    tell("mel and members, one by one")
    mel_ms, members_ms = _time_members(first, batch, seconds / 2)
    del first
    rates, busy_ms = {}, []
    ways = list_arrangements(n_cores)
    for sessions, threads in ways:
        tell(f"all members, {sessions} sessions x {threads} threads")
        rate, busy = _time_together(
            Engine(model, sessions, threads), batch, seconds / 3 / len(ways)
        )
        rates[f"{sessions}x{threads}"] = rate
        busy_ms.append(busy)
    clock_ms, processor_ms = 1000 * n_cores / max(rates.values()), min(busy_ms)
    core_ms = clock_ms if by == "clock" else processor_ms
    return {
        "birdlab_machine": FORMAT,
        "processor": processor_name(),
        "cores": n_cores,
        "cores_available": available,
        "python": platform.python_version(),
        "versions": _versions(),
        "model": {"sha256": file_sha256(model.file), "variant": model.variant or FP32.name},
        "window_s": card.window_s,
        "windows_per_pass": card.windows_per_pass,
        "batch": BATCH,
        "decode_s_per_audio_minute": decode_s,
        "decoded_once_minutes": HELD_SAMPLES / card.sample_rate_hz / 60,
        "mel_ms_per_window": mel_ms,
        "members": [
            {"name": member.name, "backbone": member.backbone, "ms_per_window": ms}
            for member, ms in zip(card.members, members_ms, strict=True)
        ],
        "windows_per_s": rates,
        "measured_by": by,
        "share_of_cores": min(1.0, processor_ms / clock_ms),
        "crowding": core_ms / (mel_ms + sum(members_ms)),
        "startup_s": startup_s,
    }


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


def _time_decoding(windowing: Windowing, readers: int, seconds: float) -> tuple[float, Floats]:
    """Seconds of one core to decode a minute of sound and cut it, as `predict` does it; a batch."""
    hop = windowing.window_samples
    with tempfile.TemporaryDirectory(prefix="birdlab-benchmark-") as folder:
        path = Path(folder) / "sound.ogg"
        sounds = [write_soundscape(path, SOUND_S, windowing.sample_rate_hz)] * (2 * readers)
        took: list[float] = []
        began = time.perf_counter()
        while len(took) < _FEWEST or time.perf_counter() - began < seconds:
            start = time.process_time()
            with closing(read_ahead(sounds, windowing, hop_samples=hop, readers=readers)) as ahead:
                windows = (w for item in ahead if isinstance(item, Heard) for w in item.windows)
                batches = [batch.copy() for batch in batch_windows(windows, BATCH)]
            took.append(time.process_time() - start)
    return statistics.median(took) * 60 / SOUND_S / len(sounds), batches[0]


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
    n_windows = len(batch) * predictor.card.windows_per_pass
    began, passes = time.perf_counter(), 0
    while passes <= _FEWEST or time.perf_counter() - began < seconds:
        for i, call in enumerate(calls):
            start = time.process_time()  # of one thread: other programs do not lengthen it
            call()
            took = 1000 * (time.process_time() - start) / n_windows
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


def _time_together(engine: Engine, batch: Floats, seconds: float) -> tuple[float, float]:
    """Windows a second with every session at work, and the processor's milliseconds a window."""
    members, n = range(engine.predictor.n_members), 0
    with closing(engine):
        wait([engine.submit(batch, members) for _ in range(engine.sessions)])
        began, start = time.perf_counter(), time.process_time()
        running = deque(engine.submit(batch, members) for _ in range(engine.sessions))
        while n < _FEWEST * engine.sessions or time.perf_counter() - began < seconds:
            running.append(engine.submit(batch, members))
            running.popleft().result()
            n += 1
        wait(running)
        windows = (n + len(running)) * len(batch) * engine.predictor.card.windows_per_pass
        return (
            windows / (time.perf_counter() - began),
            1000 * (time.process_time() - start) / windows,
        )


def _versions() -> dict[str, str]:
    return {
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }
