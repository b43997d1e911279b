"""Every kind of augmentation against plain NumPy, over thousands of draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from clips import (
    CPU,
    CROP,
    RATE,
    TARGETS,
    batch_of,
    batch_with,
    build_source,
    copy_of,
    holds_share,
    uniform,
    waves_of,
)
from scipy import signal, stats

from birdlab.sed.augment import augment_mel, augment_wave, fetch_all
from birdlab.sed.augment.filters import filter_frames
from birdlab.sed.augment.noise import make_noise
from birdlab.sed.batch import Change, ClipBatch, Clips, Crops
from birdlab.sed.draws import EpochDraws
from birdlab.sed.loader import ClipSource, read_batch
from birdlab.sed.sampler import row_weights
from birdlab.spec.augmentations import (
    AugmentationSpec,
    Background,
    ColouredNoise,
    Cutmix,
    Gain,
    LowPass,
    Mixup,
    OrMixup,
    RandomFiltering,
    SpecMask,
    TimeShift,
)
from birdlab.spec.kinds import function_of
from birdlab.spec.samplers import InversePower

N = 4_000
PLACES = np.arange(N)
Wave = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    return build_source(tmp_path_factory.mktemp("waves"))


def both(
    source: ClipSource, spec: AugmentationSpec, seed: int = 0, n: int = N
) -> tuple[ClipBatch, ClipBatch]:
    """A batch before and after one augmentation."""
    draws = EpochDraws(seed, 0, 0)
    before = batch_of(source, draws, [spec], n)
    return before, augment_wave([spec], copy_of(before), draws, np.arange(n))


def changed_rows(before: ClipBatch, after: ClipBatch) -> npt.NDArray[np.bool_]:
    rows: npt.NDArray[np.bool_] = (before.wave != after.wave).any(dim=1).numpy()
    return rows


def normal(wave: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    peak = np.abs(wave).max(axis=-1, keepdims=True)
    return np.asarray(wave / np.maximum(peak, 1e-6), np.float64)


# ---------------------------------------------------------------- mixup


@pytest.mark.parametrize("alpha", [0.4, 1.0, 5.0])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_mixup_is_the_weighted_sum_with_beta_weights(
    source: ClipSource, alpha: float, labels: Any
) -> None:
    spec = Mixup(name="mixup", p=0.7, alpha=alpha, labels=labels)
    before, after = both(source, spec)
    got = before.fetched["mixup"]
    index = got["index"]
    assert holds_share(np.isin(PLACES, index), 0.7)
    others = np.setdiff1d(PLACES, index)
    assert torch.equal(after.wave[others], before.wave[others])
    assert torch.equal(after.targets[others], before.targets[others])
    a, b = before.wave.numpy()[index], waves_of(got["crops"])
    shares = np.array(
        [own_share(*waves) for waves in zip(a, b, after.wave.numpy()[index], strict=True)]
    )
    known = (a != b).any(axis=1)  # of a clip mixed with itself no share can be seen
    assert known.mean() > 0.85
    assert stats.kstest(shares[known], stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    # The independent version mixes with weights of its own and gives the same sounds.
    share = shares[:, None]
    assert np.allclose(after.wave.numpy()[index], normal(share * a + (1 - share) * b), atol=2e-3)
    mine, theirs = before.targets.numpy()[index], TARGETS[got["rows"]]
    expected = (
        np.clip(mine + theirs, 0, 1) if labels == "hard" else share * mine + (1 - share) * theirs
    )
    assert np.allclose(after.targets.numpy()[index], expected, atol=1e-3)
    assert after.targets.min() >= 0
    assert after.targets.max() <= 1


def own_share(a: Wave, b: Wave, mixed: Wave) -> float:
    """The share of `a` in a mixture of two, by least squares."""
    parts = np.stack([a, b], axis=1).astype(np.float64)
    (x, y), *_ = np.linalg.lstsq(parts, mixed.astype(np.float64), rcond=None)
    return float(np.clip(x / (x + y), 0, 1))


def test_extreme_alphas_give_one_clip_or_the_other(source: ClipSource) -> None:
    spec = Mixup(name="mixup", p=1.0, alpha=1e-3, labels="soft")
    before, after = both(source, spec, n=2_000)
    partners = waves_of(before.fetched["mixup"]["crops"])
    kept = np.isclose(after.wave.numpy(), before.wave.numpy(), atol=1e-5).all(axis=1)
    taken = np.isclose(after.wave.numpy(), partners, atol=1e-5).all(axis=1)
    assert (kept | taken).mean() > 0.97
    assert 0.4 < kept.mean() < 0.6 + (kept & taken).mean()
    assert torch.isfinite(after.wave).all()
    half = both(source, Mixup(name="mixup", p=1.0, alpha=1e6), n=200)
    mean = (half[0].wave.numpy() + waves_of(half[0].fetched["mixup"]["crops"])) / 2
    assert np.allclose(half[1].wave.numpy(), normal(mean), atol=0.02)


# ---------------------------------------------------------------- partners


@pytest.mark.parametrize("kind", [OrMixup, Mixup, Cutmix])
@pytest.mark.parametrize("partner", ["uniform", "class_weight"])
def test_partners_are_drawn_alike_or_as_the_sampler_weighs_them(
    source: ClipSource, kind: Any, partner: Any
) -> None:
    weighed = replace(source, sampler=InversePower(power=2.0))
    before, _ = both(weighed, kind(name="m", p=1.0, partner=partner))
    rows = before.fetched["m"]["rows"]
    weights = np.ones(5) if partner == "uniform" else row_weights(source.targets.primary, 2.0)
    expected = N * weights / weights.sum()
    assert stats.chisquare(np.bincount(rows, minlength=5), expected).pvalue > 1e-3
    assert np.array_equal(before.fetched["m"]["targets"], TARGETS[rows])
    lag = np.corrcoef(rows[1:], rows[:-1])[0, 1]
    assert abs(lag) < 0.06, "partners of neighbours have nothing to do with each other"


def test_the_last_draw_below_1_is_the_last_row(source: ClipSource) -> None:
    edge = np.array([0.0, 1 - 2**-53])
    for partner in ("uniform", "class_weight"):
        assert source.draw_partners(partner, edge).tolist() == [0, 4]  # type: ignore[arg-type]


# ---------------------------------------------------------------- cutmix


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_cutmix_replaces_one_stretch_anywhere(source: ClipSource, labels: Any) -> None:
    spec = Cutmix(name="cut", p=0.5, share=(0.2, 0.8), labels=labels)
    before, after = both(source, spec, n=8_000)
    got = before.fetched["cut"]
    a, b, out = (
        before.wave.numpy()[got["index"]],
        waves_of(got["crops"]),
        after.wave.numpy()[got["index"]],
    )
    # Rows without padding: every sample shows which clip it is from.
    clear = (got["index"] % 5 != 1) & (got["rows"] != 1) & ~(a == b).any(axis=1)
    assert clear.sum() > 2_000
    from_b = out == b
    assert np.array_equal(np.where(from_b, b, a)[clear], out[clear])
    first = from_b.argmax(axis=1)[clear]
    length = from_b.sum(axis=1)[clear]
    time = np.arange(CROP)
    stretch = (time >= first[:, None]) & (time < (first + length)[:, None])
    assert np.array_equal(from_b[clear], stretch), "one stretch, no gaps"
    sizes = np.arange(13, 52)
    low, high = np.maximum(sizes - 0.5, 0.2 * CROP), np.minimum(sizes + 0.5, 0.8 * CROP)
    expected = (high - low) / (0.6 * CROP) * len(length)
    assert stats.chisquare(np.bincount(length, minlength=52)[13:52], expected).pvalue > 1e-3
    jitter = np.random.default_rng(0).random(len(first))
    assert uniform((first + jitter) / (CROP - length + 1), 0, 1) > 1e-3
    mine, theirs = before.targets.numpy()[got["index"]][clear], TARGETS[got["rows"]][clear]
    share = length[:, None] / CROP
    expected_labels = (
        np.clip(mine + theirs, 0, 1) if labels == "hard" else (1 - share) * mine + share * theirs
    )
    assert np.allclose(after.targets.numpy()[got["index"]][clear], expected_labels, atol=1e-6)


def test_cutmix_shares_of_0_and_1_are_nothing_and_all(source: ClipSource) -> None:
    for share in (0.0, 1.0):
        spec = Cutmix(name="cut", p=1.0, share=(share, share), labels="soft")
        before, after = both(source, spec, n=2_000)
        got = before.fetched["cut"]
        wave = waves_of(got["crops"]) if share else before.wave.numpy()
        labels = got["targets"] if share else before.targets.numpy()
        assert np.array_equal(after.wave.numpy(), wave)
        assert np.array_equal(after.targets.numpy(), labels)


# ---------------------------------------------------------------- masks of targets


@pytest.mark.parametrize(
    "spec",
    [
        OrMixup(name="m", p=0.5),
        Mixup(name="m", p=0.5, labels="soft"),
        Mixup(name="m", p=0.5, labels="hard"),
        Cutmix(name="m", p=0.5, labels="soft"),
    ],
    ids=lambda spec: spec.kind + getattr(spec, "labels", ""),
)
def test_a_mixed_class_counts_where_both_count_or_it_is_there(
    tmp_path: Any, spec: AugmentationSpec
) -> None:
    source = build_source(tmp_path, "mask")
    before, after = both(source, spec, n=2_000)
    assert before.mask is not None
    assert after.mask is not None
    got = before.fetched["m"]
    masks = np.ones((5, 3), bool)
    masks[0, 2] = False
    assert np.array_equal(before.mask.numpy(), masks[np.arange(2_000) % 5])
    partner = dict(zip(got["index"].tolist(), got["rows"].tolist(), strict=True))
    n_left_out = 0
    for i in range(2_000):
        for c in range(3):
            counts = bool(masks[i % 5, c])
            if i in partner:
                counts = (counts and bool(masks[partner[i], c])) or float(after.targets[i, c]) > 0
            assert bool(after.mask[i, c]) == counts
            n_left_out += not counts
    assert 0 < n_left_out < 800
    there = [i for i, row in partner.items() if i % 5 == 0 and row == 2]
    assert there
    assert bool(after.mask[there, 2].all()), "the partner's bird is there for certain"


def test_without_masked_labels_there_is_no_mask(source: ClipSource) -> None:
    before, after = both(source, OrMixup(name="m"), n=20)
    assert before.mask is None
    assert after.mask is None


# ---------------------------------------------------------------- coloured noise


def impulses(n: int, n_samples: int, at: int | None = None) -> torch.Tensor:
    wave = torch.zeros(n, n_samples)
    wave[:, n_samples // 2 if at is None else at] = 1
    return wave


def noise_and_scale(spec: ColouredNoise, wave: torch.Tensor, rate: int) -> tuple[Any, Any]:
    """What was added to each clip, by giving the clip and then its negative to equal draws."""
    n = len(wave)
    one, two = (
        augment_wave([spec], batch_with(x, rate), EpochDraws(0, 0, 0), np.arange(n)).wave.numpy()
        for x in (wave, -wave)
    )
    x = wave.numpy().astype(np.float64)
    quiet = x == 0
    ratio = np.array(
        [np.dot(b[q], a[q]) / np.dot(b[q], b[q]) for a, b, q in zip(one, two, quiet, strict=True)]
    )
    scaled = (one - ratio[:, None] * two) / 2  # the clip times its scale
    scale = (scaled * x).sum(axis=1) / (x * x).sum(axis=1)
    return one / scale[:, None] - x, scale


@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
def test_noise_has_the_drawn_power_and_the_slope_of_its_colour(colour: Any) -> None:
    rate, n, n_samples = 8_000, 2_000, 2_000
    spec = ColouredNoise(name="noise", p=1.0, colour=colour, snr_db=(3.0, 30.0))
    wave = impulses(n, n_samples)
    noise, scale = noise_and_scale(spec, wave, rate)
    snr_db = -10 * np.log10((noise**2).sum(axis=1))
    assert uniform(snr_db, 3, 30) > 1e-3
    assert snr_db.min() > 3 - 1e-3
    assert snr_db.max() < 30 + 1e-3
    peak = np.abs(wave.numpy() + noise).max(axis=1)
    assert np.allclose(scale * peak, 1, atol=1e-5), "peak-normalised again"
    unit = noise / np.sqrt((noise**2).sum(axis=1, keepdims=True))
    power = (np.abs(np.fft.rfft(unit, axis=1)) ** 2).mean(axis=0)
    hz = np.fft.rfftfreq(n_samples, 1 / rate)
    inside = (hz >= 40) & (hz < rate / 2)
    slope = np.polyfit(np.log(hz[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx({"white": 0, "pink": -1, "brown": -2}[colour], abs=0.03)
    below = power[hz < 20].sum() / power.sum()
    assert below == pytest.approx(20 / 4_000 if colour == "white" else 0, abs=1e-3)
    gaussian = unit[:, ::97] / unit[:, ::97].std()
    assert stats.kstest(gaussian.ravel(), "norm").pvalue > 1e-3


def test_noise_of_two_clips_and_two_epochs_has_nothing_in_common() -> None:
    spec = ColouredNoise(name="noise", p=1.0, colour="pink", snr_db=(0.0, 0.0))
    wave = impulses(2, 4_096)
    parts = [
        augment_wave(
            [spec], batch_with(wave), EpochDraws(seed, 0, epoch), np.arange(2)
        ).wave.numpy()
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    noise = np.delete(np.concatenate(parts), 2_048, axis=1)  # without the impulse
    found = np.corrcoef(noise) - np.eye(6)
    assert np.abs(found).max() < 0.4


def test_noise_lengths_that_no_fourier_transform_likes() -> None:
    for n_samples in (1_009, 7_919, 20_011):
        for colour in ("white", "pink", "brown"):
            noise = make_noise(np.random.default_rng(0), colour, n_samples, 32_000)
            assert noise.shape == (n_samples,)
            assert noise.dtype == np.float32
            assert np.isfinite(noise).all()
            assert noise.std() > 0


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize("n_samples", [160_000, 63_999, 16_000, 1_025, 1_024, 600, 511, 5, 1])
def test_filtering_frames_is_torchs_transform_there_and_back(n_samples: int) -> None:
    rng = torch.Generator().manual_seed(n_samples)
    wave = torch.rand(3, n_samples, generator=rng) * 2 - 1
    response = torch.rand(3, 513, generator=rng)
    window = torch.hann_window(1024)
    spectrum = torch.stft(
        torch.nn.functional.pad(wave, (0, 512)), 1024, 512, window=window, return_complex=True
    )
    expected = torch.istft(
        spectrum * response[:, :, None], 1024, 512, window=window, length=n_samples
    )
    found = filter_frames(wave, response)
    assert found.shape == wave.shape
    assert torch.allclose(found, expected, atol=1e-5)
    for i in range(3):
        assert torch.equal(filter_frames(wave[i], response[i]), found[i]), "alone as among others"


def test_random_filtering_keeps_the_length_and_is_the_filter_that_was_drawn() -> None:
    n, n_samples = 8, 16_000
    rng = np.random.default_rng(1)
    before = normal(rng.normal(size=(n, n_samples))).astype(np.float32)
    spec = RandomFiltering(name="f", points=4, gain_db=(-20.0, 0.0))
    draws, places = EpochDraws(0, 0, 0), np.arange(n)
    after = augment_wave([spec], batch_with(torch.from_numpy(before)), draws, places).wave.numpy()
    assert after.shape == (n, n_samples)
    gains_db = -20 + 20 * draws.at(places, "f").uniform(4, tag="gains")
    for x, out, gain_db in zip(before, after, gains_db, strict=True):
        curve = 10 ** (np.interp(np.linspace(0, 3, 513), range(4), gain_db) / 20)
        _, _, z = signal.stft(x, window="hann", nperseg=1024, noverlap=512)
        _, filtered = signal.istft(z * curve[:, None], window="hann", nperseg=1024, noverlap=512)
        inner = slice(1024, n_samples - 1024)
        scale = np.dot(out[inner], filtered[inner]) / np.dot(filtered[inner], filtered[inner])
        assert np.allclose(out[inner], scale * filtered[inner], atol=1e-5)
        assert np.abs(out).max() == pytest.approx(1, abs=1e-4)


def test_filter_gains_lie_in_range_and_are_uniform() -> None:
    n, length = 2_000, 4_096
    impulse = impulses(n, length)
    spec = RandomFiltering(name="f", points=2, gain_db=(-12.0, -3.0), p=0.5)
    out = augment_wave([spec], batch_with(impulse), EpochDraws(2, 1, 3), np.arange(n)).wave.numpy()
    changed = (out != impulse.numpy()).any(axis=1)
    assert holds_share(changed, 0.5)
    response = np.abs(np.fft.rfft(out[changed], axis=1))
    tilt_db = 20 * np.log10(response[:, -1] / response[:, 0])
    assert np.abs(tilt_db).max() <= 9 + 1e-3
    triangular = stats.kstest(
        tilt_db / 9, lambda x: np.where(x < 0, (1 + x) ** 2 / 2, 1 - (1 - x) ** 2 / 2)
    )
    assert triangular.pvalue > 1e-3, "the difference of two uniform gains"


def test_a_low_pass_falls_by_its_slope_above_a_cutoff_uniform_in_octaves() -> None:
    n, n_samples, rate = 2_500, 2_048, 32_000
    spec = LowPass(name="low", p=0.8, cutoff_hz=(1_000.0, 8_000.0), db_per_octave=12.0)
    impulse = impulses(n, n_samples)
    out = augment_wave(
        [spec], batch_with(impulse, rate), EpochDraws(0, 0, 0), np.arange(n)
    ).wave.numpy()
    changed = (out != impulse.numpy()).any(axis=1)
    assert holds_share(changed, 0.8)
    response_db = 20 * np.log10(np.abs(np.fft.rfft(out[changed], axis=1)))
    response_db -= response_db[:, 10:11]
    hz = np.fft.rfftfreq(n_samples, 1 / rate)
    at_16k, at_12k, at_500 = (np.abs(hz - f).argmin() for f in (15_900, 12_000, 500))
    octaves = -response_db[:, at_16k] / 12
    assert uniform(np.log2(hz[at_16k] / 1_000) - octaves, 0, 3) > 1e-3
    fall = response_db[:, at_12k] - response_db[:, at_16k]
    assert fall == pytest.approx(np.full(len(fall), 12 * np.log2(hz[at_16k] / 12_000)), abs=0.1)
    assert np.abs(response_db[:, at_500]).max() < 0.1, "nothing happens below the cutoff"
    assert np.abs(out).max(axis=1) == pytest.approx(np.ones(n), abs=1e-6)


@pytest.mark.parametrize("db_per_octave", [6.0, 12.0, 24.0, 48.0])
def test_a_low_pass_takes_its_decibels_from_tones(db_per_octave: float) -> None:
    rate, n_samples = 32_000, 32_000
    time = np.arange(n_samples) / rate
    spec = LowPass(name="low", p=1.0, cutoff_hz=(2_000.0, 2_000.0), db_per_octave=db_per_octave)
    tones = {1_000: 0.0, 2_000: 0.0, 4_000: db_per_octave, 8_000: 2 * db_per_octave}
    # Each beside a tone under the cutoff, which shows how the clip was scaled.
    waves = [np.sin(2 * np.pi * 500 * time) + np.sin(2 * np.pi * hz * time) for hz in tones]
    batch = batch_with(torch.from_numpy(np.stack(waves).astype(np.float32)), rate)
    out = augment_wave([spec], batch, EpochDraws(0, 0, 0), np.arange(4)).wave.numpy()
    inner = out[:, 8_000:24_000] * np.hanning(16_000)
    spectrum = np.abs(np.fft.rfft(inner, axis=1))
    for row, (hz, expected_db) in zip(spectrum, tones.items(), strict=True):
        fall = 20 * np.log10(row[250] / row[hz // 2])
        assert fall == pytest.approx(expected_db, abs=0.6)


# ---------------------------------------------------------------- gain, time shift


def test_gain_is_uniform_in_decibels_and_what_comes_later_meets_it(source: ClipSource) -> None:
    spec = Gain(name="gain", p=0.5, gain_db=(-12.0, 6.0))
    before, after = both(source, spec)
    changed = changed_rows(before, after)
    assert holds_share(changed, 0.5)
    factor = after.wave.abs().amax(dim=1).numpy()[changed]
    assert uniform(20 * np.log10(factor), -12, 6) > 1e-3
    expected = before.wave.numpy()[changed] * factor[:, None]
    assert np.allclose(after.wave.numpy()[changed], expected, atol=1e-6)
    assert torch.equal(after.targets, before.targets)
    softer = Gain(name="gain", p=1.0, gain_db=(-20.0, -20.0))
    cover = Background(name="b", p=1.0, noise=("x",), level=(0.5, 0.5))
    draws = EpochDraws(0, 0, 0)
    clean = batch_of(source, draws, [softer, cover], 2_000)
    mixed = augment_wave([softer, cover], copy_of(clean), draws, np.arange(2_000))
    noise = waves_of(clean.fetched["b"]["noise"])
    assert np.allclose(mixed.wave.numpy(), normal(0.1 * clean.wave.numpy() + noise), atol=1e-5)


def test_time_shifts_are_uniform_and_lose_nothing(source: ClipSource) -> None:
    spec = TimeShift(name="shift", p=0.8, max_s=0.05)
    before, after = both(source, spec)
    shifts = []
    for x, out in zip(before.wave.numpy(), after.wave.numpy(), strict=True):
        match = [n for n in range(-10, 11) if np.array_equal(np.roll(x, n), out)]
        assert len(match) == 1
        shifts.append(match[0])
    counts = np.bincount(np.array(shifts) + 10, minlength=21)
    expected = np.full(21, 0.8 * N / 21)
    expected[10] += 0.2 * N
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    far = augment_wave(
        [TimeShift(name="shift", p=1.0, max_s=3.0)], copy_of(before), EpochDraws(0, 0, 0), PLACES
    )
    ends = [np.sort(batch.wave.numpy(), axis=1) for batch in (before, far)]
    assert np.array_equal(*ends), "shifted by several lengths of the clip"


# ---------------------------------------------------------------- all kinds


def all_of(p: float) -> tuple[AugmentationSpec, ...]:
    """One of every kind."""
    return (
        OrMixup(name="or_mixup", p=p),
        Mixup(name="mixup", p=p, labels="soft", partner="class_weight"),
        Cutmix(name="cutmix", p=p),
        Gain(name="gain", p=p),
        Background(name="background", p=p, noise=("x", "y")),
        ColouredNoise(name="white", p=p),
        ColouredNoise(name="brown", p=p, colour="brown"),
        RandomFiltering(name="random_filtering", p=p),
        LowPass(name="low_pass", p=p, cutoff_hz=(20.0, 50.0)),
        TimeShift(name="time_shift", p=p, max_s=0.1),
        SpecMask(name="spec_mask", p=p),
    )


NAMES = [spec.name for spec in all_of(0.5)]


@pytest.mark.parametrize("spec", all_of(0.0), ids=NAMES)
def test_a_probability_of_0_changes_nothing(source: ClipSource, spec: AugmentationSpec) -> None:
    before, after = both(source, spec, n=2_000)
    assert torch.equal(after.wave, before.wave)
    assert torch.equal(after.targets, before.targets)
    mel = torch.ones(2_000, 1, 8, 9)
    assert torch.equal(augment_mel([spec], mel, EpochDraws(0, 0, 0), np.arange(2_000)), mel)


@pytest.mark.parametrize("spec", all_of(1.0), ids=NAMES)
def test_a_probability_of_1_changes_every_clip(source: ClipSource, spec: AugmentationSpec) -> None:
    n = 2_000
    draws = EpochDraws(0, 0, 0)
    if spec.domain == "mel":
        wide = spec.model_copy(update={"max_bins": 8, "max_frames": 9, "max_masks": 16})
        masked = augment_mel([wide], torch.ones(n, 1, 8, 9), draws, np.arange(n))
        assert (masked == 0).any(dim=3).any(dim=2).all()
        return
    before, after = both(source, spec, n=n)
    got = before.fetched.get(spec.name)
    if got is not None:
        assert np.array_equal(got["index"], np.arange(n))
    same = ~changed_rows(before, after)
    # A clip mixed with itself, and a shift by nothing, are as they were.
    chance = 1 / 41 if isinstance(spec, TimeShift) else 1 / 20 if "mix" in spec.kind else 0
    assert same.mean() <= 2 * chance


@pytest.mark.parametrize("off", NAMES)
def test_switching_one_off_leaves_the_draws_of_the_others(source: ClipSource, off: str) -> None:
    draws, places = EpochDraws(0, 0, 0), np.arange(64)
    specs = all_of(0.5)
    rest = tuple(spec for spec in specs if spec.name != off)
    one, two = (fetch_all(chosen, draws, places, source) for chosen in (specs, rest))
    assert set(one) - {off} == set(two)
    for name, fetched in two.items():
        for key, value in fetched.items():
            assert equal(value, one[name][key]), f"{name} {key}"
    for spec in rest:  # each of the others by itself, in a batch made with and without the one
        alone = [
            augment_wave([spec], batch_of(source, draws, chosen, 64), draws, places)
            for chosen in (specs, rest)
        ]
        assert torch.equal(alone[0].wave, alone[1].wave)
        assert torch.equal(alone[0].targets, alone[1].targets)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Crops):
        return np.array_equal(a.pieces, b.pieces) and np.array_equal(a.scales, b.scales)
    return (a is None and b is None) or np.array_equal(a, b)


def test_a_clip_does_not_depend_on_the_batch_it_is_in(source: ClipSource) -> None:
    specs, draws = all_of(0.6), EpochDraws(0, 0, 0)

    def made(places: npt.NDArray[np.int64]) -> ClipBatch:
        stored = read_batch(source, specs, draws, places, places % 5)
        return augment_wave(specs, stored.to(CPU), draws, places)

    whole = made(np.arange(60))
    for places in (np.arange(7, 12), np.array([59, 3, 30])):
        part = made(places)
        assert torch.equal(part.wave, whole.wave[places])
        assert torch.equal(part.targets, whole.targets[places])


class AtOnce(ClipBatch):
    """A batch on a CPU whose clips are changed as a device does it: all at once."""

    def change(self, index: npt.NDArray[np.int64], change: Change) -> None:
        if len(index):
            clips = Clips(self.wave[index])
            change(clips, slice(None))
            self.wave[index] = clips.wave()


@pytest.mark.parametrize("spec", [s for s in all_of(0.6) if s.domain == "wave"], ids=NAMES[:-1])
def test_clips_at_once_are_those_changed_one_by_one(
    source: ClipSource, spec: AugmentationSpec
) -> None:
    draws, n = EpochDraws(0, 0, 0), 500
    before = batch_of(source, draws, [spec], n)
    before.wave[::11] = 0  # some are silent
    at_once = copy_of(before)
    device = AtOnce(
        at_once.wave, at_once.targets, at_once.sample_rate_hz, at_once.fetched, at_once.mask
    )
    one_by_one = augment_wave([spec], copy_of(before), draws, np.arange(n))
    together = augment_wave([spec], device, draws, np.arange(n))
    assert torch.allclose(together.wave, one_by_one.wave, atol=1e-5)
    assert torch.equal(together.targets, one_by_one.targets)


@pytest.mark.parametrize("spec", [s for s in all_of(1.0) if s.domain == "wave"], ids=NAMES[:-1])
def test_silence_stays_finite(source: ClipSource, spec: AugmentationSpec) -> None:
    draws = EpochDraws(0, 0, 0)
    batch = batch_of(source, draws, [spec], 8)
    batch.wave[:] = 0
    out = augment_wave([spec], batch, draws, np.arange(8))
    assert torch.isfinite(out.wave).all()
    if "index" not in batch.fetched.get(spec.name, {}):
        assert not out.wave.any(), "nothing is made out of silence"


def test_the_numbers_behind_a_step_are_those_it_used(source: ClipSource) -> None:
    n = 200
    draws, places = EpochDraws(0, 0, 0), np.arange(n)
    for spec in (s for s in all_of(1.0) if s.domain == "wave"):
        drawn = getattr(function_of(spec), "drawn", None)
        if drawn is None:
            assert isinstance(spec, OrMixup)
            continue
        before, after = both(source, spec, n=n)
        for name, values in drawn(spec, before, draws.at(places, spec.name)).items():
            assert len(values) == n, name
            assert np.isfinite(values).all()
        if isinstance(spec, Gain):
            found = 20 * np.log10(after.wave.abs().amax(dim=1).numpy())
            assert np.allclose(found, values, atol=1e-4)
        if isinstance(spec, TimeShift):
            rolled = [
                np.roll(x, round(s * RATE))
                for x, s in zip(before.wave.numpy(), values, strict=True)
            ]
            assert np.array_equal(rolled, after.wave.numpy())


def test_crops_of_a_recording_keep_its_level(source: ClipSource) -> None:
    whole = replace(source, normalise="recording")
    u = EpochDraws(0, 0, 0).at(PLACES, "crop").uniform(1)[:, 0]
    rows = PLACES % 5
    one, other = (waves_of(s.read_crops(rows, u)) for s in (source, whole))
    peaks = np.abs(other).max(axis=1)
    assert peaks.max() <= 1
    assert peaks[np.isin(rows, (1, 2))] == pytest.approx(1), "all of a short one is in its crop"
    assert 0.5 < peaks.min() < 0.99
    assert np.allclose(other, one * peaks[:, None], atol=1e-6)
    noise = [waves_of(s.read_noise(["x"], np.full((1, 3), 0.4))) for s in (source, whole)]
    assert np.array_equal(*noise), "noise has peak 1 either way"
