"""The parts of prediction: long recordings in pieces, tuning, numbers as text, times, memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tinymodels import CLASSES, RATE, build_card, save_tiny_model

import birdlab.infer.reading as reading
from birdlab.data.audio import Waveform, decode
from birdlab.errors import AudioError, PredictError
from birdlab.evaluate.windows import Normalise, Windowing, iter_windows, stream_windows
from birdlab.infer.deadline import Timer, order_members, read_seconds
from birdlab.infer.decimals import format_rows
from birdlab.infer.passes import ModelChoice
from birdlab.infer.progress import Progress, as_time
from birdlab.infer.reading import Heard, NotHeard, read_ahead, read_headers
from birdlab.infer.tuning import (
    CLEARLY,
    count_cores,
    list_arrangements,
    recall_tuning,
    remember_tuning,
    tune,
)

ROOT = Path(__file__).parents[1]

# ---------------------------------------------------------------- recordings in pieces


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 70),
    cuts=st.lists(st.integers(0, 70), max_size=4),
    width=st.sampled_from([2, 4, 6, 10]),
    around=st.integers(0, 11),
    normalise=st.sampled_from(["crop", "recording"]),
)
def test_windows_of_pieces_are_those_of_the_whole(
    n: int, cuts: list[int], width: int, around: int, normalise: Normalise
) -> None:
    """Against padding by hand; with a hop of half a window every other one is the same."""
    samples = np.random.default_rng(n).integers(-999, 999, n).astype(np.int16)
    windowing = Windowing(float(width), 1, float(width + around), normalise)
    pieces = np.split(samples, sorted(min(cut, n) for cut in cuts))
    found = list(stream_windows(pieces, n, 0.5, windowing))
    whole = Waveform(samples, 0.5, 1).to_float()
    n_windows = max(1, -(-n // width))
    rest = whole[(n_windows - 1) * width :]
    padded = np.concatenate([whole[: (n_windows - 1) * width], np.zeros(width - len(rest)), rest])
    margin = windowing.margin_samples
    padded = np.pad(padded, margin)
    assert len(found) == n_windows
    for i, heard in enumerate(found):
        expected = padded[i * width : i * width + width + 2 * margin]
        peak = max(np.abs(expected).max() if normalise == "crop" else 0.5, 1e-6)
        np.testing.assert_allclose(heard, expected / peak, rtol=1e-6)
    fine = list(stream_windows(pieces, n, 0.5, windowing, width // 2))
    assert len(fine) == 2 * n_windows - 1
    np.testing.assert_array_equal(fine[::2], found)


@pytest.mark.parametrize("normalise", ["crop", "recording"])
@pytest.mark.parametrize("suffix", ["ogg", "flac"])
def test_a_streamed_file_has_the_windows_of_a_decoded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, normalise: Normalise
) -> None:
    """Stereo at 44.1 kHz, resampled in blocks, longer than what is held: bit by bit the same."""
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.6, 0.6, (44_100 * 9, 2)) * np.linspace(0.05, 1, 44_100 * 9)[:, None]
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, wave, 44_100)
    windowing = Windowing(1.0, RATE, 2.0, normalise)
    monkeypatch.setattr(reading, "HELD_SAMPLES", 20_000)
    ahead = read_ahead([path], windowing, hop_samples=RATE, readers=1)
    item = next(ahead)
    assert isinstance(item, Heard)
    expected = list(iter_windows(decode(path, RATE), windowing))
    assert item.n_windows == len(expected) == read_headers([path], windowing, RATE)[0].n_windows
    np.testing.assert_array_equal(list(item.windows), expected)


def test_files_come_in_order_and_a_bad_one_says_why(tmp_path: Path) -> None:
    for i in range(7):
        soundfile.write(tmp_path / f"{i}.wav", np.full(RATE * (i + 1), 0.1 * i), RATE)
    (tmp_path / "3.wav").write_bytes(b"no audio")
    files = sorted(tmp_path.glob("*.wav"))
    windowing = Windowing(1.0, RATE)
    for readers in (1, 3):
        items = []
        for item in read_ahead(files, windowing, hop_samples=RATE, readers=readers, first=2):
            if isinstance(item, NotHeard):
                items.append((item.place, item.reason))
            else:
                items.append((item.place, str(len(list(item.windows)))))
        assert items == [(2, "3"), (3, "Format not recognised."), (4, "5"), (5, "6"), (6, "7")]
    ahead = read_ahead(files, windowing, hop_samples=RATE)
    next(ahead)
    ahead.close()  # and no thread waits for ever


def test_a_header_that_states_more_than_the_file_can_hold_says_nothing(tmp_path: Path) -> None:
    path, windowing = tmp_path / "a.flac", Windowing(1.0, RATE)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE * 3), RATE)
    assert read_headers([path], windowing, RATE)[0].n_windows == 3
    raw = bytearray(path.read_bytes())
    raw[22:26] = b"\xff" * 4  # of the number of samples, 36 bits in the first block
    path.write_bytes(raw)
    assert read_headers([path], windowing, RATE)[0].n_windows is None


def test_a_file_that_is_cut_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, RATE * 400), RATE)
    monkeypatch.setattr(reading, "HELD_SAMPLES", 1000)
    ahead = read_ahead([path], Windowing(1.0, RATE), hop_samples=RATE)
    item = next(ahead)
    assert isinstance(item, Heard)
    soundfile.write(path, np.zeros(RATE), RATE)
    with pytest.raises(AudioError):
        list(item.windows)


# ---------------------------------------------------------------- sessions and threads


def test_arrangements_use_all_cores() -> None:
    assert list_arrangements(1) == [(1, 1)]
    assert list_arrangements(2) == [(2, 1), (1, 2)]
    assert list_arrangements(6) == [(6, 1), (3, 2), (2, 3), (1, 6)]
    assert 1 <= count_cores() <= 4096


def test_the_fastest_arrangement_is_measured_and_remembered(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "m.onnx", build_card(2))
    waves = np.random.default_rng(0).uniform(-1, 1, (4, RATE)).astype(np.float32)
    engine, rates = tune(ModelChoice(model), waves, cores=2, seconds_each=0.2)
    assert set(rates) == {(2, 1), (1, 2)}
    assert CLEARLY * rates[engine.sessions, engine.threads] >= max(rates.values()) > 0
    assert len(engine.submit(waves, [0, 1]).result()) == 2
    engine.close()
    assert recall_tuning(tmp_path, "a machine") is None
    assert remember_tuning(tmp_path, "a machine", 2, 1)
    assert remember_tuning(tmp_path, "another", 1, 2)
    assert recall_tuning(tmp_path, "a machine") == (2, 1)
    (tmp_path / "tuning.json").write_text('{"a machine": [0, "x"]}')
    assert recall_tuning(tmp_path, "a machine") is None
    assert not remember_tuning(tmp_path / "absent", "a machine", 2, 1)


# ---------------------------------------------------------------- numbers, times, lines


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=1, max_size=20))
def test_numbers_are_read_back_as_they_were(values: list[float]) -> None:
    table = np.array([values], np.float32)
    (row,) = format_rows(table)
    np.testing.assert_array_equal(
        np.array(row.split(b","), np.float64).astype(np.float32), table[0]
    )


def test_numbers_near_powers_of_ten() -> None:
    powers = np.float32(10.0) ** np.arange(-45, 0, dtype=np.float32)
    near = [powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(1))]
    table = np.stack(near).astype(np.float32)
    for row, expected in zip(format_rows(table), table, strict=True):
        back = np.array([float(number) for number in row.split(b",")]).astype(np.float32)
        np.testing.assert_array_equal(back, expected)
    assert format_rows(np.float32([[0, 0.25]])) == [b"0.00000000e+00,2.50000000e-01"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("110m", 6600), ("6600s", 6600), ("6600", 6600), ("1h50m", 6600), ("1.5h", 5400), ("1M", 60)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "-5m", "5 minutes", "m", "1m1h"])
def test_times_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(PredictError, match="110m"):
        read_seconds(text)


def test_members_are_heard_by_weight_then_speed() -> None:
    card = build_card(5, weights=[1, 2, 2, 0, 1], ms=[9, 50, 30, 1, None])
    assert order_members(card) == [2, 1, 0, 4]


def test_time_is_kept_back_for_writing() -> None:
    now = [100.0]
    timer = Timer(60, began=90.0, writes=3, clock=lambda: now[0])
    assert timer.left_s() == 50
    timer.hold_back(2.0)
    timer.hold_back(1.0)
    assert timer.left_s() == 44
    now[0] = 145.0
    assert timer.left_s() == -1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_lines_and_a_terminal_one_that_renews_itself() -> None:
    now = [0.0]
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        now[0] = 0.0
        progress = Progress(stream, lambda: now[0])
        progress.begin(100)
        for i in range(1, 31):
            now[0] = float(i)
            progress.update("predicting", 100 + 10 * i, 1000)
        progress.say("done")
    assert log.getvalue().splitlines() == [
        "predicting: 200/1000 windows, 10.0/s, 80 s left",
        "predicting: 300/1000 windows, 10.0/s, 70 s left",
        "predicting: 400/1000 windows, 10.0/s, 60 s left",
        "done",
    ]
    assert terminal.getvalue().count("\r") == 60  # each but the first wipes the one before
    assert terminal.getvalue().endswith("\rdone\n")
    Progress(None).say("nothing")
    assert [as_time(s) for s in (3, 700, 7500)] == ["3 s", "12 min", "2 h 05 min"]


# ---------------------------------------------------------------- a process of its own

REPORT = """
import json, sys
from pathlib import Path
from birdlab.infer import reading
from birdlab.infer.predict import PredictRequest, predict_to_file

