"""Windows: cutting, pooling and blending against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdlab.data.audio import Waveform
from birdlab.errors import OutputsError
from birdlab.evaluate.windows import (
    Normalise,
    Windowing,
    batch_windows,
    blend,
    count_windows,
    cut_windows,
    end_seconds,
    iter_windows,
    peak_normalise,
    pool_recordings,
)

sizes = st.integers(0, 60)
widths = st.integers(1, 20)


@given(n=sizes, width=widths)
def test_count_is_the_ceiling_and_at_least_one(n: int, width: int) -> None:
    assert count_windows(n, width) == max(1, int(np.ceil(n / width)))


@given(n=sizes, width=widths, data=st.data())
def test_every_sample_is_in_its_place(n: int, width: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, width))
    wave = np.arange(1, n + 1, dtype=np.float32)
    windows = cut_windows(wave, width, hop)
    assert windows.shape == (count_windows(n, width, hop), width)
    for i, window in enumerate(windows):
        content = wave[i * hop : i * hop + width]
        padding = width - len(content)
        assert (i == len(windows) - 1) or padding == 0
        assert (window[:padding] == 0).all()
        if len(content):
            np.testing.assert_allclose(window[padding:], content / content.max(), rtol=1e-6)
    assert set(wave) <= {wave[j] for i in range(len(windows)) for j in range(i * hop, n)}
    assert (len(windows) - 1) * hop + width >= n


def test_last_window_is_padded_on_the_left() -> None:
    windows = cut_windows(np.full(7, 0.25, np.float32), 5)
    assert windows.tolist() == [[1] * 5, [0, 0, 0, 1, 1]]


@given(
    n=sizes,
    window=st.integers(1, 12),
    margin=st.integers(0, 9),
    normalise=st.sampled_from(["crop", "recording"]),
    data=st.data(),
)
def test_what_is_heard_of_each_window(
    n: int, window: int, margin: int, normalise: Normalise, data: st.DataObject
) -> None:
    """Against a loop over the padded recording; without a context as `cut_windows` cuts it."""
    samples = data.draw(hnp.arrays(np.int16, n, elements=st.integers(-32767, 32767)))
    wave = Waveform(samples, 0.25, 1)
    context_s = float(window + 2 * margin) if margin else None
    windowing = Windowing(float(window), 1, context_s, normalise)
    heard = list(iter_windows(wave, windowing))
    k = count_windows(n, window)
    assert len(heard) == k
    floats, padded = wave.to_float(), np.zeros(k * window + 2 * margin, np.float32)
    last = (k - 1) * window
    padded[margin : margin + last] = floats[:last]
    padded[margin + k * window - (n - last) : margin + k * window] = floats[last:]
    for i, got in enumerate(heard):
        expected = padded[i * window : i * window + window + 2 * margin]
        assert got.dtype == np.float32 and got.shape == (windowing.input_samples,)
        peak = np.abs(expected).max(initial=0) if normalise == "crop" else 0.25
        np.testing.assert_allclose(got, expected / max(peak, 1e-6), rtol=1e-6)
    if not margin and normalise == "crop":
        assert np.array_equal(np.stack(heard), cut_windows(floats, window))


def test_the_window_lies_in_the_centre_of_its_context() -> None:
    assert Windowing(5.0, 32_000, 10.0).centres == ((0.25, 0.75),)
    assert Windowing(5.0, 32_000, 5.0).centres == ((0.0, 1.0),)
    assert Windowing(5.0, 32_000).input_samples == 160_000
    assert Windowing(5.0, 32_000, 10.0).input_samples == 320_000
    assert str(Windowing(5.0, 32_000, 10.0)) == "5 s out of 10 s at 32000 Hz, normalised per crop"
    with pytest.raises(OutputsError, match="shorter than its window"):
        Windowing(5.0, 32_000, 4.0)


@given(sizes=st.lists(st.integers(0, 5), max_size=9), batch=st.integers(1, 7))
def test_batches_hold_every_window_once_and_no_other(sizes: list[int], batch: int) -> None:
    windows = [np.full(3, i, np.float32) for i in range(sum(sizes))]
    batches = [waves.copy() for waves in batch_windows(iter(windows), batch)]
    assert [len(waves) for waves in batches[:-1]] == [batch] * (len(batches) - 1)
    got = np.concatenate([*batches, np.zeros((0, 3), np.float32)])
    assert got[:, 0].tolist() == list(range(len(windows)))


def test_peak_normalise_keeps_silence_and_noise_below_the_limit() -> None:
    waves = np.array([[0, 0], [0.5, -0.25], [5e-7, 0]], np.float32)
    np.testing.assert_allclose(peak_normalise(waves), [[0, 0], [1, -0.5], [0.5, 0]])
    assert cut_windows(np.zeros(0, np.float32), 3).tolist() == [[0, 0, 0]]


def test_a_sample_that_is_no_number_is_refused() -> None:
    with pytest.raises(OutputsError, match="finite"):
        cut_windows(np.array([0.1, np.nan], np.float32), 2)


@pytest.mark.parametrize("arguments", [(5, 0), (5, 2, 3), (5, 2, 0), (-1, 2)])
def test_cuts_that_make_no_sense_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(OutputsError, match="cut"):
        count_windows(*arguments)


def test_end_seconds() -> None:
    assert end_seconds(3, 5.0) == [5, 10, 15]
    assert all(isinstance(end, int) for end in end_seconds(3, 5.0))
    assert end_seconds(3, 5.0, 2.5) == [5.0, 7.5, 10.0]
    assert end_seconds(6001, 5.0, 1.6666667)[::3] == end_seconds(2001, 5.0), "rounding adds up"


@given(
    probs=hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 4)),
                     elements=st.floats(0, 1, width=32)),
    data=st.data(),
)  # fmt: skip
def test_pooling_equals_a_loop(probs: np.ndarray, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(probs)))
    extra = data.draw(st.lists(st.integers(0, n - 1), min_size=len(probs) - n,
                               max_size=len(probs) - n))  # fmt: skip
    index = np.array(data.draw(st.permutations([*range(n), *extra])))
    expected = np.stack([probs[index == r].max(axis=0) for r in range(n)])
    assert (pool_recordings(probs, index) == expected).all()


def test_pooling_misses_no_recording() -> None:
    with pytest.raises(OutputsError, match="no window"):
        pool_recordings(np.ones((2, 1)), [0, 2])
    with pytest.raises(OutputsError, match="fit"):
        pool_recordings(np.ones((2, 1)), [0])


def test_blend_stays_below_one() -> None:
    mixed = blend([0.2, 1.0, 0.0], [0.6, 1.0, 0.0], clip=0.75, time_max=0.25)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, [0.3, 1.0, 0.0], atol=1e-6)
    assert mixed.max() < 1
