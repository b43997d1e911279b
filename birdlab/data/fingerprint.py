"""Acoustic fingerprints of recordings.

The fingerprint is Chromaprint's, by the FFmpeg that the package imageio-ffmpeg ships. Chromaprint
listens between 28 and 3520 Hz; a recording is told to be four times slower than it is, which
brings the band from 112 Hz to 14 kHz there, and gives four times as many numbers a second.
"""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from birdlab.errors import LabError

PRINT_SEMANTICS = 1
"""Raised when the same samples start to give another fingerprint."""

SLOWER = 4
STEP_S = 4096 // 3 / 11025 / SLOWER
"""The time from one number of a fingerprint to the next: a third of Chromaprint's frame."""

SPAN_S = 0.68
"""The length of sound that one number describes."""

Int16 = npt.NDArray[np.int16]
Fingerprint = npt.NDArray[np.uint32]
"""[n] uint32, a number of 32 bits each 31 ms; empty for less than 0.7 s."""


def fingerprint(samples: Int16, sample_rate_hz: int) -> Fingerprint:
    """The fingerprint of a recording, [n] uint32; empty where it is too short or all silence.

    `samples` [n] int16; their level does not matter. Raises LabError when FFmpeg cannot be run or
    has no Chromaprint.
    """
    if not samples.any():
        return np.zeros(0, np.uint32)
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error"),
        *("-f", "s16le", "-ar", str(round(sample_rate_hz / SLOWER)), "-ac", "1", "-i", "pipe:0"),
        *("-f", "chromaprint", "-fp_format", "raw", "pipe:1"),
    ]
    wave = np.ascontiguousarray(samples, "<i2").data.cast("B")
    try:
        done = subprocess.run(command, input=wave, capture_output=True, check=False)
    except OSError as error:
        raise _unusable(command[0], str(error)) from None
    if done.returncode:
        raise _unusable(command[0], done.stderr.decode(errors="replace").strip()[-500:])
    return np.frombuffer(done.stdout, "<u4")


def _unusable(executable: str, got: str) -> LabError:
    return LabError(
        "FFmpeg made no fingerprint",
        where=executable,
        got=got,
        fix="install imageio-ffmpeg 0.8.1 or newer, and unset IMAGEIO_FFMPEG_EXE",
    )
