"""What samples say: digests, flat tops, silence, and where to trim."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.data import signals
from birdlab.data.signals import (
    clipped_share,
    digest_samples,
    frame_powers,
    silent_share,
    trim_range,
)

RATE_HZ = 32_000
Int16 = npt.NDArray[np.int16]


def tone(length_s: float, hz: float = 3_000, level: float = 1.0) -> Int16:
    times = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    return np.rint(level * 32767 * np.sin(2 * np.pi * hz * times)).astype(np.int16)


def silence(length_s: float) -> Int16:
    return np.zeros(round(length_s * RATE_HZ), np.int16)


def test_a_digest_tells_samples_level_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = tone(0.5)
    digest = digest_samples(wave, 0.25)
    assert len(digest) == 32
    others = [(wave, 0.5), (wave[:-1], 0.25), (-wave, 0.25), (np.append(wave, wave[:1]), 0.25)]
    assert digest not in {digest_samples(*other) for other in others}
    monkeypatch.setattr(signals, "_BLOCK_SAMPLES", 1_000)
    assert digest_samples(np.repeat(wave, 2)[::2], 0.25) == digest


def brute_clipped(samples: list[int], level: int) -> int:
    n_clipped, run, sign = 0, 0, 0
    for sample in [*samples, 0]:
        now = 1 if sample >= level else -1 if sample <= -level else 0
        if now == sign and now != 0:
            run += 1
        else:
            n_clipped += run if run >= 3 else 0
            run, sign = int(now != 0), now
    return n_clipped


@given(
    st.lists(st.sampled_from([0, 100, 32767, 32740, 32730, -32767, -32740]), max_size=60),
    st.integers(1, 9),
)
def test_flat_tops_are_counted_as_by_hand_whatever_the_blocks(values: list[int], n: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "_BLOCK_SAMPLES", n)
        share = clipped_share(np.array(values, np.int16), 0.8)
    assert share * len(values) == pytest.approx(brute_clipped(values, 32735))


def test_clipping_is_seen_at_full_scale_below_it_and_above_it() -> None:
    times = np.arange(RATE_HZ) / RATE_HZ
    wave = 1.6 * np.sin(2 * np.pi * 500 * times)
    clipped = np.clip(wave, -1, 1)
    expected = np.mean(np.abs(wave) >= 1)
    for gain in (1.0, 0.2):
        samples = np.rint(clipped * 32767).astype(np.int16)
        assert clipped_share(samples, gain) == pytest.approx(expected, abs=0.01)
    lossy = clipped + 0.05 * np.sin(2 * np.pi * 9_000 * times) ** 2 * np.sign(wave)
    peak = float(np.abs(lossy).max())
    samples = np.rint(lossy / peak * 32767).astype(np.int16)
    assert clipped_share(samples, peak) == pytest.approx(expected, abs=0.02)
    assert clipped_share(tone(1.0, 500), 0.9) == 0
    assert clipped_share(silence(1.0), 0.0) == clipped_share(silence(0.0), 0.0) == 0


def test_silence_is_measured_against_the_loudest_frame() -> None:
    wave = np.concatenate([silence(1.0), tone(0.5), tone(0.5, level=0.003), tone(1, level=0.0004)])
    assert silent_share(wave, RATE_HZ) == pytest.approx(2 / 3, abs=0.01)
    assert silent_share(wave // 20, RATE_HZ) == pytest.approx(2 / 3, abs=0.01)
    assert silent_share(silence(1.0), RATE_HZ) == silent_share(silence(0.0), RATE_HZ) == 1.0
    assert silent_share(tone(0.001), RATE_HZ) == 0.0


@given(st.lists(st.integers(-32767, 32767), max_size=50), st.integers(1, 60))
def test_frame_powers_are_means_of_squares(values: list[int], n: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "_BLOCK_SAMPLES", n)
        powers = frame_powers(np.array(values, np.int16), 350)
    parts = [values[start : start + 7] for start in range(0, len(values), 7)]
    np.testing.assert_allclose(powers, [np.mean(np.square(part, dtype=float)) for part in parts])


def test_trimming_keeps_the_sound_and_a_margin() -> None:
    wave = np.concatenate([silence(1.0), tone(0.5), silence(1.0), tone(0.5), silence(2.0)])
    assert trim_range(wave, RATE_HZ, 40, 0.0) == pytest.approx((1.0, 3.0))
    assert trim_range(wave, RATE_HZ, 40, 0.25) == pytest.approx((0.75, 3.25))
    assert trim_range(wave, RATE_HZ, 40, 1.5) == pytest.approx((0.0, 4.5))
    assert trim_range(wave, RATE_HZ, 40, 9.0) == pytest.approx((0.0, 5.0))
    assert trim_range(silence(2.0), RATE_HZ, 40, 0.1) == (0.0, 2.0)
    assert trim_range(silence(0.0), RATE_HZ, 40, 0.1) == (0.0, 0.0)
    assert trim_range(tone(0.01), RATE_HZ, 40, 0.0) == pytest.approx((0.0, 0.01))


def test_a_quiet_beginning_is_trimmed_only_below_the_threshold() -> None:
    wave = np.concatenate([tone(1.0, level=0.02), tone(1.0)])  # 34 dB down
    assert trim_range(wave, RATE_HZ, 30, 0.0) == pytest.approx((1.0, 2.0))
    assert trim_range(wave, RATE_HZ, 40, 0.0) == pytest.approx((0.0, 2.0))
