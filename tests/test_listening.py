"""What a run hears in a file, which sounds may be played, and what the picture of one shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import MakeLab

from birdlab.data.audio import Waveform, decode
from birdlab.errors import AudioError, DataError, OutputsError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.windows import blend
from birdlab.lab import Lab, open_lab
from birdlab.recorded import load_records
from birdlab.study import listening
from birdlab.study.heard_files import heard_state, list_heard
from birdlab.study.listening import load_hearing, rank_species
from birdlab.study.listening_figures import get_hearing_info, plot_hearing
from birdlab.study.sounds import (
    EMBEDDED_BYTES,
    Sounds,
    decode_short,
    embed_sound,
    mime_of,
    play_as_wav,
)
from birdlab.study.spectrogram import MOST_FRAMES, draw_spectrogram, see_sound

CODES = ("wren", "robin")


def write_tone(path: Path, seconds: float, hz: float = 4000, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(32_000 * seconds)) / 32_000)
    soundfile.write(path, wave.astype(np.float32), 32_000, **options)
    return path


def store_cell(
    lab: Lab, cell: str, kind: str, names: list[str], n_windows: int, shift: float = 0.0
) -> None:
    """Outputs of made-up models: P rises over the windows of every file, M is P and a little."""
    n = len(names) * n_windows
    probs = np.linspace(0.1, 0.7, n)[:, None] * [1.0, 0.5] + shift
    windows = WindowOutputs(
        tuple(names),
        CODES,
        np.repeat(np.arange(len(names)), n_windows),
        np.tile(5.0 * (1 + np.arange(n_windows)), len(names)),
        probs.astype(np.float32),
        (probs + 0.1).astype(np.float32),
    )
    labels = pd.DataFrame(
        {"recording": names, "primary_label": "robin", "secondary_labels": [("wren",)] * len(names)}
    )
    save_outputs(lab.cells / cell / kind, StoredOutputs(windows, labels))


def build_record(cells: list[str], **data: Any) -> dict[str, Any]:
    return {
        "cells": [
            {"fold": i, "seed": 0, "cell_id": cell, "eval_id": "rows"}
            for i, cell in enumerate(cells)
        ],
        "spec": {
            "output": {"clip": 0.75, "time_max": 0.25},
            "evaluate": {"soundscapes": data.pop("soundscapes", [])},
            "data": {"base": "birds", **data},
        },
    }


@pytest.fixture
def field_lab(tmp_path: Path) -> Lab:
    """A lab with a data set of 12 s soundscapes with labels in time, `field`, and no runs."""
    for name in ("a.ogg", "silent.ogg", "deep/b.ogg"):
        write_tone(tmp_path / "field" / name, 12)
    (tmp_path / "field" / "labels.csv").write_text(
        "filename,start_s,end_s,label\na.ogg,4.0,7.5,wren\na.ogg,8,9,nobody\ndeep/b.ogg,0,1,robin\n"
    )
    (tmp_path / "birdlab.toml").write_text(
        '[data]\nfield = {kind = "soundscapes", path = "field", audio = ".", '
        'annotations = "labels.csv", split = "train"}\n'
    )
    return open_lab(tmp_path)


def test_a_recording_is_heard_by_the_models_that_did_not_train_on_it(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    (record,) = load_records(lab)
    heard = list_heard(lab, record, "recording")
    assert len(heard) == record["evaluation"]["n_rows"] and list(heard) == sorted(heard)
    file = next(iter(heard.values()))
    (folder,) = file.folders
    stored, hearing = load_outputs(folder), load_hearing(record, file, Sounds(lab))
    w = stored.windows
    rows = w.recording_index == w.recordings.index(file.name)
    output = record["spec"]["output"]
    both = blend(w.clip_probs[rows], w.time_max[rows], output["clip"], output["time_max"])
    np.testing.assert_allclose(hearing.probs, both, rtol=1e-6)
    np.testing.assert_array_equal(hearing.end_s, w.end_s[rows])
    assert hearing.sound is not None and hearing.sound.dataset == "tiny"
    assert hearing.sound.primary_label == hearing.primary and hearing.sound.credit
    assert hearing.truth is not None
    known = {hearing.primary, *hearing.secondary}
    assert {hearing.codes[c] for c in np.flatnonzero(hearing.truth.all(axis=0))} == known
    table = rank_species(hearing, 1).set_index("code")
    assert known <= set(table.index) and table["highest"].iloc[0] == hearing.probs.max()
    assert table.loc[hearing.primary, "true"] == "primary"
    info = get_hearing_info(hearing, see_sound(hearing.sound.path))
    assert set(info.known) == known and info.true == []
    assert len(plot_hearing(info).data) == 2
    assert list_heard(lab, record, "soundscape") == {}


def test_a_soundscape_is_heard_by_the_mean_of_all_models(field_lab: Lab) -> None:
    names = ["a.ogg", "silent.ogg", "deep/b.ogg"]
    record = build_record(["one", "two"], soundscapes=["field"])
    state = heard_state(field_lab, record)
    for cell, shift in (("one", 0.0), ("two", 0.2)):
        store_cell(field_lab, cell, "soundscapes-x", [f"field/{n}" for n in names], 3, shift)
    assert heard_state(field_lab, record) != state
    heard = list_heard(field_lab, record, "soundscape")
    assert sorted(heard) == sorted(f"field/{name}" for name in names)
    sounds = Sounds(field_lab)
    hearing = load_hearing(record, heard["field/a.ogg"], sounds)
    expected = np.linspace(0.1, 0.7, 9)[:3, None] * [1, 0.5] + 0.1 + 0.025
    np.testing.assert_allclose(hearing.probs, expected, rtol=1e-6)
    assert (hearing.n_models, hearing.known) == (2, listening.IN_TIME)
    assert hearing.truth is not None
    assert hearing.truth.tolist() == [[True, False], [True, False], [False, False]]
    assert hearing.spans == (("wren", 4.0, 7.5), ("nobody", 8.0, 9.0))
    info = get_hearing_info(hearing, None)
    assert info.true == [("wren", 0.0), ("wren", 5.0)] and info.spans == [("wren", 4.0, 7.5)]
    figure = plot_hearing(info)
    assert [trace.name for trace in figure.data] == [None, "label", "label in time"]
    assert list(figure.data[0].text[0]) == [f"{p:.2f}"[1:] for p in info.probs[0]]
    assert rank_species(hearing)["true"].tolist() == ["2 of 3 windows", ""]
    silent = load_hearing(record, heard["field/silent.ogg"], sounds)
    assert (silent.truth, silent.known) == (None, listening.NO_LABELS)
    # One model more has not heard it yet; of two outputs of a model the newer ones count.
    more = build_record(["one", "two", "three"], soundscapes=["field"])
    assert list_heard(field_lab, more, "soundscape")["field/a.ogg"].n_lacking == 1
    store_cell(field_lab, "two", "soundscapes-y", ["field/a.ogg"], 2)
    torn = list_heard(field_lab, record, "soundscape")["field/a.ogg"]
    assert [folder.name for folder in torn.folders] == ["soundscapes-x", "soundscapes-y"]
    with pytest.raises(OutputsError, match="in different ways"):
        load_hearing(record, torn, sounds)


def test_soundscapes_of_a_leaderboard_are_found_by_their_file(field_lab: Lab) -> None:
    store_cell(field_lab, "one", "soundscapes-x", ["deep/b.ogg", "gone.ogg"], 3)
    record = build_record(["one"])
    heard, sounds = list_heard(field_lab, record, "soundscape"), Sounds(field_lab)
    found = load_hearing(record, heard["deep/b.ogg"], sounds)
    assert found.sound is not None and found.sound.dataset == "field"
    assert found.truth is not None and found.truth[:, 1].tolist() == [True, False, False]
    gone = load_hearing(record, heard["gone.ogg"], sounds)
    assert (gone.sound, gone.truth) == (None, None) and gone.probs.shape == (3, 2)


def test_a_part_of_a_recording_stands_at_its_place(field_lab: Lab) -> None:
    store_cell(field_lab, "one", "outputs-rows", ["x.ogg[7.5-20]", "y.ogg[-5]", "z[1].ogg"], 2)
    record = build_record(["one"])
    for name, start_s in (("x.ogg[7.5-20]", 7.5), ("y.ogg[-5]", 0.0), ("z[1].ogg", 0.0)):
        file = list_heard(field_lab, record, "recording")[name]
        hearing = load_hearing(record, file, Sounds(field_lab))
        assert hearing.start_s.tolist() == [start_s, start_s + 5]
        assert hearing.end_s.tolist() == [start_s + 5, start_s + 10]


def test_only_files_of_data_sets_may_be_played(field_lab: Lab, tmp_path: Path) -> None:
    sounds = Sounds(field_lab)
    assert sounds.require("field", "soundscape", "deep/b.ogg").path.is_file()
    (tmp_path / "secret.ogg").write_bytes((tmp_path / "field" / "a.ogg").read_bytes())
    for asked in (
        ("field", "soundscape", "../secret.ogg"),
        ("field", "soundscape", str(tmp_path / "secret.ogg")),
        ("field", "soundscape", "labels.csv"),
        ("field", "soundscape", ""),
        ("field", "recording", "a.ogg"),
        ("field", "", "a.ogg"),
        ("nothing", "soundscape", "a.ogg"),
        ("../field", "soundscape", "a.ogg"),
        ("demo", "recording", "a.ogg"),
    ):
        with pytest.raises(DataError, match="no such sound"):
            sounds.require(*asked)
    assert not (field_lab.stores / "demo").exists(), "nothing is generated to look for a file"
    # A name that the table knew became a link out of the folder since.
    (tmp_path / "field" / "silent.ogg").unlink()
    (tmp_path / "field" / "silent.ogg").symlink_to(tmp_path / "secret.ogg")
    with pytest.raises(DataError, match="leave their folder"):
        sounds.require("field", "soundscape", "silent.ogg")
    (tmp_path / "field" / "a.ogg").unlink()
    with pytest.raises(AudioError, match="not there"):
        sounds.require("field", "soundscape", "a.ogg")


@pytest.mark.parametrize(
    ("name", "options", "media"),
    [
        ("a.ogg", {}, "audio/ogg"),
        ("a.flac", {}, "audio/flac"),
        ("a.mp3", {}, "audio/mpeg"),
        ("a.wav", {"subtype": "PCM_16"}, "audio/wav"),
        ("b.wav", {"subtype": "FLOAT"}, ""),
        ("c.aiff", {}, ""),
    ],
)
def test_what_a_browser_does_not_play_becomes_a_wav(
    tmp_path: Path, name: str, options: dict[str, Any], media: str
) -> None:
    path = write_tone(tmp_path / name, 1.5, **options)
    assert mime_of(path) == media
    played, rate = soundfile.read(io.BytesIO(play_as_wav(path)), dtype="float32")
    assert rate == 32_000
    np.testing.assert_allclose(played, decode(path).to_float(), atol=1e-4)


def test_a_page_holds_so_much_of_a_sound_and_no_more(tmp_path: Path) -> None:
    short = write_tone(tmp_path / "short.ogg", 3)
    address, seconds = embed_sound(short)
    head, _, data = address.partition(",")
    assert head == "data:audio/ogg;base64" and base64.b64decode(data) == short.read_bytes()
    assert seconds == pytest.approx(3, abs=0.01)
    noise = np.random.default_rng(0).normal(0, 0.2, 32_000 * 60).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", noise, 32_000, subtype="FLOAT")
    address, seconds = embed_sound(tmp_path / "long.wav")
    content = base64.b64decode(address.partition(",")[2])
    assert len(content) <= EMBEDDED_BYTES and seconds == 20
    assert soundfile.info(io.BytesIO(content)).duration == pytest.approx(20, abs=0.1)
    (tmp_path / "text.ogg").write_text("no audio")
    with pytest.raises(AudioError):
        embed_sound(tmp_path / "text.ogg")


def test_an_hour_is_the_most_that_is_shown(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "day.wav", np.zeros(8 * 3601, np.int16), 8)
    with pytest.raises(AudioError, match="too long"):
        decode_short(tmp_path / "day.wav")


def test_a_spectrogram_shows_a_tone_where_it_is() -> None:
    t = np.arange(32_000 * 4) / 32_000
    tone = np.where(t < 2, np.sin(2 * np.pi * 3000 * t), 0)
    image = draw_spectrogram(Waveform((32_767 * tone).astype(np.int16), 1.0, 32_000))
    loud = image.levels[:, image.frame_s < 1.9]
    assert np.abs(image.bands_hz[loud.argmax(axis=0)] - 3000).max() < 100
    assert loud.max() == 255 and image.levels[:, image.frame_s > 2.1].max() == 0
    assert image.frame_s[0] == pytest.approx(1024 / 32_000)
    assert image.frame_s[-1] < 4 and len(image.frame_s) == image.levels.shape[1]
    assert (np.diff(image.bands_hz) > 0).all()


@pytest.mark.parametrize("n_samples", [1, 2048, 32_000 * 100])
def test_spectrograms_of_any_length(n_samples: int) -> None:
    silent = draw_spectrogram(Waveform(np.zeros(n_samples, np.int16), 0.0, 32_000))
    assert silent.levels.max() == 0 and 1 <= silent.levels.shape[1] <= MOST_FRAMES
    noise = np.random.default_rng(0).integers(-9000, 9000, n_samples).astype(np.int16)
    levels = draw_spectrogram(Waveform(noise, 1.0, 32_000)).levels
    assert levels.max() == (255 if n_samples > 1 else 0)
    assert len(np.unique(levels[40])) > 20 * (levels.shape[1] > 20)
