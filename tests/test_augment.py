"""Crops, the recipe of 2023 and the loader, against plain NumPy over thousands of draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from clips import (
    CPU,
    CROP,
    TARGETS,
    batch_of,
    batch_with,
    build_source,
    copy_of,
    uniform,
    waves_of,
)
from scipy import stats

from birdlab.errors import DataError
from birdlab.sed.augment import augment_mel, augment_wave, fetch_all
from birdlab.sed.batch import ClipBatch, Clips, Crops
from birdlab.sed.draws import Draws, EpochDraws
from birdlab.sed.loader import ClipSource, Takes, epoch_batches, locate_takes
from birdlab.spec.augmentations import (
    AugmentationSpec,
    Background,
    OrMixup,
    RandomFiltering,
    SpecMask,
)
from birdlab.spec.kinds import implements, register
from birdlab.spec.samplers import InversePower, Plain

N = 4_000
PLACES = np.arange(N)
PARTS = ("pieces", "scales")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    return build_source(tmp_path_factory.mktemp("waves"))


def whole_of(source: ClipSource, takes: Takes, row: int) -> npt.NDArray[np.float32]:
    """The whole recording of a row as a wave."""
    samples = source.waves.read_row(int(takes.place[row]), 0, int(takes.n_samples[row]))
    return samples.astype(np.float32)


# ---------------------------------------------------------------- crops


def test_crops_are_peak_normalised_and_padded_on_the_left(source: ClipSource) -> None:
    crops = waves_of(source.read_crops(np.array([1, 0]), np.array([0.9, 0.5])))
    short = whole_of(source, source.takes, 1)
    assert crops.shape == (2, CROP)
    assert not crops[0, : CROP - 40].any()
    assert np.allclose(crops[0, CROP - 40 :], short / np.abs(short).max(), atol=1e-6)
    assert np.abs(crops).max(axis=1) == pytest.approx([1, 1])


def test_starts_are_uniform_over_all_legal_ones(source: ClipSource) -> None:
    whole = whole_of(source, source.takes, 0)
    u = EpochDraws(0, 0, 0).at(PLACES, "crop").uniform(1)[:, 0]
    crops = waves_of(source.read_crops(np.zeros(N, np.int64), u))
    known = {
        (piece / np.abs(piece).max()).astype(np.float32).round(4).tobytes(): start
        for start in range(137)
        for piece in [whole[start : start + CROP]]
    }
    starts = np.array([known[crop.round(4).tobytes()] for crop in crops])
    counts = np.bincount(starts, minlength=137)
    assert len(counts) == 137
    assert counts.min() > 0
    assert stats.chisquare(counts).pvalue > 1e-3
    edge = waves_of(source.read_crops(np.zeros(2, np.int64), np.array([0.0, 1 - 2**-53])))
    assert [known[c.round(4).tobytes()] for c in edge] == [0, 136]


def test_noise_comes_from_each_set_alike_and_is_repeated_when_short(source: ClipSource) -> None:
    u = EpochDraws(0, 0, 0).at(PLACES, "n").uniform(3)
    u[:3] = [[0.0, 0.6, 0.5], [0.7, 0.9, 0.0], [0.3, 0.2, 0.99]]
    noise = waves_of(source.read_noise(["x", "y"], u[:3]))
    short = whole_of(source, source.noise["x"], 1)
    repeated = np.tile(short, 4)[:CROP]
    assert np.allclose(noise[0], repeated / np.abs(repeated).max(), atol=1e-6)
    long = whole_of(source, source.noise["y"], 0)
    assert np.allclose(noise[1], long[:CROP] / np.abs(long[:CROP]).max(), atol=1e-6)
    sets = np.floor(u[:, 0] * 2)
    assert abs(sets.mean() - 0.5) < 0.04


# ---------------------------------------------------------------- or-mixup


def test_or_mixup_is_the_mean_of_two_and_the_union_of_labels(source: ClipSource) -> None:
    spec = OrMixup(name="or_mixup", p=1.0)
    draws = EpochDraws(0, 0, 0)
    before = batch_of(source, draws, [spec], N)
    after = augment_wave([spec], copy_of(before), draws, PLACES)
    got = before.fetched["or_mixup"]
    assert np.array_equal(got["index"], PLACES)
    a, b = before.wave.numpy(), waves_of(got["crops"])
    mixed = (a + b) / 2
    expected = mixed / np.maximum(np.abs(mixed).max(axis=1, keepdims=True), 1e-6)
    assert np.allclose(after.wave.numpy(), expected, atol=1e-6)
    union = np.clip(before.targets.numpy() + got["targets"], 0, 1)
    assert np.array_equal(after.targets.numpy(), union)
    assert np.abs(b).max(axis=1) == pytest.approx(np.ones(N))


def test_or_mixup_partners_are_uniform_over_rows(source: ClipSource) -> None:
    spec = OrMixup(name="or_mixup", p=0.5)
    draws = EpochDraws(1, 0, 0)
    before = batch_of(source, draws, [spec], N)
    after = augment_wave([spec], copy_of(before), draws, PLACES)
    got = before.fetched["or_mixup"]
    share = len(got["index"]) / N
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / N)
    partners = [next(i for i in range(5) if np.array_equal(t, TARGETS[i])) for t in got["targets"]]
    expected = np.array([1, 2, 1, 1, 0]) * len(partners) / 5  # rows 1 and 4 have equal labels
    counts = np.bincount(partners, minlength=5)
    assert stats.chisquare(counts[:4], expected[:4]).pvalue > 1e-3
    others = np.setdiff1d(PLACES, got["index"])
    assert torch.equal(after.wave[others], before.wave[others])
    assert torch.equal(after.targets[others], before.targets[others])


# ---------------------------------------------------------------- background


def test_background_is_the_weighted_sum_with_uniform_weights(source: ClipSource) -> None:
    spec = Background(name="background", p=0.6, noise=("x", "y"), level=(0.25, 0.75))
    draws = EpochDraws(0, 0, 0)
    before = batch_of(source, draws, [spec], N)
    after = augment_wave([spec], copy_of(before), draws, PLACES)
    got = before.fetched["background"]
    assert abs(len(got["index"]) / N - 0.6) < 4 * np.sqrt(0.24 / N)
    levels = []
    for x, noise, out in zip(
        before.wave.numpy()[got["index"]],
        waves_of(got["noise"]),
        after.wave.numpy()[got["index"]],
        strict=True,
    ):
        parts = np.stack([x, noise], axis=1).astype(np.float64)
        (a, b), rest, *_ = np.linalg.lstsq(parts, out.astype(np.float64), rcond=None)
        levels.append(b / (a + b))
        assert float(rest[0]) < 1e-9, "nothing but the two is in it"
    assert uniform(np.array(levels), 0.25, 0.75) > 1e-3
    assert min(levels) >= 0.25 - 1e-5
    assert max(levels) <= 0.75 + 1e-5
    assert after.wave.abs().amax(dim=1).numpy() == pytest.approx(np.ones(N), abs=1e-6)
    assert torch.equal(after.targets, before.targets)
    assert np.abs(waves_of(got["noise"])).max(axis=1) == pytest.approx(np.ones(len(got["index"])))


# ---------------------------------------------------------------- spec mask


def masked_widths(spec: SpecMask, n: int = N, seed: int = 0) -> tuple[Any, Any]:
    """How many bins and frames of each clip are masked."""
    mel = torch.ones(n, 2, 40, 60)
    out = augment_mel([spec], mel, EpochDraws(seed, 0, 0), np.arange(n)).numpy()
    assert set(np.unique(out)) <= {0.0, 1.0}
    assert np.array_equal(out[:, 0], out[:, 1]), "all channels alike"
    assert mel.min() == 1, "the spectrogram it was given stays as it was"
    bins = (out[:, 0].max(axis=2) == 0).sum(axis=1)
    frames = (out[:, 0].max(axis=1) == 0).sum(axis=1)
    return bins, frames


def test_mask_widths_are_uniform() -> None:
    spec = SpecMask(name="m", p=1.0, max_masks=1, max_bins=10, max_frames=20)
    bins, frames = masked_widths(spec)
    for found, limit in ((bins, 10), (frames, 20)):
        # A width uniform in 0..limit covers whole cells: the two ends half as often.
        expected = np.full(limit + 1, N / limit)
        expected[[0, -1]] /= 2
        assert stats.chisquare(np.bincount(found, minlength=limit + 1), expected).pvalue > 1e-3
    assert abs(np.corrcoef(bins, frames)[0, 1]) < 0.06


def test_each_axis_is_masked_with_its_own_probability() -> None:
    bins, frames = masked_widths(SpecMask(name="m", p=0.3, max_masks=1))
    # One mask in 2 * max_width covers no whole cell.
    for found, limit in ((bins, 10), (frames, 20)):
        share = 0.3 * (1 - 0.5 / limit)
        assert abs((found > 0).mean() - share) < 4 * np.sqrt(share * (1 - share) / N)
    both = ((bins > 0) & (frames > 0)).mean()
    assert both == pytest.approx((bins > 0).mean() * (frames > 0).mean(), abs=0.02)


def test_one_to_max_masks_fall_anywhere_like_in_plain_numpy() -> None:
    spec = SpecMask(name="m", p=1.0, max_masks=3, max_bins=10, max_frames=20)
    bins, _ = masked_widths(spec)
    rng = np.random.default_rng(5)
    simulated = []
    for _ in range(N):
        covered = np.zeros(40, bool)
        for _ in range(rng.integers(1, 4)):
            width = rng.uniform(0, 10)
            start = rng.uniform(0, 40 - width)
            covered[int(start) : int(start + width)] = True
        simulated.append(covered.sum())
    assert stats.ks_2samp(bins, simulated).pvalue > 1e-3
    assert bins.mean() == pytest.approx(np.mean(simulated), abs=0.35)


def test_masks_may_be_wider_than_the_spectrogram() -> None:
    bins, frames = masked_widths(SpecMask(name="m", p=1.0, max_bins=500, max_frames=500), 200)
    assert bins.max() <= 40
    assert frames.max() <= 60
    none, _ = masked_widths(SpecMask(name="m", p=1.0, max_bins=0), 200)
    assert not none.any()


# ---------------------------------------------------------------- independence and repetition

ALL: tuple[AugmentationSpec, ...] = (
    OrMixup(name="or_mixup"),
    Background(name="background", noise=("x", "y")),
    RandomFiltering(name="random_filtering", p=0.5),
    SpecMask(name="spec_mask"),
)


def epoch_of(
    source: ClipSource, augment: Any, epoch: int = 0, seed: int = 0, workers: int = 1
) -> list[Any]:
    draws = EpochDraws(seed, 0, epoch)
    return list(epoch_batches(source, InversePower(), augment, draws, 6, 4, CPU, workers))


def arrays_of(batches: list[Any]) -> list[Any]:
    """Every array of some batches in order."""
    return [
        array
        for positions, rows, clips in batches
        for array in (positions, rows, clips.wave.numpy(), clips.targets.numpy())
    ]


@pytest.mark.parametrize("workers", [0, 1, 8])
def test_the_loader_gives_identical_batches_however_many_read(
    source: ClipSource, workers: int
) -> None:
    first, again = (arrays_of(epoch_of(source, ALL, workers=n)) for n in (1, workers))
    assert len(first) == len(again) == 6 * 4
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_two_epochs_and_two_seeds_never_give_equal_batches(source: ClipSource) -> None:
    seen = [
        torch.cat([clips.wave for _, _, clips in epoch_of(source, (), epoch, seed)])
        for epoch, seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    rows = [np.concatenate([r for _, r, _ in epoch_of(source, (), e)]).tolist() for e in (0, 1)]
    assert rows[0] != rows[1]


def test_a_row_drawn_twice_in_an_epoch_gets_two_crops(source: ClipSource) -> None:
    crops = [
        clips.wave[i].numpy().tobytes()
        for _, rows, clips in epoch_of(source, ())
        for i, row in enumerate(rows)
        if row == 3
    ]
    assert len(crops) >= 2
    assert len(set(crops)) == len(crops)


@pytest.mark.parametrize("off", ["or_mixup", "background", "random_filtering", "spec_mask"])
def test_switching_one_augmentation_off_leaves_the_other_draws(
    source: ClipSource, off: str
) -> None:
    rest = tuple(a for a in ALL if a.name != off)
    draws = EpochDraws(0, 0, 0)
    rows = [np.concatenate([r for _, r, _ in epoch_of(source, specs)]) for specs in (ALL, rest)]
    assert np.array_equal(rows[0], rows[1]), "the same rows"
    one, two = (fetch_all(specs, draws, np.arange(24), source) for specs in (ALL, rest))
    assert set(one) - {off} == set(two)
    for name, fetched in two.items():
        for key, array in fetched.items():
            pairs = [(array, one[name][key])]
            if isinstance(array, Crops):
                pairs = [(getattr(array, part), getattr(one[name][key], part)) for part in PARTS]
            assert all(np.array_equal(a, b) for a, b in pairs)
    mel = torch.ones(24, 1, 40, 60)
    masks = [augment_mel(specs, mel, draws, np.arange(24)) for specs in (ALL, rest)]
    assert torch.equal(*masks) == (off != "spec_mask")


def test_the_batch_size_changes_no_clip(source: ClipSource) -> None:
    waves = []
    for n_steps, batch in ((48, 2), (12, 8), (1, 96)):
        draws = EpochDraws(0, 0, 0)
        parts = list(epoch_batches(source, Plain(), ALL, draws, n_steps, batch, CPU))
        waves.append(torch.cat([clips.wave for _, _, clips in parts]))
    assert torch.equal(waves[0], waves[1])
    assert torch.equal(waves[0], waves[2])


def test_an_augmentation_of_the_whole_batch_gets_what_is_done_before_it(
    source: ClipSource,
) -> None:
    @register("augmentation")
    class Turn(AugmentationSpec):
        kind: Literal["turn_for_a_test"] = "turn_for_a_test"

    @implements(Turn)
    def turn(_spec: Turn, batch: ClipBatch, _draws: Draws) -> ClipBatch:
        return replace(batch, wave=batch.wave.flip(0))

    cover, mix = Background(name="b", noise=("x",)), OrMixup(name="m", p=1.0)
    plain, turned, covered = (
        next(epoch_batches(source, Plain(), specs, EpochDraws(0, 0, 0), 1, 96, CPU))[2]
        for specs in ([mix], [mix, Turn(name="turn")], [mix, Turn(name="turn"), cover])
    )
    assert torch.equal(turned.wave, plain.wave.flip(0))
    got = covered.fetched["b"]["index"]
    same = (covered.wave == turned.wave).all(dim=1).numpy()
    assert np.array_equal(np.flatnonzero(~same), got)


def test_what_waits_is_done_in_order_and_outlives_a_replaced_field() -> None:
    def add(clips: Clips, part: int | slice) -> None:
        clips.wave().add_(torch.tensor([1.0, 2.0])[part])

    def set_peak(clips: Clips, _: int | slice) -> None:
        clips.peak_normalise()
        clips.wave().mul_(20)

    batch = batch_with(torch.ones(3, 4))
    batch.change(np.array([2, 0]), add)
    batch = replace(batch, targets=torch.ones(3, 1))
    batch.change(np.array([0]), set_peak)
    assert torch.equal(batch.wave, torch.ones(3, 4))
    for _ in range(2):  # nothing is done twice
        assert batch.settle().wave[:, 0].tolist() == [20, 1, 2]


@pytest.mark.parametrize("level", [(0.25, 0.75), (0.0, 0.0), (1.0, 1.0)])
def test_clips_at_once_are_those_changed_one_by_one(level: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    own, other = (
        Crops(
            list(rng.integers(-9_000, 9_000, (6, CROP)).astype(np.int16)), rng.uniform(1e-7, 1, 6)
        )
        for _ in range(2)
    )
    own.pieces[1][:], own.scales[1] = 0, 0
    for crops in (own, other):
        crops.pieces[2][:] = 0
    g = rng.uniform(*level, 6).astype(np.float32)

    def change(clips: Clips, part: int | slice) -> torch.Tensor:
        own.put(clips, part)
        other.add_to(clips, part)
        clips.peak_normalise(0.5)
        clips.scale(1 - g, part)
        other.add_to(clips, part, g)
        clips.peak_normalise()
        return clips.wave()

    at_once = change(Clips(torch.empty(6, CROP)), slice(None))
    for i in range(6):
        assert torch.allclose(change(Clips(torch.empty(CROP)), i), at_once[i], atol=1e-6)
    a, b = (
        np.stack(crops.pieces) * crops.gain.astype(np.float64)[:, None] for crops in (own, other)
    )

    def normal(wave: npt.NDArray[np.float64]) -> Any:
        return wave / np.maximum(np.abs(wave).max(axis=1, keepdims=True), 1e-6)

    expected = normal((1 - g[:, None]) * normal((a + b) / 2) + g[:, None] * b)
    assert np.allclose(at_once.numpy(), expected, atol=1e-5)
    assert not at_once[2].any(), "silence"


def test_an_epoch_can_be_taken_up_at_any_step(source: ClipSource) -> None:
    draws = EpochDraws(0, 0, 0)
    given = source, InversePower(), ALL, draws, 6, 4, CPU
    whole = arrays_of(list(epoch_batches(*given)))
    for workers in (0, 1, 8):
        for first in (0, 1, 5, 6):
            rest = arrays_of(list(epoch_batches(*given, workers, first)))
            assert len(rest) == 4 * (6 - first)
            kept = whole[4 * first :]
            assert all(np.array_equal(a, b) for a, b in zip(rest, kept, strict=True))


def test_a_broken_loader_fails_the_epoch(source: ClipSource) -> None:
    gone = Takes(source.takes.place, source.takes.first + 10**6, source.takes.n_samples)
    lost = ClipSource(source.waves, gone, source.targets, {}, CROP)
    with pytest.raises(DataError, match="leaves its recording"):
        epoch_of(lost, ())


def test_a_part_of_a_recording_is_all_that_is_read_of_it(source: ClipSource) -> None:
    key = source.waves.key("3")
    takes = locate_takes(source.waves, np.array([key], "S32"), np.array([[0.4, 0.8]]))
    assert (int(takes.first[0]), int(takes.n_samples[0])) == (80, 80)
    part = ClipSource(source.waves, takes, source.targets, {}, CROP)
    whole = source.waves.read_int16(key, 0, 500)
    crops = part.read_crops(np.zeros(2, np.int64), np.array([0.0, 1 - 2**-53]))
    assert np.array_equal(crops.pieces, [whole[80:144], whole[96:160]])
    with pytest.raises(DataError, match="outside"):
        locate_takes(source.waves, np.array([key], "S32"), np.array([[3.0, 4.0]]))
