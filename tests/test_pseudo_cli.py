"""`birdlab pseudo`: what is labelled, against what is sung, and a page to listen to."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.data.classes import ClassList
from birdlab.data.demo import DemoSettings, build_demo, find_truth
from birdlab.errors import CellError, SpecError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.sed.pseudo import SoftLabels
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.spec.teaching import PseudoSpec
from birdlab.study.png import png_uri
from birdlab.study.pseudo_examples import CONFIDENT, DISPUTED, NEAR, choose_examples
from birdlab.study.pseudo_labels import LabelSets, join_labels, load_label_sets

ROOT = Path(__file__).parents[1]
RATE = 8_000
SPECIES = {"kite": 2600, "rook": 400, "wren": 1200}
THRESHOLD = 0.3
SPEC: dict[str, Any] = {
    "name": "taught",
    "competition": {"name": "peeps", "window_s": 1.0, "n_soundscapes": 3,
                    "soundscape_s": 4.0, "cpu_minutes": 1.0},
    "data": {"base": "peeps", "folds": {"kind": "stratified", "n": 2}},
    "model": {"backbone": "test_resnet", "head": {"hidden": 16},
              "frontend": {"sample_rate_hz": RATE, "n_fft": 512, "hop": 256, "n_mels": 32,
                           "f_max_hz": 4000.0}},
    "train": {"window_s": 1.0, "length": {"steps": 60}, "batch": 8,
              "optimizer": {"kind": "adam", "lr": 5e-3}},
    "stages": [
        {"train": {}},
        {"round1": {"start": "train", "train": {"length": {"steps": 2}},
                    "pseudo": {"soundscapes": ["hours"], "teacher": "train",
                               "threshold": THRESHOLD}}},
    ],
}  # fmt: skip


def write_tones(root: Path) -> None:
    """Three species with six recordings each; six soundscapes of 8 s, and what is in them."""
    rng, rows = np.random.default_rng(0), []

    def tone(hz: int, seconds: float) -> np.ndarray:
        phase = 2 * np.pi * hz * rng.uniform(0.97, 1.03) * np.arange(int(RATE * seconds)) / RATE
        return np.asarray(rng.uniform(0.1, 0.4) * np.sin(phase))

    for species, hz in SPECIES.items():
        (root / "peeps" / "train_audio" / species).mkdir(parents=True)
        for i in range(6):
            wave = tone(hz, 2.0) + 0.02 * rng.standard_normal(2 * RATE)
            soundfile.write(root / "peeps" / "train_audio" / species / f"{i}.wav", wave, RATE)
            rows.append({"primary_label": species, "filename": f"{species}/{i}.wav"})
    pd.DataFrame(rows).to_csv(root / "peeps" / "train_metadata.csv", index=False)
    (root / "hours").mkdir()
    sung = rng.random((6, 8, len(SPECIES))) < 0.3
    for file, windows in enumerate(sung):
        parts = [
            sum((tone(hz, 1.0) for hz, there in zip(SPECIES.values(), row, strict=True) if there),
                start=0.02 * rng.standard_normal(RATE))
            for row in windows
        ]  # fmt: skip
        soundfile.write(root / "hours" / f"{file}.wav", np.concatenate(parts), RATE)
    np.save(root / "sung.npy", sung)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which two fold models labelled six soundscapes of 8 s."""
    root = tmp_path_factory.mktemp("labelled")
    write_tones(root)
    hours = '[data.hours]\nkind = "auto"\npath = "hours_lab"\n'
    (root / "hours_lab").mkdir()
    (root / "hours").rename(root / "hours_lab" / "soundscapes")
    (root / "birdlab.toml").write_text(f'jobs = 1\n[data]\npeeps = "peeps"\n{hours}')
    (root / "taught.yaml").write_text(json.dumps(SPEC))
    lab = open_lab(root)
    run_experiment(load_spec(root / "taught.yaml"), lab=lab)
    return lab


def spec_of(lab: Lab) -> ExperimentSpec:
    return load_spec(lab.root / "taught.yaml")


def joined(lab: Lab) -> LabelSets:
    plan = plan_experiment(spec_of(lab), lab)
    stage = plan.spec.stages[-1]
    sets, n_lacking = load_label_sets(plan, stage, lab)
    assert n_lacking == 0 and stage.pseudo is not None
    return join_labels(sets, stage.pseudo, plan.data.classes)


def call(lab: Lab, *arguments: str, ok: bool = True) -> Any:
    if not cli.app.registered_commands:
        cli._register()
    result = CliRunner().invoke(cli.app, ["--lab", str(lab.root), "pseudo", *arguments])
    if ok and result.exception:
        raise result.exception
    return result


