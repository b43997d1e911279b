"""What a cell is scored on: recordings and labelled soundscapes, heard as in deployment."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from pydantic import ValidationError
from sklearn.metrics import average_precision_score

from birdlab.cellfiles import WEIGHTS, outputs_folder, soundscapes_folder
from birdlab.celljob import load_job
from birdlab.data.audio import Waveform
from birdlab.errors import BirdlabError, DataError, PromotionError
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.predictor import build_windowing, predict_recordings
from birdlab.evaluate.steps import parse_steps
from birdlab.evaluate.windows import Windowing, blend, iter_windows
from birdlab.heldout import score_soundscapes
from birdlab.infer.predict import predict_soundscapes
from birdlab.infer.session import OnnxPredictor
from birdlab.jobwriter import save_job
from birdlab.lab import Lab, open_lab
from birdlab.network import load_model
from birdlab.plan import plan_experiment
from birdlab.promote.export import Member, build_reference, export_ensemble
from birdlab.promote.members import collect_members
from birdlab.promote.parity import check_parity
from birdlab.promote.promote import promote_runs
from birdlab.promote.request import PromotionRequest
from birdlab.promote.smoke import smoke_test
from birdlab.recorded import load_card, load_record
from birdlab.run import run_experiment, run_experiments
from birdlab.runresult import RunNote, RunResult
from birdlab.scoring import chosen_words
from birdlab.spec.experiment import ExperimentSpec
from birdlab.study.post_sources import heard_windows
from birdlab.study.postprocessing import score_steps
from birdlab.study.rescoring import build_estimator, rescore_run
from birdlab.tasks import InProcess
from birdlab.tracking.evidence import load_evidence
from birdlab.tracking.index import load_runs
from birdlab.validation import predict_fold

RATE = 8_000
SPECIES = {"kite": 2600, "rook": 400, "wren": 1200}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "context": {"context_s": 2.0},
    "recording": {"normalise": "recording"},
}


def sing(rng: np.random.Generator, hz: int, seconds: float) -> np.ndarray:
    """A tone of which the second half is much quieter, in noise."""
    n = int(RATE * seconds)
    wave = np.sin(2 * np.pi * hz * np.arange(n) / RATE) * np.where(np.arange(n) < n / 2, 0.5, 0.05)
    return np.asarray(wave + 0.01 * rng.standard_normal(n))


def write_audio(root: Path) -> None:
    """Three species with four recordings each, and soundscapes of which two are labelled."""
    rng, rows = np.random.default_rng(0), []
    for species, hz in SPECIES.items():
        (root / "peeps" / "train_audio" / species).mkdir(parents=True)
        for i in range(4):
            file = f"{species}/{i}.wav"
            wave = sing(rng, hz, rng.uniform(0.6, 3.4))
            soundfile.write(root / "peeps" / "train_audio" / file, wave, RATE)
            rows.append({"primary_label": species, "filename": file})
    pd.DataFrame(rows).to_csv(root / "peeps" / "train_metadata.csv", index=False)
    (root / "scapes").mkdir()
    for name, tones, tail_s in (("a", "kite rook wren", 0.5), ("b", "wren wren", 0), ("c", "", 1)):
        parts = [sing(rng, SPECIES[tone], 1.0) for tone in tones.split()]
        wave = np.concatenate([*parts, 0.01 * rng.standard_normal(int(RATE * tail_s))])
        soundfile.write(root / "scapes" / f"{name}.wav", wave, RATE)
    labels = [("a.wav", 0.2, 0.9, "kite"), ("a.wav", 1.1, 1.9, "rook"), ("a.wav", 2, 3, "wren"),
              ("b.wav", 0, 2, "wren"), ("b.wav", 0.5, 0.8, "a strange bird")]  # fmt: skip
    table = pd.DataFrame(labels, columns=["filename", "start_s", "end_s", "label"])
    table.to_csv(root / "scapes" / "labels.csv", index=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return build_lab(tmp_path_factory.mktemp("lab"))


def build_lab(root: Path) -> Lab:
    write_audio(root)
    scapes = 'kind = "soundscapes"\npath = "scapes"\nannotations = "labels.csv"\n'
    (root / "birdlab.toml").write_text(
        '[data]\npeeps = "peeps"\n'
        f'[data.scapes]\n{scapes}split = "train"\n[data.board]\n{scapes}split = "public"\n'
    )
    return open_lab(root)


def spec_of(
    *, context_s: float | None = None, normalise: str = "crop", soundscapes: tuple[str, ...] = ()
) -> ExperimentSpec:
    return ExperimentSpec.model_validate_json(json.dumps({
        "competition": {"name": "peeps", "window_s": 1.0, "n_soundscapes": 3,
                        "soundscape_s": 4.0, "cpu_minutes": 1.0},
        "data": {"base": "peeps", "folds": {"kind": "stratified", "n": 2}},
        "model": {"backbone": "test_resnet", "head": {"kind": "sed_attention", "hidden": 16},
                  "normalise": normalise,
                  "frontend": {"kind": "log_mel", "sample_rate_hz": RATE, "n_fft": 512,
                               "hop": 128, "n_mels": 32, "f_max_hz": 4000.0}},
        "train": {"window_s": context_s or 1.0, "length": {"steps": 3}, "batch": 4},
        "evaluate": {"context_s": context_s, "soundscapes": soundscapes, "batch": 5},
        "cells": {"folds": [0]},
        "name": "tiny",
    }))  # fmt: skip


FOLDS = PromotionRequest(weights="folds", register=False, force=True, reason="one of two folds")


@dataclass
class Deployed:
    """A run that is scored on soundscapes too, and the file it was promoted to."""

    spec: ExperimentSpec
    result: RunResult
    model: Path


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Deployed:
    """With a context and the recording's peak; test_promote looks at a file without either."""
    spec = spec_of(context_s=2.0, normalise="recording", soundscapes=("scapes",))
    result = run_experiment(spec, lab=lab)
    record = json.loads(result.record.read_text())
    return Deployed(spec, result, promote_runs(lab, [record], FOLDS).path)


