"""A folder with every kind of bad file: each is listed with its reason, nothing else is lost."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdlab.cli import app as entry
from birdlab.data.quarantine import (
    QUARANTINE,
    REPORT,
    Listed,
    find_fault,
    forget_files,
    list_files,
    load_listed,
    load_quarantine,
)
from birdlab.data.waves import open_waves
from birdlab.errors import AudioError, DataError, LabError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.run import build_store, run_experiment
from birdlab.spec.experiment import load_spec

REPOSITORY = Path(__file__).parents[1]
N_GOOD = 12
UNUSED = {
    "cut.ogg": "the file is cut off",
    "zero.ogg": "zero bytes",
    "short.wav": "too short: 0.050 s",
    "silent.wav": "silent",
    "nan.wav": "NaN or infinity",
    "inf.wav": "NaN or infinity",
    "text.ogg": "not audio",
    "folder.ogg": "a folder, not a recording",
    "link.ogg": "a link out of the folder",
}
UNUSUAL = {
    "bits.wav": "8-bit samples",
    "high.wav": "96 kHz brought to 32 kHz",
    "six.wav": "6 channels averaged",
    "Größe mit Ö.ogg": "spaces or letters beyond ASCII",
}
Build = Callable[..., int]


def noise(seconds: float, rate_hz: int = 32_000, channels: int = 1) -> np.ndarray:
    n = int(seconds * rate_hz)
    return np.random.default_rng(n).standard_normal((n, channels)) * 0.1


def write_bad_files(folder: Path, outside: Path) -> None:
    """Every file of UNUSED and UNUSUAL in `folder`."""
    soundfile.write(folder / "cut.ogg", noise(3), 32_000)
    content = (folder / "cut.ogg").read_bytes()
    (folder / "cut.ogg").write_bytes(content[: len(content) * 2 // 3])
    (folder / "zero.ogg").touch()
    soundfile.write(folder / "short.wav", noise(0.05), 32_000)
    soundfile.write(folder / "silent.wav", 0 * noise(1), 32_000)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        wave = noise(1)
        wave[500] = value
        soundfile.write(folder / f"{name}.wav", wave, 44_100, subtype="FLOAT")
    (folder / "text.ogg").write_text("no audio at all\n" * 100)
    (folder / "folder.ogg").mkdir()
    soundfile.write(outside, noise(1.7), 32_000)
    (folder / "link.ogg").symlink_to(outside)
    soundfile.write(folder / "bits.wav", noise(1.1), 32_000, subtype="PCM_U8")
    soundfile.write(folder / "high.wav", noise(1.2, 96_000), 96_000)
    soundfile.write(folder / "six.wav", noise(1.3, channels=6), 32_000)
    soundfile.write(folder / "Größe mit Ö.ogg", noise(1.4), 32_000)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose one data set holds good recordings of two species and every bad file."""
    root = tmp_path / "lab"
    for species in ("aaa", "bbb"):
        (root / "birds" / "train_audio" / species).mkdir(parents=True)
    files = [f"{'ab'[i % 2] * 3}/{i}.ogg" for i in range(N_GOOD)]
    for i, name in enumerate(files):
        soundfile.write(root / "birds" / "train_audio" / name, noise(1 + i / 10), 32_000)
    write_bad_files(root / "birds" / "train_audio" / "aaa", tmp_path / "outside.ogg")
    files += [f"aaa/{name}" for name in [*UNUSED, *UNUSUAL]]
    with (root / "birds" / "train_metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("primary_label", "filename"))
        table.writerows((name[:3], name) for name in files)
    (root / "birdlab.toml").write_text('jobs = 2\n[data]\nbirds = "birds"\n')
    (root / "birds.yaml").write_text(
        "competition: demo\ndata: {base: birds, folds: {kind: stratified, n: 2, seed: 1}}\n"
        "model: {backbone: mobilenetv3_small_050, frontend: {n_mels: 32, hop: 2048}}\n"
        "train: {window_s: 1, length: {steps: 1}, batch: 2, optimizer: {kind: adam, lr: 1e-3}}\n"
        "cells: {folds: [0], seeds: [0]}\n"
    )
    monkeypatch.setenv("BIRDLAB_HOME", str(root))
    return open_lab(root)


@pytest.fixture
def build(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Build:
    """`birdlab data build` in this process; gives its exit code."""

    def call(*options: str) -> int:
        line = ["birdlab", "data", "build", str(lab.root / "birds.yaml"), *options]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            entry.main()
        return int(ended.value.code or 0)

    return call


SKIP = ("--set", "data.on_bad_file=skip")


def load_report(lab: Lab) -> dict[str, tuple[str, str]]:
    with (lab.waves / REPORT).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {Path(row["file"]).name: (row["used"], row["reason"]) for row in rows}


@pytest.mark.parametrize("waveforms", ["store", "decode"])
def test_each_bad_file_is_listed_with_its_reason(
    lab: Lab, build: Build, capsys: pytest.CaptureFixture[str], waveforms: str
) -> None:
    (lab.root / "birdlab.local.toml").write_text(f'waveforms = "{waveforms}"\n')
    lab = open_lab(lab.root)
    assert build() == 1
    said = capsys.readouterr()
    shown = said.out + said.err
    report = load_report(lab)
    assert report.keys() == UNUSED.keys() | UNUSUAL.keys()
    for used, files in (("no", UNUSED), ("yes", UNUSUAL)):
        for name, reason in files.items():
            assert report[name][0] == used, name
            assert reason in report[name][1], name
            assert f"{name}: {report[name][1]}" in shown
    assert f"quarantine {len(UNUSED)} files that cannot be used" in shown
    assert "2  the recording holds NaN or infinity" in shown
    assert "GB needed" in shown and "GB free" in shown and "x real time" in shown
    plan = plan_experiment(load_spec(lab.root / "birds.yaml", [SKIP[1]]), lab)
    assert {Path(name).name for name in plan.rows.table["recording"]} == (
        {f"{i}.ogg" for i in range(N_GOOD)} | UNUSUAL.keys()
    )
    waves = open_waves(lab, plan.sample_rate_hz)
    for key, path in zip(plan.rows.keys, plan.rows.table["path"], strict=True):
        assert waves.read_all(key or "").any(), path
    assert waves.n_samples(plan.rows.keys[0] or "") == 32_000


def test_what_failed_is_not_decoded_again_until_it_changes(
    lab: Lab, build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(*SKIP) == 0
    n_files = N_GOOD + len(UNUSED) + len(UNUSUAL) - len({"link.ogg", "folder.ogg"})
    assert f"{n_files} files to decode" in capsys.readouterr().err
    assert build(*SKIP) == 0
    assert "to decode" not in capsys.readouterr().err
    assert len(load_report(lab)) == len(UNUSED) + len(UNUSUAL)
    assert build(*SKIP, "--retry") == 0
    assert f"{len(UNUSED) - 2} files to decode" in capsys.readouterr().err
    assert len(load_report(lab)) == len(UNUSED) + len(UNUSUAL)
    soundfile.write(lab.root / "birds" / "train_audio" / "aaa" / "text.ogg", noise(2.5), 32_000)
    assert build(*SKIP) == 0
    assert "\n1 file to decode" in "\n" + capsys.readouterr().err
    assert "text.ogg" not in load_report(lab)


def test_the_policy_decides_whether_a_run_goes_on(lab: Lab) -> None:
    with pytest.raises(DataError, match="leav"):
        run_experiment(load_spec(lab.root / "birds.yaml"), lab=lab)
    audio = lab.root / "birds" / "train_audio" / "aaa"
    (audio / "link.ogg").unlink()
    (audio / "link.ogg").write_bytes((audio / "six.wav").read_bytes())
    with pytest.raises(DataError, match="audio of 1 recordings is missing"):
        run_experiment(load_spec(lab.root / "birds.yaml"), lab=lab)  # a folder is no file
    (audio / "folder.ogg").rmdir()
    (audio / "folder.ogg").write_bytes((audio / "six.wav").read_bytes())
    plan = plan_experiment(load_spec(lab.root / "birds.yaml"), lab)
    for _ in range(2):  # the second time from the list
        with pytest.raises(AudioError) as caught:
            build_store(lab, plan)
        for name in UNUSED.keys() - {"link.ogg", "folder.ogg"}:
            assert name in str(caught.value)
    assert not open_waves(lab, 32_000).missing(
        [k for k in plan.paths if k not in load_listed(lab.waves)]
    )
    result = run_experiment(load_spec(lab.root / "birds.yaml", [SKIP[1]]), lab=lab)
    assert result.trained == 1
    assert len(load_quarantine(lab)) == len(UNUSED) - 2


def test_a_folder_named_as_a_recording_is_skipped_but_a_missing_file_is_not(lab: Lab) -> None:
    spec = load_spec(lab.root / "birds.yaml", [SKIP[1]])
    assert run_experiment(spec, lab=lab).trained == 1
    (lab.root / "birds" / "train_audio" / "aaa" / "0.ogg").unlink()
    with pytest.raises(DataError, match="audio of 1 recordings is missing"):
        run_experiment(spec, lab=lab)


@pytest.mark.parametrize(
    ("duration_s", "scale", "said"),
    [(0.099, 1, "too short"), (0.1, 1, ""), (9, 0, "silent"), (9, 1e-9, ""), (0, 0, "too short")],
)
def test_what_makes_a_recording_useless(duration_s: float, scale: float, said: str) -> None:
    fault = find_fault(duration_s, scale)
    assert said in fault
    assert bool(fault) == bool(said)


def test_the_list_is_kept_by_content(tmp_path: Path) -> None:
    assert load_listed(tmp_path) == {}
    bad, odd = Listed("/a/b.ogg", "cut off: 3 of 9", False), Listed("/a/ü c.ogg", "8-bit", True)
    list_files(tmp_path, {"k1": bad})
    list_files(tmp_path, {"k2": odd})
    assert load_listed(tmp_path) == {"k1": bad, "k2": odd}
    lab = Lab(tmp_path)
    lab.waves.mkdir(parents=True)
    (lab.waves / QUARANTINE).write_text((tmp_path / QUARANTINE).read_text())
    assert load_quarantine(lab) == {"k1": "b.ogg: cut off: 3 of 9"}
    forget_files(tmp_path, ["k1", "none"])
    assert load_listed(tmp_path) == {"k2": odd}
    (tmp_path / QUARANTINE).write_text(json.dumps({"k": "x.ogg: as written before"}))
    assert load_listed(tmp_path) == {"k": Listed("x.ogg", "as written before", False)}
    for damage in ("[1]", "{", '{"k": {"x": 1}}'):
        (tmp_path / QUARANTINE).write_text(damage)
        with pytest.raises(LabError, match="quarantine list"):
            load_listed(tmp_path)


PROGRAM = "import sys; from birdlab.cli.app import main; sys.argv[0] = 'birdlab'; main()"


def test_ctrl_c_says_that_the_build_goes_on(lab: Lab) -> None:
    audio = lab.root / "birds" / "train_audio" / "aaa"
    wave = noise(600, 8_000)
    for i in range(12):  # enough to be in the middle of
        soundfile.write(audio / f"{i * 2}.ogg", wave[i:], 8_000, format="FLAC")
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "data", "build", str(lab.root / "birds.yaml"), "-j", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "BIRDLAB_HOME": str(lab.root), "PYTHONPATH": str(REPOSITORY)},
    )
    assert run.stdout is not None
    said = ""
    while "decoding audio" not in said:
        line = run.stdout.readline()
        assert line, said
        said += line
    run.send_signal(2)
    rest = run.communicate(timeout=60)[0]
    assert run.returncode == 130, rest
    assert "the same command goes on" in rest
    assert "Traceback" not in rest
