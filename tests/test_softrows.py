"""Windows with soft labels: which pass, where crops lie, what batches and weights become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import CPU, CROP, RATE, build_source, takes_of, waves_of
from conftest import MakeLab
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_fit import RATE as TONE_RATE
from test_fit import breaking, build_tones, same, train

from birdlab.cellclips import clip_source
from birdlab.cellfiles import WEIGHTS
from birdlab.data.classes import ClassList
from birdlab.errors import DataError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.sed import checkpoint
from birdlab.sed.batch import ClipBatch, Clips, Mixed
from birdlab.sed.draws import EpochDraws
from birdlab.sed.loader import ClipSource, epoch_batches
from birdlab.sed.losses import cross_entropy_loss
from birdlab.sed.pseudo import (
    PseudoRows,
    SoftLabels,
    build_pseudo_rows,
    choose_windows,
    summarise_labels,
)
from birdlab.sed.takes import Takes
from birdlab.spec import load_spec
from birdlab.spec.augmentations import Mixup, OrMixup
from birdlab.spec.losses import CrossEntropy
from birdlab.spec.samplers import InversePower
from birdlab.spec.teaching import PseudoSpec
from birdlab.tasks import Event

CLASSES = ClassList(("a", "b", "c"))
N = 400


def spec_of(**fields: Any) -> PseudoSpec:
    given = {"soundscapes": ["x"], "teacher": "first", "threshold": 0.0, **fields}
    return PseudoSpec.model_validate(given)


def labels_of(
    probs: Any,
    start_s: Any,
    end_s: Any,
    file: Any = None,
    codes: tuple[str, ...] = ("a", "b", "c"),
    keys: tuple[str, ...] = ("k",),
) -> SoftLabels:
    probs = np.asarray(probs, np.float32)
    file = np.zeros(len(probs), np.int64) if file is None else np.asarray(file, np.int64)
    starts, ends = np.asarray(start_s, np.float64), np.asarray(end_s, np.float64)
    return SoftLabels(keys, file, starts, ends, probs, codes, "t")


def one_file(n_samples: int) -> Takes:
    return Takes(np.array([7]), np.array([0]), np.array([n_samples]))


# ---------------------------------------------------------------- which windows, which labels


probs_of = st.lists(
    st.tuples(*[st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])] * 3), min_size=1, max_size=12
)


@settings(max_examples=25)
@given(probs_of, st.sampled_from([0.0, 0.3, 0.5]), st.sampled_from([0.0, 0.2, 0.6]), st.data())
def test_windows_that_pass_and_their_sums_follow_plain_loops(
    probs: list[tuple[float, ...]], threshold: float, floor: float, data: st.DataObject
) -> None:
    power = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    spec = spec_of(threshold=threshold, floor=floor, power=power)
    starts = np.arange(len(probs), dtype=np.float64)
    labels = labels_of(probs, starts, starts + 1, codes=("b", "z", "a"))
    found = choose_windows(labels, spec, CLASSES)
    as_stored = np.asarray(probs, np.float32).astype(np.float64)
    passed, sums, by_class = [], [], {"a": 0.0, "b": 0.0}
    for row, (b, _unknown, a) in enumerate(as_stored.tolist()):
        if max(a, b) >= threshold:
            soft = {"a": a, "b": b}
            soft = {code: p**power if p >= floor else 0.0 for code, p in soft.items()}
            passed.append(row)
            sums.append(sum(soft.values()))
            by_class = {code: by_class[code] + soft[code] for code in soft}
    assert found.windows.tolist() == passed
    assert found.sums == pytest.approx(sums)
    table = summarise_labels(labels, spec, CLASSES).set_index("class")
    assert table["known"].tolist() == [True, True, False]
    assert table["label_sum"].tolist() == pytest.approx([*by_class.values(), 0])
    assert table["highest"].tolist() == [max(as_stored[:, 2]), max(as_stored[:, 0]), 0]
    assert table.loc["b", "windows"] == sum(as_stored[:, 0] >= threshold)


def test_what_cannot_be_drawn_is_refused() -> None:
    weak = labels_of([[0.1, 0.2, 0.05]], [0], [1])
    with pytest.raises(DataError, match="none of 1 windows") as caught:
        build_pseudo_rows(weak, spec_of(threshold=0.5), CLASSES, one_file(300), RATE)
    assert "0.2" in str(caught.value.got)
    silent = spec_of(floor=0.5)
    with pytest.raises(DataError, match="labels of all windows are 0"):
        build_pseudo_rows(weak, silent, CLASSES, one_file(300), RATE)
    alike = spec_of(floor=0.5, draw="uniform")
    rows = build_pseudo_rows(weak, alike, CLASSES, one_file(300), RATE)
    assert rows.cut(0, 0.0, 200)[1].tolist() == [0, 0, 0], "a clip without a call"
    with pytest.raises(DataError, match="knows none"):
        choose_windows(weak, spec_of(), ClassList(("x", "y")))
    with pytest.raises(DataError, match="outside their recordings"):
        build_pseudo_rows(weak, spec_of(), CLASSES, Takes(*np.zeros((3, 1), np.int64)), RATE)
    with pytest.raises(DataError, match="do not fit together"):
        labels_of([[0.1, 0.2]], [0], [1])


# ---------------------------------------------------------------- where crops lie


@pytest.mark.parametrize("crop", [1, 50, 99, 100, 101, 150, 200, 333, 900])
@pytest.mark.parametrize("hop", [50, 100])
def test_crops_lie_in_or_around_their_window_and_have_the_labels_that_they_cover(
    crop: int, hop: int
) -> None:
    """Against a loop over the windows; the last one reaches beyond the end of its file."""
    width, length, rng = 100, 730, np.random.default_rng(crop)
    starts = np.arange(0, 700 + 1, hop)
    order = rng.permutation(len(starts))  # stored in any order
    probs = rng.random((len(starts), 3)).astype(np.float32)
    labels = labels_of(probs[order], starts[order] / RATE, (starts[order] + width) / RATE)
    rows = build_pseudo_rows(labels, spec_of(power=2.0), CLASSES, one_file(length), RATE)
    places: dict[int, set[int]] = {}
    for window in range(len(rows)):
        own = int(order[window])
        first, last = int(starts[own]), min(int(starts[own]) + width, length)
        for u in np.linspace(0, 1, 41)[:-1]:
            (place, start, n), soft = rows.cut(window, float(u), crop)
            places.setdefault(own, set()).add(start)
            assert (place, n) == (7, min(crop, length))
            assert 0 <= start <= length - n
            if n <= last - first:
                assert first <= start <= last - n
                covered = [own]
            else:
                assert start <= first
                assert start + n >= last
                ends = [min(int(s) + width, length) for s in starts]
                covered = [
                    k
                    for k, (s, e) in enumerate(zip(starts.tolist(), ends, strict=True))
                    if 2 * (min(e, start + n) - max(s, start)) > e - s
                ]
            assert own in covered
            expected = probs[covered].max(axis=0).astype(np.float64) ** 2
            assert np.array_equal(soft, expected.astype(np.float32))
    inner = len(places[2 * 100 // hop])
    assert inner == (1 if crop in (100, 900) else inner)
    assert crop in (99, 100, 101, 900) or inner > 10, "a crop may lie anywhere"


@pytest.mark.parametrize("draw", ["uniform", "confidence"])
def test_windows_are_drawn_alike_or_by_the_sum_of_their_labels(draw: str) -> None:
    probs = [[0.9, 0.0, 0.0], [0.02, 0.0, 0.0], [0.3, 0.3, 0.0], [0.5, 0.1, 0.0]]
    labels = labels_of(probs, range(4), range(1, 5))
    given = spec_of(threshold=0.1, draw=draw, floor=0.2)
    rows = build_pseudo_rows(labels, given, CLASSES, one_file(800), RATE)
    assert len(rows) == 3
    u = (np.arange(9000) + 0.5) / 9000
    shares = np.bincount(rows.pick(u), minlength=3) / 9000
    weights = np.array([0.9, 0.6, 0.5]) if draw == "confidence" else np.ones(3)
    assert shares == pytest.approx(weights / weights.sum(), abs=1e-3)
    assert rows.pick(np.array([np.nextafter(1, 0)])).tolist() == [2]


# ---------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    return build_source(tmp_path_factory.mktemp("softrows"))


def soft_rows(
    source: ClipSource, codes: tuple[str, ...] = ("a", "b", "c"), **fields: Any
) -> PseudoRows:
    """The two longest recordings as soundscapes, cut in windows as long as a crop."""
    keys = (source.waves.key("3"), source.waves.key("0"))
    starts = np.concatenate([np.arange(0, 448, CROP), np.arange(0, 192, CROP)]) / RATE
    file = np.repeat([0, 1], [7, 3])
    probs = np.random.default_rng(1).random((10, len(codes))) * 0.9
    labels = labels_of(probs, starts, starts + CROP / RATE, file, codes, keys)
    return build_pseudo_rows(
        labels, spec_of(**fields), CLASSES, takes_of(source.waves, list(keys)), RATE
    )


def with_soft(
    source: ClipSource, codes: tuple[str, ...] = ("a", "b", "c"), **fields: Any
) -> ClipSource:
    return replace(source, pseudo=soft_rows(source, codes, **fields))


def epoch_of(
    source: ClipSource, augment: Any = (), workers: int = 0, first_step: int = 0
) -> list[tuple[Any, Any, ClipBatch]]:
    draws = EpochDraws(0, 0, 0)
    given = (source, InversePower(), augment, draws, N // 8, 8, CPU, workers)
    return list(epoch_batches(*given, first_step=first_step))


def joined(batches: Any) -> dict[str, Any]:
    """An epoch as arrays; masks of ones where there is none."""
    waves, targets = (
        torch.cat([getattr(b, n) for _, _, b in batches]) for n in ("wave", "targets")
    )
    masks = [
        torch.ones(b.targets.shape, dtype=torch.bool) if b.mask is None else b.mask
        for *_, b in batches
    ]
    rows = np.concatenate([rows for _, rows, _ in batches])
    return {
        "rows": rows,
        "wave": waves.numpy(),
        "targets": targets.numpy(),
        "mask": torch.cat(masks).numpy(),
    }


def test_a_share_of_the_clips_are_windows_and_the_others_stay(plain: ClipSource) -> None:
    augment = [OrMixup(name="or_mixup", p=0.5), Mixup(name="mixup", p=0.3, partner="class_weight")]
    before = joined(epoch_of(plain, augment))
    for rate in (0.25, 0.6):
        source = with_soft(plain, draw_rate=rate)
        got = joined(epoch_of(source, augment))
        soft = got["rows"] >= plain.n_rows
        assert soft.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / N))
        assert set(got["rows"][soft]) == set(range(plain.n_rows, plain.n_rows + 10))
        for name in got:
            assert np.array_equal(got[name][~soft], before[name][~soft])
        assert not np.array_equal(got["wave"][soft], before["wave"][soft])
        assert not np.array_equal(got["targets"][soft], before["targets"][soft])


def test_a_window_is_heard_at_peak_1_with_its_labels(plain: ClipSource) -> None:
    source = with_soft(plain, draw_rate=0.5, floor=0.3, power=2.0)
    assert source.pseudo is not None
    probs = source.pseudo.labels.probs.astype(np.float64)
    got = joined(epoch_of(source))
    for place in np.flatnonzero(got["rows"] >= plain.n_rows)[:40]:
        window = int(got["rows"][place]) - plain.n_rows
        at = int(source.pseudo.chosen[window])
        key = source.pseudo.labels.keys[source.pseudo.file[at]]
        wave = plain.waves.read(key, int(source.pseudo.first[at]), CROP)
        assert got["wave"][place] == pytest.approx(wave / np.abs(wave).max(), abs=1e-5)
        expected = np.where(probs[window] < 0.3, 0, probs[window] ** 2)
        assert got["targets"][place] == pytest.approx(expected, abs=1e-6)


FIELDS: dict[str, dict[str, Any]] = {
    "threshold": {"threshold": 0.6},
    "floor": {"floor": 0.4},
    "power": {"power": 0.5},
    "draw": {"draw": "uniform"},
    "draw_rate": {"draw_rate": 0.6},
    "mix_rate": {"mix_rate": 0.5},
    "mix_ratio": {"mix_rate": 0.5, "mix_ratio": 0.2},
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_what_is_heard(plain: ClipSource, field: str) -> None:
    base = FIELDS["mix_rate"] if field == "mix_ratio" else {}
    one, two = (joined(epoch_of(with_soft(plain, **f))) for f in (base, FIELDS[field]))
    assert not np.array_equal(one["wave"], two["wave"])
    assert np.array_equal(one["targets"], two["targets"]) == (field == "mix_ratio")
    if field in ("floor", "power"):
        both = (with_soft(plain, draw="uniform", **f) for f in ({}, FIELDS[field]))
        one, two = (joined(epoch_of(source)) for source in both)
        assert np.array_equal(one["wave"], two["wave"])
        assert not np.array_equal(one["targets"], two["targets"])


def test_a_mixture_is_the_weighted_sum_with_the_larger_labels(plain: ClipSource) -> None:
    before = joined(epoch_of(with_soft(plain, draw_rate=0.3)))
    source = with_soft(plain, draw_rate=0.3, mix_rate=0.4, mix_ratio=0.2)
    got = joined(epoch_of(source))
    assert np.array_equal(got["rows"], before["rows"])
    soft = got["rows"] >= plain.n_rows
    mixed = (got["wave"] != before["wave"]).any(axis=1)
    assert not mixed[soft].any(), "only labelled clips are mixed into"
    assert mixed[~soft].mean() == pytest.approx(0.4, abs=0.12)
    windows = np.arange(plain.n_rows, plain.n_rows + 10)
    crops, labels, _ = source.read_clips(windows, np.zeros(10))
    sums = 0.8 * before["wave"][mixed][:, None] + 0.2 * waves_of(crops)[None]
    sums /= np.abs(sums).max(axis=2, keepdims=True)
    errors = np.abs(sums - got["wave"][mixed][:, None]).max(axis=2)
    assert errors.min(axis=1).max() < 1e-5
    whose = errors.argmin(axis=1)
    assert len(set(whose.tolist())) == 10
    expected = np.maximum(before["targets"][mixed], labels[whose])
    assert np.array_equal(got["targets"][mixed], expected)
    assert np.array_equal(got["targets"][~mixed], before["targets"][~mixed])


def test_mixing_all_clips_at_once_is_mixing_one_by_one(plain: ClipSource) -> None:
    """The first is done on a GPU, the second on a CPU."""
    wave = np.random.default_rng(2).uniform(-0.5, 0.5, (4, CROP)).astype(np.float32)
    mixed = Mixed(np.arange(4), plain.read_crops(np.array([0, 3, 4, 3]), np.zeros(4)), 0.3)
    at_once = Clips(torch.from_numpy(wave.copy()))
    mixed.put(at_once, slice(None))
    for i in range(4):
        one = Clips(torch.from_numpy(wave[i].copy()))
        mixed.put(one, i)
        assert torch.allclose(one.wave(), at_once.wave()[i], atol=1e-6)
        assert float(one.wave().abs().max()) == pytest.approx(1, abs=1e-5)


def test_classes_that_the_teacher_does_not_know_do_not_count(plain: ClipSource) -> None:
    """Nor do they in mixtures, unless a label says that the class is there."""
    source = with_soft(plain, ("a", "z", "c"), draw_rate=0.5)
    got = joined(epoch_of(source))
    soft = got["rows"] >= plain.n_rows
    assert (got["mask"][soft] == [True, False, True]).all()
    assert got["mask"][~soft].all()
    assert (got["targets"][soft, 1] == 0).all()
    assert (joined(epoch_of(with_soft(plain)))["mask"]).all()
    mixed = with_soft(plain, ("a", "z", "c"), draw_rate=0.0, mix_rate=1.0)
    got = joined(epoch_of(mixed))
    assert np.array_equal(got["mask"][:, 1], got["targets"][:, 1] == 1)
    assert 0 < got["mask"][:, 1].mean() < 1
    assert got["mask"][:, [0, 2]].all()


def test_masked_secondary_labels_stay_masked_under_soft_ones(plain: ClipSource) -> None:
    """A small soft label is no sign that a masked class is there; a large one is."""
    masked = replace(plain, targets=replace(plain.targets, secondary="mask"))
    faint = np.full((10, 3), 0.01, np.float32)
    for mixing in ({"draw_rate": 0.0, "mix_rate": 1.0}, {"draw_rate": 0.5}):
        for level, counts in ((1.0, False), (90.0, True)):
            rows = soft_rows(masked, **mixing)
            labels = replace(rows.labels, probs=faint * np.float32(level))
            source = replace(masked, pseudo=replace(rows, labels=labels))
            got = joined(epoch_of(source, [OrMixup(name="or_mixup", p=1.0)]))
            whole = joined(epoch_of(source))
            if "mix_rate" in mixing:
                of_row_0 = whole["rows"] == 0
                assert (whole["mask"][of_row_0, 2] == counts).all()
                continue
            soft = (got["rows"] >= masked.n_rows) & (got["targets"][:, 0] >= 1)
            with_row_0 = soft & (got["targets"][:, 2] < 0.95)  # its class 2 is masked, not 1
            assert with_row_0.any()
            assert got["mask"][with_row_0, 2].all() == counts


def test_soft_labels_add_up_to_1_at_most_in_an_or_mixture(plain: ClipSource) -> None:
    source = with_soft(plain, draw_rate=0.5)
    alone, got = (
        joined(epoch_of(source, augment)) for augment in ((), [OrMixup(name="or_mixup", p=1.0)])
    )
    soft = got["rows"] >= plain.n_rows
    theirs = plain.targets.dense(np.arange(plain.n_rows))
    sums = np.clip(alone["targets"][soft][:, None] + theirs[None], 0, 1)
    assert (np.abs(sums - got["targets"][soft][:, None]).max(axis=2).min(axis=1) == 0).all()
    assert got["targets"].max() <= 1


def test_batches_do_not_depend_on_readers_or_where_an_epoch_is_taken_up(plain: ClipSource) -> None:
    augment = [OrMixup(name="or_mixup", p=0.5)]
    source = with_soft(plain, ("a", "z", "c"), draw_rate=0.3, mix_rate=0.3, power=0.7)
    whole = joined(epoch_of(source, augment))
    for workers, first in ((1, 0), (3, 0), (2, 17)):
        part = joined(epoch_of(source, augment, workers, first))
        for name in whole:
            assert np.array_equal(part[name], whole[name][8 * first :])


def test_clips_have_names(plain: ClipSource) -> None:
    source = with_soft(plain)
    assert source.pseudo is not None
    named = replace(source.pseudo.labels, names=("night.ogg", "day.ogg"))
    source = replace(source, pseudo=replace(source.pseudo, labels=named))

    def names(rows: Sequence[int]) -> list[str]:
        return [f"row {row}" for row in rows]

    n = plain.n_rows
    assert source.name_clips([1, n + 2, 4, n + 8], names) == [
        "row 1",
        "night.ogg from 0.64 s",
        "row 4",
        "day.ogg from 0.32 s",
    ]
    assert plain.name_clips([2, 0], names) == ["row 2", "row 0"]


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    """The recordings of the golden cell, the last as a soundscape of two windows."""
    source = build_tones(tmp_path_factory.mktemp("softrows-fit"))
    keys = (source.waves.key("6"),)
    probs = [[0.1, 0.7, 0.2], [0.6, 0.05, 0.4]]
    labels = labels_of(probs, [0, 1.25], [1.25, 2.5], keys=keys)
    takes = takes_of(source.waves, list(keys))
    given = spec_of(draw_rate=0.4, mix_rate=0.3, power=2.0)
    rows = build_pseudo_rows(labels, given, CLASSES, takes, TONE_RATE)
    return replace(source, pseudo=rows)


def test_training_hears_the_windows(tones: ClipSource) -> None:
    changes = {"augment": []}
    with_windows, without = train(tones, changes), train(replace(tones, pseudo=None), changes)
    assert not same(with_windows.state, without.state)
    assert same(with_windows.state, train(tones, changes, workers=3).state)


def test_training_on_windows_that_broke_goes_on_to_the_same_bits(
    tones: ClipSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 1e9)
    undisturbed = train(tones, {"augment": []})
    given: dict[str, Any] = {"workers": 0, "checkpoint": tmp_path}
    with pytest.raises(OSError, match="gone"):
        train(breaking(tones, 2), {"augment": []}, **given)  # a mixture is read twice
    assert (tmp_path / checkpoint.CHECKPOINT).is_file()
    epochs: list[int] = []
    got = train(tones, {"augment": []}, resumed=epochs.append, **given)
    assert epochs == [0]
    assert same(got.state, undisturbed.state)


def test_cross_entropy_takes_soft_labels_by_their_shares() -> None:
    """A window whose labels are all 0 has no distribution, and is left out of the mean."""
    logits = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]])
    soft = torch.tensor([[0.1, 0.0, 0.3], [0.0, 0.0, 0.0]])
    expected = -(0.25 * logits[0].log_softmax(0)[0] + 0.75 * logits[0].log_softmax(0)[2])
    got = cross_entropy_loss(CrossEntropy(), logits, soft)
    assert float(got) == pytest.approx(float(expected))


def test_a_stage_hears_the_windows_that_an_earlier_one_labelled(
    make_lab: MakeLab, hours: Path
) -> None:
    """Another power is another cell of other weights; what the teacher said is made once."""
    lab = make_lab()
    (lab.root / "birdlab.local.toml").write_text(f'[data]\nhours = "{hours}"\n')
    lab = open_lab(lab.root)
    weights: dict[str, dict[str, torch.Tensor]] = {}
    pseudo = {"soundscapes": ["hours"], "teacher": "base", "threshold": 0.0, "draw_rate": 0.5}
    for name, power in (("on", 1.0), ("power", 3.0)):
        round1 = {"start": "base", "pseudo": {**pseudo, "power": power}}
        stages = [{"base": {}}, {"round1": round1}]
        changes = {"stages": stages, "augment": [], "cells.folds": [0]}
        spec = load_spec(lab.root / "tiny.yaml", {**changes, "train.length": {"epochs": 1}})
        started: list[str] = []

        def note(event: Event, started: list[str] = started) -> None:
            if event.kind == "start":
                started.append(str(event.values["title"]))

        run_experiment(spec, lab=lab, emit=note)
        assert len(started) == (2 if name == "on" else 1), started
        plan = plan_experiment(spec, lab)
        (cell,) = plan.final_cells
        weights[name] = load_file(lab.cells / cell.cell_id / WEIGHTS)
        with job_folder(lab) as folder:
            source = clip_source(save_job(plan, cell, folder), lab)
        assert len(source.pseudo) == len(source.pseudo.labels) >= 10
        assert isinstance(source.pseudo.labels.probs, np.memmap), "no label stays in memory"
    assert len(list(lab.cells.glob("*/labels-*"))) == 1
    assert not same(weights["on"], weights["power"])