def largest_gap(table: pd.DataFrame, clip: np.ndarray, time_max: np.ndarray) -> float:
    expected = blend(clip, time_max, 0.75, 0.25)
    return float(np.abs(table.drop(columns="row_id").to_numpy() - expected).max())


# ---------------------------------------------------------------- what is scored is deployed


def test_the_file_says_what_was_scored(lab: Lab, deployed: Deployed) -> None:
    """Files through the decoder and ONNX, against the store and torch, window by window."""
    cell = plan_experiment(deployed.spec, lab).final_cells[0]
    audio = {"outputs": lab.root / "peeps" / "train_audio", "scapes": lab.root}
    for folder, root in (
        (outputs_folder(lab, cell), audio["outputs"]),
        (soundscapes_folder(lab, cell), audio["scapes"]),
    ):
        stored = load_outputs(folder).windows
        assert len(stored.recordings) == (6 if root == audio["outputs"] else 2)
        for i, name in enumerate(stored.recordings):
            table = predict_soundscapes(deployed.model, [root / name], batch=3).table
            rows = stored.recording_index == i
            assert list(table["row_id"]) == [
                f"{Path(name).stem}_{end:g}" for end in stored.end_s[rows]
            ]
            assert largest_gap(table, stored.clip_probs[rows], stored.time_max[rows]) < 1e-4


