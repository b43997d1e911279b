"""Several windows in one pass of a long context: the same windows, in order, each from its own
frames, from validation to the submission."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from safetensors.torch import save_file
from test_validators import FOLDS, write_audio
from tinymodels import CLASSES, build_card, save_tiny_model

from birdlab.cellfiles import WEIGHTS, outputs_folder, soundscapes_folder
from birdlab.data.audio import Waveform
from birdlab.errors import OutputsError, PromotionError
from birdlab.evaluate.blends import Blend
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.passes import count_passes, find_windows, list_passes
from birdlab.evaluate.predictor import predict_recordings
from birdlab.evaluate.windows import (
    WHOLE,
    Normalise,
    Windowing,
    blend,
    count_windows,
    iter_windows,
    stream_windows,
)
from birdlab.infer.benchmark import measure_machine
from birdlab.infer.budget import Workload, predict_minutes
from birdlab.infer.passes import ModelChoice
from birdlab.infer.predict import PredictRequest, predict_to_file
from birdlab.infer.session import OnnxPredictor
from birdlab.infer.soundscapes import predict_soundscapes
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.promote import machines
from birdlab.promote.detector import cut_context
from birdlab.promote.export import Member, build_reference, export_ensemble
from birdlab.promote.gates import PARITY, REPRODUCED
from birdlab.promote.promote import promote_runs
from birdlab.run import run_experiment
from birdlab.sed.maps import slice_share
from birdlab.sed.model import SEDModel
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention

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


# ---------------------------------------------------------------- what the network says

RATE = 8_000
SPEC = ModelSpec(
    backbone="test_resnet",
    frontend=LogMelSpec(sample_rate_hz=RATE, n_fft=512, hop=64, n_mels=32, f_max_hz=4000.0),
    head=SedAttention(hidden=16),
)


@pytest.fixture(scope="module")
def network() -> SEDModel:
    torch.manual_seed(0)
    model = SEDModel(SPEC, 3).eval()
    with torch.no_grad():
        model.head.value.weight.mul_(20)  # spread the probabilities over 0..1
    return model


def test_each_window_of_a_pass_is_predicted_from_its_own_frames(network: SEDModel) -> None:
    """The head on slices by hand, and a window of one pass is that of another on equal audio."""
    wave = torch.randn(2, 3 * RATE)
    three, one = (Windowing(1.0, RATE, 3.0, "crop", k).centres for k in (3, 1))
    with torch.no_grad():
        features = network.features(network.frontend(wave))
        n_frames = features.shape[3]
        ends = [0, round(n_frames / 3), round(2 * n_frames / 3), n_frames]
        by_hand = [network.head(features[..., a:b]) for a, b in pairwise(ends)]
        heard, alone = network.hear(wave, three), network.hear(wave, one)
        whole = network(wave)
        assert torch.equal(network.hear(wave, [WHOLE])[0], whole.probs)
    for said, middle, own in zip(
        heard, alone, ([h.probs for h in by_hand], [h.time_max for h in by_hand]), strict=True
    ):
        assert said.shape == (6, 3)
        for clip in range(2):
            for window in range(3):
                assert torch.equal(said[3 * clip + window], own[window][clip])
            assert torch.equal(said[3 * clip + 1], middle[clip])
    assert (heard[0].view(2, 3, 3).diff(dim=1).abs() > 1e-3).any(), "windows are told apart"


def build_member(folder: Path, network: SEDModel, name: str, **heard: Any) -> Member:
    path = folder / f"{name}.safetensors"
    save_file(network.state_dict(), path)
    return Member(SPEC, ("a", "b", "c"), path, 1.0, 0.75, 0.25, name=name, **heard)


@pytest.mark.slow
def test_a_file_gives_a_row_for_each_window_of_a_pass(network: SEDModel, tmp_path: Path) -> None:
    """Two contexts in one file, in torch and in ONNX, in batches of any size and one by one."""
    members = [
        build_member(tmp_path, network, "near", context_s=2.0, windows_per_pass=2),
        build_member(tmp_path, network, "far", context_s=2.5, windows_per_pass=2),
    ]
    classes = ("a", "c")
    export = export_ensemble(members, tmp_path / "m.onnx", classes=classes)
    card = OnnxPredictor(export.path).card
    assert card.windowing == Windowing(1.0, RATE, 2.5, "crop", 2) == export.card.windowing
    assert card.to_metadata()["birdlab_format"] == "4", "older birdlabs refuse it"
    waves = np.random.default_rng(0).uniform(-1, 1, (5, card.input_samples)).astype(np.float32)
    waves[:, : card.input_samples // 2] = np.sin(np.arange(card.input_samples // 2))
    reference = build_reference(members, classes)
    predictor = OnnxPredictor(export.path, threads=1)
    expected = reference(waves)
    assert expected.shape == (10, 2) and np.abs(expected[::2] - expected[1::2]).min() > 1e-3
    np.testing.assert_allclose(predictor(waves), expected, atol=1e-4)
    (far,) = predictor.member_probs(waves, [1])
    assert far.shape == (10, 2)
    feeds = {"wave": waves, "wanted": np.array([False, True])}
    probs, none, alone = predictor._session.run(["probs", "member_0", "member_1"], feeds)
    assert none.shape == (10, 2) and not none.any()
    np.testing.assert_allclose(probs, alone, atol=1e-6)
    np.testing.assert_allclose(far, alone, atol=1e-6)


@pytest.mark.parametrize("normalise", ["crop", "recording"])
def test_passes_of_a_shorter_context_are_cut_out_of_the_longest(normalise: Normalise) -> None:
    samples = np.random.default_rng(3).integers(-9_000, 9_000, 50).astype(np.int16)
    wave = Waveform(samples, 0.5, 1)
    longest, own = (Windowing(8.0, 1, context_s, normalise, 2) for context_s in (22.0, 18.0))
    cut = cut_context(np.stack(list(iter_windows(wave, longest))), longest, own)
    expected = np.stack(list(iter_windows(wave, own)))
    assert len(cut) == 4
    np.testing.assert_allclose(cut, expected, rtol=1e-6)


def test_members_with_other_passes_are_refused(network: SEDModel, tmp_path: Path) -> None:
    members = [
        build_member(tmp_path, network, f"m{k}", context_s=3.0, windows_per_pass=k) for k in (1, 3)
    ]
    with pytest.raises(PromotionError, match="different windows") as caught:
        export_ensemble(members, tmp_path / "m.onnx", classes=("a",))
    assert "evaluate.windows_per_pass" in str(caught.value)
    assert "3 x 1 s out of 3 s" in str(caught.value)


# ---------------------------------------------------------------- prediction


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two members three times: a window, two or three a pass, whose answers are equal."""
    folder = tmp_path_factory.mktemp("models")
    for k in (1, 2, 3):
        card = build_card(2, weights=[1, 2], per_pass=k, blend=Blend("rank"))
        save_tiny_model(folder / f"{k}.onnx", replace(card, normalise="recording"))
    return folder