reading.HELD_SAMPLES = 1_000_000  # 4 MB


def memory_kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


before = memory_kib("VmRSS")
model, folder, out = map(Path, sys.argv[1:])
summary = predict_to_file(PredictRequest(model, folder, out, sessions=1, threads=1))
print(json.dumps({
    "names": sorted({name.partition(".")[0] for name in sys.modules}),
    "birdlab": sorted(name for name in sys.modules if name.startswith("birdlab.")),
    "grown_mb": (memory_kib("VmHWM") - before) / 1024,
    "rows": summary.n_rows,
}))
"""

ALLOWED = {
    "numpy", "pandas", "soundfile", "soxr", "onnxruntime",
    # what these bring along, pyarrow where it is installed
    "cffi", "dateutil", "six", "flatbuffers", "google", "packaging", "pyarrow", "cloudpickle",
    "typing_extensions", "cython_runtime", "pytz", "tzdata",
}  # fmt: skip
ALLOWED_BIRDLAB = {
    "data", "data.audio", "data.audiofile", "errors", "evaluate", "evaluate.blends",
    "evaluate.passes", "evaluate.pooling", "evaluate.postprocess", "evaluate.poststeps",
    "evaluate.probabilities", "evaluate.stepchecks", "evaluate.windows", "timing",
}  # fmt: skip


def report_on(model: Path, folder: Path, out: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(model), str(folder), str(out)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_an_hour_needs_little_room_and_few_packages(tmp_path: Path) -> None:
    """Were it held, the file would take 115 MB as float, 58 MB as int16; packages take 50 MB."""
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE * 60)
    with soundfile.SoundFile(tmp_path / "in" / "hour_1.wav", "w", RATE, 1) as file:
        for _ in range(60):
            file.write(noise)
    model = save_tiny_model(tmp_path / "m.onnx", build_card(2))
    report = report_on(model, tmp_path / "in", tmp_path / "submission.csv")
    assert report["rows"] == 3600
    assert report["grown_mb"] < 90
    foreign = set(report["names"]) - set(sys.stdlib_module_names) - ALLOWED  # type: ignore[call-overload]
    assert {name for name in foreign if not name.startswith("_")} == {"birdlab"}
    ours = {name.removeprefix("birdlab.") for name in report["birdlab"]}  # type: ignore[attr-defined]
    assert {name for name in ours if name.partition(".")[0] != "infer"} <= ALLOWED_BIRDLAB
    assert CLASSES[0] in (tmp_path / "submission.csv").read_text()[:40]