def test_the_settings_change_what_is_heard(lab: Lab) -> None:
    """A predictor that measures its input, fed by the road of validation.

    A log-mel front-end scales each clip itself, so that what it says hardly depends on the peak;
    a context does change what the same weights say.
    """
    plan = plan_experiment(spec_of(), lab)
    run_experiment(spec_of(), lab=lab)
    job = save_job(plan, plan.final_cells[0], lab.root / "jobs")
    weights = lab.cells / plan.final_cells[0].cell_id / WEIGHTS
    wave = Waveform(np.array([32767] * 8 + [3277] * 4, np.int16), 0.25, 4)
    said, peaks = {}, {}
    for name, settings in SETTINGS.items():
        heard = replace(job, spec=spec_of(**settings))
        said[name] = predict_fold(heard, lab, load_model(heard.spec.model, 3, weights)).windows
        outputs = predict_recordings(
            lambda waves: (abs(waves).max(1, keepdims=True), (waves**2).mean(1, keepdims=True)),
            ["x"],
            lambda _: wave,
            ["a"],
            windowing=build_windowing(heard.spec, 4),
            batch=2,
        )
        peaks[name] = (outputs.clip_probs[:, 0].tolist(), outputs.time_max[:, 0].tolist())
    assert np.array_equal(said["plain"].recording_index, said["context"].recording_index)
    assert abs(said["plain"].clip_probs - said["context"].clip_probs).max() > 1e-3
    assert peaks["plain"] == ([1, 1, 1], [1, 1, 1])
    assert peaks["context"][1] == pytest.approx([6 / 8, (6 + 2 * 0.01) / 8, 2.04 / 8], abs=1e-3)
    assert peaks["recording"][0] == pytest.approx([1, 1, 0.1], abs=1e-3)


def test_the_file_says_how_it_listens(deployed: Deployed) -> None:
    card = OnnxPredictor(deployed.model).card
    assert (card.window_s, card.context_s, card.normalise) == (1.0, 2.0, "recording")
    assert card.input_samples == 2 * RATE
    assert card.to_metadata()["birdlab_format"] == "3", "older birdlabs refuse it"


def test_a_context_shorter_than_a_window_is_refused_with_the_spec() -> None:
    with pytest.raises(ValidationError, match="give the 1 s of a window or more"):
        spec_of(context_s=0.5)


def test_members_that_listen_differently_are_refused(lab: Lab, tmp_path: Path) -> None:
    plan = plan_experiment(spec_of(), lab)
    run_experiment(spec_of(), lab=lab)
    cell = plan.final_cells[0]
    one = Member(plan.spec.model, cell.classes.codes, lab.cells / cell.cell_id / WEIGHTS,
                 1.0, 0.75, 0.25)  # fmt: skip
    quiet = plan.spec.model.model_copy(update={"normalise": "recording"})
    for other, word in ((replace(one, window_s=2.0), "2 s"), (replace(one, spec=quiet), "record")):
        with pytest.raises(PromotionError, match="different windows") as caught:
            export_ensemble([one, other], tmp_path / "m.onnx", classes=cell.classes.codes)
        assert word in str(caught.value)
        assert "evaluate.context_s" in str(caught.value)


def test_parity_is_tried_on_the_whole_context(lab: Lab, deployed: Deployed) -> None:
    """A file whose head saw the whole input is no match for the centre that was scored."""
    (member,) = collect_members(lab, plan_experiment(deployed.spec, lab))
    report = check_parity(deployed.model, build_reference([member], member.classes))
    assert report.largest < 1e-4
    whole = replace(member, window_s=2.0, context_s=None)
    with pytest.raises(PromotionError, match="does not say"):
        check_parity(deployed.model, build_reference([whole], member.classes))


@pytest.mark.slow
def test_a_smoke_test_hears_what_a_run_hears(lab: Lab) -> None:
    report = smoke_test(spec_of(context_s=2.0, soundscapes=("scapes",)), lab, 1)
    assert report.parity < 1e-4


# ---------------------------------------------------------------- soundscapes as an estimator


def test_soundscapes_are_scored_beside_the_folds(lab: Lab, deployed: Deployed) -> None:
    """The deployed file on the audio and the labels by hand give the recorded score."""
    scores = deployed.result.scores
    marks: list[list[bool]] = []
    said = []
    spans: dict[str, list[set[str]]] = {
        "a": [{"kite"}, {"rook"}, {"wren"}, set()],
        "b": [{"wren"}, {"wren"}],
    }
    for name, windows in spans.items():
        table = predict_soundscapes(deployed.model, [lab.root / "scapes" / f"{name}.wav"]).table
        assert len(table) == len(windows)
        said.append(table[sorted(SPECIES)].to_numpy())
        marks += [[code in heard for code in sorted(SPECIES)] for heard in windows]
    truth = np.vstack([marks, np.ones((5, 3))])
    probs = np.vstack([*said, np.ones((5, 3))])
    expected = np.mean([average_precision_score(truth[:, c], probs[:, c]) for c in range(3)])
    assert scores["cv/soundscapes_padded_cmap"] == pytest.approx(expected, abs=1e-6)
    assert scores["cv/soundscapes_n_windows"] == 6
    assert 0 < scores["cv/soundscapes_floor"] < 1
    row = load_runs(lab).set_index("run").loc[deployed.result.spec_id]
    assert row["cv/soundscapes_padded_cmap"] == scores["cv/soundscapes_padded_cmap"]
    assert row["soundscapes_hash"]