@pytest.fixture(scope="module")
def scapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole passes, cut ones, a file shorter than a window, one that cannot be decoded."""
    folder, rng = tmp_path_factory.mktemp("scapes"), np.random.default_rng(0)
    for i, seconds in enumerate((6.0, 7.3, 0.4, 4.0, 20.0)):
        n = round(seconds * RATE)
        loudness = np.repeat(rng.uniform(0.01, 0.3, n // 800 + 1), 800)[:n]
        soundfile.write(folder / f"s{i}_1.wav", rng.uniform(-1, 1, n) * loudness, RATE)
    (folder / "s2b_1.wav").write_text("no audio")
    return folder


def request(models: Path, scapes: Path, out: Path, k: int, **changes: Any) -> PredictRequest:
    return PredictRequest(
        models / f"{k}.onnx", scapes, out / f"{k}.csv", sessions=1, threads=1, **changes
    )


@pytest.mark.parametrize(
    "changes", [{}, {"hop_s": 0.5}, {"deadline_s": 600.0}, {"batch": 3, "hop_s": 0.25}], ids=str
)
def test_predict_writes_the_same_rows_whatever_a_pass_holds(
    models: Path, scapes: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    plain = predict_to_file(request(models, scapes, tmp_path, 1, **changes))
    rows = pd.read_csv(plain.output, index_col="row_id")
    windows = pd.read_parquet(plain.windows_file)
    hops = round(1 / changes.get("hop_s", 1))
    assert len(windows) == sum((n - 1) * hops + 1 for n in (6, 8, 1, 4, 20))
    for k in (2, 3):
        said = predict_to_file(request(models, scapes, tmp_path, k, **changes))
        assert (said.n_windows, said.n_heard_now) == (plain.n_windows, plain.n_heard_now)
        assert [end.n_windows for end in said.members] == [e.n_windows for e in plain.members]
        other = pd.read_csv(said.output, index_col="row_id")
        assert list(other.index) == list(rows.index)
        np.testing.assert_allclose(other, rows, atol=1e-6)
        heard = pd.read_parquet(said.windows_file)
        assert heard["row_id"].tolist() == windows["row_id"].tolist()
        np.testing.assert_allclose(heard[list(CLASSES)], windows[list(CLASSES)], atol=1e-6)


def test_a_prediction_goes_on_in_the_middle_of_a_file(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    """As after a crash: a part of a batch is on disk, the files after it are not known."""
    asked = request(models, scapes, tmp_path / "a", 3, hop_s=0.5, batch=2)
    whole = predict_to_file(asked)
    kept = replace(asked, output=tmp_path / "b" / "3.csv", keep=True)
    predict_to_file(kept)
    work = tmp_path / "b" / "3.work"
    for member, n_batches in ((0, 5), (1, 3)):
        log = work / f"member_{member}.log"
        log.write_bytes(log.read_bytes()[: 8 * n_batches + 3])
    lines = (work / "files.jsonl").read_bytes().splitlines(keepends=True)
    (work / "files.jsonl").write_bytes(b"".join(lines[:3]))
    kept.output.unlink()
    again = predict_to_file(kept)
    assert kept.output.read_bytes() == asked.output.read_bytes()
    assert 0 < again.n_heard_now < whole.n_windows
    frame = [pd.read_parquet(p) for p in (whole.windows_file, again.windows_file)]
    pd.testing.assert_frame_equal(*frame)


@pytest.mark.parametrize("n_passes", [1, 2, 3])
def test_windows_behind_a_gap_count_for_nothing_when_the_time_is_up(
    models: Path, scapes: Path, tmp_path: Path, n_passes: int
) -> None:
    """The first pass of three hears windows 0, 2 and 4, of which none overlaps another."""
    average = ({"kind": "shift_average", "weights": "overlap"},)
    asked = request(models, scapes, tmp_path, 3, hop_s=0.5, batch=1, post=average, keep=True)
    predict_to_file(asked)
    whole = pd.read_parquet(tmp_path / "3.windows.parquet")
    for member in (0, 1):
        log = tmp_path / "3.work" / f"member_{member}.log"
        log.write_bytes(log.read_bytes()[: 8 * n_passes])
    said = predict_to_file(replace(asked, deadline_s=1e-9))
    heard = pd.read_parquet(said.windows_file)
    assert heard["row_id"].tolist() == whole["row_id"].tolist()[: (0, 1, 6, 7)[n_passes]]
    assert [end.n_windows for end in said.members] == [len(heard)] * 2


def test_soundscapes_in_memory_have_the_same_rows(models: Path, scapes: Path) -> None:
    tables = [
        predict_soundscapes(models / f"{k}.onnx", scapes, on_bad_file="zeros").table
        for k in (1, 2, 3)
    ]
    for other in tables[1:]:
        assert other["row_id"].tolist() == tables[0]["row_id"].tolist()
        np.testing.assert_allclose(other[list(CLASSES)], tables[0][list(CLASSES)], atol=1e-6)


def test_a_budget_counts_whole_passes(models: Path) -> None:
    work = Workload(files=10, file_minutes=1, limit_minutes=60)
    assert [work.count_windows(5.0, k) for k in (1, 3, 5)] == [120, 120, 150]
    one, three = (
        measure_machine(ModelChoice(models / f"{k}.onnx"), cores=1, seconds=0.2) for k in (1, 3)
    )
    assert (one["windows_per_pass"], three["windows_per_pass"]) == (1, 3)
    longer = predict_minutes({**three, "window_s": 5.0, "windows_per_pass": 5}, work)
    shorter = predict_minutes({**three, "window_s": 5.0, "windows_per_pass": 3}, work)
    assert longer.mel_minutes == pytest.approx(1.25 * shorter.mel_minutes)


# ---------------------------------------------------------------- the road


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    root = tmp_path_factory.mktemp("lab")
    write_audio(root)
    (root / "birdlab.toml").write_text(
        '[data]\npeeps = "peeps"\n[data.scapes]\nkind = "soundscapes"\npath = "scapes"\n'
        'annotations = "labels.csv"\nsplit = "train"\n'
    )
    return open_lab(root)


def spec_of(context_s: float | None, k: int, **changes: Any) -> ExperimentSpec:
    """Trained on clips of 2 s, most of them longer than their recording."""
    return ExperimentSpec.model_validate_json(json.dumps({
        "competition": {"name": "peeps", "window_s": 1.0, "n_soundscapes": 3,
                        "soundscape_s": 4.0, "cpu_minutes": 1.0},
        "data": {"base": "peeps", "folds": {"kind": "stratified", "n": 2}},
        "model": json.loads(SPEC.model_dump_json()),
        "train": {"window_s": 2.0, "length": {"steps": 3}, "batch": 4},
        "augment": [{"kind": "or_mixup"}, {"kind": "random_filtering"}, {"kind": "spec_mask"}],
        "evaluate": {"context_s": context_s, "windows_per_pass": k, "soundscapes": ["scapes"],
                     "batch": 5},
        "cells": {"folds": [0]},
        "name": f"tiny{k}",
        **changes,
    }))  # fmt: skip


@pytest.fixture(scope="module")
def quick_budget() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machines, "SECONDS", 0.2)
        yield


def test_what_is_scored_with_several_windows_a_pass_is_deployed(
    lab: Lab, quick_budget: None
) -> None:
    """One training for all ways to score; outputs of other names; the file says what is stored."""
    first = run_experiment(spec_of(2.5, 1), lab=lab)
    spec = spec_of(2.5, 2)
    result = run_experiment(spec, lab=lab)
    ((one,), (two,)) = (plan_experiment(s, lab).final_cells for s in (spec_of(2.5, 1), spec))
    assert one.cell_id == two.cell_id and result.spec_id != first.spec_id
    assert one.eval_id != two.eval_id and one.soundscapes_id != two.soundscapes_id
    weights = lab.cells / two.cell_id / WEIGHTS
    made = weights.stat().st_mtime_ns
    run_experiment(spec, lab=lab)
    assert weights.stat().st_mtime_ns == made, "nothing is trained again"
    single, several = (load_outputs(outputs_folder(lab, c)).windows for c in (one, two))
    assert np.array_equal(single.recording_index, several.recording_index)
    assert np.array_equal(single.end_s, several.end_s)
    assert np.abs(single.clip_probs - several.clip_probs).max() > 1e-3
    record = json.loads(result.record.read_text())
    promotion = promote_runs(lab, [record], FOLDS)
    states = {gate.name: gate.state for gate in promotion.gates}
    assert states[PARITY] == states[REPRODUCED] == "met"
    for folder, root in (
        (outputs_folder(lab, two), lab.root / "peeps" / "train_audio"),
        (soundscapes_folder(lab, two), lab.root),
    ):
        stored = load_outputs(folder).windows
        expected = blend(stored.clip_probs, stored.time_max, 0.75, 0.25)
        for i, name in enumerate(stored.recordings):
            table = predict_soundscapes(promotion.path, [root / name], batch=3).table
            own = stored.recording_index == i
            assert [row.rpartition("_")[2] for row in table["row_id"]] == [
                f"{end:g}" for end in stored.end_s[own]
            ]
            np.testing.assert_allclose(table.drop(columns="row_id"), expected[own], atol=1e-4)


def test_what_a_context_cannot_hold_is_refused_with_the_spec() -> None:
    for context_s, k, said in ((None, 2, "is not set: give the 2 s"), (2.5, 3, "is 2.5: give")):
        with pytest.raises(ValidationError, match=said):
            spec_of(context_s, k)
    with pytest.raises(OutputsError, match="shorter than its windows"):
        Windowing(1.0, RATE, 2.5, "crop", 3)
    assert str(Windowing(1.0, RATE, 2.5, "crop", 2)).startswith("2 x 1 s out of 2.5 s at 8000 Hz")
