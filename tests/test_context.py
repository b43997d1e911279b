"""Several windows in one pass of a long context: the same windows, in order, each from its own
frames, from validation to the submission."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdlab.data.audio import Waveform
from birdlab.evaluate.passes import count_passes, find_windows, list_passes
from birdlab.evaluate.predictor import predict_recordings
from birdlab.evaluate.windows import (
    Normalise,
    Windowing,
    count_windows,
    iter_windows,
    stream_windows,
)
from birdlab.sed.maps import slice_share

COUNTS = st.integers(0, 23)
PER_PASS, HOPS = st.integers(1, 4), st.integers(1, 3)


@given(whole=COUNTS, per_pass=PER_PASS, hops=HOPS)
def test_each_window_is_heard_once_and_found_where_it_was_heard(
    whole: int, per_pass: int, hops: int
) -> None:
    n = (whole - 1) * hops + 1 if whole else 0
    passes = list_passes(n, per_pass, hops)
    heard = [first + i * hops for first in passes.tolist() for i in range(per_pass)]
    kept = [j for j in heard if j < n]
    assert sorted(kept) == list(range(n)) and passes.tolist() == sorted(set(passes.tolist()))
    assert len(passes) == count_passes(n, per_pass, hops)
    both = find_windows([n, n], per_pass, hops)
    assert [heard[row] for row in both[:n]] == list(range(n))
    assert both[n:].tolist() == (both[:n] + len(heard)).tolist()
    if per_pass == 1:
        assert both.tolist() == list(range(2 * n))


@given(
    n=st.integers(0, 60),
    hops=st.integers(1, 2),
    width=st.sampled_from([2, 4, 6]),
    margin=st.integers(0, 5),
    per_pass=PER_PASS,
    normalise=st.sampled_from(["crop", "recording"]),
    data=st.data(),
)
def test_a_pass_hears_its_windows_and_what_lies_around_them(
    n: int,
    hops: int,
    width: int,
    margin: int,
    per_pass: int,
    normalise: Normalise,
    data: st.DataObject,
) -> None:
    """Against slices of the padded recording, with what lies beyond its ends silent."""
    samples = data.draw(hnp.arrays(np.int16, n, elements=st.integers(-32767, 32767)))
    wave = Waveform(samples, 0.25, 1)
    context_s = float(per_pass * width + 2 * margin)
    windowing = Windowing(float(width), 1, context_s, normalise, per_pass)
    assert windowing.input_samples == context_s and windowing.margin_samples == margin
    whole = count_windows(n, width)
    last = (whole - 1) * width
    padded = np.zeros(margin + (whole + per_pass) * width + margin, np.float32)
    padded[margin : margin + last] = wave.to_float()[:last]
    padded[margin + whole * width - (n - last) : margin + whole * width] = wave.to_float()[last:]
    pieces = np.array_split(samples, 3)
    heard = list(stream_windows(pieces, n, 0.25, windowing, width // hops))
    firsts = list_passes((whole - 1) * hops + 1, per_pass, hops)
    for got, first in zip(heard, firsts.tolist(), strict=True):
        start = first * (width // hops)
        expected = padded[start : start + windowing.input_samples]
        peak = np.abs(expected).max(initial=0) if normalise == "crop" else 0.25
        np.testing.assert_allclose(got, expected / max(peak, 1e-6), rtol=1e-6)
    if hops == 1:
        assert np.array_equal(heard, list(iter_windows(wave, windowing)))


@given(
    n_frames=st.integers(1, 70),
    width=st.integers(1, 7),
    margin=st.integers(0, 9),
    per_pass=st.integers(2, 5),
)
def test_windows_of_a_pass_share_no_frame_and_lose_none(
    n_frames: int, width: int, margin: int, per_pass: int
) -> None:
    windowing = Windowing(float(width), 32, float(per_pass * width + 2 * margin), "crop", per_pass)
    assert all(one[1] == other[0] for one, other in pairwise(windowing.centres))
    frames = torch.arange(n_frames).view(1, 1, 1, n_frames)
    middles = (np.arange(n_frames) + 0.5) / n_frames
    first, last = windowing.centres[0][0], windowing.centres[-1][1]
    expected = np.flatnonzero((middles >= first) & (middles < last)).tolist()
    shares = [s for s in windowing.centres if ((middles >= s[0]) & (middles < s[1])).any()]
    assert [i for s in shares for i in slice_share(frames, s).flatten().tolist()] == expected


class Levels:
    """A predictor that says of each window of a pass the level of its own part of the input."""

    def __init__(self, windowing: Windowing) -> None:
        self.windowing = windowing

    def __call__(self, waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = self.windowing
        own = waves[:, w.margin_samples : w.input_samples - w.margin_samples]
        level = np.abs(own.reshape(-1, w.window_samples)).mean(axis=1, keepdims=True)
        return level, level / 2


@pytest.mark.parametrize("per_pass", [1, 2, 3])
def test_outputs_of_recordings_are_in_time_whatever_a_pass_holds(per_pass: int) -> None:
    lengths, scale = [25, 4, 0, 30, 12], 0.5
    rng = np.random.default_rng(0)
    waves = [Waveform(rng.integers(-9000, 9000, n).astype(np.int16), scale, 1) for n in lengths]
    got = []
    for windowing in (
        Windowing(5.0, 1, None, "recording"),
        Windowing(5.0, 1, 5.0 * per_pass + 4, "recording", per_pass),
    ):
        names = [str(n) for n in lengths]
        predictor = Levels(windowing)
        got.append(
            predict_recordings(
                predictor, names, waves.__getitem__, ["a"], windowing=windowing, batch=4
            )
        )
    plain, passes = got
    assert np.bincount(plain.recording_index).tolist() == [5, 1, 1, 6, 3]
    assert plain.end_s[:5].tolist() == [5, 10, 15, 20, 25]
    for name in ("recording_index", "end_s", "clip_probs", "time_max"):
        assert np.array_equal(getattr(plain, name), getattr(passes, name)), name