def test_soundscapes_are_scored_again_from_stored_outputs(lab: Lab, deployed: Deployed) -> None:
    record, scores = load_record(lab, deployed.result.spec_id), deployed.result.scores
    for on in ("", "scapes"):
        evidence = load_evidence(lab, record, heard=True, on=on)
        for metric in ("padded_cmap", "macro_auc"):
            found = rescore_run(evidence, build_estimator(metric, on or "soundscapes"))
            assert found.score == pytest.approx(scores[f"cv/soundscapes_{metric}"])
            assert found.n_rows == 6
    with pytest.raises(DataError, match="soundscapes of board"):
        load_evidence(lab, record, heard=True, on="board")


def test_steps_are_scored_on_the_soundscapes_of_a_run(lab: Lab, deployed: Deployed) -> None:
    record, scores = load_record(lab, deployed.result.spec_id), deployed.result.scores
    for on in ("", "scapes"):
        windows = heard_windows(lab, record, on)
        found = score_steps(windows.cells, parse_steps(["power", "smooth"]))
        assert found.base == pytest.approx(scores["cv/soundscapes_padded_cmap"])
        assert found.steps[0].delta == 0 and found.n_rows == 6 and found.n_groups == 2
    with pytest.raises(DataError, match="soundscapes of board"):
        heard_windows(lab, record, "board")


def test_soundscapes_change_no_other_score_and_train_nothing(lab: Lab) -> None:
    without = run_experiment(spec_of(), lab=lab)
    assert not [name for name in without.scores if "soundscapes" in name]
    beside = run_experiment(spec_of(soundscapes=("scapes",)), lab=lab)
    assert beside.trained == 0
    assert without.scores.items() < beside.scores.items()


def test_arms_may_share_weights_and_hear_differently(lab: Lab) -> None:
    """Trained once for both, and each is scored on outputs of its own."""
    train = {"length": {"steps": 2}, "batch": 4, "window_s": 1.0}
    arms = []
    for context_s in (None, 2.0):
        raw = spec_of(context_s=context_s).model_dump(mode="json")
        raw["stages"][0]["train"] |= train
        arms.append(ExperimentSpec.model_validate_json(json.dumps(raw)))
    results = run_experiments([(arm, RunNote()) for arm in arms], lab=lab, executor=InProcess())
    one, two = (r for r in results if isinstance(r, RunResult))
    assert list(one.cells["cell_id"]) == list(two.cells["cell_id"])
    assert list(one.cells["eval_id"]) != list(two.cells["eval_id"])
    assert one.cv != two.cv


def test_outputs_that_are_there_are_not_made_again(lab: Lab) -> None:
    spec = spec_of(soundscapes=("scapes",))
    run_experiment(spec, lab=lab)
    cell = plan_experiment(spec, lab).final_cells[0]
    kept = outputs_folder(lab, cell) / "windows.parquet"
    before = kept.stat().st_mtime_ns
    for file in soundscapes_folder(lab, cell).iterdir():
        file.unlink()
    soundscapes_folder(lab, cell).rmdir()
    run_experiment(spec, lab=lab)
    assert soundscapes_folder(lab, cell).is_dir()
    assert kept.stat().st_mtime_ns == before


def test_a_leaderboards_soundscapes_choose_no_models(lab: Lab) -> None:
    with pytest.raises(DataError, match="stand for its leaderboard") as caught:
        plan_experiment(spec_of(soundscapes=("board",)), lab)
    assert "split: train" in str(caught.value)
    with pytest.raises(DataError, match="no labelled soundscapes"):
        plan_experiment(spec_of(soundscapes=("peeps",)), lab)
    with pytest.raises(BirdlabError, match="nowhere"):
        plan_experiment(spec_of(soundscapes=("nowhere",)), lab)


