"""The CPU budget: the arithmetic of a machine file, the measurement, what fits, the command."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.cli import app as entry
from birdlab.cli.budget import _choose_hop
from birdlab.errors import PredictError, PromotionError, SpecError
from birdlab.infer.benchmark import measure_machine, split_times
from birdlab.infer.budget import Workload, fit_members, predict_minutes, read_machine
from birdlab.infer.passes import ModelChoice
from birdlab.lab import Lab
from birdlab.promote import machines
from birdlab.promote.budget import join_machines, scale_to, workload_of
from birdlab.promote.machines import MACHINES, load_machines, measure_run
from birdlab.spec.competition import PROFILES

MACHINE: dict[str, Any] = {
    "birdlab_machine": 1,
    "processor": "a processor",
    "cores": 2,
    "window_s": 5.0,
    "decode_s_per_audio_minute": 0.3,
    "decoded_once_minutes": 12.5,
    "mel_ms_per_window": 3.0,
    "members": [
        {"name": "large", "ms_per_window": 152.0},
        {"name": "middle", "ms_per_window": 87.0},
        {"name": "small", "ms_per_window": 13.0},
    ],
    "crowding": 1.25,
    "startup_s": 6.0,
}
Y2023 = workload_of(PROFILES["birdclef-2023"])


def test_minutes_are_those_of_the_arithmetic() -> None:
    line = predict_minutes(MACHINE, Y2023)
    assert Y2023.count_windows(5.0) == 24_000
    assert line.decode_minutes == pytest.approx(2000 * 0.3 / 60 / 2)
    assert line.mel_minutes == pytest.approx(24_000 * 3 * 1.25 / 1000 / 60 / 2)
    assert line.member_minutes[0] == pytest.approx(38.0)
    parts = line.decode_minutes + line.mel_minutes + sum(line.member_minutes)
    assert line.total_minutes == pytest.approx(parts + 0.1)
    assert line.needed_minutes == pytest.approx(1.2 * line.total_minutes)
    assert line.fits is (line.needed_minutes <= 120) is True
    alone = predict_minutes(MACHINE, Y2023, [2])
    assert alone.member_minutes == pytest.approx((3.25,))
    four = predict_minutes(MACHINE, Y2023, cores=4)
    assert four.decode_minutes == pytest.approx(line.decode_minutes / 2)
    hours = Workload(10, 60, 120)
    assert predict_minutes(MACHINE, hours).decode_minutes == pytest.approx(2 * 600 * 0.3 / 60 / 2)
    with pytest.raises(PredictError, match="no members"):
        predict_minutes(MACHINE, Y2023, [3])
    with pytest.raises(PredictError, match="no members"):
        predict_minutes(MACHINE, Y2023, [0, 0])


@pytest.mark.parametrize(
    ("file_minutes", "window_s", "n"), [(1, 5, 12), (1.01, 5, 13), (0.05, 5, 1), (4, 5, 48)]
)
def test_the_last_window_of_a_file_counts(file_minutes: float, window_s: float, n: int) -> None:
    assert Workload(2, file_minutes, 90).count_windows(window_s) == 2 * n


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_a_workload_of_nothing_is_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(PredictError, match="workload"):
        Workload(*wrong)


@given(
    times=st.lists(st.floats(0.1, 500), min_size=1, max_size=6),
    limit=st.floats(1, 200),
)
def test_what_is_said_to_fit_fits_and_one_more_does_not(times: list[float], limit: float) -> None:
    members = [{"name": str(i), "ms_per_window": ms} for i, ms in enumerate(times)]
    machine, work = {**MACHINE, "members": members}, Workload(200, 10, limit)
    fit = fit_members(machine, work)

    def fits(wanted: Any) -> bool:
        return predict_minutes(machine, work, wanted).fits

    assert fit.prefix == 0 or fits(range(fit.prefix))
    assert fit.prefix == len(times) or not fits(range(fit.prefix + 1))
    assert not fit.most or fits(fit.most)
    left = [i for i in range(len(times)) if i not in fit.most]
    assert all(not fits([*fit.most, i]) for i in left)
    whole = predict_minutes(machine, work)
    for minutes, more in zip(whole.member_minutes, fit.more, strict=True):
        needed = 1.2 * (whole.total_minutes + more * minutes)
        assert more == 0 or needed <= limit * (1 + 1e-9)
        assert not whole.fits or needed + 1.2 * minutes > limit * (1 - 1e-9)


def test_times_of_shared_and_own_front_ends_sum_to_the_whole() -> None:
    shared = split_times(3 + 10 + 20, [13, 23], 3)
    assert shared == (3, pytest.approx([10, 20]))
    own = split_times(13 + 23, [13, 23], 6)  # two front-ends of 3
    assert own == (6, pytest.approx([10, 20]))
    guessed = split_times(33, [13, 23], None)
    assert guessed == (pytest.approx(3), pytest.approx([10, 20]))
    assert split_times(13, [13], None) == (0.0, [13])
    assert split_times(13, [13], 3) == (3, [10])


def test_a_machine_file_comes_back_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(MACHINE))
    assert read_machine(path) == MACHINE
    for change, said in (
        ({"birdlab_machine": 2}, "another format"),
        ({"cores": 0}, "cores"),
        ({"crowding": "much"}, "crowding"),
        ({"members": []}, "members"),
        ({"members": [{"name": "a", "ms_per_window": float("nan")}]}, "members"),
        ({"members": [3]}, "members"),
        ({"processor": None}, "processor"),
        ({"startup_s": -1}, "startup_s"),
        ({"window_s": 10**400}, "window_s"),
        ({"decode_s_per_audio_minute": True}, "decode_s_per_audio_minute"),
    ):
        path.write_text(json.dumps({**MACHINE, **change}))
        with pytest.raises(PredictError, match="no machine file") as caught:
            read_machine(path)
        assert said in str(caught.value)
    for text in ("[]", "{", "{}", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(PredictError, match="no machine file"):
            read_machine(path)
    with pytest.raises(PredictError, match="no machine file"):
        read_machine(tmp_path / "absent.json")


def test_runs_share_a_mel_where_their_front_ends_are_equal() -> None:
    def one(name: str, ms: float, frontend: str, crowding: float) -> dict[str, Any]:
        members = [{"name": name, "ms_per_window": ms}]
        return {**MACHINE, "members": members, "frontend": frontend, "crowding": crowding}

    joined = join_machines([one("a", 10, "x", 1.0), one("b", 20, "x", 1.0), one("c", 8, "y", 2.0)])
    assert joined["mel_ms_per_window"] == 3 + 6
    assert [m["ms_per_window"] for m in joined["members"]] == [10, 20, 16]
    line = predict_minutes(joined, Y2023)
    assert line.member_minutes[2] == pytest.approx(24_000 * 16 / 60_000 / 2)
    with pytest.raises(PromotionError, match="different length"):
        join_machines([one("a", 10, "x", 1), {**one("b", 10, "x", 1), "window_s": 3.0}])


def test_another_machine_is_reached_by_the_ratio_of_one_model() -> None:
    there = {**MACHINE, "crowding": 2.5, "decode_s_per_audio_minute": 0.9, "cores": 4}
    mine = {**MACHINE, "members": [{"name": "mine", "ms_per_window": 50.0}], "crowding": 1.1}
    moved = predict_minutes(scale_to(mine, MACHINE, there), Y2023, cores=2)
    before = predict_minutes(mine, Y2023, cores=2)
    assert moved.member_minutes[0] == pytest.approx(2 * before.member_minutes[0])
    assert moved.decode_minutes == pytest.approx(3 * before.decode_minutes)


@pytest.mark.parametrize("text", ["{", "[1]", "", '{"a'])
def test_a_damaged_list_of_machines_is_measured_again(tmp_path: Path, text: str) -> None:
    assert load_machines(tmp_path / "machines.json") == {}
    (tmp_path / "machines.json").write_text(text)
    assert load_machines(tmp_path / "machines.json") == {}


def test_a_model_is_measured_as_it_is_used(energy_model: Path) -> None:
    machine = measure_machine(ModelChoice(energy_model), cores=1, seconds=0.2)
    assert read_machine_text(json.dumps(machine), energy_model.parent) == machine
    assert list(machine["windows_per_s"]) == ["1x1"]
    core_ms = machine["mel_ms_per_window"] + machine["members"][0]["ms_per_window"]
    assert machine["crowding"] * core_ms == pytest.approx(1000 / machine["windows_per_s"]["1x1"])
    assert machine["decode_s_per_audio_minute"] > 0
    with pytest.raises(PredictError, match="so many cores"):
        measure_machine(ModelChoice(energy_model), cores=10_000)


def test_a_run_is_measured_once_per_architecture_trained_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "SECONDS", 0.1)
    spec = {
        "competition": {"name": "peeps", "window_s": 1.0},
        "data": {"base": "peeps"},
        "model": {
            "backbone": "test_resnet",
            "head": {"kind": "sed_attention", "hidden": 16},
            "frontend": {"kind": "log_mel", "n_mels": 32, "hop": 640},
        },
        "train": {"length": {"steps": 1}},
    }
    lab, told = Lab(tmp_path), list[str]()
    record = {"name": "first", "spec_id": "a" * 12, "spec": spec, "cells": []}
    record["evaluation"] = {"n_classes": 3}
    first = measure_run(lab, record, cores=1, progress=told.append)
    assert told[0] == "first: export" and first["members"][0]["name"] == "first"
    assert first["measured_by"] == "processor" and first["window_s"] == 1.0
    spec["train"]["length"]["steps"] = 2
    again = measure_run(lab, {**record, "name": "second"}, cores=1, progress=told.append)
    assert again["members"][0] == {**first["members"][0], "name": "second"}
    assert [text for text in told if "export" in text] == ["first: export"]
    joined = join_machines([first, again])
    assert joined["mel_ms_per_window"] == pytest.approx(
        first["crowding"] * first["mel_ms_per_window"]
    )


def test_the_command_says_what_fits(
    energy_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    monkeypatch.setattr(machines, "SECONDS", 0.1)

    def call(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["birdlab", "budget", *args])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        got = capsys.readouterr()
        return f"{ended.value.code or 0} {got.err}{got.out}"

    promoted = tmp_path / "mlruns" / "models" / "m1" / "model.onnx"
    promoted.parent.mkdir(parents=True)
    shutil.copyfile(energy_model, promoted)
    first = call("--model", "m1", "--cores", "1")
    assert first.startswith("0 decoding ...")
    assert "demo: 24 files of 1 min, 2880 windows, limit 5 min" in first
    assert re.search(r"^model +\d+\.\d\d +\d+\.\d$", first, re.MULTILINE)
    assert "fits: " in first and "more like model" in first
    assert "5736 windows" in call("--model", "m1", "--cores", "1", "--hop", "0.25")
    assert "0.5 s divided by 1, 2, 3" in call("--model", "m1", "--cores", "1", "--hop", "0.3")
    again = call("--model", "m1", "--cores", "1", "--files", "900000000")
    assert "decoding ..." not in again, "it is measured once"
    assert "custom: 900000000 files" in again and "does not fit" in again
    (machine,) = json.loads((tmp_path / "mlruns" / MACHINES).read_text()).values()
    file = tmp_path / "there.json"
    file.write_text(json.dumps({**machine, "processor": "a slow one", "startup_s": 600.0}))
    there = call("--machine", str(file))
    assert "it was busy" not in there
    file.write_text(json.dumps({**machine, "measured_by": "clock", "share_of_cores": 0.4}))
    assert "it was busy: the benchmark had 40% of these cores" in call("--machine", str(file))
    assert "a slow one" in there and re.search(r"^start +10\.0$", there, re.MULTILINE)
    file.write_text(json.dumps({**machine, "model": {"sha256": "0", "variant": "fp32"}}))
    assert "not in this lab" in call("--machine", str(file))
    assert "no machine file" in call("--machine", str(promoted))
    assert "'@champion' names no promoted model" in call()
    assert "not both" in call("-1", "--model", "m1")


def read_machine_text(text: str, folder: Path) -> dict[str, Any]:
    path = folder / "machine.json"
    path.write_text(text)
    return read_machine(path)


@pytest.fixture(scope="module")
def energy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from test_infer import CLASSES, RATE, WINDOW_S, save_energy_model

    from birdlab.infer.card import ModelCard

    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return save_energy_model(path, ModelCard(CLASSES, RATE, WINDOW_S, {"competition": "demo"}))


def test_runs_of_different_hops_have_no_budget_until_one_is_said() -> None:
    with pytest.raises(SpecError, match="one hop") as caught:
        _choose_hop(None, {None, 2.5}, 5.0)
    assert "every 2.5 s, every 5 s" in str(caught.value)
    assert _choose_hop(None, {2.5}, 5.0) == _choose_hop(2.5, {None, 1.25}, 5.0) == 2.5
    for wrong in (0.0, 2.4, 10.0, float("nan")):
        with pytest.raises(SpecError, match="no whole part"):
            _choose_hop(wrong, {None}, 5.0)


def test_windows_between_windows_are_counted_too() -> None:
    """As `predict --hop` hears them: up to the last window, none after it."""
    plain = Workload(2, 1.0, 90)
    assert replace(plain, hop_s=2.5).count_windows(5.0) == 2 * 23
    assert replace(plain, hop_s=2.5).count_windows(5.0, 2) == 2 * (6 + 6) * 2
    assert workload_of(PROFILES["birdclef-2023"], 1.0).count_windows(5.0) == 200 * 596
