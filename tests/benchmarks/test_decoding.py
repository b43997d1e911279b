"""Decoding against librosa.load, in one thread, on real recordings: `make bench`.

librosa gives the mono wave at 32 kHz as float32. `decode` does that, scales it to int16 by its
own peak and looks whether the file is whole; `measure` does all but the scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from rows import Row, note

from birdlab.data.audio import decode, measure

REAL = Path(__file__).parents[3] / "shared" / "data" / "realbirds"
RATE, ROUNDS = 32_000, 6
NOISE = 1.05
"""Best times of two equal loops differ by so much on a machine that has other work."""

pytestmark = [
    pytest.mark.realbirds,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what librosa imports
    pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside the checkout"),
]


def load_with_librosa(path: Path) -> Any:
    return librosa.load(path, sr=RATE, res_type="kaiser_best")[0]


def ratio_by_file(
    benchmark: Any,
    ours: Callable[[Path], Any],
    files: Sequence[Path],
    what: str,
    most: float,
    asked: str = "",
    why: str = "",
) -> float:
    """Our time over librosa's: each file by both in turn, the best of all rounds for each file.

    `most` is what it may be; `asked` and `why` are told on the page of benchmarks.
    """
    ours_s, peer_s = (np.full(len(files), np.inf) for _ in range(2))
    rounds = count()

    def one_round() -> None:
        n = next(rounds)
        for place, path in enumerate(files):
            pair = [(load_with_librosa, peer_s), (ours, ours_s)]
            for function, best in pair if (n + place) % 2 else pair[::-1]:  # the second is warmer
                began = perf_counter()
                function(path)
                best[place] = min(best[place], perf_counter() - began)

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)
    ratio = float(ours_s.sum() / peer_s.sum())
    audio_s = sum(soundfile.info(path).duration for path in files)
    benchmark.extra_info["ratio_to_peer"] = round(ratio, 4)
    rates = [f"{audio_s / s.sum():,.0f} x real time" for s in (ours_s, peer_s)]
    row = Row("Data", f"{what}, {len(files)} real files", rates[0], f"{rates[1]}, `librosa.load`")
    held = ratio < most if asked else None
    note(benchmark, replace(row, ahead=1 / ratio, asked=asked, held=held, why=why))
    print(
        f"\n{benchmark.name}: {what}, {len(files)} files, {audio_s:.0f} s: "
        f"{ratio:.3f} of librosa's time, {1 / ratio:.1f} x as fast, "
        f"{audio_s / ours_s.sum():,.0f} x real time (librosa {audio_s / peer_s.sum():,.0f})"
    )
    return ratio


def test_files_of_any_format_are_decoded_5_times_as_fast(benchmark: Any) -> None:
    """wav, flac, ogg and mp3 of 8 to 48 kHz, mono and stereo, as found in the wild."""
    files = sorted((REAL / "formats").iterdir())
    assert len(files) == 24
    what, asked = "decode and resample 8 to 48 kHz, one thread", "at least 5 x"
    assert ratio_by_file(benchmark, decode, files, what, 0.2, asked) < 0.2


def test_files_at_the_right_rate_are_not_decoded_slower(benchmark: Any) -> None:
    """Ogg Vorbis at 32 kHz: nothing to resample, so both do what libsndfile does."""
    files = sorted((REAL / "train_audio").glob("*/*.ogg"))
    what, asked = "decode Ogg at 32 kHz without scaling, one thread", "not slower (5 % for noise)"
    assert ratio_by_file(benchmark, measure, files, what, NOISE, asked) < NOISE


def test_scaling_to_int16_costs_little(benchmark: Any) -> None:
    """The same files into what the store keeps; librosa has no such step."""
    files = sorted((REAL / "train_audio").glob("*/*.ogg"))
    why = "It is scaled to int16 by its own peak besides, which librosa does not do."
    what, most = "decode Ogg at 32 kHz into what the store keeps", 1.1 * NOISE
    assert ratio_by_file(benchmark, decode, files, what, most, why=why) < most
