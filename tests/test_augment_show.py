"""`birdlab augment`: what it shows is what training sees, in numbers, pictures and sound."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import MakeLab
from typer.testing import CliRunner

from birdlab.cellclips import clip_source
from birdlab.cli import app as cli
from birdlab.clipshow import READ, ClipShow, Look, ShownClip, Sound, measure_sound, open_show
from birdlab.errors import SpecError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.spec import load_spec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.study.augment_numbers import label_words, list_numbers, summarise_steps
from birdlab.study.augment_report import augment_report_html, get_look_info, plot_look, wav_uri

EVERY_KIND = """\
augment:
  - gain: {p: 0.5}
  - or_mixup: {p: 0.5, partner: class_weight}
  - mixup: {p: 0.5, labels: soft}
  - cutmix: {p: 0.5}
  - background: {p: 0.5, noise: [tiny]}
  - hiss: {kind: coloured_noise, p: 0.5}
  - low_pass: {p: 0.5}
  - random_filtering: {p: 0.5}
  - time_shift: {p: 0.5}
  - spec_mask: {p: 0.8}
"""


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    lab = make_lab()
    text = (lab.root / "tiny.yaml").read_text()
    kept, rest = text.split("augment:\n")[0], text.split("cells:")[1]
    kept = kept.replace("batch: 4", "batch: 4\n  secondary: mask").replace("steps: 4", "epochs: 2")
    (lab.root / "kinds.yaml").write_text(f"{kept}{EVERY_KIND}cells:{rest}")
    return lab


@pytest.fixture
def spec(lab: Lab) -> ExperimentSpec:
    return load_spec(lab.root / "kinds.yaml")


def run(lab: Lab, *args: str) -> Any:
    if not cli.app.registered_commands:
        cli._register()
    return CliRunner().invoke(cli.app, ["--lab", str(lab.root), "augment", *args])


# ---------------------------------------------------------------- the road of training


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_last_look_is_what_training_gets(lab: Lab, spec: ExperimentSpec, epoch: int) -> None:
    from birdlab.network import build_model
    from birdlab.sed.augment import augment_mel
    from birdlab.sed.draws import EpochDraws
    from birdlab.sed.loader import epoch_batches

    show = open_show(spec, lab, n_clips=4, epoch=epoch)
    plan = plan_experiment(spec, lab)
    with job_folder(lab) as folder:
        job = save_job(plan, plan.cells[0], folder)
        source, train, draws = clip_source(job, lab), job.stage.train, EpochDraws(0, 0, epoch)
        given = source, train.sampler, job.stage.augment, draws, job.steps.per_epoch
        positions, rows, batch = next(epoch_batches(*given, 4, torch.device("cpu")))
        with torch.no_grad():
            mel = build_model(job, lab).frontend(batch.wave)
            mel = augment_mel(job.stage.augment, mel, draws, positions)
        names = job.names(rows.tolist())
        crops = source.read_crops(rows, draws.at(positions, "crop").uniform(1)[:, 0])
    assert (show.stage, show.fold, show.seed) == (job.stage.name, 0, 0)
    assert [clip.recording for clip in show.clips] == names
    assert batch.mask is not None
    for i, clip in enumerate(show.clips):
        assert [look.step for look in clip.looks] == [READ, *(a.name for a in job.stage.augment)]
        assert np.array_equal(clip.looks[-1].wave, batch.wave[i].numpy())
        assert np.array_equal(clip.looks[-1].mel, mel[i].numpy())
        shown = dict.fromkeys(job.classes, 0.0) | dict(clip.looks[-1].labels)
        left_out = np.array([np.isnan(value) for value in shown.values()])
        assert np.array_equal(~left_out, batch.mask[i].numpy())
        counted = np.array(list(shown.values()))[~left_out]
        assert np.allclose(counted, batch.targets[i].numpy()[~left_out])
        first = crops.pieces[i] * crops.gain[i]
        assert np.allclose(clip.looks[0].wave, first, atol=1e-6)


def test_each_step_says_what_it_changed_and_drew(lab: Lab, spec: ExperimentSpec) -> None:
    show = open_show(spec, lab, n_clips=8)
    steps: dict[str, list[tuple[Look, Look]]] = {}
    for clip in show.clips:
        for before, after in zip(clip.looks, clip.looks[1:], strict=False):
            steps.setdefault(after.step, []).append((before, after))
    drawn = {
        "gain": "gain_db",
        "or_mixup": "with ",
        "mixup": "own_share",
        "cutmix": "length_s",
        "background": "noise_share",
        "hiss": "snr_db",
        "low_pass": "cutoff_hz",
        "random_filtering": "gains_db",
        "time_shift": "shift_s",
        "spec_mask": "% of the spectrogram",
    }
    for step, pairs in steps.items():
        changed = [after.changed for _, after in pairs]
        assert 0 < sum(changed) <= 8, step
        for before, after in pairs:
            same_wave = np.array_equal(before.wave, after.wave)
            if after.changed:
                assert drawn[step] in after.drawn
                assert same_wave == (step == "spec_mask")
            else:
                assert same_wave
                assert np.array_equal(before.mel, after.mel)
    gains = [(before, after) for before, after in steps["gain"] if after.changed]
    for before, after in gains:
        said = float(after.drawn.removeprefix("gain_db "))
        assert after.sound.rms_db - before.sound.rms_db == pytest.approx(said, abs=0.06)
    assert any(value != value for clip in show.clips for value in clip.looks[0].labels.values())


def test_a_clip_is_the_same_however_many_are_shown(lab: Lab, spec: ExperimentSpec) -> None:
    few, more = (open_show(spec, lab, n_clips=n) for n in (1, 5))
    assert len(few.clips) == 1
    for one, two in zip(few.clips[0].looks, more.clips[0].looks, strict=True):
        assert np.array_equal(one.wave, two.wave)
        assert np.allclose(one.mel, two.mel, atol=1e-5)


def test_any_stage_can_be_shown(lab: Lab) -> None:
    text = (lab.root / "tiny.yaml").read_text()
    stages = (
        "stages:\n  - first: {data: abroad, augment: {or_mixup: off}}\n"
        "  - last: {start: first, transfer: backbone}\n"
    )
    (lab.root / "two.yaml").write_text(text + stages)
    spec = load_spec(lab.root / "two.yaml")
    first, last = (open_show(spec, lab, stage=name, n_clips=1) for name in ("first", None))
    assert (first.stage, first.fold) == ("first", None)
    assert (last.stage, last.fold) == ("last", 0)
    assert "or_mixup" not in [look.step for look in first.clips[0].looks]
    with pytest.raises(SpecError, match="did you mean 'first'"):
        open_show(spec, lab, stage="frist")


# ---------------------------------------------------------------- numbers


def test_a_sine_measures_as_one() -> None:
    rate = 32_000
    sine = np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate).astype(np.float32)
    sound = measure_sound(sine, rate)
    assert sound.rms_db == pytest.approx(-3.0103, abs=1e-3)
    assert sound.peak == pytest.approx(1, abs=1e-6)
    assert sound.centroid_hz == pytest.approx(1_000, abs=1e-3)
    two = sine + np.sin(2 * np.pi * 3_000 * np.arange(rate) / rate).astype(np.float32)
    assert measure_sound(two, rate).centroid_hz == pytest.approx(2_000, abs=1e-2)
    assert measure_sound(sine / 10, rate).rms_db == pytest.approx(-23.0103, abs=1e-3)
    silence = measure_sound(np.zeros(100, np.float32), rate)
    assert (silence.rms_db, silence.peak) == (-np.inf, 0)
    assert np.isnan(silence.centroid_hz)


def test_labels_in_words() -> None:
    labels = {"amerob": 1.0, "houspa": 0.25, "gnwtea": float("nan")}
    assert label_words(labels) == "amerob, houspa 0.25, gnwtea left out of the loss"
    assert label_words({}) == ""


def test_steps_are_summed_up_over_the_clips_they_changed() -> None:
    numbers = pd.DataFrame(
        {
            "clip": [1, 1, 1, 2, 2, 2, 3, 3, 3],
            "step": [READ, "a", "b"] * 3,
            "changed": [False, True, False, False, True, False, False, False, False],
            "rms_db": [-20.0, -18, -18, -30, -24, -24, -np.inf, -np.inf, -np.inf],
            "peak": [1.0] * 9,
            "centroid_hz": [1000.0, 900, 900, 3000, 1500, 1500, np.nan, np.nan, np.nan],
        }
    )
    table = summarise_steps(numbers)
    assert table["step"].tolist() == ["a", "b"]
    assert table["clips changed"].tolist() == ["2 of 3", "0 of 3"]
    assert table.iloc[0].tolist()[2:] == ["+4.00", "0", "-800"]
    assert table.iloc[1].tolist()[2:] == ["", "", ""]


# ---------------------------------------------------------------- the page


def made_up_show(name: str = "bird.ogg", seconds: float = 0.5) -> ClipShow:
    rate = 8_000
    wave = np.sin(np.arange(int(rate * seconds)) / 3).astype(np.float32)
    mel = np.tile(np.linspace(0, 1, 16, dtype=np.float32)[:, None], (1, 1, 9))
    sound = measure_sound(wave, rate)
    looks = (
        Look(READ, READ, "", False, wave, mel, {name: 1.0}, sound),
        Look("half", "gain", "gain_db -6", True, wave / 2, mel, {name: 0.5}, sound),
        Look("mask", "spec_mask", "", True, wave / 2, mel * 0, {name: 0.5}, sound),
        Look("idle", "gain", "", False, wave / 2, mel * 0, {name: 0.5}, sound),
    )
    bands = np.linspace(100, 4_000, 16)
    return ClipShow("train", 0, 0, 0, rate, bands, (ShownClip(name, looks),))


def test_sounds_in_the_page_are_those_of_the_clips() -> None:
    show = made_up_show()
    page = augment_report_html(show, "test")
    found = re.findall(r"src='data:audio/wav;base64,([^']+)'", page)
    assert len(found) == 2, "a step that leaves the waveform alone has no sound of its own"
    for text, look in zip(found, show.clips[0].looks[:2], strict=True):
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
        assert rate == 8_000
        assert np.allclose(wave, look.wave, atol=2 / 32_768)
    loud = soundfile.read(
        io.BytesIO(base64.b64decode(wav_uri(3 * show.clips[0].looks[0].wave, 8_000).split(",")[1]))
    )[0]
    assert np.abs(loud).max() <= 1, "cut off at full scale, not wrapped round"


def test_the_page_is_one_file_of_text_and_pictures() -> None:
    page = augment_report_html(made_up_show("<script>alert(1)</script>.ogg"), "<b>name</b>")
    assert "<script>alert(1)" not in page
    assert "<b>name</b>" not in page
    assert "&lt;b&gt;name&lt;/b&gt;" in page
    assert page.count("plotly-graph-div") == 3
    assert "after mask, as it is trained on" in page
    assert "Left alone by idle." in page
    assert "The waveform is as before." in page
    outside = re.findall(r"<(?:script|link|img|audio|iframe)[^>]+(?:src|href)=['\"](?!data:)", page)
    assert outside == [], "it needs no network"


def test_a_look_is_drawn_from_all_of_its_samples() -> None:
    show = made_up_show(seconds=1.0)
    look = show.clips[0].looks[0]
    info = get_look_info(look, show)
    assert info.low.min() == look.wave.min()
    assert info.high.max() == look.wave.max()
    assert info.levels.shape == (16, 9)
    assert (info.levels.min(), info.levels.max()) == (0, 255)
    assert info.frame_s[-1] == pytest.approx(1.0)
    assert info.tick_words == ["500 Hz", "1 kHz", "2 kHz", "4 kHz"]
    assert info.tick_bands == pytest.approx([(hz - 100) / 260 for hz in (500, 1e3, 2e3, 4e3)])
    figure = plot_look(info)
    assert [trace.type for trace in figure.data] == ["scatter", "scatter", "heatmap"]
    assert np.array_equal(figure.data[2].z, info.levels)
    unknown = get_look_info(look, ClipShow("t", 0, 0, 0, 8_000, None, ()))
    assert (unknown.tick_bands, unknown.tick_words) == ([], [])


# ---------------------------------------------------------------- the command


def test_the_command_prints_numbers(lab: Lab, spec: ExperimentSpec) -> None:
    answer = run(lab, str(lab.root / "kinds.yaml"), "--clips", "2", "--epoch", "1")
    assert answer.exit_code == 0, answer.output
    show = open_show(spec, lab, n_clips=2, epoch=1)
    for row in list_numbers(show).to_dict("records"):
        line = f"{row['step']:<16}  {row['rms_db']:7.1f}  {row['peak']:6.3f}"
        assert line in answer.output
        assert row["recording"] in answer.output
    assert "the first 2 clips of epoch 1" in answer.output
    assert "left alone" in answer.output


def test_the_command_writes_a_page(lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    spec = str(lab.root / "tiny.yaml")
    answer = run(
        lab, spec, "--show", "-o", str(page), "--clips", "2", "--set", "augment.background.p=1"
    )
    assert answer.exit_code == 0, answer.output
    assert str(page) in answer.output
    text = page.read_text()
    assert text.count("<h2>Clip ") == 2
    assert text.count("after background") >= 2
    answer = run(lab, spec, "--show", "--clips", "1")
    assert (lab.stores / "augment" / "augment-tiny.html").is_file()
    assert answer.exit_code == 0, answer.output


def test_silence_is_shown_too() -> None:
    show = made_up_show()
    silent = np.zeros(4_000, np.float32)
    mel = np.zeros((1, 16, 9), np.float32)
    look = Look(READ, READ, "", False, silent, mel, {}, Sound(-np.inf, 0.0, float("nan")))
    quiet = ClipShow("train", None, 0, 0, 8_000, show.bands_hz, (ShownClip("s.ogg", (look,)),))
    page = augment_report_html(quiet, "silence")
    assert "Labels before: <strong>none</strong>" in page
    assert "silent" in page
    assert "nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