# ---------------------------------------------------------------- label sets side by side


def hand_made() -> LabelSets:
    """Two teachers over two files; only the first knows the class c."""
    classes = ClassList(("a", "b", "c"))
    one = SoftLabels(
        ("k1", "k2"),
        np.array([0, 0, 1]),
        np.array([0.0, 5.0, 0.0]),
        np.array([5.0, 10.0, 5.0]),
        np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.4], [0.0, 0.0, 0.3]], np.float32),
        ("a", "b", "c"),
        "first",
        ("x/one.ogg", "x/two.ogg"),
    )
    other = SoftLabels(
        ("k2", "k1"),
        np.array([1, 0, 1]),
        np.array([5.0, 0.0, 0.0]),
        np.array([10.0, 5.0, 5.0]),
        np.array([[0.4, 0.2], [0.5, 0.05], [0.3, 0.7]], np.float32),
        ("b", "a"),
        "second",
        ("x/two.ogg", "x/one.ogg"),
    )
    return join_labels([one, other, one], PseudoSpec(soundscapes=["x"], teacher="s", threshold=0.5,
                                                     floor=0.3, power=2.0), classes)  # fmt: skip


def test_windows_of_several_teachers_are_matched_by_file_and_time() -> None:
    found = hand_made()
    assert found.teachers == ("first", "second") and found.names == ("x/one.ogg", "x/two.ogg")
    assert len(found) == 3 and found.seconds == 15 and found.n_sets.tolist() == [2, 2, 2]
    assert found.mean == pytest.approx(
        np.array([[0.8, 0.2, 0.0], [0.2, 0.6, 0.2], [0.025, 0.25, 0.15]])
    )
    assert found.spread[1] == pytest.approx([0.0, 0.2, 0.2], abs=1e-7)
    assert found.known.tolist() == [True, True, False]
    assert found.passing == (2, 2)
    assert found.above.tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert found.agreed == (1, 3)
    assert found.histogram == (0, 0, 1, 0, 0, 0, 1, 1, 0, 0), "float32"


def test_the_table_counts_what_training_would_draw() -> None:
    table = hand_made().table.set_index("species")
    assert table.loc["a", "windows"] == 1 and table.loc["b", "windows"] == 1
    assert table.loc["a", "label_sum"] == pytest.approx((0.9**2 + 0.7**2) / 2)
    assert table.loc["b", "label_sum"] == pytest.approx((0.8**2 + 0.5**2 + 0.3**2) / 2, rel=0.2)
    assert table.loc["a", "highest"] == pytest.approx(0.9)
    assert table.loc["a", "agree"] == 1 and table.loc["b", "agree"] == 0
    assert np.isnan(table.loc["c", "agree"]) and not table.loc["c", "known"]
    assert sum(table.loc["a", "tenths"]) == 3


def test_examples_are_the_surest_the_nearest_and_the_disputed() -> None:
    found = hand_made()
    examples = {e.why: e for e in choose_examples(found, "b", 1)}
    assert (examples[CONFIDENT].file, examples[CONFIDENT].start_s) == ("x/one.ogg", 5.0)
    assert (examples[NEAR].file, examples[NEAR].prob) == ("x/two.ogg", pytest.approx(0.25))
    assert examples[DISPUTED].file == "x/one.ogg" and examples[DISPUTED].start_s == 0.0
    assert examples[CONFIDENT].others == () and len(examples) == 3


def test_a_png_holds_its_levels() -> None:
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    data = base64.b64decode(png_uri(levels).partition(",")[2])
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data[16:24] == b"\0\0\0\3\0\0\0\2"
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    assert zlib.decompress(data[at + 4 : at + 4 + size]) == b"\0\0\50\120\0\170\240\310"
    assert zlib.crc32(data[at : at + 4 + size]) == int.from_bytes(data[at + 4 + size :][:4], "big")


# ---------------------------------------------------------------- against what is sung


def test_labels_above_the_threshold_are_right_more_often_than_chance(labelled: Lab) -> None:
    found = joined(labelled)
    assert len(found.keys) == 6 and len(found) == 48 and len(found.teachers) == 2
    truth = np.load(labelled.root / "sung.npy")
    files = [int(Path(found.names[file]).stem) for file in found.file]
    sung = truth[files, found.start_s.astype(int)]
    assert found.codes == tuple(SPECIES)
    reach = found.mean >= THRESHOLD
    precision = sung[reach].mean()
    assert reach.sum() > 10 and precision > sung.mean() + 0.3, (precision, sung.mean())
    by_hand = [(sets.probs >= THRESHOLD).sum(axis=0) for sets in load_sets(labelled)]
    assert found.table["windows"].tolist() == np.mean(by_hand, axis=0).tolist()