def test_soundscapes_of_which_none_can_be_used_are_not_called_missing(tmp_path: Path) -> None:
    lab = build_lab(tmp_path)
    for path in (tmp_path / "scapes").rglob("*.wav"):
        path.unlink()
        path.mkdir()  # a folder counts as a file that cannot be decoded
    spec = spec_of(soundscapes=("scapes",))
    data = spec.data.model_copy(update={"on_bad_file": "skip"})
    with pytest.raises(DataError, match=r"no soundscape of .* can be decoded"):
        plan_experiment(spec.model_copy(update={"data": data}), lab)
    for path in (tmp_path / "scapes").rglob("*.wav"):
        path.rmdir()
    with pytest.raises(DataError, match=r"\d soundscapes of evaluate.soundscapes are missing"):
        plan_experiment(spec, lab)


def test_the_board_is_scored_apart_from_the_validators(lab: Lab) -> None:
    """Both look at the same audio here, one model is the mean of one: the scores agree."""
    spec = spec_of(soundscapes=("scapes",))
    result = run_experiment(spec, lab=lab)
    data = spec.data.model_copy(update={"soundscapes": ("board",)})
    (score,) = score_soundscapes(plan_experiment(spec.model_copy(update={"data": data}), lab), lab)
    assert (score.split, score.n_windows, score.unknown) == ("public", 6, {"a strange bird": 1})
    assert score.score == pytest.approx(result.scores["cv/soundscapes_padded_cmap"], abs=1e-6)


# ---------------------------------------------------------------- the fold while training


def test_a_fold_is_predicted_as_it_is_stored(lab: Lab) -> None:
    spec = spec_of()
    run_experiment(spec, lab=lab)
    plan = plan_experiment(spec, lab)
    cell = plan.final_cells[0]
    job = load_job(save_job(plan, cell, lab.root / "jobs").folder)
    model = load_model(spec.model, 3, lab.cells / cell.cell_id / WEIGHTS).train()
    torch.set_num_threads(1)
    now, stored = predict_fold(job, lab, model), load_outputs(outputs_folder(lab, cell))
    assert np.array_equal(now.windows.clip_probs, stored.windows.clip_probs)
    assert np.array_equal(now.windows.time_max, stored.windows.time_max)
    assert model.training, "training goes on"


def test_a_chosen_score_is_told_from_the_cards(lab: Lab) -> None:
    spec = spec_of()
    run_experiment(spec, lab=lab)
    train = spec.stages[0].train.model_copy(update={"validate_every": 1, "checkpoint": "best"})
    stage = spec.stages[0].model_copy(update={"train": train})
    plan = plan_experiment(spec, lab)
    assert chosen_words(plan, plan.cells, lab) == ""
    steered = replace(plan, cells=tuple(replace(c, stage=stage) for c in plan.cells))
    assert chosen_words(steered, steered.cells, lab) == "", "a card from before says nothing"
    path = lab.cells / plan.cells[0].cell_id / "cell.json"
    card = load_card(lab, plan.cells[0].cell_id)
    try:
        path.write_text(json.dumps({**card, "chosen": "best epoch 7 of 30"}))
        assert chosen_words(steered, steered.cells, lab) == "best epoch 7 of 30"
        path.write_text(json.dumps({**card, "chosen": "mean of the last 3 of 30"}))
        assert chosen_words(plan, plan.cells, lab) == "", "no validation row chose these"
    finally:
        path.write_text(json.dumps(card))


def test_a_part_of_a_recording_keeps_the_peak_of_the_whole() -> None:
    whole = np.array([32767, 0, 3276, -3276], np.int16)
    part = Waveform(whole[2:], 0.5, 2)
    (crop,) = iter_windows(part, Windowing(1.0, 2))
    (recording,) = iter_windows(part, Windowing(1.0, 2, normalise="recording"))
    np.testing.assert_allclose(crop, [1, -1])
    np.testing.assert_allclose(recording, [0.1, -0.1], atol=1e-4)
