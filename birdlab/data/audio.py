"""Recordings as mono waveforms at one sample rate: decoding, resampling, scaling to int16.

A file is read in blocks, its channels are averaged and the result goes through soxr's HQ
resampler; the numbers do not depend on the size of a block. `DECODE_SEMANTICS` is raised when
the same file starts to give other samples.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from birdlab.data.audiofile import Float32, bad_audio, open_audio, read_whole
from birdlab.errors import AudioError

DECODE_SEMANTICS = 1
"""Part of every key under which decoded audio is stored."""

FULL_SCALE = 32767
_HELD_SAMPLES = 1 << 24  # 64 MiB of float32, about 9 minutes; longer files are decoded twice
_CACHED_SAMPLES = 1 << 14
MOST_STRETCH = 256
Int16 = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Waveform:
    """A mono recording: `samples` [n] int16 with its peak at ±32767, and the peak's true value.

    `scale` is that peak on the scale of the file, where 1.0 is full scale; real files lie
    between 0.01 and above 1.0. Silence has scale 0.0 and zero samples.
    """

    samples: Int16
    scale: float
    sample_rate_hz: int

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return int(self.samples.shape[0])

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.n_samples / self.sample_rate_hz

    def to_float(self) -> Float32:
        """The recording at its own level, [n] float32."""
        return to_float(self.samples, self.scale)


def to_float(samples: Int16, scale: float) -> Float32:
    """`samples * scale / 32767` as float32: the one way back from stored samples to a wave."""
    return samples.astype(np.float32) * np.float32(scale / FULL_SCALE)


def decode(path: Path, sample_rate_hz: int = 32_000) -> Waveform:
    """The recording in `path` as a mono waveform at `sample_rate_hz`.

    Memory is bounded by the result (2 bytes a sample) plus about 100 MB, whatever the length: a
    file of more than 9 minutes is decoded a second time instead of being held as float. Raises
    AudioError, naming file and reason, for a file that is missing, empty, a folder, no audio,
    cut off, without frames, or that holds NaN or infinity. A cut WAV, FLAC or Ogg is always
    noticed, a cut MP3 only when its header states a length.
    """
    stream = open_stream(path, sample_rate_hz)
    samples, start = np.empty(stream.n_samples, np.int16), 0
    for piece in stream.pieces:
        samples[start : start + piece.shape[0]] = piece
        start += piece.shape[0]
    return Waveform(samples, stream.scale, sample_rate_hz)


@dataclass(frozen=True, eq=False)
class WaveStream:
    """A Waveform in `pieces` [n] int16 that follow each other, made when they are asked for."""

    n_samples: int
    scale: float
    pieces: Iterator[Int16]


def open_stream(
    path: Path, sample_rate_hz: int = 32_000, held_samples: int = _HELD_SAMPLES
) -> WaveStream:
    """The samples that decode gives, piece by piece, so that a recording of hours needs no room.

    A file of at most `held_samples` is decoded once and held as float until its pieces were
    asked for; a longer one is decoded twice, for its peak and again for its pieces. Raises
    AudioError as decode does; while pieces are made only if the file changes meanwhile.
    """
    held: deque[Float32] = deque()
    extent = _Extent(path)
    for block in extent.watch(_mono_blocks(path, sample_rate_hz)):
        if extent.n_samples <= held_samples:
            held.append(block)
        else:
            held.clear()
    extent.check()
    again = _emptied(held) if held else _unchanged(path, sample_rate_hz, extent)
    return WaveStream(extent.n_samples, extent.peak, _pieces(again, extent.peak))


def _emptied(held: deque[Float32]) -> Iterator[Float32]:
    while held:
        yield held.popleft()


def _unchanged(path: Path, sample_rate_hz: int, first: _Extent) -> Iterator[Float32]:
    """The blocks of a second reading; AudioError when they are not those of the `first`."""
    again = _Extent(path)
    for block in again.watch(_mono_blocks(path, sample_rate_hz)):
        if again.n_samples > first.n_samples or again.peak > first.peak:
            break
        yield block
    if (again.n_samples, again.peak) != (first.n_samples, first.peak):
        raise bad_audio(path, "the file changed while it was read")


def _pieces(blocks: Iterable[Float32], scale: float) -> Iterator[Int16]:
    for block in blocks:
        piece = np.empty(block.shape[0], np.int16)
        to_int16(block, scale, piece)
        yield piece


def measure(path: Path, sample_rate_hz: int = 32_000) -> tuple[int, float]:
    """The length in samples and the scale that decode would give, without keeping a sample.

    Raises AudioError as decode does.
    """
    extent = _Extent(path)
    for _ in extent.watch(_mono_blocks(path, sample_rate_hz)):
        pass
    extent.check()
    return extent.n_samples, extent.peak


class _Extent:
    """Length and peak of the blocks of one file that pass by."""

    def __init__(self, path: Path) -> None:
        self.path, self.n_samples, self.peak = path, 0, 0.0

    def watch(self, blocks: Iterable[Float32]) -> Iterator[Float32]:
        for block in blocks:
            self.n_samples += block.shape[0]
            self.peak = max(self.peak, _peak(self.path, block))
            yield block

    def check(self) -> None:
        if self.n_samples == 0:
            raise bad_audio(self.path, "the recording is shorter than one sample")


def _peak(path: Path, block: Float32) -> float:
    """The largest magnitude in a block; AudioError when one of its samples is not finite."""
    high, low = float(block.max()), float(block.min())  # both are NaN if a sample is
    if not (math.isfinite(high) and math.isfinite(low)):
        raise bad_audio(path, "the recording holds NaN or infinity")
    return max(high, -low)


def to_int16(wave: Float32, scale: float, out: Int16) -> None:
    """Write a wave [n] to `out` [n] as stored samples: its peak `scale` becomes 32767.

    The way back is to_float; silence, scale 0, gives zeros. No sample may lie beyond the peak.
    """
    gain = np.float64(FULL_SCALE / scale if scale else 0.0)
    scaled = np.empty(min(_CACHED_SAMPLES, wave.shape[0]))
    for start in range(0, wave.shape[0], _CACHED_SAMPLES):  # passes that stay in the cache
        piece = wave[start : start + _CACHED_SAMPLES]
        part = scaled[: piece.shape[0]]
        part[:] = piece
        part *= gain
        np.rint(part, out=part)
        out[start : start + piece.shape[0]] = part


def _mono_blocks(path: Path, sample_rate_hz: int) -> Iterator[Float32]:
    """Non-empty blocks of the resampled mono wave in order."""
    with open_audio(path) as file:
        if file.samplerate * MOST_STRETCH < sample_rate_hz:  # a wrong header would fill the memory
            raise AudioError(
                "the recording's header states a rate that no recording has",
                where=str(path),
                got=f"{file.samplerate} Hz",
                expected=f"at least 1/{MOST_STRETCH} of {sample_rate_hz} Hz",
            )
        blocks = read_whole(path, file)
        if file.samplerate != sample_rate_hz:  # a resampler would spread what is not finite
            blocks = _Extent(path).watch(blocks)
        yield from resample(blocks, file.samplerate, sample_rate_hz)


def resample(blocks: Iterable[Float32], from_hz: int, to_hz: int) -> Iterator[Float32]:
    """The blocks of a mono wave at another rate, by soxr HQ; as they are at an equal rate."""
    if from_hz == to_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        out = resampler.resample_chunk(block)
        if out.shape[0]:
            yield out
    out = resampler.resample_chunk(np.empty(0, np.float32), last=True)
    if out.shape[0]:
        yield out