@pytest.mark.slow
def test_the_demo_is_labelled_better_than_by_chance(tmp_path: Path) -> None:
    """One fold of the baseline on the demo says what is sung in ten of its unlabelled hours."""
    settings = DemoSettings(n_soundscapes=4)
    hours = build_demo(tmp_path / "hours", settings, part="unlabelled")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (tmp_path / "birdlab.toml").write_text(f'[data]\nhours = "{hours}"\n')
    lab = open_lab(tmp_path)
    spec = load_spec(tmp_path / "experiments" / "baseline.yaml", {
        "cells.folds": [0],
        "stages": [
            {"base": {}},
            {"round1": {"pseudo": {"soundscapes": ["hours"], "teacher": "base"},
                        "train": {"length": {"steps": 2}}}},
        ],
    })  # fmt: skip
    run_experiment(spec, lab=lab)
    plan = plan_experiment(spec, lab)
    sets, _ = load_label_sets(plan, plan.spec.stages[-1], lab)
    found = join_labels(sets, plan.spec.stages[-1].pseudo, plan.data.classes)
    truth = find_truth(settings).set_index("row_id")
    ids = [
        f"{Path(found.names[file]).stem}_{round(end)}"
        for file, end in zip(found.file, found.end_s, strict=True)
    ]
    sung = truth.loc[ids, list(found.codes)].to_numpy() > 0
    surest = found.mean >= np.quantile(found.mean, 0.95)
    assert sung[surest].mean() > 2 * sung.mean()


def load_sets(lab: Lab) -> list[SoftLabels]:
    plan = plan_experiment(spec_of(lab), lab)
    return load_label_sets(plan, plan.spec.stages[-1], lab)[0]


def test_the_command_says_what_is_labelled(labelled: Lab) -> None:
    found = joined(labelled)
    said = call(labelled, str(labelled.root / "taught.yaml")).output
    assert "taught, stage round1" in said
    assert "6 soundscapes of hours, 48 s, labelled by stage train (2 teachers)" in said
    assert f"reach the threshold {THRESHOLD:g}; floor 0, power 1" in said
    assert " ".join(map(str, found.histogram)) in said
    for code in found.codes:
        assert re.search(rf"^  {code} ", said, re.M)
    assert call(labelled, "taught").output == said, "a run is named as anywhere"
    (stage,) = json.loads(call(labelled, "taught", "--json").output)
    assert stage["windows"] == 48 and stage["stage"] == "round1"
    assert stage["windows_at_threshold"] == list(found.passing)
    assert [row["species"] for row in stage["species"]] == list(found.codes)


class Sources(HTMLParser):
    """What a page loads, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(v) for k, v in attrs if k in ("src", "href")]


def test_the_page_holds_windows_to_see_and_to_hear(labelled: Lab, tmp_path: Path) -> None:
    code = joined(labelled).codes[0]
    page = tmp_path / "labels.html"
    call(labelled, "taught", "--html", str(page), "--species", code, "--examples", "1")
    text = page.read_text()
    parser = Sources()
    parser.feed(text)
    assert all(load.startswith("data:") for load in parser.loads), "no network"
    assert parser.tags.count("audio") == parser.tags.count("img") >= 2
    assert "script" not in parser.tags
    assert f"<h2>{code}</h2>" in text and NEAR in text
    sounds = [load for load in parser.loads if load.startswith("data:audio/ogg")]
    heard = base64.b64decode(sounds[0].partition(",")[2])
    assert heard.startswith(b"OggS") and len(heard) > 2000


def test_nothing_labelled_says_what_labels(labelled: Lab) -> None:
    (labelled.root / "other.yaml").write_text(
        json.dumps({"base": "taught.yaml", "name": "other", "train": {"batch": 5}})
    )
    plain = {**SPEC, "stages": [{"train": {}}]}
    (labelled.root / "plain.yaml").write_text(json.dumps(plain))
    with pytest.raises(CellError, match="no soundscape of this experiment") as caught:
        call(labelled, str(labelled.root / "other.yaml"))
    assert "birdlab run" in str(caught.value)
    for arguments, said in (
        (("taught", "--stage", "train"), "the stage 'train' has no `pseudo`"),
        (("taught", "--species", "emu", "--html", "x.html"), "no class of the run"),
        (("taught", "--set", "name=x"), "this is a run"),
        ((str(labelled.root / "plain.yaml"),), "no stage of this experiment has `pseudo`"),
    ):
        with pytest.raises(SpecError, match=said):
            call(labelled, *arguments)
