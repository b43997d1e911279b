"""What the headers of audio files state; nothing is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from birdlab.data.audiofile import read_duration_s
from birdlab.data.hashes import stamp_file
from birdlab.errors import AudioError

_PLAIN = {"ogg/opus": "opus", "mp3/mpeg_layer_iii": "mp3"}


class Header(NamedTuple):
    """Sample rate, channels, codec in plain words and length; `reason` says why there is none."""

    sample_rate_hz: int
    channels: int
    codec: str
    duration_s: float
    reason: str


def read_header(path: Path) -> Header:
    """The header of one file.

    `codec` is the container and its coding as in `ogg/vorbis`, `wav/pcm_16`, `flac/pcm_16`, or
    one word where there is only one such coding: `mp3`, `opus`. A file that cannot be opened
    has rate and channels 0, codec "", a NaN length and the reason.
    """
    if stamp_file(path) is not None:
        try:
            info = soundfile.info(path)
        except (soundfile.LibsndfileError, OSError, TypeError):
            pass
        else:
            return Header(info.samplerate, info.channels, _codec(info), float(info.duration), "")
    return Header(0, 0, "", float("nan"), find_reason(path))


def find_reason(path: Path) -> str:
    """Why a file cannot be opened as audio, in one line; "" when it can."""
    try:
        read_duration_s(path)
    except AudioError as error:
        return error.what if error.got is None else f"{error.what}: {error.got}"
    return ""


def _codec(info: Any) -> str:
    container = "wav" if info.format.startswith("WAV") else info.format.lower()
    codec = f"{container}/{info.subtype.lower()}"
    return _PLAIN.get(codec, codec)
