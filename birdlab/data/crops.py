"""Crops decoded from the files themselves, equal to those of a store to one step of int16.

A resampled crop comes out of a stream that starts a whole number of periods of the two rates
before it, with room for the filter, so that its samples fall on the same instants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from birdlab.data.audio import Int16, decode, resample, to_int16
from birdlab.data.audiofile import Float32, bad_audio, open_audio, read_mono

_MARGIN_SAMPLES = 512
"""At the lower of the two rates; soxr HQ rings for under 128 (measured from 8 to 384 kHz)."""

_SEEKABLE = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "AIFF", "AU", "CAF", "W64"})
_TAIL_BYTES = 2 * 65_307  # the two last pages of an Ogg file
_PAGE_START = b"OggS\0"


def decode_crop(
    path: Path, sample_rate_hz: int, start: int, n: int, *, n_samples: int, scale: float
) -> Int16:
    """Samples start..start+n of a recording as a store would hold them, [n] int16.

    `n_samples` and `scale` are the length and peak of the whole recording at `sample_rate_hz`,
    as decode gives them. Exact for a file at that rate and for the whole recording, else within
    1 of the store. WAV, FLAC and Ogg Vorbis are read from about the crop on, MP3 and Opus from
    their start. Raises AudioError for a file that cannot be decoded or ends before the crop.
    """
    if start == 0 and n == n_samples:
        return decode(path, sample_rate_hz).samples
    out, filled = np.empty(n, np.int16), 0
    if n == 0:
        return out
    with open_audio(path) as file:
        first, n_frames, skip = _find_frames(file.samplerate, sample_rate_hz, start, n)
        frames = _read_frames(path, file, first, n_frames)
        for block in resample(frames, file.samplerate, sample_rate_hz):
            piece = block[skip : skip + n - filled]
            skip = max(0, skip - block.shape[0])
            to_int16(np.clip(piece, -scale, scale), scale, out[filled : filled + piece.shape[0]])
            filled += piece.shape[0]
            if filled == n:
                return out
    raise bad_audio(path, "the file ends before the crop", f"{filled} of {n} samples")


def _find_frames(from_hz: int, to_hz: int, start: int, n: int) -> tuple[int, int, int]:
    """The first frame and how many to read for a crop, and the samples to skip of the result."""
    if from_hz == to_hz:
        return start, n, 0
    common = math.gcd(from_hz, to_hz)
    period, samples = from_hz // common, to_hz // common
    margin = math.ceil(_MARGIN_SAMPLES * max(1, from_hz / to_hz))
    n_periods = max(0, start * period // samples - margin) // period
    first = n_periods * period
    last = math.ceil((start + n) * period / samples) + margin
    return first, last - first, start - n_periods * samples


def _read_frames(path: Path, file: Any, first: int, n_frames: int) -> Iterator[Float32]:
    """Blocks of `n_frames` mono frames from frame `first` on, fewer at the end of the file."""
    position = min(first, _last_seek(path, file))
    if position > 0:
        file.seek(position)
    for block in read_mono(path, file, first + n_frames - position):
        behind = first - position  # frames of this block and later ones that lie before
        position += block.shape[0]
        if behind < block.shape[0]:
            yield block[max(0, behind) :]


def _last_seek(path: Path, file: Any) -> int:
    """The last frame that can be sought to exactly; 0 where none can.

    Seeking drops what MP3 and Opus remember from before. In the last page of Ogg Vorbis
    libsndfile counts from the page's end, which the encoder cut to the length of the recording.
    """
    if file.format in _SEEKABLE and file.subtype.startswith(("PCM_", "FLOAT", "DOUBLE")):
        return int(file.frames)
    if file.format != "OGG" or file.subtype != "VORBIS":
        return 0
    with path.open("rb") as raw:
        raw.seek(max(0, raw.seek(0, 2) - _TAIL_BYTES))
        tail = raw.read()
    page = tail.rfind(_PAGE_START, 0, max(0, tail.rfind(_PAGE_START)))
    if page < 0:
        return 0
    return max(0, int.from_bytes(tail[page + 6 : page + 14], "little", signed=True) - 1)
