"""What the samples of a recording say about it: their digest, clipping, silence, where to trim.

All functions take samples as the store keeps them: [n] int16 with the recording's own peak at
±32767. They go through a recording in blocks, so a memory-mapped one is never held as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import FULL_SCALE

SIGNAL_SEMANTICS = 1
"""Raised when the same samples start to give other facts."""

FRAME_S = 0.02
SILENT_DB = 60.0
"""A frame is silent when it lies this far below the loudest frame of its recording."""

_CLIP_LEVEL = 0.999
_CLIP_RUN = 3
_BLOCK_SAMPLES = 1 << 21

Int16 = npt.NDArray[np.int16]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def digest_samples(samples: Int16, scale: float) -> str:
    """32 hex digits that two recordings share when they decode to the same samples and level.

    `samples` [n] int16, `scale` the value of the peak; the container, the codec and the tags of
    the file do not matter.
    """
    digest = hashlib.sha256(np.float64(scale).tobytes())
    for block in _blocks(samples, _BLOCK_SAMPLES):
        digest.update(np.ascontiguousarray(block, "<i2").data)
    return digest.hexdigest()[:32]


def clipped_share(samples: Int16, scale: float) -> float:
    """The share of samples, 0..1, that lie in a flat top.

    A flat top is a run of at least 3 samples of one sign at the recording's peak or at full
    scale, whichever is lower, within 0.1 %. Lossy coding lifts clipped peaks above full scale,
    so what is above counts as well. Silence and an empty recording give 0.
    """
    if not samples.size or scale <= 0:
        return 0.0
    level = int(np.ceil(_CLIP_LEVEL * FULL_SCALE * min(1.0, 1.0 / scale)))
    n_clipped = 0
    for sign in (1, -1):
        carried = np.zeros(0, np.bool_)  # a run that reaches the end of a block goes on
        for block in _blocks(samples, _BLOCK_SAMPLES):
            hot = np.concatenate([carried, block >= level if sign > 0 else block <= -level])
            cold = np.flatnonzero(~hot)
            last = int(cold[-1]) + 1 if cold.size else 0
            n_clipped += _count_in_runs(hot[:last])
            carried = hot[last:]
        n_clipped += _count_in_runs(carried)
    return n_clipped / samples.size


def silent_share(samples: Int16, sample_rate_hz: int) -> float:
    """The share of 20 ms frames, 0..1, that lie 60 dB or more below the loudest frame.

    An all-zero or empty recording is 1.0. The level of the recording does not matter.
    """
    powers = frame_powers(samples, sample_rate_hz)
    return 1.0 - float(_sounding(powers, SILENT_DB).mean()) if powers.size else 1.0


def trim_range(
    samples: Int16, sample_rate_hz: int, top_db: float, margin_s: float
) -> tuple[float, float]:
    """Start and end in seconds of what is left without the silence at both ends.

    Frames of 20 ms count as sound when their root mean square is at most `top_db` below that of
    the loudest frame; `margin_s` is kept before the first and after the last. The range lies
    within the recording; silence throughout, which has no loudest frame, keeps it whole.
    """
    duration_s = samples.shape[0] / sample_rate_hz
    places = np.flatnonzero(_sounding(frame_powers(samples, sample_rate_hz), top_db))
    if not places.size:
        return 0.0, duration_s
    frame_s = _frame_length(sample_rate_hz) / sample_rate_hz
    start_s = max(0.0, int(places[0]) * frame_s - margin_s)
    return start_s, min(duration_s, (int(places[-1]) + 1) * frame_s + margin_s)


def frame_powers(samples: Int16, sample_rate_hz: int) -> Float64:
    """The mean square of each 20 ms frame, [ceil(n / frame)] float64; the last may be shorter."""
    frame = _frame_length(sample_rate_hz)
    powers = []
    for block in _blocks(samples, max(1, _BLOCK_SAMPLES // frame) * frame):
        n_whole = block.shape[0] // frame
        whole = block[: n_whole * frame].reshape(n_whole, frame).astype(np.float64)
        powers.append(np.einsum("ft,ft->f", whole, whole) / frame)
        rest = block[n_whole * frame :].astype(np.float64)
        if rest.size:
            powers.append(np.array([rest @ rest / rest.size]))
    return np.concatenate(powers) if powers else np.zeros(0)


def _sounding(powers: Float64, top_db: float) -> Bool:
    """Which frames lie less than or exactly `top_db` below the loudest; none in silence."""
    loudest = powers.max(initial=0.0)
    if loudest == 0:
        return np.zeros(powers.shape, np.bool_)
    return np.asarray(powers >= loudest * 10 ** (-top_db / 10))


def _count_in_runs(hot: Bool) -> int:
    """How many of the true values stand in runs of at least `_CLIP_RUN`."""
    edges = np.flatnonzero(np.diff(hot.astype(np.int8), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= _CLIP_RUN].sum())


def _frame_length(sample_rate_hz: int) -> int:
    return max(1, round(FRAME_S * sample_rate_hz))


def _blocks(samples: Int16, n: int) -> Iterator[Int16]:
    for start in range(0, samples.shape[0], n):
        yield samples[start : start + n]
